"""PURE. A task's whole story in the order of time: sent, answered, each callback with its verdict, each attempt."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ringback.cli.show import line, moment_text, span, standing_text, trust_text
from ringback.ledger import KeptCallback, Owed, Story
from ringback.model import DeliveryState, Event, EventType, Origin, Source, Standing, Task, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened."""

    at: datetime
    what: str
    verdict: str = ""
    note: str = ""


def timeline(story: Story) -> list[Step]:
    """Tell the story."""
    known = {event.id for event in story.events}
    steps = [*_of_sending(story.task)]
    for event in story.events:
        steps += _of_event(event)
    steps += [_of_callback(kept) for kept in story.callbacks if not _is_shown(kept, known)]
    steps += _of_state(story.task)  # after the event that brought it, which has the same time
    for owed in story.deliveries:
        steps += _of_delivery(owed)
    steps += [_of_child(child) for child in story.children]
    return sorted(steps, key=lambda step: step.at)


def _of_sending(task: Task) -> Iterator[Step]:
    if task.origin is Origin.CALLBACK:
        yield Step(at=task.created_at, what="task", verdict="unknown", note="first heard of through a callback")
    else:
        yield Step(at=task.created_at, what="task", verdict="recorded", note=f"key {task.key}" if task.key else "")
    if task.sent_at is not None:
        again = f", {task.sends} times in all" if task.sends > 1 else ""
        unanswered = task.send_note if task.accepted_at is None and task.send_note else ""
        yield Step(at=task.sent_at, what="request", verdict="sent", note=f"{unanswered}{again}".removeprefix(", "))
    if task.accepted_at is not None:
        note = f"{task.provider} calls it {task.provider_id}"
        yield Step(at=task.accepted_at, what="request", verdict="accepted", note=note)


def _of_state(task: Task) -> Iterator[Step]:
    if task.settled_at is not None:
        by = {Source.RINGBACK: "presumed by Ringback: the provider's word would replace it"}
        note = by.get(task.settled_by or Source.POLL, f"said by {task.settled_by}")
        yield Step(at=task.settled_at, what="task", verdict=task.state.value, note=note)
    elif task.resend_at is not None:
        yield Step(at=task.resend_at, what="request", verdict="due", note="the poller sends it again")
    elif task.fetch_at is not None and task.provider_id is not None:
        yield Step(at=task.fetch_at, what="poll", verdict="due", note="unless a push comes first")


def _of_event(event: Event) -> Iterator[Step]:
    names = {Source.CALLBACK: "callback", Source.POLL: "poll", Source.SUBMISSION: "answer"}
    verdict = "new" if event.standing is Standing.ACCEPTED else event.standing.value
    if event.type is EventType.CALLBACK_UNRECOGNISED:
        verdict = Verdict.UNRECOGNISED.value
    facts = [f"{event.type} {event.id}", trust_text(event)]
    facts += [standing_text(event).removeprefix("unrecognised: ")] if event.conflict else []  # the verdict says it
    facts += [f"{event.error.code or 'error'}: {event.error.message}"] if event.error else []
    what = names.get(event.source, "presumption")
    yield Step(at=event.received_at, what=what, verdict=verdict, note=", ".join(facts))
    if event.duplicates:
        note = f"{event.id}, said again {event.duplicates} times; this was the last"
        yield Step(at=event.last_seen_at, what=what, verdict=f"duplicate ×{event.duplicates}", note=note)


def _is_shown(kept: KeptCallback, known: set[str]) -> bool:
    """An unrecognised request made an event, which tells as much."""
    return kept.verdict == Verdict.UNRECOGNISED and kept.event_id in known


def _of_callback(kept: KeptCallback) -> Step:
    about = f"{kept.reason}, trust {kept.trust}" + (f", against {kept.event_id}" if kept.event_id else "")
    return Step(at=kept.callback.received_at, what="callback", verdict=kept.verdict, note=about)


def _of_delivery(owed: Owed) -> Iterator[Step]:
    delivery = owed.delivery
    name = f"{delivery.handler} ({owed.event_type}" + (f", run {delivery.run})" if delivery.run > 1 else ")")
    if delivery.replayed_by:
        why = f": {delivery.replay_reason}" if delivery.replay_reason else ""
        note = f"{name} {delivery.id}, by {delivery.replayed_by}{why}"
        yield Step(at=delivery.created_at, what="replay", verdict="asked for", note=note)
    for attempt in owed.attempts:
        took = f" after {span(attempt.finished_at - attempt.started_at)}" if attempt.finished_at else ""
        error = f": {attempt.error}" if attempt.error else ""
        verdict = attempt.outcome.value if attempt.outcome else "running"
        note = f"{name} attempt {attempt.number}{took}{error}"
        yield Step(at=attempt.started_at, what="handler", verdict=verdict, note=note)
        for done in owed.steps:
            if done.attempt == attempt.id:  # they are kept over runs: told under the one that did them
                yield Step(at=done.done_at, what="step", verdict="done", note=f"{done.name}, by {name}")
    if delivery.state is DeliveryState.PENDING:
        yield Step(at=delivery.due_at, what="handler", verdict="due", note=f"{name} {delivery.id}")
    elif delivery.state is not DeliveryState.RUNNING and not owed.attempts:
        at = delivery.settled_at or delivery.created_at
        yield Step(at=at, what="handler", verdict=delivery.state.value, note=f"{name} {delivery.reason or ''}")


def _of_child(child: Task) -> Step:
    note = f"{child.id} at {child.provider}, {child.state}"
    return Step(at=child.created_at, what="child", verdict="submitted", note=note)


def written(step: Step, since: datetime) -> tuple[str, str, str, str, str]:
    """Give a step as the cells of a row."""
    offset = step.at - since
    sign = "-" if offset.total_seconds() < 0 else "+"
    return moment_text(step.at), f"{sign}{span(abs(offset))}", step.what, step.verdict, line(step.note)

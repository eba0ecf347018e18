"""A callback that overtook the answer to its submission: the unknown task's events become the submitted one's."""

import pytest

from ringback.ledger import Ledger, Query
from ringback.model import DeliveryState, Event, Kind, Origin, Outcome, Source, Standing, TaskState, Trust, Verdict

from .builders import (
    COMPLETED,
    FAILED,
    NOW,
    PROCESSING,
    at,
    claim,
    claimed,
    ended,
    fact,
    fan_out,
    next_due,
    other,
    reading,
    sent,
    settle,
    submitted,
    working,
)

ACCEPTED = sent(reading=reading(TaskState.SUBMITTED, "p-a"))


async def events(ledger: Ledger) -> list[Event]:
    """List events, oldest first."""
    return list(reversed(await ledger.events(Query())))


async def test_events_move_over(ledger: Ledger) -> None:
    """The task of unknown origin is gone; its events, its state and its counts are the submitted task's."""
    await claimed(ledger)
    first = await ledger.record(fact(PROCESSING, None, progress=40))
    await ledger.record(fact(COMPLETED, None, event_id="e1", seconds=2))
    await ledger.record(other(Kind.HINT, first.task_id))
    task = await ledger.save_send(ACCEPTED)
    assert (task.id, task.state, task.settled_by, task.settled_at) == ("task_a", COMPLETED, Source.CALLBACK, at(2))
    assert (task.callbacks, task.progress, task.fetch_at) == (3, 40, None)
    assert [t.id for t in await ledger.tasks(Query())] == ["task_a"]
    story = await ledger.story("p-a")
    assert [event.status for event in story.events] == [PROCESSING, COMPLETED]
    assert story.events[1].id == task.settled_event
    assert len(story.callbacks) == 1
    for again in (fact(COMPLETED, event_id="e1"), fact(COMPLETED, None)):
        assert (await ledger.record(again)).verdict is Verdict.DUPLICATE


async def test_event_is_held_while_a_submission_waits(ledger: Ledger) -> None:
    """While a task of that provider is pending an unknown task's event waits for 30 s, or for the adoption."""
    await working(ledger)
    await claimed(ledger)
    await ledger.record(fact(COMPLETED, None))
    assert await next_due(ledger) == at(30)
    assert await fan_out(ledger, at(29.9), 10) == 0
    await ledger.save_send(ACCEPTED)
    assert await fan_out(ledger, at(2), 10) == 1
    (work,) = await claim(ledger)
    assert work.task is not None
    assert (work.task.id, work.event.task_id) == ("task_a", "task_a")


async def test_held_event_is_released_after_30_seconds(ledger: Ledger) -> None:
    """An unknown task is handled all the same; when it is adopted later its delivery is not written again."""
    await working(ledger)
    await claimed(ledger)
    await ledger.record(fact(COMPLETED, None))
    assert await fan_out(ledger, at(30), 10) == 1
    (work,) = await claim(ledger)
    assert work.task is not None
    assert work.task.origin is Origin.CALLBACK
    await ledger.save_send(ACCEPTED)
    assert await fan_out(ledger, at(40), 10) == 0
    assert await settle(ledger, [ended(work, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED)]) == [True]
    (delivery,) = await ledger.deliveries(Query())
    assert (delivery.task_id, delivery.delivery.state) == ("task_a", DeliveryState.SUCCEEDED)


async def test_nothing_is_held_without_a_pending_task(ledger: Ledger) -> None:
    """No submission of that provider waits: the unknown task's event is handed out at once."""
    await submitted(ledger)
    await claimed(ledger, "task_other", provider="reapi")
    await ledger.record(fact(COMPLETED, None, "p-x"))
    assert await fan_out(ledger, NOW, 10) == 1


async def test_known_facts_are_dropped_and_counted(ledger: Ledger) -> None:
    """One fact stays one event: what both tasks were told is kept once, with every request counted."""
    await working(ledger)
    await claimed(ledger)
    for _ in range(3):
        await ledger.record(fact(PROCESSING, None))
    await ledger.record(fact(PROCESSING, provider_id=None, seconds=-1))
    await fan_out(ledger, at(31), 10)
    (stale, held) = await claim(ledger)
    assert stale.event.task_id != "task_a"
    await ledger.save_send(ACCEPTED)
    (event,) = await events(ledger)
    assert (event.id, event.duplicates, event.last_seen_at) == (held.event.id, 3, NOW)
    endings = [ended(work, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED) for work in (stale, held)]
    assert await settle(ledger, endings) == [False, True]
    assert (await ledger.tasks(Query()))[0].callbacks == 4


@pytest.mark.parametrize(("mine", "theirs"), [(PROCESSING, TaskState.SUBMITTED), (COMPLETED, PROCESSING)])
async def test_adoption_never_lowers_a_state(ledger: Ledger, mine: TaskState, theirs: TaskState) -> None:
    """A submitted task that is further on stays so, and its counts still grow."""
    await claimed(ledger)
    await ledger.record(fact(theirs, None))
    await ledger.record(fact(mine, provider_id=None))
    task = await ledger.save_send(ACCEPTED)
    assert (task.state, task.callbacks) == (mine, 2)
    late = [event.status for event in await events(ledger) if event.standing is Standing.LATE]
    assert late == ([theirs] if mine is COMPLETED else [])


async def test_adopted_contradiction_is_marked(ledger: Ledger) -> None:
    """Two final words that meet in an adoption are one accepted and one contradicted event."""
    await working(ledger)
    await claimed(ledger)
    await ledger.record(fact(FAILED, None))
    await ledger.record(fact(COMPLETED, provider_id=None))
    task = await ledger.save_send(ACCEPTED)
    assert task.state is COMPLETED
    assert [event.standing for event in await events(ledger)] == [Standing.CONTRADICTED, Standing.ACCEPTED]
    assert await fan_out(ledger, at(60), 10) == 1


@pytest.mark.parametrize(("pushed", "state"), [(COMPLETED, COMPLETED), (PROCESSING, FAILED)])
async def test_adoption_replaces_a_presumption_by_a_final_word(
    ledger: Ledger, pushed: TaskState, state: TaskState
) -> None:
    """What we had presumed gives way to the provider's final word, but is not reopened by a step on the way."""
    await claimed(ledger)
    await ledger.record(fact(FAILED, provider_id=None, source=Source.RINGBACK, trust=Trust.NONE))
    await ledger.record(fact(pushed, None))
    task = await ledger.save_send(ACCEPTED)
    assert task.state is state
    assert task.settled_by is (Source.CALLBACK if pushed is COMPLETED else Source.RINGBACK)


async def test_event_id_under_both_tasks_does_not_hinder(ledger: Ledger) -> None:
    """An event id that came for both tasks with different facts stays with the first, and the answer is saved."""
    await claimed(ledger)
    await ledger.record(fact(PROCESSING, provider_id=None, event_id="e"))
    await ledger.record(fact(COMPLETED, "task_lost", event_id="e"))
    assert (await ledger.save_send(ACCEPTED)).state is COMPLETED
    assert (await ledger.record(fact(FAILED, event_id="e"))).verdict is Verdict.CONFLICT


async def test_answer_outranks_an_id_taken_from_a_body(ledger: Ledger) -> None:
    """A push to A's URL that names B's id before either answer came cannot keep B's answer from being saved."""
    await claimed(ledger, "task_a")
    await claimed(ledger, "task_b")
    await ledger.record(fact(PROCESSING, "task_a", "p-b"))
    b = await ledger.save_send(sent("task_b", reading=reading(TaskState.SUBMITTED, "p-b")))
    assert b.provider_id == "p-b"
    a = await ledger.save_send(sent("task_a", reading=reading(TaskState.SUBMITTED, "p-a")))
    assert (a.provider_id, a.state) == ("p-a", PROCESSING)

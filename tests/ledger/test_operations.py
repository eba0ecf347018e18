"""What operators do: replay, cancel and discard, singly and by a filter, and events once more for one handler."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from ringback.errors import NotFound
from ringback.ledger import Action, Cancel, Discard, Done, Ledger, Pattern, Query, Queue, Replay, ReplayEvents, Work
from ringback.model import DeliveryState, EventType, Form, Kind, Outcome, TaskState

from .builders import (
    COMPLETED,
    FAILED,
    NOW,
    PROCESSING,
    at,
    claim,
    claims,
    ended,
    fact,
    fan_out,
    other,
    owed,
    settle,
    submitted,
    worker,
    working,
)

SUCCEEDED, PENDING, DISCARDED = DeliveryState.SUCCEEDED, DeliveryState.PENDING, DeliveryState.DISCARDED
CANCELLED, RUNNING = DeliveryState.CANCELLED, DeliveryState.RUNNING


async def replay(ledger: Ledger, ids: Iterable[str], by: str, now: datetime, **more: Any) -> list[str]:
    """Replay these deliveries; gives the ids of the new runs."""
    return list((await ledger.act(Replay(query=Query(ids=tuple(ids)), by=by, now=now, **more))).ids)


async def whole(ledger: Ledger, action: Action) -> list[Done]:
    """Do all steps of an action."""
    steps = [await ledger.act(action)]
    while steps[-1].next is not None:
        assert len(steps) < 100
        steps.append(await ledger.act(replace(action, after=steps[-1].next)))
    return steps


async def states(ledger: Ledger, **query: Any) -> Counter[DeliveryState]:
    """Count deliveries by state."""
    return Counter(owed.delivery.state for owed in await ledger.deliveries(Query(**query)))


async def take(ledger: Ledger, count: int, handler: str = "h", seconds: float = 9) -> list[Work]:
    """Let a worker begin so many of what a handler is owed."""
    return list((await claims(ledger, worker(), {handler: count}, at(seconds), count)).works)


async def settled(ledger: Ledger, works: Iterable[Work], state: DeliveryState = DISCARDED) -> None:
    """Let all these end so."""
    outcome = Outcome.SUCCEEDED if state is SUCCEEDED else Outcome.FAILED
    await settle(ledger, [ended(work, outcome, state, error="no disk") for work in works])


async def test_replay_is_a_new_run(ledger: Ledger) -> None:
    """Replaying runs a settled delivery anew and leaves the old run as it was; a waiting one is left alone."""
    await owed(ledger, 2)
    first, second = await claim(ledger)
    await settled(ledger, [first], SUCCEEDED)
    ids = (first.delivery.id, second.delivery.id, first.delivery.id)
    done = await ledger.act(Replay(query=Query(ids=ids), by="ada@here", now=at(300), reason="a bad day"))
    assert (done.count, done.skipped, done.next) == (1, {RUNNING: 1}, None)
    (again,) = [owing.delivery for owing in await ledger.deliveries(Query(ids=done.ids))]
    assert (again.run, again.state, again.due_at, again.event_id) == (2, PENDING, at(300), first.event.id)
    assert (again.replayed_by, again.replay_reason) == ("ada@here", "a bad day")
    assert await replay(ledger, [first.delivery.id], "ada", at(301)) == []
    (work,) = await claim(ledger, seconds=300)
    assert (work.delivery.id, work.attempt.number) == (again.id, 1)
    await settled(ledger, [work])
    (third,) = await replay(ledger, [first.delivery.id, again.id], "bob", at(302))
    assert (await ledger.deliveries(Query(ids=(third,))))[0].delivery.run == 3
    runs = [item.delivery.state for item in (await ledger.story("task_0")).deliveries]
    assert runs == [SUCCEEDED, DISCARDED, PENDING]


async def test_only_the_latest_run_counts_as_discarded(ledger: Ledger) -> None:
    """A replayed delivery names its latest run, can be left out, and counts as discarded no more."""
    await owed(ledger)
    ids = []
    for seconds in (0, 300, 301):
        (work,) = await claim(ledger, seconds=seconds)
        await settled(ledger, [work])
        ids.append(work.delivery.id)
        assert (await ledger.summary(NOW)).discarded == 1
        assert [owing.delivery.id for owing in await ledger.deliveries(Query(latest=True))] == [work.delivery.id]
        (again,) = await replay(ledger, ids, "ada", at(300))
        assert (await ledger.summary(NOW)).discarded == 0
    found = await ledger.deliveries(Query(state="discarded"))
    assert [(owing.delivery.id, owing.replayed_as) for owing in found] == [(name, again) for name in reversed(ids)]
    assert await ledger.deliveries(Query(state="discarded", latest=True)) == []


@pytest.mark.parametrize("kind", [Replay, Cancel, Discard])
async def test_an_unknown_delivery_stops_the_whole(ledger: Ledger, kind: type[Replay | Cancel | Discard]) -> None:
    """Where one of the named deliveries does not exist nothing is done."""
    await owed(ledger, 2)
    (work,) = await take(ledger, 1)
    await settled(ledger, [work], SUCCEEDED)
    ids = tuple(owing.delivery.id for owing in await ledger.deliveries(Query()))
    with pytest.raises(NotFound, match="dlv_none"):
        await ledger.act(kind(query=Query(ids=(*ids, "dlv_none")), by="ada", now=NOW))
    assert await states(ledger) == {SUCCEEDED: 1, PENDING: 1}


@pytest.mark.parametrize(("kind", "state"), [(Cancel, CANCELLED), (Discard, DISCARDED)])
async def test_ending_what_waits(ledger: Ledger, kind: type[Cancel | Discard], state: DeliveryState) -> None:
    """What is pending ends with who and why, in steps; what runs is left alone and goes on, what has ended stays."""
    await owed(ledger, 9)
    first, second = await take(ledger, 2)
    await settled(ledger, [first], SUCCEEDED)
    action = kind(query=Query(handler="h", limit=3), by="ada@here", now=at(50), reason="not wanted")
    asked = await ledger.act(replace(action, dry_run=True))
    assert (asked.count, asked.skipped, len(asked.ids), asked.next) == (7, {RUNNING: 1}, 5, None)
    assert await states(ledger) == {SUCCEEDED: 1, RUNNING: 1, PENDING: 7}
    steps = await whole(ledger, action)
    assert [step.count for step in steps] == [3, 3, 1]
    assert sum((Counter(step.skipped) for step in steps), Counter()) == {RUNNING: 1}
    ended_ones = [owing.delivery for owing in await ledger.deliveries(Query(state=state))]
    assert {delivery.id for delivery in ended_ones} == {name for step in steps for name in step.ids}
    assert {(d.settled_at, d.reason) for d in ended_ones} == {(at(50), f"{state} by ada@here: not wanted")}
    assert list(await claim(ledger)) == []
    assert await settle(ledger, [ended(second, Outcome.SUCCEEDED, SUCCEEDED)]) == [True]
    named = await ledger.act(kind(query=Query(ids=(first.delivery.id,)), by="ada", now=at(60)))
    assert (named.count, named.skipped) == (0, {SUCCEEDED: 1})
    assert (await whole(ledger, kind(query=Query(state="succeeded"), by="ada", now=at(60))))[0] == Done()


async def test_replaying_by_a_filter(ledger: Ledger) -> None:
    """The latest runs that fit are run anew, each once, even where a new run ends before the last step."""
    await owed(ledger, 5)
    works = await claim(ledger)
    await settled(ledger, works)
    (again,) = await replay(ledger, [works[0].delivery.id], "ada", at(200))
    await settled(ledger, await claim(ledger, seconds=200))
    action = Replay(query=Query(state="discarded", limit=2), by="ada", now=at(300))
    asked = await ledger.act(replace(action, dry_run=True))
    assert (asked.count, again in asked.ids) == (5, True)
    step, made = await ledger.act(action), list[str]()
    made += step.ids
    while step.next is not None:
        await settled(ledger, await claim(ledger, seconds=300))
        step = await ledger.act(replace(action, after=step.next))
        made += step.ids
    runs = [owing.delivery.run for owing in await ledger.deliveries(Query(ids=tuple(made)))]
    assert sorted(runs) == [2, 2, 2, 2, 3]


async def test_filters_of_deliveries(ledger: Ledger) -> None:
    """Age, event type and task narrow a list; a task's deliveries are found whatever their events are about."""
    await owed(ledger, 3)
    await ledger.record(other(Kind.UNRECOGNISED, "task_1"))
    await fan_out(ledger, at(5), 10)

    async def count(**query: Any) -> int:
        return len(await ledger.deliveries(Query(**query)))

    assert [await count(before=at(seconds)) for seconds in (0, 1, 2.5, 9)] == [0, 1, 3, 4]
    assert [await count(task_id=f"task_{n}") for n in range(4)] == [1, 2, 1, 0]
    assert await count(type="task.completed") == 3
    assert await count(task_id="task_1", before=at(5)) == await count(task_id="task_1", type="task.completed") == 1
    (owing,) = await ledger.deliveries(Query(task_id="task_0"))
    assert await count(event_id=owing.delivery.event_id, task_id="task_0", ids=(owing.delivery.id,)) == 1
    assert await count(event_id=owing.delivery.event_id, task_id="task_1") == await count(ids=()) == 0


def events(handler: str = "late", **more: Any) -> ReplayEvents:
    """Ask for all events up to now for one handler."""
    defaults: dict[str, Any] = {"since": at(0), "until": at(100), "by": "ada@here", "now": at(100)}
    return ReplayEvents(handler=handler, reason="catch up", **defaults | more)


async def test_a_new_handler_catches_up(ledger: Ledger) -> None:
    """A handler gets what its patterns fit, in steps: its first run where it had none, never one beside another."""
    await working(ledger, "h")
    for number in range(6):
        model = "wave-1" if number else "tide"
        await submitted(ledger, f"task_{number}", f"p-{number}", form=Form(model=model))
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}", seconds=number))
        await ledger.record(fact(PROCESSING, f"task_{number}", f"p-{number}", seconds=number))  # late: for nobody
    await fan_out(ledger, at(10), 10)
    await working(ledger, "late", patterns=[Pattern(event="task.completed", model="wave-*")])
    await ledger.record(fact(COMPLETED, "task_6", "p-6", seconds=12))  # waits for its fan-out
    asked = await ledger.act(events(dry_run=True))
    found = await ledger.events(Query(ids=asked.ids))
    assert (asked.count, sorted(event.task_id or "" for event in found)) == (5, [f"task_{n}" for n in range(1, 6)])
    steps = await whole(ledger, events(limit=2))
    assert [step.count for step in steps] == [1, 2, 2, 0]
    made = [owing.delivery for owing in await ledger.deliveries(Query(handler="late"))]
    assert {(d.run, d.state, d.due_at, d.replayed_by, d.replay_reason) for d in made} == {
        (1, PENDING, at(100), "ada@here", "catch up")
    }
    work, running = await take(ledger, 2, "late", 100)
    await settled(ledger, [work])
    again = await ledger.act(events())
    assert (again.count, again.skipped) == (1, {PENDING: 3, RUNNING: 1})
    assert (await ledger.deliveries(Query(ids=again.ids)))[0].delivery.run == 2
    assert await settle(ledger, [ended(running, Outcome.SUCCEEDED, SUCCEEDED)]) == [True]


async def test_which_events_are_replayed(ledger: Ledger) -> None:
    """Time, status, provider and type choose; an unknown handler is refused with the names of those that are known."""
    await working(ledger, "h")
    for number, status in enumerate((COMPLETED, FAILED, PROCESSING, COMPLETED)):
        provider = "qingbo" if number else "reapi"
        await submitted(ledger, f"task_{number}", f"p-{number}", provider=provider)
        await ledger.record(fact(status, f"task_{number}", f"p-{number}", provider=provider, seconds=10 * number))
    await fan_out(ledger, at(40), 10)
    for work in await claim(ledger):
        await settled(ledger, [work], SUCCEEDED)

    async def count(**more: Any) -> int:
        return (await ledger.act(events("h", dry_run=True, **more))).count

    assert await count() == 4
    assert [await count(since=at(10)), await count(since=at(10.5)), await count(until=at(10))] == [3, 2, 1]
    assert await count(since=at(31)) == 0
    assert [await count(status=COMPLETED), await count(status=TaskState.CANCELLED)] == [2, 0]
    assert [await count(provider="reapi"), await count(type=EventType.TASK_FAILED)] == [1, 1]
    assert await states(ledger) == {SUCCEEDED: 4}
    with pytest.raises(NotFound, match=r"'nobody' .* known: h$"):
        await ledger.act(events("nobody"))


async def test_a_worker_may_come_between(ledger: Ledger) -> None:
    """What changed after it was looked up is respected: nothing runs twice side by side, nothing running is ended."""
    await owed(ledger, 1)
    waiting = Cancel(query=Query(handler="h"), by="ada", now=at(200))
    (work,), *_ = await claim(ledger), await ledger.act(waiting)
    assert await states(ledger) == {RUNNING: 1}
    await settled(ledger, [work], SUCCEEDED)
    action = Replay(query=Query(ids=(work.delivery.id,)), by="ada", now=at(200))
    both = [ledger.act(action), ledger.act(action), ledger.act(events("h")), ledger.act(events("h"))]
    assert sorted(done.count for done in await asyncio.gather(*both)) == [0, 0, 0, 1]
    assert len(await take(ledger, 9, seconds=200)) == 1


async def test_queues_by_handler(ledger: Ledger) -> None:
    """The summary tells for each handler what waits, since when, what runs, and what was given up."""
    await owed(ledger, 4)
    await working(ledger, "idle", patterns=())
    first, _ = await take(ledger, 2)
    await settled(ledger, [first])
    queues = (await ledger.summary(at(20))).queues
    assert set(queues) == {"h"}
    queue = queues["h"]
    assert [queue.lag_seconds(at(seconds)) for seconds in (1, 5)] == [0.0, 3.0]
    assert Queue().lag_seconds(NOW) == 0.0
    assert (queue.pending, queue.running, queue.discarded, queue.oldest_due_at) == (2, 1, 1, at(2))
    await replay(ledger, [first.delivery.id], "ada", at(30))
    summary = await ledger.summary(at(30))
    assert (summary.queues["h"].discarded, summary.queues["h"].pending, summary.oldest_due_at) == (0, 3, at(2))

"""Steps: recorded behind the fence, given to every later attempt, shown to people; and the tasks that follow others."""

import asyncio
from dataclasses import replace

import pytest
from msgspec import structs

from ringback.ledger import DoneStep, Ledger, Query, Replay, ReplayEvents
from ringback.model import DeliveryState, Outcome, TaskState

from .builders import (
    COMPLETED,
    NOW,
    at,
    claim,
    claimed,
    ended,
    fact,
    fan_out,
    new_task,
    owed,
    reading,
    sent,
    settle,
    worker,
    working,
)
from .conftest import Engine

PENDING, SUCCEEDED = DeliveryState.PENDING, DeliveryState.SUCCEEDED


async def test_a_step_is_given_to_every_later_attempt(ledger: Ledger) -> None:
    """What one attempt has recorded comes with the claim of the next one, and stands beside the delivery."""
    await owed(ledger)
    (work,) = await claim(ledger)
    assert work.steps == frozenset()
    assert await ledger.finish_step(work.attempt, "charge", at(101))
    assert await ledger.finish_step(work.attempt, "mail", at(102))
    await settle(ledger, [ended(work, Outcome.FAILED, PENDING, seconds=103)])
    (again,) = await claim(ledger, seconds=104)
    assert again.steps == {"charge", "mail"}
    (shown,) = await ledger.deliveries(Query(ids=(work.delivery.id,)))
    assert shown.steps == (
        DoneStep(name="charge", attempt=work.attempt.id, done_at=at(101)),
        DoneStep(name="mail", attempt=work.attempt.id, done_at=at(102)),
    )


async def test_steps_belong_to_one_event_and_handler(ledger: Ledger) -> None:
    """Another event of the same handler, and another handler of the same event, know nothing of them."""
    await working(ledger, "g", "h")
    for number in range(2):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}"))
    await fan_out(ledger, NOW, 10)
    first, second = await claim(ledger)
    await ledger.finish_step(first.attempt, "charge", at(101))
    await settle(ledger, [ended(work, Outcome.FAILED, PENDING) for work in (first, second)])
    found = {work.delivery.id: work.steps for work in await claim(ledger, seconds=200)}
    assert found == {first.delivery.id: {"charge"}, second.delivery.id: frozenset()}
    shown = await ledger.deliveries(Query(handler="g"))
    assert [item.steps for item in shown] == [(), ()]


async def test_recording_twice_is_the_same(ledger: Ledger) -> None:
    """Whoever does not know whether it was recorded may do it again: the first record stays."""
    await owed(ledger)
    (work,) = await claim(ledger)
    results = await asyncio.gather(*(ledger.finish_step(work.attempt, "charge", at(n)) for n in (101, 102, 103)))
    assert results == [True] * 3
    (shown,) = await ledger.deliveries(Query())
    assert [step.done_at for step in shown.steps] == [at(101)]


@pytest.mark.parametrize("late", ["settled", "lapsed", "taken over", "unknown"])
async def test_a_late_finisher_records_nothing(engine: Engine, late: str) -> None:
    """An attempt that is no longer its delivery's current one is told so, and leaves nothing behind."""
    ledger, other = await engine.open(), await engine.open()
    await owed(ledger)
    (work,) = await claim(ledger)
    if late == "settled":
        await settle(ledger, [ended(work, Outcome.TIMED_OUT, PENDING)])
    elif late != "unknown":
        assert await other.beat(worker("w2"), at(200), at(150))
    if late == "taken over":
        assert len(await claim(other, seconds=201, process="w2")) == 1
    attempt = structs.replace(work.attempt, id="att_nobody") if late == "unknown" else work.attempt
    assert not await ledger.finish_step(attempt, "charge", at(202))
    (shown,) = await ledger.deliveries(Query())
    assert shown.steps == ()


async def test_one_batch_tells_the_late_from_the_others(ledger: Ledger) -> None:
    """Steps that are committed together are fenced each by its own attempt."""
    await owed(ledger, 2)
    late, current = await claim(ledger)
    await settle(ledger, [ended(late, Outcome.TIMED_OUT, PENDING)])
    works = (late, current, late, current)
    told = await asyncio.gather(*(ledger.finish_step(w.attempt, f"s{n}", at(110)) for n, w in enumerate(works)))
    assert told == [False, True, False, True]


async def test_a_task_that_follows_another_is_shown_with_it(ledger: Ledger) -> None:
    """The parent's story lists its children, oldest first; each child names its parent."""
    for number, parent in enumerate(["task_a", "task_a", "task_other"]):
        await ledger.add_task(new_task(f"task_child{number}", parent_id=parent, created_at=at(number)))
    await ledger.add_task(new_task("task_a"))
    story = await ledger.story("task_a")
    assert [(child.id, child.parent_id) for child in story.children] == [
        ("task_child0", "task_a"),
        ("task_child1", "task_a"),
    ]
    assert (story.task.parent_id, (await ledger.story("task_child0")).children) == (None, ())


async def test_an_adopted_task_takes_its_children_and_drops_the_steps_of_copies(ledger: Ledger) -> None:
    """What a handler did for a task known by callback only goes to the submitted task that it turns out to be."""
    await working(ledger)
    await claimed(ledger, "task_a")
    await ledger.record(fact(COMPLETED, None, "p-a"))  # held, until it is clear whose it is; then fanned out anyway
    await ledger.record(fact(COMPLETED, "task_a", None))  # the same fact, by our own URL
    assert await fan_out(ledger, at(60), 10) == 2
    works = {work.event.task_id: work for work in await claim(ledger)}
    unknown = next(task_id for task_id in works if task_id != "task_a")
    assert unknown is not None
    for work in works.values():
        assert await ledger.finish_step(work.attempt, "charge", at(101))
    await ledger.add_task(new_task("task_child", parent_id=unknown))
    await ledger.save_send(sent("task_a", reading=reading(TaskState.SUBMITTED, "p-a")))
    story = await ledger.story("p-a")
    assert (story.task.id, [child.id for child in story.children]) == ("task_a", ["task_child"])
    assert [[step.attempt for step in item.steps] for item in story.deliveries] == [[works["task_a"].attempt.id]]


async def test_a_replay_knows_the_steps_of_earlier_runs(ledger: Ledger) -> None:
    """A further run of the same event and handler does no step again that was recorded, in its first attempt either."""
    await owed(ledger)
    (work,) = await claim(ledger)
    await ledger.finish_step(work.attempt, "charge", at(101))
    await settle(ledger, [ended(work, Outcome.SUCCEEDED, SUCCEEDED)])
    await ledger.act(Replay(query=Query(ids=(work.delivery.id,)), by="me", now=at(200)))
    (again,) = await claim(ledger, seconds=300)
    assert (again.delivery.run, again.attempt.number, again.steps) == (2, 1, frozenset({"charge"}))


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("by_events", [False, True])
async def test_a_fresh_replay_forgets_steps(ledger: Ledger, fresh: bool, by_events: bool) -> None:
    """A replay keeps the steps unless it is to be fresh; then only those of the replayed event and handler are gone."""
    await working(ledger, "g", "h")
    for number in range(2):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}", seconds=number))
    await fan_out(ledger, NOW, 10)
    works = [*await claim(ledger, "g"), *await claim(ledger, "h")]
    for work in works:
        assert await ledger.finish_step(work.attempt, "charge", at(101))
    await settle(ledger, [ended(work, Outcome.SUCCEEDED, SUCCEEDED) for work in works])
    meant = next(w for w in works if (w.delivery.handler, w.event.task_id) == ("h", "task_0"))
    replay = Replay(query=Query(ids=(meant.delivery.id,)), by="ada", now=at(200), fresh=fresh)
    replay_events = ReplayEvents(handler="h", since=NOW, until=at(1), by="ada", now=at(200), fresh=fresh)
    action = replay_events if by_events else replay
    assert (await ledger.act(replace(action, dry_run=True))).count == 1
    assert len((await ledger.deliveries(Query(ids=(meant.delivery.id,))))[0].steps) == 1  # looking changes nothing
    assert (await ledger.act(action)).count == 1
    (again,) = await claim(ledger, seconds=300)
    assert again.steps == (frozenset() if fresh else {"charge"})
    kept = await ledger.deliveries(Query(ids=tuple(work.delivery.id for work in works if work is not meant)))
    assert [len(item.steps) for item in kept] == [1, 1, 1]


async def test_a_replay_that_does_nothing_forgets_nothing(ledger: Ledger) -> None:
    """What still runs is not replayed, and the steps that it has recorded stay."""
    await owed(ledger)
    (work,) = await claim(ledger)
    await ledger.finish_step(work.attempt, "charge", at(101))
    replay = Replay(query=Query(ids=(work.delivery.id,)), by="ada", now=at(200), fresh=True)
    assert (await ledger.act(replay)).count == 0
    (shown,) = await ledger.deliveries(Query())
    assert len(shown.steps) == 1

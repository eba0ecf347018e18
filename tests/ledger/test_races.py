"""The five races, and a callback at the wrong door; on one ledger by two who have opened it."""

import asyncio
import random

from ringback.ledger import Query
from ringback.model import EventType, Kind, TaskState, Verdict

from .builders import COMPLETED, FAILED, NOW, PROCESSING, at, claimed, fact, other, reading, sent, submitted
from .conftest import Engine


async def test_push_before_the_answer(engine: Engine) -> None:
    """A push that overtakes the answer is one event of one task, by its own URL and by the provider's id alike."""
    ledger, neighbour = await engine.open(), await engine.open()
    for name, url in (("task_a", "task_a"), ("task_b", None)):
        await claimed(ledger, name)
        early = await neighbour.record(fact(COMPLETED, url, f"p-{name}"))
        task = await ledger.save_send(sent(name, reading=reading(TaskState.SUBMITTED, f"p-{name}")))
        assert (task.id, task.state, task.settled_event) == (name, COMPLETED, early.event_id)
        assert (await neighbour.record(fact(COMPLETED, name, f"p-{name}"))).verdict is Verdict.DUPLICATE
    assert len(await ledger.tasks(Query())) == len(await ledger.events(Query())) == 2


async def test_push_fifty_times_at_once(engine: Engine) -> None:
    """Fifty copies through two ledgers are one event with 49 duplicates."""
    ledgers = [await engine.open(), await engine.open()]
    await submitted(ledgers[0])
    copies = [ledgers[n % 2].record(fact(COMPLETED, event_id="e", seconds=n)) for n in range(50)]
    receipts = await asyncio.gather(*copies)
    assert sorted(receipt.verdict for receipt in receipts) == [Verdict.DUPLICATE] * 49 + [Verdict.NEW]
    (event,) = await ledgers[1].events(Query())
    assert (event.duplicates, event.last_seen_at) == (49, at(49))
    assert (await ledgers[0].summary(NOW)).callbacks == 50


async def test_push_of_an_unknown_task_fifty_times_at_once(engine: Engine) -> None:
    """Copies about a task that nobody knows make one task and one event."""
    ledgers = [await engine.open(), await engine.open()]
    receipts = await asyncio.gather(*[ledgers[n % 2].record(fact(COMPLETED, None)) for n in range(50)])
    assert len({receipt.task_id for receipt in receipts}) == 1
    assert len(await ledgers[0].events(Query())) == 1


async def test_any_order_of_steps_and_one_end(engine: Engine) -> None:
    """Steps and one final word end in the same state in any order, with one accepted final event."""
    ledger = await engine.open()
    for number in range(6):
        task_id = f"task_{number}"
        await submitted(ledger, task_id, f"p-{number}")
        statuses = [TaskState.SUBMITTED, PROCESSING, PROCESSING, COMPLETED]
        random.Random(number).shuffle(statuses)
        await asyncio.gather(*[ledger.record(fact(status, task_id, f"p-{number}")) for status in statuses])
        story = await ledger.story(task_id)
        assert (story.task.state, story.task.callbacks, len(story.events)) == (COMPLETED, 4, 3)


async def test_completed_and_failed_at_once(engine: Engine) -> None:
    """Of two final words that come together through two ledgers one is accepted, the other is contradicted."""
    ledgers = [await engine.open(), await engine.open()]
    await submitted(ledgers[0])
    words = await asyncio.gather(ledgers[0].record(fact(COMPLETED)), ledgers[1].record(fact(FAILED)))
    assert {receipt.verdict for receipt in words} == {Verdict.NEW, Verdict.CONTRADICTED}
    first = next(receipt for receipt in words if receipt.verdict is Verdict.NEW)
    (task,) = await ledgers[0].tasks(Query())
    assert (task.state, task.settled_event) == (first.state, first.event_id)


async def test_valid_url_with_a_body_about_another_task(engine: Engine) -> None:
    """A's URL with a body about B changes nothing of B; A becomes due; and B's own push is one fresh event."""
    ledger = await engine.open()
    await submitted(ledger, "task_a", "p-a")
    before = await submitted(ledger, "task_b", "p-b")
    receipt = await ledger.record(fact(COMPLETED, "task_a", "p-b", event_id="e", seconds=3))
    assert (receipt.verdict, receipt.task_id, receipt.state) == (Verdict.UNRECOGNISED, "task_a", TaskState.SUBMITTED)
    a, b = await ledger.story("task_a"), await ledger.story("task_b")
    assert (b.task, b.events, b.callbacks) == (before, (), ())
    assert (a.task.fetch_at, a.task.state) == (at(3), TaskState.SUBMITTED)
    assert [(e.type, e.conflict) for e in a.events] == [(EventType.CALLBACK_UNRECOGNISED, "task_mismatch")]
    own = await ledger.record(fact(COMPLETED, "task_b", "p-b", event_id="e"))
    assert (own.verdict, own.state) == (Verdict.NEW, COMPLETED)
    assert (await ledger.record(fact(COMPLETED, "task_nobody", "p-b"))).verdict is Verdict.UNRECOGNISED
    assert (await ledger.record(other(Kind.HINT, "task_a"))).state is TaskState.SUBMITTED

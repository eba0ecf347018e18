"""What the poller is promised: each due task once per lease, and no hint lost while it asks."""

import asyncio

from ringback.ledger import Ledger, Query
from ringback.model import Kind, Task

from .builders import COMPLETED, NOW, at, fact, new_task, other, submitted
from .conftest import Engine


async def only(ledger: Ledger) -> Task:
    """Give the one task."""
    (task,) = await ledger.tasks(Query())
    return task


async def due(ledger: Ledger) -> None:
    """Store an accepted task that is due at NOW."""
    await submitted(ledger)
    await ledger.plan_fetches({"task_a": NOW})
    await ledger.record(other(Kind.HINT))


async def test_due_tasks_come_most_overdue_first(ledger: Ledger) -> None:
    """Of one provider so many due tasks are given, also those whose id is not known; none twice before its lease."""
    for n in (3, 1, 2, 9):
        await ledger.add_task(new_task(f"task_{n}", fetch_at=at(n)))
    await ledger.add_task(new_task("task_r", fetch_at=NOW, provider="reapi"))
    first = await ledger.claim_fetches("qingbo", at(5), at(65), 2)
    assert {task.id for task in first} == {"task_1", "task_2"}
    assert {(task.fetched_at, task.fetches, task.fetch_at) for task in first} == {(at(5), 1, at(65))}
    assert [task.id for task in await ledger.claim_fetches("qingbo", at(5), at(65), 9)] == ["task_3"]
    assert await ledger.claim_fetches("qingbo", at(8), at(68), 9) == []
    assert len(await ledger.claim_fetches("qingbo", at(65), at(99), 9)) == 4


async def test_two_pollers_never_ask_twice(engine: Engine) -> None:
    """A due task is given to one poller only."""
    ledgers = [await engine.open(), await engine.open()]
    await ledgers[0].add_task(new_task(fetch_at=NOW))
    given = await asyncio.gather(*[ledgers[n % 2].claim_fetches("qingbo", NOW, at(60), 5) for n in range(6)])
    assert sorted(len(tasks) for tasks in given) == [0, 0, 0, 0, 0, 1]


async def test_plan_sets_when_to_ask_next(ledger: Ledger) -> None:
    """After its answer a task is asked about as planned, or no more."""
    await due(ledger)
    await ledger.claim_fetches("qingbo", NOW, at(60), 5)
    await ledger.plan_fetches({"task_a": at(30), "task_gone": at(1)})
    assert (await only(ledger)).fetch_at == at(30)
    await ledger.claim_fetches("qingbo", at(30), at(90), 5)
    await ledger.plan_fetches({"task_a": None})
    assert (await only(ledger)).fetch_at is None


async def test_hint_during_a_fetch_is_not_lost(ledger: Ledger) -> None:
    """What made a task due while it was being asked about stands against a later plan, and against none."""
    for plan, expected in ((at(300), at(5)), (at(2), at(2)), (None, at(5))):
        if plan == at(300):
            await due(ledger)
        else:
            await ledger.plan_fetches({"task_a": NOW})
        await ledger.claim_fetches("qingbo", NOW, at(60), 5)
        await ledger.record(other(Kind.HINT, seconds=1))
        await ledger.plan_fetches({"task_a": plan})
        assert (await only(ledger)).fetch_at == expected


async def test_settled_task_stays_unasked(ledger: Ledger) -> None:
    """A push that settles a task while it is being asked about ends the asking."""
    await due(ledger)
    await ledger.claim_fetches("qingbo", NOW, at(60), 5)
    await ledger.record(fact(COMPLETED))
    await ledger.plan_fetches({"task_a": at(10)})
    assert (await only(ledger)).fetch_at is None
    assert await ledger.claim_fetches("qingbo", at(999), at(1000), 5) == []

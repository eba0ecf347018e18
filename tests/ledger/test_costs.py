"""What tasks come to, by every rule and every view, and budgets that hold whoever adds tasks, and how many at once."""

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringback.errors import BudgetExceeded, KeyConflict
from ringback.ledger import (
    Budget,
    By,
    Cost,
    Costs,
    Differing,
    Ledger,
    Query,
    Recount,
    Spending,
    Spent,
    Sums,
    open_ledger,
)
from ringback.ledger.budgets import Period, usd
from ringback.ledger.costs import grouped, total
from ringback.model import Form, Source, Task, TaskState, new_id
from ringback.settings import Settings

from .builders import COMPLETED, FAILED, NOW, PROCESSING, at, fact, reading, sent
from .conftest import Engine

CANCELLED, EXPIRED = TaskState.CANCELLED, TaskState.EXPIRED
PRICE = 44_625
numbers = itertools.count()


def priced(price: int | None = PRICE, *, now: datetime = NOW, provider: str = "qingbo", **more: Any) -> Task:
    """Make a task with a time-ordered id, as the submitter does."""
    form = Form(model=more.pop("model", "grok"))
    return Task(id=new_id("task", now), provider=provider, form=form, created_at=now, price_microdollars=price, **more)


async def bought(ledger: Ledger, price: int | None = PRICE, **more: Any) -> Task:
    """Store a task that the provider has accepted."""
    task, _ = await ledger.add_task(priced(price, **more))
    assert await ledger.claim_send(task, NOW, None)
    return await ledger.save_send(sent(task.id, reading=reading(PROCESSING, f"p-{next(numbers)}")))


async def end(ledger: Ledger, task: Task, status: TaskState, charged: int | None = None, **more: Any) -> None:
    """Let the provider say how a task ended, and what it charged."""
    said: dict[str, Any] = {"provider": task.provider, "seconds": 5, **more}
    await ledger.record(fact(status, task.id, task.provider_id, charged_microdollars=charged, **said))


async def sums(ledger: Ledger, **ask: Any) -> Sums:
    """Ask what all came to."""
    return total(await ledger.report(Costs(**ask)))


async def spent(ledger: Ledger, now: datetime = NOW) -> Spent:
    """Ask what counts against the budgets."""
    return await ledger.report(Spending(now=now))


@pytest.mark.parametrize(
    ("status", "charged", "expected"),
    [
        (PROCESSING, None, {"spent": PRICE}),
        (COMPLETED, None, {"spent": PRICE}),
        (COMPLETED, PRICE + 1, {"spent": PRICE + 1, "charged": PRICE + 1, "difference": 1, "told": 1}),
        (COMPLETED, 50_000, {"spent": 50_000, "charged": 50_000, "difference": 5_375, "told": 1, "differing": 1}),
        (COMPLETED, 0, {"difference": -PRICE, "told": 1, "differing": 1}),
        (FAILED, None, {"refunded": PRICE, "assumed": PRICE}),
        (FAILED, 0, {"refunded": PRICE, "told": 1}),
        (FAILED, 10_000, {"spent": 10_000, "charged": 10_000, "refunded": PRICE - 10_000, "told": 1}),
        (
            FAILED,
            50_000,
            {"spent": 50_000, "charged": 50_000, "difference": 5_375, "told": 1, "differing": 1},
        ),
        (CANCELLED, None, {"refunded": PRICE, "assumed": PRICE}),
        (CANCELLED, 0, {"refunded": PRICE, "told": 1}),
        (EXPIRED, None, {"refunded": PRICE, "assumed": PRICE}),
    ],
)
async def test_what_a_task_comes_to(
    ledger: Ledger, status: TaskState, charged: int | None, expected: dict[str, int]
) -> None:
    """The provider's word counts; without it an end without a result costs nothing, by assumption."""
    await end(ledger, await bought(ledger), status, charged)
    assert await sums(ledger) == Sums(tasks=1, expected=PRICE, **expected)
    assert await spent(ledger) == Spent(day=expected.get("spent", 0), month=expected.get("spent", 0))


async def test_what_was_not_sent_or_not_answered_is_promised(ledger: Ledger) -> None:
    """A task counts from when it is stored; one whose end nobody knows may have been bought."""
    await ledger.add_task(priced())
    doubtful, _ = await ledger.add_task(priced())
    assert await ledger.claim_send(doubtful, NOW, None)
    await ledger.save_send(sent(doubtful.id))
    assert (await sums(ledger)).spent == 2 * PRICE


async def test_what_the_provider_refused_costs_nothing_for_certain(ledger: Ledger) -> None:
    """Nothing was bought: that is no assumption."""
    task, _ = await ledger.add_task(priced())
    assert await ledger.claim_send(task, NOW, None)
    await ledger.save_send(sent(task.id, reading=reading(FAILED)))
    assert await sums(ledger) == Sums(tasks=1, expected=PRICE, refunded=PRICE)


async def test_a_presumed_end_gives_nothing_back(ledger: Ledger) -> None:
    """What we only presume to have expired may have been charged, until the provider says how it ended."""
    task = await bought(ledger)
    await end(ledger, task, EXPIRED, source=Source.RINGBACK)
    assert (await sums(ledger)).spent == PRICE
    await end(ledger, task, FAILED, 0)
    assert (await sums(ledger)).spent == 0


@pytest.mark.parametrize(("status", "claims"), [(FAILED, True), (EXPIRED, False)])
async def test_what_was_never_sent_costs_nothing_for_certain(ledger: Ledger, status: TaskState, claims: bool) -> None:
    """A task that was withdrawn, whose sending is claimed so that nobody sends it, or one that was never reached."""
    task, _ = await ledger.add_task(priced())
    assert not claims or await ledger.claim_send(task, NOW, at(30))
    await end(ledger, task, status, source=Source.RINGBACK)
    assert await sums(ledger) == Sums(tasks=1, expected=PRICE, refunded=PRICE)


async def test_what_has_no_price(ledger: Ledger) -> None:
    """Unknown until the provider says its charge, which then was not expected; a failure costs nothing."""
    task = await bought(ledger, None)
    assert await sums(ledger) == Sums(tasks=1, unknown=1)
    await end(ledger, task, COMPLETED, 7)
    assert await sums(ledger) == Sums(tasks=1, charged=7, unexpected=7, spent=7, told=1)
    await ledger.record(fact(COMPLETED, None, "p-elsewhere", charged_microdollars=5))
    (elsewhere,) = [cost for cost in await ledger.report(Costs()) if cost.model is None]
    assert (elsewhere.sums.unexpected, elsewhere.sums.tasks) == (5, 1)


async def test_copies_are_not_charged_again(ledger: Ledger) -> None:
    """A push that comes thrice, and another final word after it, change nothing."""
    task = await bought(ledger)
    for _ in range(3):
        await end(ledger, task, COMPLETED, 44_626)
    await end(ledger, task, FAILED, 0)
    assert (await sums(ledger)).spent == 44_626


async def test_absurd_charges_can_be_summed_up(ledger: Ledger) -> None:
    """The largest numbers that a provider can send count as a million dollars each, and break nothing."""
    for _ in range(3):
        await end(ledger, await bought(ledger), COMPLETED, 2**63 - 1)
    assert (await sums(ledger)).spent == 3 * 10**12
    assert (await spent(ledger)).day == 3 * 10**12


async def test_a_time_and_a_provider_can_be_asked_for(ledger: Ledger) -> None:
    """From `since` on, before `until`; the newest single tasks come in the order of their making, last first."""
    tasks = [await bought(ledger, n, now=at(n), provider=("qingbo", "reapi")[n % 2]) for n in range(6)]
    assert (await sums(ledger, since=at(1), until=at(4))).spent == 1 + 2 + 3
    assert (await sums(ledger, provider="reapi", since=at(2))).spent == 3 + 5
    newest = await ledger.report(Costs(newest=2))
    assert [cost.task_id for cost in newest] == [tasks[5].id, tasks[4].id]
    assert newest[0].sums == Sums(tasks=1, expected=5, spent=5)


async def test_tasks_that_were_charged_otherwise_are_found(ledger: Ledger) -> None:
    """Those that settled within a time, soonest first; rounding is no difference, and a refund is none either."""
    dear, fair, failed = [await bought(ledger) for _ in range(3)]
    await end(ledger, dear, COMPLETED, 60_000)
    await end(ledger, fair, COMPLETED, 44_626)
    await end(ledger, failed, FAILED, 0)
    assert [task.id for task in await ledger.report(Differing(since=at(0), until=at(6)))] == [dear.id]
    assert await ledger.report(Differing(since=at(6), until=at(9))) == []


async def test_one_that_ended_in_two_words_is_told_once(ledger: Ledger) -> None:
    """It takes one place among those asked for, whatever else was said of it in that time."""
    tasks = [await bought(ledger) for _ in range(3)]
    for task in tasks:
        await end(ledger, task, COMPLETED, 60_000)
        await end(ledger, task, FAILED, seconds=5.5)
    found = await ledger.report(Differing(since=at(0), until=at(6), limit=3))
    assert {task.id for task in found} == {task.id for task in tasks}


TASKS = st.tuples(
    st.sampled_from(["qingbo", "reapi", "fal"]),
    st.sampled_from(["grok", "flux"]),
    st.integers(0, 70),  # days after NOW
    st.none() | st.integers(0, 10**8),
    st.sampled_from([None, PROCESSING, COMPLETED, FAILED, CANCELLED]),
    st.none() | st.integers(0, 10**8),
)


@settings(max_examples=20, deadline=None)
@given(lives=st.lists(TASKS, max_size=12))
def test_every_view_comes_to_the_same(lives: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """By day, provider, model and task: the same sums, which are those of plain arithmetic over the tasks."""
    folder = tmp_path_factory.mktemp("views")

    async def look() -> tuple[Sequence[Cost], Sequence[Cost], Sequence[Task], list[Spent]]:
        ledger = await open_ledger(Settings(database_url=f"sqlite:///{folder}/l.db"), create=True)
        try:
            for provider, model, days, price, status, charged in lives:
                task = await bought(ledger, price, now=NOW + timedelta(days=days), provider=provider, model=model)
                if status is not None:
                    await end(ledger, task, status, charged)
            spendings = [await spent(ledger, NOW + timedelta(days=days)) for days in (0, 31, 62)]
            tasks = await ledger.tasks(Query(limit=100))
            return await ledger.report(Costs()), await ledger.report(Costs(newest=100)), tasks, spendings
        finally:
            await ledger.close()

    costs, single, tasks, spendings = asyncio.run(look())
    whole = total(costs)
    for view in [grouped(costs, by) for by in (By.DAY, By.PROVIDER, By.MODEL)] + [grouped(single, By.TASK)]:
        assert sum(view.values(), Sums()) == whole
    assert whole.spent == sum(map(comes_to, tasks))
    assert whole.spent == whole.expected - whole.refunded + whole.difference + whole.unexpected
    assert len(grouped(single, By.TASK)) == whole.tasks == len(lives)
    by_month: dict[str, int] = {}
    for day, found in grouped(costs, By.DAY).items():
        by_month[day[:7]] = by_month.get(day[:7], 0) + found.spent
    assert [one.month for one in spendings] == [by_month.get(month, 0) for month in ("2026-07", "2026-08", "2026-09")]
    assert spendings[0].day == grouped(costs, By.DAY).get("2026-07-01", Sums()).spent


def comes_to(task: Task) -> int:
    """Say the rule once more, in other words."""
    if task.charged_microdollars is not None:
        return task.charged_microdollars
    return 0 if task.state in (FAILED, CANCELLED) else task.price_microdollars or 0


def test_periods_end_where_the_next_ones_begin() -> None:
    """Days and months are UTC, of every length."""
    last = Period.of(datetime(2027, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
    assert (last.next_day, last.next_month) == (datetime(2028, 1, 1, tzinfo=UTC),) * 2
    assert Period.of(last.next_day).day == Period.of(last.next_day).month == last.next_day
    leap = Period.of(datetime(2028, 2, 29, tzinfo=UTC))
    assert (leap.month.day, leap.next_month) == (1, datetime(2028, 3, 1, tzinfo=UTC))


def test_amounts_are_written_exactly() -> None:
    """To the last micro-dollar where needed, without needless zeros."""
    amounts = {0: "$0", 44_625: "$0.044625", 25_000_000: "$25", -1: "-$0.000001", 10**15: "$1000000000"}
    assert {micro: usd(micro) for micro in amounts} == amounts


async def test_a_budget_refuses_what_would_exceed_it(ledger: Ledger) -> None:
    """Up to the last micro-dollar; what is refused is not stored, and the error says all that one needs to know."""
    budget = Budget(daily=2 * PRICE)
    for _ in range(2):
        await ledger.add_task(priced(), budget)
    with pytest.raises(BudgetExceeded) as caught:
        await ledger.add_task(priced(1), budget)
    error = caught.value
    assert str(error) == (
        "qingbo: this would cost $0.000001, and $0.08925 of the daily budget of $0.08925 (RINGBACK_BUDGET_DAILY_USD) "
        "is spent or promised to open tasks; it begins anew at 2026-07-02 00:00 UTC"
    )
    assert (error.period, error.setting, error.resets_at) == (
        "daily",
        "RINGBACK_BUDGET_DAILY_USD",
        datetime(2026, 7, 2, tzinfo=UTC),
    )
    assert (error.budget_microdollars, error.spent_microdollars, error.price_microdollars) == (89_250, 89_250, 1)
    assert len(await ledger.tasks(Query())) == 2
    await ledger.add_task(priced(0), budget)
    await ledger.add_task(priced(now=NOW + timedelta(days=1)), budget)


async def test_a_month_has_a_budget_too(ledger: Ledger) -> None:
    """Days add up; the next month begins anew."""
    budget = Budget(daily=10 * PRICE, monthly=2 * PRICE)
    for days in (0, 30):
        await ledger.add_task(priced(now=NOW + timedelta(days=days)), budget)
    with pytest.raises(BudgetExceeded, match=r"monthly budget .*RINGBACK_BUDGET_MONTHLY_USD.* 2026-08-01 00:00 UTC"):
        await ledger.add_task(priced(now=NOW + timedelta(days=30)), budget)
    await ledger.add_task(priced(now=NOW + timedelta(days=31)), budget)


async def test_a_task_without_a_price_has_no_room_in_a_budget(ledger: Ledger) -> None:
    """What it will cost nobody knows; the advice names the setting."""
    with pytest.raises(BudgetExceeded, match=r"no price is known.*RINGBACK_FAL_USD_PER_SECOND"):
        await ledger.add_task(priced(None, provider="fal"), Budget(monthly=10**9))
    assert await ledger.add_task(priced(None, provider="fal"), Budget())


async def test_what_is_given_back_can_be_spent_again(engine: Engine) -> None:
    """A failure gives room at once, also where another process took it in; a dearer charge takes it."""
    here, there = await engine.open(), await engine.open()
    budget = Budget(daily=PRICE)
    task = await bought(here)
    with pytest.raises(BudgetExceeded):
        await here.add_task(priced(), budget)
    await end(there, task, FAILED, 0)
    await here.add_task(priced(), budget)
    with pytest.raises(BudgetExceeded):
        await there.add_task(priced(), budget)


async def test_a_key_that_has_a_task_costs_nothing_again(ledger: Ledger) -> None:
    """Asked for again it is given, whatever is left; two at once under one key count once."""
    budget = Budget(daily=PRICE)
    same = [priced(key="k", request_hash="r") for _ in range(3)]
    added = await asyncio.gather(*[ledger.add_task(task, budget) for task in same])
    assert [new for _, new in added].count(True) == 1
    assert await ledger.add_task(priced(key="k", request_hash="r"), budget) == (added[0][0], False)
    with pytest.raises(KeyConflict):
        await ledger.add_task(priced(key="k", request_hash="s"), budget)
    assert (await spent(ledger)).day == PRICE


async def test_many_at_once_do_not_overspend_together(engine: Engine) -> None:
    """Forty submitters on two connections, room for seven: seven are stored."""
    ledgers = [await engine.open(), await engine.open()]
    budget = Budget(daily=7 * PRICE + 1)
    adding = [ledgers[n % 2].add_task(priced(), budget) for n in range(40)]
    results = await asyncio.gather(*adding, return_exceptions=True)
    refused = [result for result in results if isinstance(result, BudgetExceeded)]
    assert (len(results) - len(refused), len(refused)) == (7, 33)
    assert (await spent(ledgers[0])).day == 7 * PRICE


async def test_tasks_without_a_budget_count_for_those_with_one(ledger: Ledger) -> None:
    """Whoever submits without a budget takes of it all the same, in the same commit too."""
    tasks = [ledger.add_task(priced()), ledger.add_task(priced(now=NOW - timedelta(days=1)))]
    results = await asyncio.gather(*tasks, ledger.add_task(priced(), Budget(daily=PRICE)), return_exceptions=True)
    assert [isinstance(result, BudgetExceeded) for result in results] == [False, False, True]


async def test_a_count_is_made_anew_where_its_last_row_is_gone(engine: Engine) -> None:
    """The task that a count ended with is adopted by another one, and a third takes its row: nothing is missed."""
    here, there = await engine.open(), await engine.open()
    mine, _ = await there.add_task(priced(1))
    assert await there.claim_send(mine, NOW, None)
    await there.record(fact(PROCESSING, None, "p-mine"))
    budget = Budget(daily=2 * PRICE)
    with pytest.raises(BudgetExceeded):
        await here.add_task(priced(3 * PRICE), budget)  # counts
    await there.save_send(sent(mine.id, reading=reading(PROCESSING, "p-mine")))
    await there.add_task(priced(2 * PRICE - 1))
    with pytest.raises(BudgetExceeded):
        await here.add_task(priced(1), budget)


async def test_a_count_is_added_to(ledger: Ledger) -> None:
    """What was stored since is in it at once, what was given back only when all is counted; so on the next day."""
    task = await bought(ledger, 5)
    base = await ledger.report(Recount(now=NOW))
    assert base.spent == Spent(day=5, month=5)
    await end(ledger, task, FAILED, 0)
    await ledger.add_task(priced(7))
    added = await ledger.report(Recount(now=at(30), base=base))
    assert (added.at, added.spent) == (NOW, Spent(day=12, month=12))
    assert (await ledger.report(Recount(now=at(30), base=base))).spent == added.spent
    anew = await ledger.report(Recount(now=at(30)))
    assert (anew.at, anew.spent) == (at(30), await spent(ledger)) == (at(30), Spent(day=7, month=7))
    tomorrow = NOW + timedelta(days=1)
    assert (await ledger.report(Recount(now=tomorrow, base=added))).spent == await spent(ledger, tomorrow)


async def test_a_count_whose_last_row_is_gone_is_not_added_to(ledger: Ledger) -> None:
    """Another task may have taken its place, and would be missed."""
    mine, _ = await ledger.add_task(priced(1))
    assert await ledger.claim_send(mine, NOW, None)
    await ledger.record(fact(PROCESSING, None, "p-mine"))
    base = await ledger.report(Recount(now=NOW))
    await ledger.save_send(sent(mine.id, reading=reading(PROCESSING, "p-mine")))
    await ledger.add_task(priced(2))
    found = await ledger.report(Recount(now=at(1), base=base))
    assert (found.at, found.spent) == (at(1), Spent(day=3, month=3))


async def test_an_old_count_is_not_used(ledger: Ledger) -> None:
    """After a minute a charge above what was expected is noticed."""
    budget = Budget(daily=3 * PRICE)
    task, _ = await ledger.add_task(priced(), budget)
    await ledger.add_task(priced(0), budget)  # what was there before it is counted now
    await end(ledger, task, COMPLETED, 3 * PRICE)
    await ledger.add_task(priced(now=at(59)), budget)
    with pytest.raises(BudgetExceeded):
        await ledger.add_task(priced(now=at(61)), budget)


@pytest.mark.parametrize(
    ("said", "then", "counts"), [(None, 50_000, 50_000), (60_000, 50_000, 60_000), (None, None, 0)]
)
async def test_of_two_contradicting_ends_the_larger_charge_counts(
    ledger: Ledger, said: int | None, then: int | None, counts: int
) -> None:
    """What was cancelled and completed all the same may well have to be paid."""
    task = await bought(ledger)
    await end(ledger, task, TaskState.CANCELLED, said)
    for _ in range(2):
        await end(ledger, task, COMPLETED, then)
    assert (await sums(ledger)).spent == counts

"""Budgets as a submitter meets them: what is refused, what is given back, how a batch stops, what the poller tells."""

from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from ringback.errors import BudgetExceeded, SubmissionRefused
from ringback.ledger import Query
from ringback.model import TaskState
from submitter import Batch, Submitted
from submitter.bookkeeping import COMMIT_SLACK, MOST, Bookkeeper

from .submitter_rig import Rig, accepted, answer, refusal
from .test_submit_batch import collect, sell

ONE = Decimal("0.044625")  # six seconds at qingbo


async def test_a_submission_beyond_the_budget_is_not_sent(tmp_path: Path) -> None:
    """Nothing is stored, nothing goes out; the next day begins anew."""
    async with Rig(tmp_path, sell, budget_daily_usd=2 * ONE) as rig:
        for _ in range(2):
            await rig.submitter.submit("qingbo", prompt="x")
        with pytest.raises(BudgetExceeded, match="RINGBACK_BUDGET_DAILY_USD"):
            await rig.submitter.submit("qingbo", prompt="x")
        assert (len(rig.wire.requests), len(await rig.ledger.tasks(Query()))) == (2, 2)
        rig.clock.advance(hours=12)
        assert (await rig.submitter.submit("qingbo", prompt="x")).state is TaskState.SUBMITTED


@pytest.mark.parametrize("status", [TaskState.FAILED, TaskState.CANCELLED])
async def test_what_came_to_nothing_is_given_back(tmp_path: Path, status: TaskState) -> None:
    """A task that failed or was cancelled leaves its price to the next one."""
    async with Rig(tmp_path, sell, budget_monthly_usd=ONE) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        with pytest.raises(BudgetExceeded, match="2026-06-01 00:00 UTC"):
            await rig.submitter.submit("qingbo", prompt="x")
        await rig.push(task.id, task.provider_id or "", status)
        await rig.submitter.submit("qingbo", prompt="x")


async def test_what_the_provider_refuses_is_given_back(tmp_path: Path) -> None:
    """A 400 buys nothing."""
    async with Rig(tmp_path, refusal(400), sell, budget_daily_usd=ONE) as rig:
        with pytest.raises(SubmissionRefused):
            await rig.submitter.submit("qingbo", prompt="x")
        await rig.submitter.submit("qingbo", prompt="x")


async def test_a_task_that_waits_to_be_sent_again_holds_its_price(tmp_path: Path) -> None:
    """The poller sends it without asking the budget again: it has had its share since it was stored."""
    async with Rig(tmp_path, answer(429), answer(429), answer(429), answer(429), sell, budget_daily_usd=ONE) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        assert task.state is TaskState.PENDING
        with pytest.raises(BudgetExceeded):
            await rig.submitter.submit("qingbo", prompt="y")
        await rig.poll(minutes=10)
        assert (await rig.task(task)).state is TaskState.SUBMITTED


async def test_the_same_key_is_never_refused(tmp_path: Path) -> None:
    """Asked for again, a task that is there costs nothing."""
    async with Rig(tmp_path, sell, budget_daily_usd=ONE) as rig:
        first = await rig.submitter.submit("qingbo", prompt="x", key="k")
        assert (await rig.submitter.submit("qingbo", prompt="x", key="k")).id == first.id


async def test_a_price_must_be_known(tmp_path: Path) -> None:
    """Without one no budget can be kept; the advice names the setting that gives one."""
    async with Rig(tmp_path, accepted("reapi"), budget_daily_usd=Decimal(5)) as rig:
        with pytest.raises(BudgetExceeded, match="RINGBACK_REAPI_USD_PER_SECOND"):
            await rig.submitter.submit("reapi", prompt="x", duration=6)
        assert rig.wire.requests == []


async def test_a_batch_stops_at_the_budget(tmp_path: Path) -> None:
    """What was sent stays sent, the rest is not sent; the same file goes on when there is room."""
    lines = [b'{"prompt": "%d"}' % n for n in range(5)]
    done: list[Submitted] = []

    async def submit() -> None:
        async for result in rig.submitter.submit_many(Batch(lines, name="f", provider="qingbo")):
            done.append(result)  # noqa: PERF401 -- what was given before the error counts

    async with Rig(tmp_path, sell, budget_daily_usd=3 * ONE, provider_concurrency=1) as rig:
        with pytest.raises(BudgetExceeded):
            await submit()
        assert sum(result.task is not None for result in done) == 3
        assert 4 <= len(done) <= 5  # the line that was under way beside the refused one was refused too
        rig.clock.advance(days=1)
        again = await collect(rig, Batch(lines, name="f", provider="qingbo"))
        assert all(result.task is not None for result in again)
        assert len(rig.wire.requests) == 5


async def test_other_charges_than_expected_are_told_once(tmp_path: Path) -> None:
    """By the poller, with both amounts, a little after they came; a refund and rounding are not told."""

    async def ends(request: httpx.Request) -> httpx.Response:
        number = int(request.url.path[-1])
        state, quota = [("completed", 30_000), ("failed", 0), ("completed", 22_313)][number]
        return answer(200, {"task_id": f"task-wave{number}", "status": state, "cost": quota})

    async with Rig(tmp_path, *(accepted("qingbo", number) for number in range(3)), ends) as rig:
        tasks = [await rig.submitter.submit("qingbo", prompt="x") for _ in range(3)]
        keeper = Bookkeeper(rig.ledger, rig.clock)
        await rig.poll(minutes=10)
        with capture_logs() as logs:
            await keeper.once()
            rig.clock.now += COMMIT_SLACK * 2
            await keeper.once()
            await keeper.once()
            rig.clock.now += COMMIT_SLACK
            await keeper.once()
    told = [{key: line[key] for key in ("task", "expected_microdollars", "charged_microdollars")} for line in logs]
    assert told == [{"task": tasks[0].id, "expected_microdollars": 44_625, "charged_microdollars": 60_000}]
    assert logs[0]["event"] == "cost.differs"


async def test_many_differences_are_not_told_one_by_one(tmp_path: Path) -> None:
    """A wrong rate makes every task differ: the first are named, the rest are left to `ringback costs`."""

    async def ends(request: httpx.Request) -> httpx.Response:
        return answer(200, {"task_id": request.url.path.rpartition("/")[2], "status": "completed", "cost": 9})

    many = MOST + 5
    async with Rig(tmp_path, *(accepted("qingbo", number) for number in range(many)), ends) as rig:
        for _ in range(many):
            await rig.submitter.submit("qingbo", prompt="x")
        keeper = Bookkeeper(rig.ledger, rig.clock)
        await rig.poll(minutes=10)
        rig.clock.advance(minutes=1)
        with capture_logs() as logs:
            await keeper.once()
    assert [line["event"] for line in logs].count("cost.differs") == MOST
    assert logs[-1]["event"] == "costs.many_differ"


async def test_a_ledger_in_trouble_is_asked_again(tmp_path: Path) -> None:
    """What could not be read is told later."""
    async with Rig(tmp_path, sell) as rig:
        ledger = await rig.open_ledger()
        keeper = Bookkeeper(ledger, rig.clock)
        rig.clock.advance(minutes=1)
        await ledger.close()
        with capture_logs() as logs:
            await keeper.once()
    assert [line["event"] for line in logs] == ["costs.not_read"]


async def test_whatever_goes_wrong_does_not_end_the_bookkeeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would tell that it is gone; the next minute asks again, from where it was."""

    async def broken(_: object) -> None:
        raise ValueError("a row that cannot be read")

    async with Rig(tmp_path, sell) as rig:
        keeper = Bookkeeper(rig.ledger, rig.clock)
        rig.clock.advance(minutes=1)
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(rig.ledger, "report", broken)
            await keeper.once()
        assert [(line["event"], line["error"]) for line in logs] == [
            ("costs.not_read", "ValueError('a row that cannot be read')")
        ]
        with capture_logs() as logs:
            await keeper.once()
    assert logs == []

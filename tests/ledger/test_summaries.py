"""A ledger with a long past: what is counted of it one by one, what is estimated, and lists of what is seldom."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bench.backlog import settings_of
from bench.history import fill
from ringback.ledger import Awaited, Ledger, Query, open_ledger
from ringback.ledger.sqlite import matching, reports, summaries
from ringback.model import DeliveryState, EventType, Kind, Outcome, Source, TaskState

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
    other,
    reading,
    sent,
    settle,
    submitted,
    working,
)
from .conftest import fresh_url

PAST = 2_000


@pytest.fixture(params=["sqlite", "postgres"])
async def aged(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ledger]:
    """A ledger with a past that is larger than what is counted one by one, and something that is open."""
    monkeypatch.setattr(summaries, "EXACT", 500)
    monkeypatch.setattr(summaries, "SAMPLE", 1_000)
    monkeypatch.setattr(summaries, "LEAST", 100)
    monkeypatch.setattr(reports, "NEWEST", 20)
    with fresh_url(request.param, tmp_path) as url:
        await asyncio.to_thread(fill, url, PAST)  # which has an event loop of its own
        ledger = await open_ledger(settings_of(url))
        try:
            await working(ledger, "h")
            for name in ("task_a", "task_b", "task_c"):
                await submitted(ledger, name, f"p-{name}", url_key="f")
            await ledger.record(fact(FAILED, "task_a", "p-task_a"))
            await ledger.record(other(Kind.UNRECOGNISED, None))
            await fan_out(ledger, NOW, 10)
            yield ledger
        finally:
            await ledger.close()


async def test_what_is_open_or_seldom_is_counted_and_the_rest_estimated(aged: Ledger) -> None:
    """Nothing that waits, runs or is seldom is guessed; what is usual is, within a tenth, and is said to be."""
    got = await aged.summary(NOW)
    assert {"tasks", "events"} <= got.estimated <= {"tasks", "events", "deliveries", "attempts"}
    assert (got.tasks[TaskState.SUBMITTED], got.tasks[FAILED]) == (2, PAST // 25 + 1)
    assert set(got.tasks) == {TaskState.SUBMITTED, FAILED, COMPLETED}
    assert await aged.report(Awaited()) == {"f": 2}
    assert got.events[EventType.TASK_FAILED] == PAST // 25 + 1
    assert got.events[EventType.CALLBACK_UNRECOGNISED] == 1
    assert got.deliveries[DeliveryState.PENDING] == sum(queue.pending for queue in got.queues.values()) > 0
    for count in (got.tasks[COMPLETED], got.events[EventType.TASK_COMPLETED]):
        assert 0.9 < count / (PAST * 24 / 25) < 1.1
    for count in (got.deliveries[DeliveryState.SUCCEEDED], got.attempts[Outcome.SUCCEEDED]):
        assert 0.9 < count / PAST < 1.1
    assert (got.waiting_events, got.unknown_sends, got.callbacks > PAST * 0.9) == (0, 0, True)


async def test_what_was_given_up_is_counted(aged: Ledger) -> None:
    """Deliveries that ended without success stand beside an estimate of those that did."""
    (work, *_) = await claim(aged)
    await settle(aged, [ended(work, Outcome.FAILED, DeliveryState.DISCARDED)])
    got = await aged.summary(NOW)
    assert got.deliveries[DeliveryState.DISCARDED] == 1
    assert DeliveryState.CANCELLED not in got.deliveries


async def test_more_of_what_is_seldom_is_estimated_too(aged: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an index of what is seldom holds too much to be counted, the sample tells."""
    monkeypatch.setattr(summaries, "SELDOM", 2)
    got = await aged.summary(NOW)
    assert 0 <= got.tasks.get(FAILED, 0) / (PAST / 25) < 4
    assert got.events[EventType.CALLBACK_UNRECOGNISED] == 1


async def test_a_sample_with_hardly_any_rows_is_made_denser(aged: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where most rows between the oldest and the newest are gone, more of what is left is read, at last all."""
    monkeypatch.setattr(summaries, "LEAST", 10 * PAST)
    got = await aged.summary(NOW)
    assert got.estimated == frozenset()
    assert (got.tasks[COMPLETED], got.deliveries[DeliveryState.SUCCEEDED]) == (PAST * 24 // 25, PAST)


@pytest.mark.parametrize("most", [1, 100, 5_000])
async def test_lists_are_the_same_however_they_are_found(
    aged: Ledger, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """An index of what is seldom, or a walk where there is more of it: the list is the same."""
    monkeypatch.setattr(reports, "MOST", most)
    monkeypatch.setattr(matching, "MOST", most)
    assert [task.id for task in await aged.tasks(Query(state="submitted"))] == ["task_c", "task_b"]
    failed = await aged.tasks(Query(state="failed", limit=3))
    assert failed[0].id == "task_a"
    assert sorted((task.created_at for task in failed[1:]), reverse=True) == [task.created_at for task in failed[1:]]
    assert len(await aged.tasks(Query(state="failed", limit=PAST))) == PAST // 25 + 1
    assert len(await aged.tasks(Query(state="failed", provider="standard", limit=PAST))) == PAST // 50
    assert len(await aged.tasks(Query(provider="standard", limit=PAST))) == PAST // 10
    assert await aged.tasks(Query(provider="nobody")) == await aged.tasks(Query(state="cancelled")) == []
    assert len(await aged.events(Query(type="task.failed", limit=PAST))) == PAST // 25 + 1
    assert await aged.events(Query(type="task.cancelled")) == []
    ours = await aged.deliveries(Query(type="task.failed", handler="h"))
    assert [owed.task_id for owed in ours] == ["task_a"]
    assert await aged.deliveries(Query(state="cancelled")) == []
    assert len(await aged.deliveries(Query(type="task.failed", limit=PAST))) == PAST // 25 + 1


async def opened(ledger: Ledger, name: str, status: TaskState, **more: Any) -> None:
    """Store a task that the provider has accepted, and which is to be asked about in an hour."""
    await claimed(ledger, name, **more)
    await ledger.save_send(sent(name, reading=reading(status, f"p-{name}"), fetch_at=at(3_600)))


@pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.SUBMITTED, PROCESSING])
async def test_few_in_one_open_state_are_found_behind_many_in_another(aged: Ledger, state: TaskState) -> None:
    """Old ones and one that is among the newest, newest first, of one provider, and no more than are asked for."""
    for name in ("task_b", "task_c"):
        await aged.record(fact(COMPLETED, name, f"p-{name}"))
    for name, provider in (("x1", "qingbo"), ("x2", "reapi"), ("x3", "qingbo"), ("many", "qingbo"), ("x4", "qingbo")):
        if name == "many":
            other_state = PROCESSING if state is TaskState.SUBMITTED else TaskState.SUBMITTED
            for number in range(reports.NEWEST + 5):
                await opened(aged, f"m{number}", other_state)
        elif state is TaskState.PENDING:
            await claimed(aged, name, provider=provider)
        else:
            await opened(aged, name, state, provider=provider)
    doubted = fact(TaskState.EXPIRED, "x2", "p-x2", provider="reapi", source=Source.RINGBACK)

    async def listed(**query: Any) -> list[str]:
        return [task.id for task in await aged.tasks(Query(state=state, **query))]

    assert await listed() == ["x4", "x3", "x2", "x1"]
    assert await listed(limit=2) == ["x4", "x3"]
    assert await listed(provider="reapi") == ["x2"]
    assert await listed(provider="nobody") == []
    await aged.record(doubted)
    await aged.record(other(Kind.HINT, "x2", provider="reapi"))  # so it is asked about, although it has ended
    assert await listed() == ["x4", "x3", "x1"]
    assert (await aged.summary(NOW)).tasks[state] == 3


async def test_a_page_of_a_time_follows_on_another(aged: Ledger) -> None:
    """Walked page by page, a time gives each of its tasks once, the newest first."""
    newest = await aged.tasks(Query(provider="standard", limit=3))
    since = newest[-1].created_at
    found, before, below = list[str](), None, ""
    while page := await aged.tasks(Query(since=since, before=before, below=below, limit=4)):
        found += [task.id for task in page]
        before, below = page[-1].created_at, page[-1].id
    assert found == list(dict.fromkeys(found))
    assert set(found) >= {task.id for task in newest}


async def test_a_poll_of_a_failed_task_is_listed_once(ledger: Ledger) -> None:
    """Two events that say the same of one task do not show it twice."""
    await submitted(ledger, "task_a", "p-a")
    await ledger.record(fact(FAILED, "task_a", "p-a"))
    await ledger.record(fact(FAILED, "task_a", "p-a", source=Source.POLL))
    assert [task.id for task in await ledger.tasks(Query(state="failed"))] == ["task_a"]

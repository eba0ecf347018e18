"""The past that `bench.growth` measures with must be one that the ledger could have had."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.backlog import new_tasks, settings_of
from bench.engines import row
from bench.figures import Figure, Part
from bench.growth import INTAKE, add_submitted, page, plot, setting_of
from bench.history import DAYS, fill, make
from ringback.ledger import Prune, Query, open_ledger
from ringback.model import DeliveryState, Outcome, TaskState

from .ledger.conftest import fresh_url

COUNT = 100


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database of each engine."""
    with fresh_url(request.param, tmp_path) as found:
        yield found


def test_a_filled_ledger_is_one_that_the_product_reads(url: str) -> None:
    """Counts, lists and stories are those of tasks that have settled, events handled and attempts closed."""
    fill(url, COUNT)

    async def look() -> None:
        ledger = await open_ledger(settings_of(url))
        try:
            summary = await ledger.summary(datetime.now(UTC))
            assert summary.tasks == {TaskState.COMPLETED: 96, TaskState.FAILED: 4}
            assert summary.deliveries == {DeliveryState.SUCCEEDED: COUNT}
            assert summary.attempts == {Outcome.SUCCEEDED: COUNT, Outcome.FAILED: 2}
            assert (summary.waiting_events, summary.duplicates) == (0, 5)
            newest, *_ = await ledger.tasks(Query(limit=1))
            story = await ledger.story(newest.provider_id or "")
            (event,) = story.events
            assert (story.task.id, event.task_id, story.task.settled_event) == (newest.id, newest.id, event.id)
            assert [attempt.number for attempt in story.deliveries[0].attempts] == [1, 2]
            assert [one.id for one in await ledger.events(Query(task_id=newest.id))] == [event.id]
            assert timedelta(minutes=59) < datetime.now(UTC) - event.received_at < timedelta(hours=2)
        finally:
            await ledger.close()

    asyncio.run(look())


def test_the_oldest_of_a_filled_ledger_can_be_pruned(url: str) -> None:
    """The past is as long as is said: what is older than some days of it goes, and no more."""
    fill(url, COUNT)

    async def prune() -> int:
        ledger = await open_ledger(settings_of(url))
        try:
            before = datetime.now(UTC) - timedelta(days=DAYS / 2)
            keys = datetime.now(UTC) - timedelta(days=2 * DAYS)
            wish = Prune(now=datetime.now(UTC), bodies_before=None, rest_before=before, keys_before=keys)
            return (await ledger.act(wish)).emptied
        finally:
            await ledger.close()

    assert 45 <= asyncio.run(prune()) <= 55


def test_tasks_that_wait_for_their_callbacks_are_added_to_what_is_there(url: str) -> None:
    """They are submitted, by ids that the provider has given, and nothing of the past is touched."""
    asyncio.run(make(url))
    add_submitted(url, new_tasks(3))
    assert row(url, "SELECT count(*) FROM tasks WHERE state = ? AND provider_id IS NOT NULL", "submitted") == (3,)


def test_the_page_says_what_was_measured_and_the_plot_has_a_line_for_each_engine() -> None:
    """Both are made of the figures alone."""
    figures = [
        Figure(name=name, unit="/s", values=(value,), subject=engine, setting=setting_of(count))
        for engine in ("SQLite", "PostgreSQL")
        for count, value in ((1_000, 9_000.0), (10_000, 8_000.0))
        for name in (INTAKE, "CPU per delivery")
    ]
    part = Part(title="Growth", figures=tuple(figures))
    assert "growth.svg" in page(part)
    assert "10,000 events" in page(part)
    drawn = plot(part)
    assert drawn.count("<polyline") == 4
    assert ">SQLite<" in drawn

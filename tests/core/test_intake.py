"""The one door in: what a provider says becomes an arrival of the right kind, and a slow ledger is told as such."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ringback.errors import LedgerUnavailable
from ringback.intake import Intake
from ringback.ledger import Ledger, Query, open_ledger
from ringback.model import Callback, EventType, Reading, Source, Task, TaskState, Trust, Verdict
from ringback.providers import get_provider
from ringback.settings import Settings

NOW = datetime(2026, 7, 1, tzinfo=UTC)
QINGBO = get_provider("qingbo")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that wait for a commit only shortly."""
    return Settings(database_url=f"sqlite:///{tmp_path}/ledger.db", commit_timeout_seconds=0.2)


@pytest.fixture
async def ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """A ledger with one task."""
    opened = await open_ledger(settings, create=True)
    await opened.add_task(Task(id="task_a", provider="qingbo", created_at=NOW))
    yield opened
    await opened.close()


@pytest.fixture
def intake(ledger: Ledger, settings: Settings) -> Intake:
    """The door of that ledger."""
    return Intake(ledger, settings)


def callback(body: bytes) -> Callback:
    """Make a request with this body."""
    return Callback(body=body, received_at=NOW)


COMPLETED = callback(b'{"task_id": "p-a", "status": "succeeded", "result": {"url": "https://cdn.example/v.mp4"}}')


@pytest.mark.parametrize("trust", [Trust.TOKEN, Trust.SIGNED])
async def test_trusted_push_is_a_fact(intake: Intake, trust: Trust) -> None:
    """A push that is trusted enough and understood moves its task, and the log names the event."""
    with capture_logs() as lines:
        receipt = await intake.pushed(QINGBO, "task_a", trust, COMPLETED)
    assert receipt.verdict is Verdict.NEW
    assert receipt.state is not None
    (line,) = lines
    assert (line["event"], line["verdict"], line["event_id"]) == ("callback.received", "new", receipt.event_id)


@pytest.mark.parametrize("trust", [Trust.PARTIAL, Trust.NONE])
async def test_push_below_that_is_a_hint(intake: Intake, ledger: Ledger, trust: Trust) -> None:
    """A push that proves too little is kept, makes its task due, and moves nothing."""
    receipt = await intake.pushed(QINGBO, "task_a", trust, COMPLETED)
    assert (receipt.verdict, receipt.event_id, receipt.state) == (Verdict.HINT, None, TaskState.PENDING)
    story = await ledger.story("task_a")
    assert (story.task.fetch_at, story.callbacks[0].reason) == (NOW, "unconfirmed")


@pytest.mark.parametrize("name", ["qingbo", "reapi"])
async def test_what_is_not_understood_is_kept(intake: Intake, ledger: Ledger, name: str) -> None:
    """An authentic push that cannot be read, or of a provider that never pushes, is an unrecognised event."""
    receipt = await intake.pushed(get_provider(name), "task_a", Trust.TOKEN, callback(b"<html>"))
    assert receipt.verdict is Verdict.UNRECOGNISED
    assert (await ledger.events(Query()))[0].body == b"<html>"


async def test_polled_answer_and_presumption(intake: Intake, ledger: Ledger) -> None:
    """Our own question is trusted; our own judgement is marked as ours, and gives way to the answer."""
    (task,) = await ledger.tasks(Query())
    with capture_logs() as lines:
        assert (await intake.presume(task, TaskState.EXPIRED, "silent for 48 h", NOW)).verdict is Verdict.NEW
        receipt = await intake.polled(QINGBO, task, Reading(status=TaskState.FAILED), b"{}", NOW)
    assert (receipt.verdict, receipt.state) == (Verdict.NEW, TaskState.FAILED)
    assert [line["event"] for line in lines] == ["task.presumed", "poll.received"]
    polled, presumed = await ledger.events(Query())
    assert (polled.source, polled.trust) == (Source.POLL, Trust.SIGNED)
    assert (presumed.source, presumed.trust) == (Source.RINGBACK, Trust.NONE)


async def test_slow_ledger_is_unavailable(intake: Intake, tmp_path: Path) -> None:
    """Who pushes is told to come again when the commit takes too long; it may be stored all the same."""
    handle = os.open(tmp_path / "ledger.db.lock", os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(LedgerUnavailable, match="did not commit in time"):
            await intake.pushed(QINGBO, "task_a", Trust.TOKEN, COMPLETED)
    finally:
        os.close(handle)
    async with asyncio.timeout(5):
        assert (await intake.pushed(QINGBO, "task_a", Trust.TOKEN, COMPLETED)).duplicate


async def test_silence_is_an_event_of_its_own(intake: Intake, ledger: Ledger) -> None:
    """Once for each provider and key; a provider's own notice with that id, or those bytes, does not take its place."""
    first = await intake.silence("qingbo", "push_missing:2026-07-01T00", b"{}", NOW)
    again = await intake.silence("qingbo", "push_missing:2026-07-01T00", b"{...}", NOW)
    later = await intake.silence("qingbo", "push_missing:2026-07-01T01", b"{}", NOW)
    assert [receipt.verdict for receipt in (first, again, later)] == [Verdict.NEW, Verdict.DUPLICATE, Verdict.NEW]
    assert again.event_id == first.event_id
    pushed = await intake.pushed(QINGBO, None, Trust.SIGNED, callback(b"{}"))
    assert pushed.verdict is Verdict.UNRECOGNISED
    events = await ledger.events(Query(type=EventType.RECEIVER_PUSH_MISSING))
    assert [(event.body, event.duplicates, event.task_id) for event in events] == [(b"{}", 0, None)] * 2

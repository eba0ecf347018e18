"""How a worker stops, and how it lives with a ledger that cannot be written."""

import asyncio
import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from receiver import Event, Handlers
from receiver.worker import Worker
from ringback.errors import LedgerRejected
from ringback.ledger import Ledger, open_ledger
from ringback.model import DeliveryState, Outcome
from ringback.settings import Settings

from .receiver_case import listening, owed, ring, states, until

SUCCEEDED, PENDING = DeliveryState.SUCCEEDED, DeliveryState.PENDING


class Slow:
    """A handler that waits for a word."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.finish = asyncio.Event()
        self.handlers = Handlers()
        self.handlers.on("*", name="slow")(self.handle)

    async def handle(self, _event: Event) -> None:
        """Wait."""
        self.begun.set()
        await self.finish.wait()


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Hold the write lock as another process would: every write fails after two seconds."""
    with settings.database_path.with_name(settings.database_path.name + ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def test_stop_waits(ledger: Ledger, settings: Settings) -> None:
    """A stopping worker claims nothing more and lets what is running end, within the grace time."""
    slow = Slow()
    await ring(ledger)
    stop = asyncio.Event()
    worker = Worker(replace(settings, grace_seconds=30, concurrency=1), ledger, slow.handlers)
    running = asyncio.create_task(worker.run(stop))
    await slow.begun.wait()
    await ring(ledger)
    stop.set()
    asyncio.get_running_loop().call_later(0.02, slow.finish.set)
    await running
    assert await states(ledger) == [SUCCEEDED]
    assert (await ledger.summary(datetime.now(UTC))).processes == ()


async def test_stop_releases(ledger: Ledger, settings: Settings) -> None:
    """What outlasts the grace time is handed back, due at once and uncounted."""
    slow = Slow()
    release = threading.Event()
    slow.handlers.on("*", name="plain")(lambda _event: release.wait())
    await ring(ledger)
    stop = asyncio.Event()
    with capture_logs() as logs:
        running = asyncio.create_task(Worker(settings, ledger, slow.handlers).run(stop))
        await slow.begun.wait()
        stop.set()
        await running
    release.set()
    assert [line["event"] for line in logs].count("delivery.released") == 2
    for item in await owed(ledger):
        assert (item.delivery.state, item.delivery.attempts, item.delivery.lapses) == (PENDING, 0, 0)
        assert [attempt.outcome for attempt in item.attempts] == [Outcome.RELEASED]
    slow.finish.set()
    assert await Worker(settings, ledger, slow.handlers).run_once(10) == 2


async def test_cancelled_worker_drains(ledger: Ledger, settings: Settings) -> None:
    """A worker that is cancelled instead of told to stop loses nothing either."""
    slow = Slow()
    await ring(ledger)
    running = asyncio.create_task(
        Worker(replace(settings, grace_seconds=0), ledger, slow.handlers).run(asyncio.Event())
    )
    await slow.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await states(ledger) == [PENDING]


async def test_time_limit(ledger: Ledger, settings: Settings) -> None:
    """`run_once` starts nothing after its limit, and releases what goes on after the grace time."""
    slow = Slow()
    await ring(ledger)
    assert await Worker(settings, ledger, slow.handlers).run_once(0) == 0
    assert await states(ledger) == []
    assert await Worker(settings, ledger, slow.handlers).run_once(0.05) == 1
    assert await states(ledger) == [PENDING]


@pytest.mark.slow
async def test_unavailable_while_settling(ledger: Ledger, settings: Settings) -> None:
    """An attempt that ends while the ledger cannot be written is stored when it can be again; one line tells of it."""
    slow = Slow()
    await ring(ledger)
    stop = asyncio.Event()
    with listening() as said:
        worker = Worker(replace(settings, heartbeat_seconds=0.1), ledger, slow.handlers)
        running = asyncio.create_task(worker.run(stop))
        await slow.begun.wait()
        with locked(settings):
            slow.finish.set()
            await said.says("ledger.unavailable")
        await until(ledger, lambda: done(ledger))
        stop.set()
        await running
    told = [line["event"] for line in said.entries]
    assert (told.count("ledger.unavailable"), told.count("ledger.available")) == (1, 1)
    (item,) = await owed(ledger)
    assert [attempt.outcome for attempt in item.attempts] == [Outcome.SUCCEEDED]


async def test_unavailable_at_the_end(ledger: Ledger, settings: Settings) -> None:
    """A worker that cannot store how its attempts ended stops all the same, after the grace time, and says so."""
    slow = Slow()
    await ring(ledger)
    stop = asyncio.Event()
    with capture_logs() as logs:
        running = asyncio.create_task(Worker(settings, ledger, slow.handlers).run(stop))
        await slow.begun.wait()
        await ledger.close()
        stop.set()
        slow.finish.set()
        await running
    assert [line["unsettled"] for line in logs if line["event"] == "worker.stopped"] == [1]
    reopened = await open_ledger(settings)
    assert await states(reopened) == [DeliveryState.RUNNING]
    await reopened.close()


@pytest.mark.slow
async def test_unavailable_from_the_start(ledger: Ledger, settings: Settings) -> None:
    """A ledger that cannot be used when the worker starts is waited for."""
    slow = Slow()
    slow.finish.set()
    await ring(ledger)
    stop = asyncio.Event()
    with listening() as said:
        with locked(settings):
            running = asyncio.create_task(Worker(settings, ledger, slow.handlers).run(stop))
            await said.says("ledger.unavailable")
        await until(ledger, lambda: done(ledger))
        stop.set()
        await running


async def test_closed_ledger(settings: Settings) -> None:
    """Where nothing at all can be read, the worker backs off and still stops when told."""
    ledger = await open_ledger(settings, create=True)
    stop = asyncio.Event()
    with listening() as said:
        running = asyncio.create_task(Worker(settings, ledger, Slow().handlers).run(stop))
        await said.says("handlers.registered")
        await ledger.close()
        await said.says("ledger.unavailable")
        stop.set()
        await running


@pytest.mark.slow
async def test_missed_heartbeats(ledger: Ledger, settings: Settings) -> None:
    """A heartbeat that cannot be written is told of once, and goes on when it can."""
    slow = Slow()
    stop = asyncio.Event()
    with listening() as said:
        worker = Worker(replace(settings, heartbeat_seconds=0.05), ledger, slow.handlers)
        running = asyncio.create_task(worker.run(stop))
        await said.says("handlers.registered")
        with locked(settings):
            await said.says("heartbeat.missed")
        healed = datetime.now(UTC)

        async def seen() -> bool:
            return (await ledger.summary(healed)).handlers["slow"] > healed

        await until(ledger, seen)
        stop.set()
        await running
    assert [line["event"] for line in said.entries].count("heartbeat.missed") == 1


async def test_broken_heartbeat(ledger: Ledger, settings: Settings) -> None:
    """A worker that cannot say that it lives, for a reason that will not pass, ends with that reason."""
    slow = Slow()
    await ring(ledger)
    worker = Worker(replace(settings, heartbeat_seconds=0.05), ledger, slow.handlers)
    running = asyncio.create_task(worker.run(asyncio.Event()))
    await slow.begun.wait()
    with closing(sqlite3.connect(settings.database_path)) as db, db:
        db.execute("CREATE TRIGGER nobody BEFORE INSERT ON processes BEGIN SELECT raise(ABORT, 'nobody lives'); END")
    with pytest.raises(LedgerRejected):
        await running
    assert await states(ledger) == [PENDING]


async def done(ledger: Ledger) -> bool:
    """Tell whether the one delivery has succeeded."""
    return await states(ledger) == [SUCCEEDED]

"""What a worker runs, how often, and what it writes down."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver import Discard, Event, Handlers, Retry, Snooze
from receiver.worker import Worker
from ringback.ledger import Ledger, open_ledger
from ringback.model import DeliveryState, Outcome, TaskState
from ringback.retry import Policy
from ringback.settings import Settings

from .receiver_case import owed, ring, states, until

SUCCEEDED, PENDING, DISCARDED = DeliveryState.SUCCEEDED, DeliveryState.PENDING, DeliveryState.DISCARDED
QUICK = Policy(attempts=3, base_seconds=0.01, jitter=0)


async def test_fan_out(ledger: Ledger, settings: Settings) -> None:
    """Each fitting handler gets an event of its own; an event that none wants is done with."""
    calls: list[tuple[str, str]] = []
    handlers = Handlers()

    @handlers.on("task.completed", name="one")
    async def _one(event: Event) -> None:
        calls.append(("one", event.id))

    @handlers.on("task.*", provider="qing*", name="two")
    def _two(event: Event) -> None:
        calls.append(("two", event.id))

    first, second = await ring(ledger), await ring(ledger, provider="reapi")
    await ring(ledger, TaskState.FAILED, provider="reapi")
    with capture_logs() as logs:
        assert await Worker(settings, ledger, handlers).run_once(10) == 3
    assert sorted(calls) == sorted([("one", first), ("one", second), ("two", first)])
    assert await states(ledger) == [SUCCEEDED] * 3
    told = [line["event"] for line in logs]
    assert told.count("delivery.succeeded") == told.count("delivery.started") == 3
    line = next(line for line in logs if line["event"] == "delivery.succeeded")
    assert {"task", "event_id", "delivery", "attempt", "handler", "provider"} <= set(line)
    assert [name for name in told if not name.startswith("delivery.")] == [
        "worker.started",
        "handlers.registered",
        "worker.stopping",
        "worker.stopped",
    ]


async def test_waiting_events(ledger: Ledger, settings: Settings) -> None:
    """Events that came before any worker ran are handed to the handlers that the first one brings."""
    calls: list[str] = []
    ids = [await ring(ledger) for _ in range(3)]
    handlers = Handlers()
    handlers.on("*", name="late")(lambda event: calls.append(event.id))
    await Worker(settings, ledger, handlers).run_once(10)
    assert sorted(calls) == sorted(ids)


async def test_handlers_of_others_wait(ledger: Ledger, settings: Settings) -> None:
    """A worker takes only what it has code for; the rest is due until somebody with the code comes."""
    here, elsewhere = Handlers(), Handlers()
    here.on("*", name="here")(lambda _event: None)
    elsewhere.on("*", name="elsewhere")(lambda _event: None)
    await Worker(settings, ledger, elsewhere).run_once(10)
    await ring(ledger)
    worker = Worker(settings, ledger, here)
    assert await worker.run_once(10) == 1
    assert await states(ledger, handler="elsewhere") == [PENDING]
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))  # must neither spin nor stall on what is not its own
    await ring(ledger)

    async def both_done() -> bool:
        return await states(ledger, handler="here") == [SUCCEEDED] * 2

    await until(ledger, both_done)
    stop.set()
    await running
    assert await Worker(settings, ledger, elsewhere).run_once(10) == 2


async def test_retries(ledger: Ledger, settings: Settings) -> None:
    """A failed attempt comes back when it is due, not before, as another attempt with the same key."""
    now = datetime.now(UTC)
    seen: list[tuple[int, str]] = []
    handlers = Handlers()

    @handlers.on("*", retry=Policy(attempts=3, base_seconds=60, factor=2, jitter=0), name="h")
    async def _fail(event: Event) -> None:
        seen.append((event.attempt, event.key))
        if len(seen) < 2:
            raise ValueError("not yet")

    event_id = await ring(ledger)
    worker = Worker(settings, ledger, handlers, clock=lambda: now)
    with capture_logs() as logs:
        assert await worker.run_once(10) == 1
    assert await worker.run_once(10) == 0
    due = now + timedelta(seconds=60)
    (item,) = await owed(ledger)
    assert (item.delivery.state, item.delivery.due_at, item.delivery.reason) == (PENDING, due, "ValueError: not yet")
    failed = next(line for line in logs if line["event"] == "delivery.failed")
    assert (failed["attempt"], failed["due"]) == (1, due.isoformat())
    now = due
    assert await worker.run_once(10) == 1
    assert seen == [(1, f"{event_id}:h"), (2, f"{event_id}:h")]
    assert await states(ledger) == [SUCCEEDED]


@pytest.mark.parametrize("plain", [True, False])
async def test_discarded_after_the_last_attempt(ledger: Ledger, settings: Settings, plain: bool) -> None:
    """After its last attempt a delivery is discarded and kept, with every error and traceback."""
    handlers = Handlers()

    async def fail(_event: Event) -> None:
        raise SystemExit("enough")

    handlers.on("*", retry=QUICK, name="h")((lambda _event: exit("enough")) if plain else fail)
    await ring(ledger)
    stop = asyncio.Event()
    with capture_logs() as logs:
        running = asyncio.create_task(Worker(settings, ledger, handlers).run(stop))

        async def discarded() -> bool:
            return await states(ledger) == [DISCARDED]

        await until(ledger, discarded)
        stop.set()
        await running
    (item,) = await owed(ledger)
    assert [(a.number, a.outcome, a.error) for a in item.attempts] == [
        (n, Outcome.FAILED, "SystemExit: enough") for n in (1, 2, 3)
    ]
    assert all(a.traceback and "SystemExit: enough" in a.traceback for a in item.attempts)
    assert [line["event"] for line in logs if "due" in line] == ["delivery.failed"] * 2
    assert [line["error"] for line in logs if line["event"] == "delivery.discarded"] == ["SystemExit: enough"]


async def test_timeout(ledger: Ledger, settings: Settings) -> None:
    """An attempt ends at the handler's own timeout or else at the general one; a hanging thread keeps its slot."""
    release, handlers = threading.Event(), Handlers()

    @handlers.on("*", name="slow", timeout_seconds=0.02, retry=Policy(attempts=1))
    def _slow(_event: Event) -> None:
        release.wait()

    @handlers.on("*", name="general", retry=Policy(attempts=1))
    async def _general(_event: Event) -> None:
        await asyncio.Event().wait()

    await ring(ledger)
    worker = Worker(replace(settings, handler_timeout_seconds=0.05, concurrency=2), ledger, handlers)
    with capture_logs() as logs:
        assert await worker.run_once(10) == 2
    assert [line["handler"] for line in logs if line["event"] == "handler.unresponsive"] == ["slow"]
    assert worker.stragglers == 1
    errors = {item.delivery.handler: item.delivery.reason for item in await owed(ledger)}
    assert errors == {"slow": "no end after 0.02 s", "general": "no end after 0.05 s"}
    assert await states(ledger) == [DISCARDED] * 2
    release.set()


async def test_straggler_gives_its_slot_back(ledger: Ledger, settings: Settings) -> None:
    """While a hanging thread has the only slot nothing is claimed; when it ends at last, the work goes on."""
    release, handlers = threading.Event(), Handlers()
    calls: list[str] = []

    @handlers.on("*", name="h", timeout_seconds=0.02, retry=Policy(attempts=1))
    def _slow(event: Event) -> None:
        calls.append(event.id)
        release.wait()

    first, second = await ring(ledger), await ring(ledger)
    stop = asyncio.Event()
    worker = Worker(replace(settings, concurrency=1), ledger, handlers)
    running = asyncio.create_task(worker.run(stop))

    async def one_discarded() -> bool:
        return DISCARDED in await states(ledger)

    async def all_done() -> bool:
        return set(await states(ledger)) == {DISCARDED, SUCCEEDED}

    await until(ledger, one_discarded)
    assert len(calls) == worker.stragglers == 1
    release.set()
    await until(ledger, all_done)
    stop.set()
    await running
    assert sorted(calls) == sorted([first, second])


async def test_lifespan(ledger: Ledger, settings: Settings) -> None:
    """What the lifespan yields is every event's state; it is left after the last handler."""
    story: list[Any] = []

    @asynccontextmanager
    async def lifespan(handlers: Handlers) -> AsyncIterator[str]:
        story.append(len(handlers))
        yield "pool"
        story.append("closed")

    handlers = Handlers(lifespan)
    handlers.on("*", name="h")(lambda event: story.append(event.state))
    await ring(ledger)
    await Worker(settings, ledger, handlers).run_once(10)
    assert story == [1, "pool", "closed"]


async def test_two_workers_share(ledger: Ledger, settings: Settings) -> None:
    """Two workers on one ledger run every delivery once between them."""
    calls: list[tuple[int, str]] = []
    together = asyncio.Barrier(2)
    other_ledger = await open_ledger(settings)
    workers = []
    for number, own in enumerate((ledger, other_ledger)):
        handlers = Handlers()

        @handlers.on("*", name="h")
        async def _handle(event: Event, number: int = number) -> None:
            calls.append((number, event.id))
            if len(calls) <= 2:
                await together.wait()  # both have something in hand

        workers.append(Worker(replace(settings, concurrency=1), own, handlers, name=f"w{number}"))
    ids = [await ring(ledger) for _ in range(20)]
    ran = await asyncio.gather(*(worker.run_once(20) for worker in workers))
    assert sum(ran) == 20
    assert sorted(event_id for _, event_id in calls) == sorted(ids)
    assert {number for number, _ in calls} == {0, 1}
    await other_ledger.close()


async def test_woken_by_another_process(ledger: Ledger, settings: Settings) -> None:
    """An idle worker sees what another connection writes without waiting for its slow poll."""
    handlers = Handlers()
    handled = asyncio.Event()

    @handlers.on("*", name="h")
    async def _handle(_event: Event) -> None:
        handled.set()

    stop = asyncio.Event()
    running = asyncio.create_task(Worker(settings, ledger, handlers).run(stop))
    other = await open_ledger(settings)
    await ring(other)
    async with asyncio.timeout(10):
        await handled.wait()
    stop.set()
    await running
    await other.close()


async def test_outcomes_that_a_handler_chooses(ledger: Ledger, settings: Settings) -> None:
    """Snoozing and asking for a retry set the due time, and only the retry counts; a discard is final at once."""
    now = datetime.now(UTC)
    handlers = Handlers()

    @handlers.on("*", name="snooze", retry=False)
    async def _snooze(event: Event) -> Snooze | None:
        return Snooze(60) if event.attempt < 4 else None

    @handlers.on("*", name="retry", retry=Policy(attempts=2, base_seconds=7))
    async def _retry(_event: Event) -> None:
        raise Retry(after=60)

    @handlers.on("*", name="discard")
    def _discard(_event: Event) -> None:
        raise Discard("no such user")

    await ring(ledger)
    worker = Worker(settings, ledger, handlers, clock=lambda: now)
    told: list[Any] = []
    for _ in range(4):
        with capture_logs() as logs:
            await worker.run_once(10)
        told += [line for line in logs if line["event"].startswith("delivery.")]
        now += timedelta(seconds=60)
    found = {item.delivery.handler: item for item in await owed(ledger)}
    story = {name: [attempt.outcome for attempt in item.attempts] for name, item in found.items()}
    assert story == {
        "snooze": [Outcome.SNOOZED] * 3 + [Outcome.SUCCEEDED],
        "retry": [Outcome.FAILED] * 2,
        "discard": [Outcome.DISCARDED],
    }
    assert {name: (item.delivery.state, item.delivery.attempts) for name, item in found.items()} == {
        "snooze": (SUCCEEDED, 1),
        "retry": (DISCARDED, 2),
        "discard": (DISCARDED, 1),
    }
    assert (found["discard"].delivery.reason, found["discard"].attempts[0].traceback) == ("no such user", None)
    lines = {(line["event"], line["handler"], line["log_level"]) for line in told if line["log_level"] != "debug"}
    assert lines == {
        ("delivery.snoozed", "snooze", "info"),
        ("delivery.succeeded", "snooze", "info"),
        ("delivery.failed", "retry", "warning"),
        ("delivery.discarded", "retry", "error"),
        ("delivery.discarded", "discard", "warning"),
    }

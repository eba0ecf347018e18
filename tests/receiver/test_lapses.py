"""Workers that die, fall silent, or only seem to: what they held comes back, once, and to nobody's harm."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from structlog.testing import capture_logs

from receiver import Event, Handlers
from receiver.worker import Worker
from ringback.ledger import Ledger, Pattern, Process, Registration, beat_from_thread
from ringback.model import DeliveryState, Outcome
from ringback.retry import Policy
from ringback.settings import Settings
from tests.ledger.builders import claims, fan_out

from .receiver_case import owed, ring, until

SUCCEEDED, DISCARDED = DeliveryState.SUCCEEDED, DeliveryState.DISCARDED


async def claim_as_stranger(ledger: Ledger, at: datetime) -> Process:
    """Register `h`, fan out, and take what is due as a worker of another process that then says nothing more."""
    stranger = Process(id=f"stranger at {at}", role="worker", host="h", pid=1, started_at=at)
    await ledger.beat(stranger, at, at - timedelta(seconds=30), {"h": Registration(patterns=[Pattern()], attempts=2)})
    await fan_out(ledger, at, 100)
    assert (await claims(ledger, stranger, {"h": 10}, at, 10)).works
    return stranger


async def test_dead_worker(ledger: Ledger, settings: Settings) -> None:
    """What a silent worker held comes back: not while it may live, and not counted: it may not have begun."""
    now = datetime.now(UTC)
    handlers = Handlers()
    handlers.on("*", name="h")(lambda _event: None)
    await ring(ledger)
    await claim_as_stranger(ledger, now)
    assert await Worker(settings, ledger, handlers, clock=lambda: now + timedelta(seconds=29)).run_once(10) == 0
    with capture_logs() as logs:
        assert await Worker(settings, ledger, handlers, clock=lambda: now + timedelta(seconds=31)).run_once(10) == 1
    assert [line["count"] for line in logs if line["event"] == "deliveries.returned"] == [1]
    (item,) = await owed(ledger)
    assert [attempt.outcome for attempt in item.attempts] == [Outcome.LAPSED, Outcome.SUCCEEDED]
    assert (item.delivery.lapses, item.delivery.attempts) == (1, 1)


async def test_handler_that_kills_its_process(ledger: Ledger, settings: Settings) -> None:
    """After the first lapse as many more discard a delivery as its policy allows attempts, without another run."""
    now = datetime.now(UTC)
    calls: list[str] = []
    handlers = Handlers()
    handlers.on("*", name="h", retry=Policy(attempts=2))(lambda event: calls.append(event.id))
    await ring(ledger)
    for number in (1, 2, 3):
        await claim_as_stranger(ledger, now + timedelta(minutes=number))
    with capture_logs() as logs:
        assert await Worker(settings, ledger, handlers, clock=lambda: now + timedelta(minutes=4)).run_once(10) == 0
    (item,) = await owed(ledger)
    reason = "given up: its worker died or fell silent 3 times"
    assert (item.delivery.state, item.delivery.reason, item.delivery.attempts) == (DISCARDED, reason, 2)
    told = [(line["delivery"], line["error"]) for line in logs if line["event"] == "delivery.discarded"]
    assert told == [(item.delivery.id, reason)]
    assert calls == []


async def test_lapsed_delivery_runs_alone(ledger: Ledger, settings: Settings) -> None:
    """It waits until nothing else runs, and nothing that is due later begins beside it; all of them run."""
    now = datetime.now(UTC)
    spans: list[tuple[str, str]] = []
    begun, finish, handlers = asyncio.Event(), asyncio.Event(), Handlers()

    @handlers.on("*", name="h")
    async def _slow(event: Event) -> None:
        spans.append(("begin", event.id))
        if event.id == early:
            begun.set()
            await finish.wait()
        for _ in range(10):
            await asyncio.sleep(0)  # a chance for others to begin
        spans.append(("end", event.id))

    lapsed = await ring(ledger)
    await claim_as_stranger(ledger, now)
    early = await ring(ledger)
    await fan_out(ledger, now + timedelta(seconds=1), 10)
    worker = Worker(settings, ledger, handlers, clock=lambda: now + timedelta(minutes=1))
    running = asyncio.create_task(worker.run_once(10))
    await begun.wait()
    late = {await ring(ledger) for _ in range(3)}

    async def fanned_out() -> bool:
        return len(await owed(ledger)) == 5

    await until(ledger, fanned_out)
    assert [event_id for _, event_id in spans] == [early]
    finish.set()
    assert await running == 5
    assert spans[:4] == [("begin", early), ("end", early), ("begin", lapsed), ("end", lapsed)]
    assert {event_id for _, event_id in spans[4:]} == late


async def test_blocked_loop_keeps_its_deliveries(ledger: Ledger, settings: Settings) -> None:
    """A handler that blocks the event loop for longer than a dead worker is waited for loses nothing."""
    settings = replace(settings, heartbeat_seconds=0.05)
    patience = timedelta(seconds=0.3)
    taken: list[Any] = []
    handlers = Handlers()

    @handlers.on("*", name="h")
    async def _block(_event: Event) -> None:
        begun = datetime.now(UTC)
        pause = threading.Event()
        while datetime.now(UTC) - begun < 2 * patience:
            pause.wait(0.05)  # blocks the loop, as a careless handler does
        stranger = Process(id="stranger", role="worker", host="h", pid=1, started_at=begun)
        now = datetime.now(UTC)
        taken.append(beat_from_thread(settings, stranger, now, now - patience, {}))

    await ring(ledger)
    assert await Worker(settings, ledger, handlers).run_once(10) == 1
    assert taken == [[]]
    (item,) = await owed(ledger)
    assert (item.delivery.state, len(item.attempts), item.delivery.lapses) == (SUCCEEDED, 1, 0)


async def test_late_finisher(ledger: Ledger, settings: Settings) -> None:
    """A worker that was presumed dead changes nothing when its attempt ends after all, and says so."""
    now = datetime.now(UTC)
    begun, finish, handlers = asyncio.Event(), asyncio.Event(), Handlers()

    @handlers.on("*", name="h")
    async def _slow(_event: Event) -> None:
        begun.set()
        await finish.wait()

    await ring(ledger)
    with capture_logs() as logs:
        running = asyncio.create_task(Worker(settings, ledger, handlers, clock=lambda: now).run_once(10))
        await begun.wait()
        later = now + timedelta(minutes=1)
        await claim_as_stranger(ledger, later)
        finish.set()
        assert await running == 0
    assert [line["outcome"] for line in logs if line["event"] == "delivery.late"] == ["succeeded"]
    (item,) = await owed(ledger)
    assert (item.delivery.state, item.delivery.worker) == (DeliveryState.RUNNING, f"stranger at {later}")

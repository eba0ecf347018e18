"""How a worker makes itself known: who it is, that it lives, which handlers it has. Called by `worker` alone.

It beats on a thread of its own, so that a handler which blocks the event loop never makes a live worker look dead.
"""

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from receiver.handlers import Handlers
from ringback.errors import LedgerUnavailable
from ringback.ledger import Process, Registration, WorkerLedger, beat_from_thread, silence_of
from ringback.model import Delivery, DeliveryState
from ringback.settings import Settings

LAST_BEAT_SECONDS = 5.0  # how long to wait, at the end, for a beat that is on its way

log = structlog.get_logger()


class Presence:
    """One worker's entry in the ledger."""

    def __init__(
        self,
        settings: Settings,
        ledger: WorkerLedger,
        handlers: Handlers,
        clock: Callable[[], datetime],
        name: str | None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._handlers = {
            h.name: Registration(patterns=h.patterns, attempts=h.policy.attempts, since=h.since_when(clock()))
            for h in handlers
        }
        self._clock = clock
        self.process = _process(name, clock(), silence_of(settings.heartbeat_seconds))
        self.announced = False

    async def announce(self) -> None:
        """Tell that this worker lives and what it has code for, and take from silent workers what they held."""
        now = self._clock()
        self._tell(await self._ledger.beat(self.process, now, now - self.process.silence, self._handlers))
        log.info("handlers.registered", worker=self.process.id, handlers=sorted(self._handlers))
        self.announced = True

    async def keep(self) -> None:
        """Go on telling, from a thread, until cancelled; raises what makes that impossible for good."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Exception | None] = loop.create_future()
        stop = threading.Event()

        def beat_on() -> None:
            error = self._beat_until(stop)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set_result, error)

        threading.Thread(target=beat_on, daemon=True, name="ringback-heartbeat").start()
        try:
            await asyncio.wait({ended})  # unlike `await ended`, being cancelled here does not cancel the future
        finally:
            stop.set()
            await asyncio.wait({ended}, timeout=LAST_BEAT_SECONDS)
        if (error := ended.result()) is not None:
            raise error

    async def leave(self) -> None:
        """Tell that this worker is gone; what it should still hold comes back at once."""
        now = self._clock()
        self._tell(await self._ledger.beat(self.process, now, now - self.process.silence, leaving=True))
        self.announced = False

    def _beat_until(self, stop: threading.Event) -> Exception | None:
        """Beat, on the thread; gives what went wrong for good."""
        missed = 0
        while not stop.wait(self._settings.heartbeat_seconds):
            now = self._clock()
            try:
                lapsed = beat_from_thread(self._settings, self.process, now, now - self.process.silence, self._handlers)
            except LedgerUnavailable as error:
                missed += 1
                if missed == 1:
                    log.warning("heartbeat.missed", worker=self.process.id, error=str(error))
            except Exception as error:
                return error
            else:
                missed = 0
                self._tell(lapsed)
        return None

    def _tell(self, lapsed: Sequence[Delivery]) -> None:
        if lapsed:
            log.warning("deliveries.returned", worker=self.process.id, count=len(lapsed))
        for delivery in lapsed:
            if delivery.state is DeliveryState.DISCARDED:
                fields = {"delivery": delivery.id, "event_id": delivery.event_id, "handler": delivery.handler}
                log.error("delivery.discarded", error=delivery.reason, **fields)


def _process(name: str | None, now: datetime, silence: timedelta) -> Process:
    host = socket.gethostname()
    # Never the same id twice: a successor under the id of a dead worker would keep its deliveries running for ever.
    identity = f"{name or f'{host}-{os.getpid()}'}-{secrets.token_hex(4)}"
    return Process(id=identity, role="worker", host=host, pid=os.getpid(), started_at=now, silence=silence)

"""How a worker makes itself known: who it is, that it lives, which handlers it has. Called by `worker` alone."""

import os
import secrets
import socket
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from receiver.handlers import Handlers
from ringback.ledger import Process, WorkerLedger

BEATS_UNTIL_DEAD = 6

log = structlog.get_logger()


class Presence:
    """One worker's entry in the ledger."""

    def __init__(
        self,
        ledger: WorkerLedger,
        handlers: Handlers,
        clock: Callable[[], datetime],
        heartbeat_seconds: float,
        name: str | None,
    ) -> None:
        self._ledger = ledger
        self._handlers = handlers
        self._clock = clock
        self._patience = BEATS_UNTIL_DEAD * timedelta(seconds=heartbeat_seconds)
        self.process = _process(name, clock())
        self.announced = False

    async def announce(self) -> None:
        """Tell that this worker lives and what it has code for, and hand back what silent workers held."""
        now = self._clock()
        returned = await self._ledger.beat(self.process, now, now - self._patience)
        if returned:
            log.warning("deliveries.returned", worker=self.process.id, count=returned)
        patterns = self._handlers.patterns()
        await self._ledger.register_handlers(patterns, now)
        if not self.announced:
            log.info("handlers.registered", worker=self.process.id, handlers=sorted(patterns))
        self.announced = True

    async def leave(self) -> None:
        """Tell that this worker is gone; what it should still hold comes back at once."""
        now = self._clock()
        await self._ledger.beat(self.process, now, now - self._patience, leaving=True)
        self.announced = False


def _process(name: str | None, now: datetime) -> Process:
    host = socket.gethostname()
    # Never the same id twice: a successor under the id of a dead worker would keep its deliveries running for ever.
    identity = f"{name or f'{host}-{os.getpid()}'}-{secrets.token_hex(4)}"
    return Process(id=identity, role="worker", host=host, pid=os.getpid(), started_at=now)

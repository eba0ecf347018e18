"""Tells supervisors how it goes: `/healthz` (the process lives) and `/readyz` (callbacks can be stored right now).

Strangers may ask, too: they are told in a fixed sentence what trouble the ledger has, and only the log is told all. A
missing poller is told, but is no reason for 503: hints are stored, and wait for it.
"""

import asyncio
import time
from datetime import UTC, datetime

import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.web.answers import json_response
from receiver.web.fresh import Fresh
from receiver.web.state import State
from ringback.confirming import confirmed
from ringback.errors import LedgerError, LedgerUnavailable

log = structlog.get_logger("ringback.receiver")

PROBE_SECONDS = 1.0  # the ledger is tried no more often
PROBE_TIMEOUT_SECONDS = 2.5


class Health:
    """The two endpoints."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._probe = Fresh(PROBE_SECONDS, self._try_ledger)
        self._told: str | None = None  # what was wrong at the last try
        self._confirmed = ", ".join(sorted(provider.name for provider in confirmed(state.settings)))
        self._pollers = Fresh(PROBE_SECONDS, self._look_for_pollers)

    async def live(self, _: Request) -> Response:
        """Answer as long as the process lives; never touches the ledger."""
        return json_response({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Answer 200 where a callback that came now would be stored, else 503 with what is wrong."""
        settings = self._state.settings
        error, confirmation = await asyncio.gather(self._ledger_error(), self._confirmation())
        ready = error is None and bool(settings.secret)
        detail = {
            "ready": ready,
            "ledger": "ok" if error is None else error,
            "secret": "configured" if settings.secret else "missing: callbacks get 503 until RINGBACK_SECRET is set",
            "public_url": "configured"
            if settings.public_url
            else "missing: no callback_url is sent, the poller fetches",
            "confirmation": confirmation,
        }
        return json_response(detail, 200 if ready else 503)

    async def _confirmation(self) -> str:
        """Tell whether somebody asks about the tasks of callbacks that are only hints."""
        if not self._confirmed:
            return "not needed"
        seen = await self._pollers.get()
        if seen is None:
            return "unknown: the ledger cannot be read"
        if not seen:
            return f"missing: callbacks of {self._confirmed} wait for a poller, and none was seen in the last minute"
        return "a poller runs"

    async def _look_for_pollers(self) -> bool | None:
        """Tell whether a poller was seen lately; None where the ledger does not tell."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                ledger, _ = await self._state.open()
                return any(process.role == "poller" for process in await ledger.processes(datetime.now(UTC)))
        except (LedgerError, TimeoutError):
            return None

    async def _ledger_error(self) -> str | None:
        """Give the writer's last result; where that is old, try."""
        if time.monotonic() - self._state.written_at >= PROBE_SECONDS:
            await self._probe.get()
        return self._state.write_error

    async def _try_ledger(self) -> None:
        error: LedgerError | None = None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                ledger, _ = await self._state.open()
                await ledger.reject({}, datetime.now(UTC))  # writes, counts or not
        except LedgerError as problem:
            error = problem
        except TimeoutError:
            silent = f"the ledger did not answer within {PROBE_TIMEOUT_SECONDS:g} s"
            error = LedgerUnavailable(silent, public=silent)
        self._tell(None if error is None else str(error))
        self._state.note_write(error)

    def _tell(self, trouble: str | None) -> None:
        """Log what is wrong, once: readiness is asked for all the time."""
        if trouble is not None and trouble != self._told:
            log.error("receiver.ledger_unavailable", error=trouble)
        self._told = trouble

"""Counts what was turned away, and tells log and ledger about it once a second, however much comes.

Never what was in it: provider and reason are words of ours, so the keys are few. Used by `callbacks`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from ringback.errors import LedgerError
from ringback.ledger import Ledger

log = structlog.get_logger("ringback.receiver")

FLUSH_SECONDS = 1.0
CLOSE_SECONDS = 2.5  # at the end the ledger gets this long to take the last counts

Key = tuple[str, str]  # provider (or "unknown"), reason


class Rejections:
    """The counts. `ledger` gives the open ledger, or None; counts wait until there is one."""

    def __init__(self, ledger: Callable[[], Ledger | None]) -> None:
        self.totals: Counter[Key] = Counter()  # since the process began
        self._ledger = ledger
        self._due: Counter[Key] = Counter()  # not in the ledger yet
        self._silent: dict[Key, int] = {}  # had a log line in this second; how many came since
        self._timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.Task[None] | None = None

    def add(self, provider: str, reason: str, task_id: str | None = None, detail: str | None = None) -> None:
        """Count one; the first of its kind in a second gets a log line at once."""
        key = (provider, reason)
        self.totals[key] += 1
        self._due[key] += 1
        if key in self._silent:
            self._silent[key] += 1
        else:
            self._silent[key] = 0
            log.warning("callback.rejected", provider=provider, reason=reason, task=task_id, detail=detail)
        self._arm()

    async def close(self) -> None:
        """Save what is left, as far as the ledger takes it in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._speak()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._flush is not None and not self._flush.done():
                    await self._flush
                await self._save()
        except TimeoutError:
            log.warning("rejections.lost", count=self._due.total())

    def _arm(self) -> None:
        """Start the clock. One that is long overdue belonged to a loop that has ended (function adapters)."""
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer.when() + FLUSH_SECONDS < loop.time():
            self._timer = loop.call_later(FLUSH_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._speak()
        if self._due and (self._flush is None or self._flush.done()):
            self._flush = asyncio.create_task(self._save())
        if self._silent or (self._due and self._ledger() is not None):
            self._arm()

    def _speak(self) -> None:
        """Say how many came since the first line of their kind; those that went on keep quiet for another second."""
        more = {key: count for key, count in self._silent.items() if count}
        for (provider, reason), count in more.items():
            log.warning("callback.rejected", provider=provider, reason=reason, count=count)
        self._silent = dict.fromkeys(more, 0)

    async def _save(self) -> None:
        ledger = self._ledger()
        if ledger is None or not self._due:
            return
        due, self._due = self._due, Counter()
        try:
            await ledger.reject(due, datetime.now(UTC))
        except (LedgerError, asyncio.CancelledError) as error:
            self._due += due  # the next second tries again
            if isinstance(error, asyncio.CancelledError):
                raise

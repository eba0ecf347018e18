"""The alarm: tells the log of every result whose URL ends within an hour and that is not stored. Called by the command.

It asks the ledger, not the worker: it is raised as well where no worker runs, or one hangs. Each result is told once.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from ringback.errors import LedgerError
from ringback.ledger import CountResults, Ledger, ResultCounts, ResultRow

log = structlog.get_logger("ringback.results")

LOOK_SECONDS = 60.0
TOLD_AT_ONCE = 20  # lines; how many more there are is one line


class Watch:
    """Looks once a minute."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._ledger = ledger
        self._clock = clock
        self._told: set[tuple[str, int]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look until told to stop."""
        while not stop.is_set():
            await self.look()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue

    async def look(self) -> ResultCounts | None:
        """Look once; gives what was found, None while the ledger cannot be read."""
        now = self._clock()
        try:
            found = await self._ledger.report(CountResults(now=now))
        except LedgerError:
            return None  # whoever needs the ledger says so
        news = [row for row in found.expiring if (row.event_id, row.position) not in self._told]
        self._told = {(row.event_id, row.position) for row in found.expiring}  # of the others none comes again
        for row in news[:TOLD_AT_ONCE]:
            _tell(row, now)
        if len(news) > TOLD_AT_ONCE:
            log.warning("result.expiring", more=len(news) - TOLD_AT_ONCE, hint="see: ringback results list --missing")
        return found


def _tell(row: ResultRow, now: datetime) -> None:
    minutes = int((row.expires_at - now).total_seconds() // 60)
    fields = {"task": row.task_id, "event_id": row.event_id, "provider": row.provider, "position": row.position}
    log.warning("result.expiring", expires_at=row.expires_at.isoformat(), minutes=minutes, **fields)

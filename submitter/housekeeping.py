"""Takes away what was kept long enough, in small steps, so that a callback never waits for it.

The poller does so once an hour, `ringback prune` when it is called. What goes when is `ringback.ledger.retention`'s
business; this module keeps the pace. It never looks at a record.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta

import structlog

from ringback.errors import LedgerError
from ringback.ledger import Keep, OperatorLedger, Prune, Pruned
from ringback.settings import Settings

log = structlog.get_logger("ringback.housekeeping")

INTERVAL_SECONDS = 3600.0


def keep_of(settings: Settings) -> Keep:
    """Read from the settings for how long things are kept."""
    days = {"rest": settings.retention_days, "bodies": settings.body_days}
    spans = {name: timedelta(days=count) if count else None for name, count in days.items()}
    return Keep.of(**spans, keys=timedelta(days=settings.dedup_days), providers=settings.catalogue.values())


async def prune(ledger: OperatorLedger, wish: Prune, *, time_limit_seconds: float | None = None) -> Pruned:
    """Take step after step, to the end or until the time is over; `next` tells where it stopped."""
    loop = asyncio.get_running_loop()
    end = None if time_limit_seconds is None else loop.time() + time_limit_seconds
    total = Pruned(next=wish.after)
    while total.next is not None and (end is None or loop.time() < end):
        begun = loop.time()
        total += await ledger.act(replace(wish, after=total.next))
        # As long a rest as the step took: whatever the disk and the load, callbacks have half of the time for theirs.
        await asyncio.sleep(loop.time() - begun)
    return total


class Housekeeper:
    """Prunes as the settings say; does nothing where they keep everything."""

    def __init__(self, settings: Settings, ledger: OperatorLedger, clock: Callable[[], datetime]) -> None:
        self._keep = keep_of(settings)
        self._ledger = ledger
        self._clock = clock

    async def run(self) -> None:
        """Prune once an hour, until cancelled; whatever goes wrong is tried again."""
        while self._keep.forgets:
            await self.once()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def once(self, time_limit_seconds: float | None = None) -> None:
        """Prune now, and log what was."""
        if not self._keep.forgets:
            return
        try:
            wish = self._keep.at(self._clock())
            pruned = await prune(self._ledger, wish, time_limit_seconds=time_limit_seconds)
        except Exception as error:  # the next hour tries again, and asking goes on meanwhile
            log.warning("ledger.not_pruned", reason=str(error) if isinstance(error, LedgerError) else repr(error))
            return
        if pruned.changed or pruned.waiting:
            counts = {name: count for name, count in asdict(pruned).items() if name != "next"}
            log.info("ledger.pruned", **counts)

"""Tells of tasks that were charged otherwise than expected: `cost.differs`, once a minute by each poller that stays.

Read afterwards, by when they settled, so that nothing is asked while a callback is stored. `ringback costs` shows the
same at any time.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from ringback.errors import LedgerError
from ringback.ledger import Differing, OperatorLedger

log = structlog.get_logger("ringback.costs")

INTERVAL_SECONDS = 60.0
MOST = 20  # a rate that is wrong makes every task differ
COMMIT_SLACK = timedelta(seconds=10)  # a task settles when its callback came, and is written a little later


class Bookkeeper:
    """Looks at what settled since it last looked; at first since it was made."""

    def __init__(self, ledger: OperatorLedger, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._since = clock()

    async def run(self) -> None:
        """Look once a minute, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            await self.once()

    async def once(self) -> None:
        """Look now; where the ledger is in trouble, later."""
        until = self._clock() - COMMIT_SLACK
        if until <= self._since:
            return
        try:
            found = await self._ledger.report(Differing(since=self._since, until=until, limit=MOST))
        except Exception as error:  # nobody else would tell of what ends this for good
            log.warning("costs.not_read", error=str(error) if isinstance(error, LedgerError) else repr(error))
            return
        self._since = until
        for task in found:
            log.warning(
                "cost.differs",
                task=task.id,
                provider=task.provider,
                provider_id=task.provider_id,
                state=task.state.value,
                expected_microdollars=task.price_microdollars,
                charged_microdollars=task.charged_microdollars,
            )
        if len(found) == MOST:
            log.warning("costs.many_differ", hint="see: ringback costs --by task")

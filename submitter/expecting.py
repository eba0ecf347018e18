"""When a push is overdue: learned from past tasks, never below what the settings say.

`Expecting` is asked by `submitter.sending` for every task that is accepted; `learn` is called by the poller, about once
a minute. It never asks a provider, and a ledger in trouble only means that what was learned before stands.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import structlog

from ringback.errors import LedgerError
from ringback.ledger import Expectation, Expected, Learn, Learned, OperatorLedger
from ringback.model import Task
from ringback.providers import Provider
from ringback.retry import push_delay
from ringback.settings import Settings

log = structlog.get_logger("ringback.poller")

STALE_AFTER = timedelta(minutes=1)  # then it is read anew


async def learn(ledger: OperatorLedger, now: datetime) -> Learned:
    """Learn from the newest settled tasks, and tell what changed."""
    found = await ledger.act(Learn(now=now))
    for one in found.expectations:
        spans = {"median": one.median.total_seconds(), "p95": one.p95.total_seconds()}
        log.debug("tasks.timed", provider=one.provider, model=one.model, count=one.count, **spans)
    return found


def first_question(provider: Provider, floor: timedelta, known: Expectation | None) -> timedelta:
    """Give how long after its acceptance a task is first asked about, where its push has not come."""
    if known is None:
        return floor
    return push_delay(known.median, known.p95, floor, provider.longest / 2)


class Expecting:
    """How long the push of a new task is waited for."""

    def __init__(self, settings: Settings, ledger: OperatorLedger, clock: Callable[[], datetime]) -> None:
        self._floor = timedelta(seconds=settings.push_deadline_seconds)
        self._ledger = ledger
        self._clock = clock
        self._known: Mapping[tuple[str, str], Expectation] = {}
        self._read_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def wait(self, provider: Provider, task: Task) -> timedelta:
        """Give the wait before the first question about a task that is just accepted."""
        async with self._lock:  # many are accepted at once, and one of them reads for all
            await self._refresh()
        return first_question(
            provider, self._floor, self._known.get((provider.name, task.form.model if task.form else ""))
        )

    async def _refresh(self) -> None:
        now = self._clock()
        if self._read_at is not None and now < self._read_at + STALE_AFTER:
            return
        self._read_at = now
        try:
            found = await self._ledger.report(Expected())
        except LedgerError as error:
            log.warning("expectations.unread", reason=str(error))
            return
        self._known = {(one.provider, one.model): one for one in found}

"""What `GET /metrics` says of money: whole micro-dollars, which the floats of that format hold exactly.

Called by `metrics`.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ringback.ledger import Budget, Counted, OperatorLedger, Recount, Spent

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


SHARE = 100  # adding up the whole month may take one hundredth of the time
ABOUT = (
    "Spent, or promised to open tasks, in this period (UTC). New tasks are in it at once; what others were charged or "
    "given back may be missing for up to 100 times as long as it takes to add all up."
)


class Spendings:
    """What is spent: added up anew now and then, in between by what was added since."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._base: Counted | None = None
        self._anew_at = 0.0

    async def ask(self, ledger: OperatorLedger) -> Spent:
        """Ask the ledger, and remember what it counted."""
        now, began = datetime.now(UTC), self._clock()
        base = self._base if began < self._anew_at else None
        counted = await ledger.report(Recount(now=now, base=base))
        if base is None or counted.at != base.at:  # all of it
            ended = self._clock()
            self._base, self._anew_at = counted, ended + SHARE * (ended - began)
        return counted.spent


def spent_metrics(spent: Spent, budget: Budget | None) -> "Iterator[Metric]":
    """Give what counts against the budgets, and those that are set."""
    from prometheus_client.core import GaugeMetricFamily

    sums = GaugeMetricFamily("ringback_spent_microdollars", ABOUT, labels=("period",))
    sums.add_metric(("day",), spent.day)
    sums.add_metric(("month",), spent.month)
    yield sums
    limits = GaugeMetricFamily("ringback_budget_microdollars", "The budget of this period.", labels=("period",))
    known = budget or Budget()
    for period, limit in (("day", known.daily), ("month", known.monthly)):
        if limit is not None:
            limits.add_metric((period,), limit)
    yield limits

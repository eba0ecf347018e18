"""What `GET /metrics` says of money: whole micro-dollars, which the floats of that format hold exactly.

Called by `metrics`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ringback.ledger import Budget, Spent

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def spent_metrics(spent: Spent, budget: Budget | None) -> "Iterator[Metric]":
    """Give what counts against the budgets, and those that are set."""
    from prometheus_client.core import GaugeMetricFamily

    sums = GaugeMetricFamily(
        "ringback_spent_microdollars", "Spent, or promised to open tasks, in this period (UTC).", labels=("period",)
    )
    sums.add_metric(("day",), spent.day)
    sums.add_metric(("month",), spent.month)
    yield sums
    limits = GaugeMetricFamily("ringback_budget_microdollars", "The budget of this period.", labels=("period",))
    known = budget or Budget()
    for period, limit in (("day", known.daily), ("month", known.monthly)):
        if limit is not None:
            limits.add_metric((period,), limit)
    yield limits

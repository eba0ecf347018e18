"""What `GET /metrics` says of results. Called by `metrics`."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from ringback.ledger import ResultCounts

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def stored_metrics(counts: ResultCounts, now: datetime) -> "Iterator[Metric]":
    """Give how many are stored, and what waits; zeros where none are ever stored."""
    from prometheus_client.core import GaugeMetricFamily

    states = GaugeMetricFamily("ringback_results", "Results by what became of them.", labels=("state",))
    for state in ("stored", "waiting", "given_up"):
        states.add_metric((state,), getattr(counts, state))
    yield states
    yield GaugeMetricFamily("ringback_results_stored_bytes", "Bytes of stored results.", counts.stored_bytes)
    yield GaugeMetricFamily(
        "ringback_results_expiring", "Results not stored whose URL ends within an hour.", len(counts.expiring)
    )
    yield GaugeMetricFamily("ringback_results_lost", "Results not stored whose URL has ended.", counts.lost)
    if counts.expiring:
        left = (counts.expiring[0].expires_at - now).total_seconds()
        yield GaugeMetricFamily("ringback_results_next_expiry_seconds", "Until the next of those URLs ends.", left)

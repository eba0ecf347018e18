"""What `GET /metrics` says of pushes that were expected. Called by `metrics`."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from ringback.ledger import Pushed

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PUSHES_WINDOW = timedelta(days=1)


def pushed_metrics(pushes: Sequence[Pushed]) -> "Iterator[Metric]":
    """Give what became of them, within a window: a gauge can fall again, and a share can be alerted on."""
    from prometheus_client.core import GaugeMetricFamily

    outcomes = GaugeMetricFamily(
        "ringback_pushes", "Pushes expected in the last 24 h, by what became of them.", labels=("provider", "outcome")
    )
    recovered = GaugeMetricFamily(
        "ringback_pushes_recovered", "Tasks of the last 24 h that a poll settled instead.", labels=("provider",)
    )
    share = GaugeMetricFamily(
        "ringback_pushes_missing_share", "Share of those pushes that never came.", labels=("provider",)
    )
    for one in pushes:
        for outcome in ("on_time", "late", "missing"):
            outcomes.add_metric((one.provider, outcome), getattr(one, outcome))
        recovered.add_metric((one.provider,), one.recovered)
        share.add_metric((one.provider,), one.share_missing)
    yield from (outcomes, recovered, share)

"""Plain in-memory counts of what was accepted since the process began. Read by `metrics`; costs a microsecond."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

# Seconds; a commit takes from half a millisecond (a fast disk) to its timeout of some seconds.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Tally:
    """Counts by provider and verdict, and how long they took."""

    def __init__(self) -> None:
        self.verdicts: Counter[tuple[str, str]] = Counter()
        self.latencies = [0] * (len(BUCKETS) + 1)  # the last one: above every bound
        self.latency_sum = 0.0

    def accept(self, provider: str, verdict: str, seconds: float) -> None:
        """Count one callback that was stored and answered with 200."""
        self.verdicts[provider, verdict] += 1
        self.latencies[bisect_left(BUCKETS, seconds)] += 1
        self.latency_sum += seconds


def cumulative(latencies: Sequence[int]) -> list[tuple[str, float]]:
    """Give a histogram as Prometheus wants it: bounds with the counts at or below them."""
    return [
        (bound, float(total)) for bound, total in zip((*map(str, BUCKETS), "+Inf"), accumulate(latencies), strict=True)
    ]

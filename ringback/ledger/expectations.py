"""PURE. What past tasks tell: how long those of a provider and model take, and which pushes never came.

`Learn` is asked of `OperatorLedger.act`, by the poller about once a minute; `Expected` and `Pushes` are asked of
`OperatorLedger.report`. Every engine learns by `learned`, so that the rule exists once.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

SAMPLE = 5_000  # of the newest settled tasks
FEWEST = 20  # fewer say too little about the slowest in twenty
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learn:
    """Learn from the newest settled tasks how long each provider and model takes."""

    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """How long tasks of one provider and model took, from the provider's acceptance to their end."""

    provider: str
    model: str
    count: int  # of the tasks that it was learned from
    median: timedelta
    p95: timedelta
    learned_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Ask for all that was learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushes:
    """Ask what became of the pushes of tasks that settled since then; at most of the newest tasks."""

    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What became of the pushes of one provider. Each one that was expected is on time, late or missing.

    Expected of each task that was sent with a callback URL, accepted, and ended by the provider, or given up by us.
    """

    provider: str
    since: datetime  # later than what was asked for where there are more tasks than are looked at
    on_time: int = 0
    late: int = 0  # after we had begun to ask
    missing: int = 0  # never came
    recovered: int = 0  # of the late and missing ones: settled by a poll
    expired: int = 0  # of the missing ones: given up

    @property
    def expected(self) -> int:
        """Count all."""
        return self.on_time + self.late + self.missing

    @property
    def received(self) -> int:
        """Count those that came."""
        return self.on_time + self.late

    @property
    def share_missing(self) -> float:
        """Tell which share never came."""
        return self.missing / self.expected if self.expected else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What was learned anew; what had not changed is not among it."""

    expectations: tuple[Expectation, ...] = ()


def learned(samples: Iterable[tuple[str, str, int]], now: datetime) -> Iterator[Expectation]:
    """Learn from tasks, each with its provider, its model and how many microseconds it took."""
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for provider, model, took in samples:
        groups[provider, model].append(took)
    for (provider, model), spans in sorted(groups.items()):
        if len(spans) >= FEWEST:
            spans.sort()
            yield Expectation(
                provider=provider,
                model=model,
                count=len(spans),
                median=_rank(spans, 0.5),
                p95=_rank(spans, 0.95),
                learned_at=now,
            )


def _rank(spans: list[int], share: float) -> timedelta:
    """Give the shortest span that so large a share does not exceed; `spans` is sorted."""
    return spans[math.ceil(share * len(spans)) - 1] * MICROSECOND

"""Asking and pushing in virtual time: hours of polling in a moment. Called by `notice`.

The schedule is `ringback.retry.poll_delay` itself and the deadline `push_delay`; the poller is a model of ours: it
looks once a second, asks the most overdue first, and so many at once as a real one. An answer takes a fixed time.
"""

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from bench.latency import percentile
from ringback.retry import poll_delay, push_delay
from ringback.settings import Settings

MEDIAN_SECONDS, SPREAD = 120.0, 0.6  # log-normal: nineteen of twenty tasks take up to 5.4 minutes
ACCEPTED_WITHIN = 60.0
AT_ONCE = Settings().provider_concurrency
ANSWER_SECONDS = 0.1  # a question to a provider far away
FLOOR_SECONDS = Settings().push_deadline_seconds
SLOWEST_AFTER_PUSH = 60.0  # as in submitter.asking
LOST = 0.05
SEEDS = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One task of a simulation, in seconds; `pushed` tells whether its push comes."""

    accepted: float
    ended: float
    pushed: bool = False


@dataclass(slots=True, kw_only=True)
class Notice:
    """How long after each task's end its handler began, and how many questions were asked in all."""

    seconds: list[float] = field(default_factory=list)
    requests: int = 0

    @property
    def per_task(self) -> float:
        """Give the questions per task."""
        return self.requests / len(self.seconds)


def lives(count: int, seed: int, lost: float | None = None) -> list[Life]:
    """Make tasks of some minutes that are accepted within one; without `lost` none is ever pushed."""
    chance = random.Random(seed)  # noqa: S311
    made = []
    for _ in range(count):
        accepted = chance.uniform(0, ACCEPTED_WITHIN)
        ended = accepted + chance.lognormvariate(math.log(MEDIAN_SECONDS), SPREAD)
        made.append(Life(accepted=accepted, ended=ended, pushed=lost is not None and chance.random() >= lost))
    return made


def simulate(
    tasks: Sequence[Life],
    first: float,
    wait: Callable[[float], float],
    *,
    answer_seconds: float = ANSWER_SECONDS,
    push_seconds: float = 0.0,
) -> Notice:
    """Let one poller ask about all of them: most overdue first, so many at once, looking once a second.

    Args:
        tasks: what there is.
        first: after how many seconds a task is asked about first.
        wait: how long until the next question, by the task's age in seconds.
        answer_seconds: how long an answer takes.
        push_seconds: from a push to its handler.
    """
    notice = Notice()
    due = [(task.accepted + first, number) for number, task in enumerate(tasks)]
    heapq.heapify(due)
    slots = [0.0] * AT_ONCE
    while due:
        at, number = heapq.heappop(due)
        task, begun = tasks[number], max(slots[0], math.ceil(at))
        if task.pushed and task.ended <= begun:
            notice.seconds.append(push_seconds)
            continue
        answered = begun + answer_seconds
        heapq.heapreplace(slots, answered)
        notice.requests += 1
        if task.ended <= begun:
            notice.seconds.append(answered - task.ended)
        else:
            heapq.heappush(due, (answered + wait(answered - task.accepted), number))
    return notice


def seeds_delay(age_seconds: float) -> float:
    """Give the wait of the seed's schedule."""
    return poll_delay(timedelta(seconds=age_seconds)).total_seconds()


def overdue_delay(age_seconds: float) -> float:
    """Give the wait after the first question about a task whose push is overdue."""
    return max(seeds_delay(age_seconds), SLOWEST_AFTER_PUSH)


def deadline(tasks: Sequence[Life]) -> float:
    """Give when such tasks are asked about first, once enough of them are known."""
    spans = [task.ended - task.accepted for task in tasks]
    median, p95 = (timedelta(seconds=percentile(spans, share)) for share in (0.5, 0.95))
    return push_delay(median, p95, timedelta(seconds=FLOOR_SECONDS), timedelta(hours=24)).total_seconds()


def alike(count: int, seed: int, spans: tuple[float, float]) -> list[Life]:
    """Make tasks as the sandbox does: accepted at once, and of any length between two."""
    chance = random.Random(seed)  # noqa: S311
    return [Life(accepted=0.0, ended=chance.uniform(*spans)) for _ in range(count)]


def polled_alike(count: int, spans: tuple[float, float]) -> Notice:
    """Simulate polling of such tasks, where an answer takes no time to speak of."""
    runs = [simulate(alike(count, seed, spans), seeds_delay(0), seeds_delay, answer_seconds=0.01) for seed in SEEDS]
    return _together(runs)


def polled(count: int) -> Notice:
    """Simulate polling; all seeds together."""
    return _together([simulate(lives(count, seed), seeds_delay(0), seeds_delay) for seed in SEEDS])


def pushed_with_loss(count: int, push_seconds: float) -> Notice:
    """Simulate pushes of which one in twenty is lost."""
    runs = []
    for seed in SEEDS:
        tasks = lives(count, seed, LOST)
        runs.append(simulate(tasks, deadline(tasks), overdue_delay, push_seconds=push_seconds))
    return _together(runs)


def _together(runs: Sequence[Notice]) -> Notice:
    seconds = [one for run in runs for one in run.seconds]
    return Notice(seconds=seconds, requests=sum(run.requests for run in runs))

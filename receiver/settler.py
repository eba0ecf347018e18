"""Ended attempts on their way into the ledger: judged by `lifecycle`, handed over in batches, told to the log.

Never loses one: what could not be stored stays in hand. Called by `worker` alone.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from receiver.attempt import Ended
from ringback import lifecycle
from ringback.ledger import Settled, Work
from ringback.model import DeliveryState, Outcome
from ringback.retry import Policy

BATCH = 500

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closed:
    settled: Settled
    fields: dict[str, Any]  # the ids for the log line, written once it is stored


class Settler:
    """Collects how attempts ended and stores it. `len()` is how many still wait."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._waiting: list[_Closed] = []
        self.ended = 0  # how many were stored and were current

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Work, policy: Policy, ended: Ended, fields: dict[str, Any]) -> None:
        """Judge an ended attempt and keep it until it is stored."""
        now = self._clock()
        chance = random.random()  # noqa: S311 -- spreads retries, guards nothing
        what = lifecycle.settle(work.delivery.attempts, ended.outcome, policy, now, chance, after=ended.after)
        settled = Settled(
            attempt=work.attempt,
            outcome=ended.outcome,
            state=what.state,
            due_at=what.due_at,
            counted=what.counted,
            finished_at=now,
            error=ended.error,
            traceback=ended.traceback,
        )
        self._waiting.append(_Closed(settled=settled, fields=fields))

    def batch(self) -> Sequence[Settled]:
        """Give the oldest of those that wait, no more than can be stored at once; they go on waiting."""
        return [closed.settled for closed in self._waiting[:BATCH]]

    def stored(self, current: Sequence[bool]) -> None:
        """Take note that the last batch was stored, each with whether it still was the current one."""
        batch = self._waiting[: len(current)]
        del self._waiting[: len(current)]
        self.ended += sum(current)
        for closed, applied in zip(batch, current, strict=True):
            _tell(closed.settled, closed.fields, applied)


def _tell(settled: Settled, fields: dict[str, Any], applied: bool) -> None:
    due = settled.due_at.isoformat() if settled.due_at else None
    if not applied:
        # Somebody else has the delivery by now: this worker was presumed dead.
        log.warning("delivery.late", outcome=settled.outcome.value, **fields)
    elif settled.state is DeliveryState.SUCCEEDED:
        log.info("delivery.succeeded", **fields)
    elif settled.outcome is Outcome.DISCARDED:
        log.warning("delivery.discarded", reason=settled.error, **fields)  # as its handler chose: nothing is wrong
    elif settled.state is DeliveryState.DISCARDED:
        log.error("delivery.discarded", error=settled.error, **fields)
    elif settled.outcome is Outcome.RELEASED:
        log.info("delivery.released", **fields)
    elif settled.outcome is Outcome.SNOOZED:
        log.info("delivery.snoozed", due=due, **fields)
    else:
        log.warning("delivery.failed", error=settled.error, outcome=settled.outcome.value, due=due, **fields)

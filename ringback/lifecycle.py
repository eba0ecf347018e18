"""PURE. Which state may follow which: the one place where a task, an event or a delivery changes its mind.

The tables at the top are the truth; docs/reference/lifecycle.md is tested against them. Called by `ledger.fold` for
every fact that arrives, by `receiver.settler` for every attempt that ends, and by the ledger for those that lapse.
"""

from datetime import datetime, timedelta
from typing import assert_never

from msgspec import Struct

from ringback.model import DeliveryState, Outcome, Source, Standing, TaskState
from ringback.retry import Policy

RANK = {
    TaskState.PENDING: 0,
    TaskState.SUBMITTED: 1,
    TaskState.PROCESSING: 2,
    TaskState.COMPLETED: 3,
    TaskState.FAILED: 3,
    TaskState.CANCELLED: 3,
    TaskState.EXPIRED: 3,
}
TERMINAL = frozenset(state for state, rank in RANK.items() if rank == 3)


class Advance(Struct, frozen=True, kw_only=True):
    """What a fact does to a task: its state afterwards, who settled it, and what the fact's event counts for."""

    state: TaskState
    settled_by: Source | None
    standing: Standing


def is_terminal(state: TaskState) -> bool:
    """Tell whether a task in this state is finished."""
    return state in TERMINAL


def is_presumed(state: TaskState, settled_by: Source | None) -> bool:
    """Tell whether a final state is only our guess, which the provider's word replaces."""
    return state in TERMINAL and settled_by is Source.RINGBACK


def is_news(state: TaskState, status: TaskState) -> bool:
    """Tell whether the provider cannot have said this of the task before.

    Whatever it said before the task settled, the task has come at least as far; only what comes after that is kept
    without moving it. So a task's row has to live as long as the keys of its facts.
    """
    return RANK[status] > RANK[state]


def advance(state: TaskState, settled_by: Source | None, status: TaskState, source: Source) -> Advance:
    """Apply one fact to a task.

    States only move forward. Between two statements of the provider the first final one wins; a guess of ours
    never replaces anything final, and is replaced by the provider's final word.
    """
    settled = state in TERMINAL
    if status not in TERMINAL:
        if settled:
            return Advance(state=state, settled_by=settled_by, standing=Standing.LATE)
        ahead = status if RANK[status] > RANK[state] else state
        return Advance(state=ahead, settled_by=None, standing=Standing.ACCEPTED)
    if not settled:
        return Advance(state=status, settled_by=source, standing=Standing.ACCEPTED)
    if is_presumed(state, settled_by) and source is not Source.RINGBACK:
        return Advance(state=status, settled_by=source, standing=Standing.ACCEPTED)
    if source is Source.RINGBACK:
        return Advance(state=state, settled_by=settled_by, standing=Standing.LATE)
    standing = Standing.ACCEPTED if status is state else Standing.CONTRADICTED
    return Advance(state=state, settled_by=settled_by, standing=standing)


class Settlement(Struct, frozen=True, kw_only=True):
    """What an attempt's end does to its delivery."""

    state: DeliveryState
    due_at: datetime | None  # set only while pending: when to try again
    counted: bool  # whether the attempt counts towards the limit


def runs_alone(lapses: int) -> bool:
    """Tell whether nothing else may run in a worker beside this delivery.

    Several may have run in the one that died, and nobody knows which of them was at fault; once it has run alone, a
    further death is its own.
    """
    return lapses > 0


def settle(
    attempts: int,
    outcome: Outcome,
    policy: Policy,
    now: datetime,
    chance: float,
    *,
    after: timedelta | None = None,
    lapses: int = 0,
) -> Settlement:
    """Decide what follows an attempt.

    Args:
        attempts: those that count, with this one.
        outcome: how it ended.
        policy: how often and when it is tried again.
        now: when it ended.
        chance: in [0, 1), spreads retries.
        after: what the handler asked for, in place of the policy's delay.
        lapses: how many attempts of this delivery had lapsed before this one.
    """
    match outcome:
        case Outcome.SUCCEEDED:
            return Settlement(state=DeliveryState.SUCCEEDED, due_at=None, counted=True)
        case Outcome.DISCARDED:
            return Settlement(state=DeliveryState.DISCARDED, due_at=None, counted=True)
        case Outcome.RELEASED:
            return _again(now, counted=False)
        case Outcome.SNOOZED:
            return _again(now + (after or timedelta(0)), counted=False)
        case Outcome.LAPSED:
            # The first may not even have begun, and if it did, a neighbour may have killed the process.
            if not runs_alone(lapses):
                return _again(now, counted=False)
            wait = timedelta(0)
        case Outcome.FAILED | Outcome.TIMED_OUT:
            wait = policy.delay(attempts, chance) if after is None else after
        case _ as unreachable:
            assert_never(unreachable)
    if attempts >= policy.attempts:
        return Settlement(state=DeliveryState.DISCARDED, due_at=None, counted=True)
    return _again(now + wait, counted=True)


def _again(due_at: datetime, *, counted: bool) -> Settlement:
    return Settlement(state=DeliveryState.PENDING, due_at=due_at, counted=counted)

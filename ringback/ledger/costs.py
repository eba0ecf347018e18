"""PURE. What tasks cost: what `OperatorLedger.report` is asked, and what it answers. Whole micro-dollars, no floats.

Sums over sums are made here, so that every view of the same costs comes to the same total.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from enum import StrEnum
from typing import Self

from ringback.model import TaskState

ROUNDING = 10  # a provider that charges in units of its own may differ by so many micro-dollars without a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Ask what the tasks of a time cost, by day, provider, model and state; `newest` asks for single tasks instead."""

    since: datetime | None = None
    until: datetime | None = None  # not included
    provider: str | None = None
    newest: int | None = None  # so many at most, newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Ask what counts against the budgets now: of this day and of this month, both UTC."""

    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """Ask the same where a little less will do: what was counted before is added to, as long as it is of this day.

    A task that came out otherwise than expected since then is missed, until `base` is left out.
    """

    now: datetime
    base: "Counted | None" = None  # a count of before; None: count everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """Ask for tasks that settled within this time and were charged otherwise than expected, oldest first."""

    since: datetime
    until: datetime  # not included
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What tasks came to: spent = expected - refunded + difference + unexpected.

    What was spent is what the provider says it charged; else nothing for a task that it ended without a result; else
    what was expected, also while a task is open or its end is only presumed.
    """

    tasks: int = 0
    expected: int = 0
    charged: int = 0  # as the providers say
    refunded: int = 0  # of what was expected: of tasks that failed, or were cancelled or refused
    difference: int = 0  # charged beyond what was expected, or below it, of tasks that were not refunded
    unexpected: int = 0  # charged for tasks that had no price, such as those known from callbacks only
    spent: int = 0
    told: int = 0  # tasks whose charge the provider says
    differing: int = 0  # tasks with a difference that is more than rounding
    unknown: int = 0  # tasks of which neither a price nor a charge is known
    assumed: int = 0  # of the refunded: what no answer of the provider confirms

    def __add__(self, other: Self) -> Self:
        return type(self)(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What some tasks cost that have all of this in common; or one task, where `task_id` is set."""

    day: date  # of their submission, UTC
    provider: str
    model: str | None  # None: known from a callback only, or pruned
    state: TaskState
    task_id: str | None = None
    sums: Sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What counts against the budgets: what was spent, and what open tasks are expected to cost."""

    day: int = 0
    month: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What was spent at a moment, by all tasks up to one."""

    at: datetime
    seq: int
    id: str
    spent: Spent


class By(StrEnum):
    """What costs can be put together by."""

    DAY = "day"
    PROVIDER = "provider"
    MODEL = "model"
    TASK = "task"


KEYS: Mapping[By, Callable[[Cost], str]] = {
    By.DAY: lambda cost: cost.day.isoformat(),
    By.PROVIDER: lambda cost: cost.provider,
    By.MODEL: lambda cost: cost.model or "-",
    By.TASK: lambda cost: cost.task_id or "-",
}


def grouped(costs: Iterable[Cost], by: By) -> dict[str, Sums]:
    """Put costs together, in the order in which their keys first come."""
    found: dict[str, Sums] = {}
    for cost in costs:
        key = KEYS[by](cost)
        found[key] = found.get(key, Sums()) + cost.sums
    return found


def total(costs: Iterable[Cost]) -> Sums:
    """Put all costs together."""
    return sum((cost.sums for cost in costs), Sums())

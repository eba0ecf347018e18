"""PURE. What may be spent in a day and in a month, and when a further task is too much. Amounts are micro-dollars.

Days and months are UTC. A task counts on the day and in the month of its submission, whenever it ends. Called by every
engine inside the transaction that stores a task.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from ringback.errors import BudgetExceeded
from ringback.ledger.costs import Spent
from ringback.model import Task
from ringback.settings import Settings, variable_name

MICRODOLLARS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent at most; None: as much as you like."""

    daily: int | None = None
    monthly: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A day and the month that it belongs to, UTC; each ends where the next one begins."""

    day: datetime
    next_day: datetime
    month: datetime
    next_month: datetime

    @classmethod
    def of(cls, now: datetime) -> "Period":
        """Give those of a moment, which is in UTC."""
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        month = day.replace(day=1)
        following = (month + timedelta(days=31)).replace(day=1)
        return cls(day=day, next_day=day + timedelta(days=1), month=month, next_month=following)


def budget_of(settings: Settings) -> Budget | None:
    """Read the budgets from the settings; None where there are none."""
    daily, monthly = (_whole(usd) for usd in (settings.budget_daily_usd, settings.budget_monthly_usd))
    return None if daily is None and monthly is None else Budget(daily=daily, monthly=monthly)


def judge(task: Task, budget: Budget, spent: Spent) -> BudgetExceeded | None:
    """Tell why a new task is too much, by the first budget that is in its way; None where it is not."""
    period = Period.of(task.created_at)
    limits = (
        ("daily", budget.daily, spent.day, period.next_day),
        ("monthly", budget.monthly, spent.month, period.next_month),
    )
    for name, limit, used, ends in limits:
        if limit is None:
            continue
        setting = variable_name((None, f"budget_{name}_usd"))
        if task.price_microdollars is None:
            return BudgetExceeded(
                f"{task.provider}: no price is known, so the {name} budget of {usd(limit)} ({setting}) cannot be kept: "
                f"set {variable_name((task.provider, 'usd_per_second'))} and give a duration, where the provider is "
                "priced by the second; else it cannot be submitted while there is a budget",
                **_facts(name, limit, used, None, ends, setting),
            )
        if used + task.price_microdollars > limit:
            return BudgetExceeded(
                f"{task.provider}: this would cost {usd(task.price_microdollars)}, and {usd(used)} of the {name} "
                f"budget of {usd(limit)} ({setting}) is spent or promised to open tasks; "
                f"it begins anew at {ends:%Y-%m-%d %H:%M} UTC",
                **_facts(name, limit, used, task.price_microdollars, ends, setting),
            )
    return None


def usd(micro: int) -> str:
    """Write an amount exactly, without needless zeros."""
    return f"{'-' if micro < 0 else ''}${(Decimal(abs(micro)) / MICRODOLLARS).normalize():f}"


def _whole(dollars: Decimal | None) -> int | None:
    return None if dollars is None else int((dollars * MICRODOLLARS).to_integral_value(ROUND_FLOOR))


def _facts(period: str, limit: int, spent: int, price: int | None, resets_at: datetime, setting: str) -> dict[str, Any]:
    amounts = {"budget_microdollars": limit, "spent_microdollars": spent, "price_microdollars": price}
    return {"period": period, "resets_at": resets_at, "setting": setting, **amounts}

"""How money looks, and what `status` and `tasks show` say of it."""

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from ringback.model import Source, Task, TaskState
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Ledger, Spent

MICRODOLLARS = 1_000_000
CENTS = Decimal("0.01")


def decimal_usd(micro: int) -> Decimal:
    """Give an amount in dollars, exactly: to the cent, or to as many places more as it needs."""
    exact = Decimal(micro) / MICRODOLLARS
    return max(exact.normalize(), exact.quantize(CENTS), key=lambda number: -int(number.as_tuple().exponent))


def amount(micro: int, *, signed: bool = False) -> str:
    """Write an amount: "$0.50", "$0.044625", and "+$0.01" where it is a difference."""
    sign = "-" if micro < 0 else "+" if signed and micro else ""
    return f"{sign}${abs(decimal_usd(micro)):,f}"


async def ask(ledger: "Ledger", now: datetime) -> "Spent":
    """Ask the ledger what counts against the budgets."""
    from ringback.ledger import Spending

    return await ledger.report(Spending(now=now))


def shape(spent: "Spent", settings: Settings) -> dict[str, Any]:
    """Give it for programs."""
    from ringback.ledger import Budget, budget_of

    budget = budget_of(settings) or Budget()
    return {
        "spent": {
            "day_microdollars": spent.day,
            "daily_budget_microdollars": budget.daily,
            "month_microdollars": spent.month,
            "monthly_budget_microdollars": budget.monthly,
        }
    }


def print_spent(spent: "Spent", settings: Settings) -> None:
    """Print it for people."""
    from ringback.cli.show import print_fields
    from ringback.ledger import Budget, budget_of

    budget = budget_of(settings) or Budget()
    click.echo()
    print_fields(
        [("spent today (UTC)", _of(spent.day, budget.daily)), ("spent this month", _of(spent.month, budget.monthly))]
    )


def _of(spent: int, limit: int | None) -> str:
    if limit is None:
        return amount(spent)
    share = f" ({spent * 100 // limit} %)" if limit else ""
    return f"{amount(spent)} of {amount(limit)}{share}"


def charged_text(task: Task) -> str | None:
    """Tell what a task was charged, and how that differs from what was expected; None while nobody knows."""
    charged, price = task.charged_microdollars, task.price_microdollars
    if charged is None:
        ended = task.state in (TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED)
        if not ended or task.settled_by is Source.RINGBACK:
            return None
        return "nothing: the provider's answer does not say, so this is assumed" if task.provider_id else "nothing"
    if price is None or price == charged:
        return amount(charged)
    return f"{amount(charged)} ({amount(abs(charged - price))} {'more' if charged > price else 'less'} than expected)"

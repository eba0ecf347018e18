"""What tasks cost, and whether a budget has room for a further one.

A budget is judged inside the transaction that stores the task. There a whole month is never summed up: what was counted
a little while ago, outside of any transaction, is remembered, and the tasks that were added since are summed up.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from typing import Any

from ringback.errors import BudgetExceeded
from ringback.ledger.budgets import Budget, Period, judge
from ringback.ledger.costs import ROUNDING, Cost, Costs, Counted, Differing, Recount, Spending, Spent, Sums
from ringback.ledger.queries import load
from ringback.ledger.sqlite import rows
from ringback.ledger.sqlite.snapshot import snapshot
from ringback.model import Task, TaskState, microseconds

SQL = load("sqlite/costs.sql")
COUNT_LIFE = timedelta(minutes=1)  # then charges above what was expected are noticed
SUMMED = tuple(field.name for field in fields(Sums))

Wish = tuple[Task, Budget | None]  # a task to be stored, and the budget that it must fit into


class Till:
    """The last count. Set by whoever counted, in the event loop or in the writer's thread: each count is as good."""

    def __init__(self) -> None:
        self.counted: Counted | None = None

    def serves(self, now: datetime) -> bool:
        """Tell whether a task may be judged by the last count."""
        return self.counted is not None and _serves(self.counted, now)

    def spent(self, db: sqlite3.Connection, now: datetime) -> Spent:
        """Tell what is spent, inside the transaction, and remember it.

        What was given back since the count is missed, which can only refuse too much: then it is counted anew.
        """
        last = self.counted
        if last is None or not _serves(last, now) or not _is_there(db, last):
            self.counted = count(db, now)
            return self.counted.spent
        spent = _added_to(db, last, now)
        seq, name = _newest(db)
        self.counted = Counted(at=last.at, seq=seq, id=name, spent=spent)
        return spent

    def refusals(self, db: sqlite3.Connection, wishes: Sequence[Wish], taken: set[str]) -> dict[int, BudgetExceeded]:
        """Tell which tasks are too much, by their place; those before each of them in the batch count.

        `taken` are the keys that have a task: what comes under one of them again costs nothing.
        """
        refused: dict[int, BudgetExceeded] = {}
        stored: dict[datetime, Spent] = {}  # by day
        days, months = Counter[datetime](), Counter[datetime]()  # what this batch adds
        keys = set(taken)
        for place, (task, budget) in enumerate(wishes):
            if task.key is not None and task.key in keys:
                continue
            period = Period.of(task.created_at)
            if budget is not None:
                if period.day not in stored:
                    stored[period.day] = self.spent(db, task.created_at)
                before = stored[period.day]
                spent = Spent(day=before.day + days[period.day], month=before.month + months[period.month])
                if (refusal := judge(task, budget, spent)) is not None:
                    refused[place] = refusal
                    continue
            days[period.day] += task.price_microdollars or 0
            months[period.month] += task.price_microdollars or 0
            if task.key is not None:
                keys.add(task.key)
        return refused


def count(db: sqlite3.Connection, now: datetime) -> Counted:
    """Sum up the day and the month, inside a transaction."""
    day, month = db.execute(SQL["spent"], _bounds(now)).fetchone()
    seq, name = _newest(db)
    return Counted(at=now, seq=seq, id=name, spent=Spent(day=day, month=month))


def count_alone(db: sqlite3.Connection, now: datetime) -> Counted:
    """Sum up the day and the month in one snapshot, on the connection that cannot write."""
    with snapshot(db):
        return count(db, now)


def spending(db: sqlite3.Connection, ask: Spending) -> Spent:
    """Tell what counts against the budgets now."""
    return count_alone(db, ask.now).spent


def recount(db: sqlite3.Connection, ask: Recount) -> Counted:
    """Tell the same by what was counted before and the tasks that were added since, where that can be."""
    with snapshot(db):
        if ask.base is None or not _is_of_today(ask.base, ask.now) or not _is_there(db, ask.base):
            return count(db, ask.now)
        return replace(ask.base, spent=_added_to(db, ask.base, ask.now))


def costs(db: sqlite3.Connection, ask: Costs) -> list[Cost]:
    """Tell what the tasks of a time cost."""
    wanted = {
        "since": rows.micros(ask.since),
        "until": rows.micros(ask.until),
        "provider": ask.provider,
        "rounding": ROUNDING,
        "limit": ask.newest,
    }
    found = db.execute(SQL["costs"] if ask.newest is None else SQL["costs_of_tasks"], wanted)
    found.row_factory = sqlite3.Row
    return [_cost(row) for row in found]


def differing(db: sqlite3.Connection, ask: Differing) -> list[Task]:
    """List tasks that settled lately and were charged otherwise than expected."""
    bounds = {"since": microseconds(ask.since), "until": microseconds(ask.until)}
    found = db.execute(SQL["differing"], {**bounds, "rounding": ROUNDING, "limit": ask.limit})
    found.row_factory = sqlite3.Row
    return [rows.task(row) for row in found]


def _cost(row: sqlite3.Row) -> Cost:
    return Cost(
        day=date.fromisoformat(row["day"]),
        provider=row["provider"],
        model=row["model"],
        state=TaskState(row["state"]),
        task_id=row["task_id"],
        sums=Sums(**{name: row[name] or 0 for name in SUMMED}),
    )


def _serves(counted: Counted, now: datetime) -> bool:
    """Tell whether a task may be judged by it: it is of the same day, and not too old."""
    return _is_of_today(counted, now) and abs(now - counted.at) < COUNT_LIFE


def _is_of_today(counted: Counted, now: datetime) -> bool:
    return Period.of(counted.at) == Period.of(now)


def _added_to(db: sqlite3.Connection, counted: Counted, now: datetime) -> Spent:
    """Add what the tasks come to that were added since a count."""
    day, month = db.execute(SQL["spent_since"], _bounds(now) | {"seq": counted.seq}).fetchone()
    return Spent(day=counted.spent.day + day, month=counted.spent.month + month)


def _is_there(db: sqlite3.Connection, counted: Counted) -> bool:
    """Tell whether no row can have been put where a counted one was: the last one may go when a task is adopted."""
    return (
        counted.seq == 0
        or db.execute(SQL["still_there"], {"seq": counted.seq, "id": counted.id}).fetchone() is not None
    )


def _newest(db: sqlite3.Connection) -> tuple[int, str]:
    return db.execute(SQL["newest"]).fetchone() or (0, "")


def _bounds(now: datetime) -> dict[str, Any]:
    """Give the day and the month as the beginnings of our ids."""
    period = Period.of(now)
    return {field.name: f"task_{microseconds(getattr(period, field.name)) // 1000:012x}" for field in fields(Period)}

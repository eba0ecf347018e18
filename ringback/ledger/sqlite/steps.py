"""Steps: recorded as batches behind the fence, and read for claims and for people."""

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from ringback.ledger.protocol import DoneStep
from ringback.ledger.queries import load
from ringback.ledger.sqlite import rows
from ringback.model import Attempt, microseconds

SQL = load("sqlite/steps.sql")


def finish(db: sqlite3.Connection, done: Sequence[tuple[Attempt, str, datetime]]) -> Sequence[bool]:
    """Record steps of attempts; inside the writer's transaction."""
    data = rows.parameter([[attempt.delivery_id, attempt.id, name, microseconds(now)] for attempt, name, now in done])
    db.execute(SQL["finish_steps"], {"rows": data})
    current = {row[0] for row in db.execute(SQL["current_attempts"], {"rows": data})}
    return [attempt.id in current for attempt, _, _ in done]


def done_before(db: sqlite3.Connection, deliveries: Sequence[int]) -> Mapping[str, frozenset[str]]:
    """Give the names of the done steps of claimed deliveries, by their ids."""
    found: dict[str, set[str]] = defaultdict(set)
    for delivery_id, name in db.execute(SQL["claimed_steps"], {"deliveries": rows.text(deliveries)}):
        found[delivery_id].add(name)
    return {delivery_id: frozenset(names) for delivery_id, names in found.items()}


def of_deliveries(db: sqlite3.Connection, ids: Sequence[str]) -> Mapping[str, tuple[DoneStep, ...]]:
    """Give the done steps of deliveries by their ids, oldest first."""
    cursor = db.execute(SQL["steps_of_deliveries"], {"ids": rows.text(ids)})
    cursor.row_factory = sqlite3.Row
    found: dict[str, tuple[DoneStep, ...]] = {}
    for row in cursor:
        found[row["delivery_id"]] = (*found.get(row["delivery_id"], ()), rows.step(row))
    return found

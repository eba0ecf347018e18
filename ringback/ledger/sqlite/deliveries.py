"""Fanning out, claiming and settling, as batches; each function runs inside the writer's transaction."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from ringback.errors import NotFound
from ringback.ledger.protocol import Pattern, Process, Settled, Work
from ringback.ledger.queries import load
from ringback.ledger.sqlite import rows
from ringback.model import Delivery, microseconds

SQL = load("sqlite/deliveries.sql")

Claim = tuple[Process, Mapping[str, int], datetime, int]


def register(
    db: sqlite3.Connection, registrations: Sequence[tuple[Mapping[str, Sequence[Pattern]], datetime]]
) -> Sequence[None]:
    """Upsert handlers."""
    data = [
        [name, rows.text(patterns), microseconds(now)]
        for handlers, now in registrations
        for name, patterns in handlers.items()
    ]
    db.execute(SQL["upsert_handlers"], {"rows": rows.text(data)})
    return [None] * len(registrations)


def fan_out(db: sqlite3.Connection, wishes: Sequence[tuple[datetime, int]]) -> Sequence[int]:
    """Write the deliveries of waiting events. Several wishes in one batch are one: the first gets the count."""
    now, limit = wishes[0]
    events = [row[0] for row in db.execute(SQL["waiting_events"], {"now": microseconds(now), "limit": limit})]
    if events:
        parameters = {"now": microseconds(now), "events": rows.text(events)}
        db.execute(SQL["insert_deliveries"], parameters)
        db.execute(SQL["mark_fanned_out"], parameters)
    return [len(events)] + [0] * (len(wishes) - 1)


def claim(db: sqlite3.Connection, claims: Sequence[Claim]) -> Sequence[Sequence[Work]]:
    """Take due deliveries, each claimer what it asked for."""
    return [_claim(db, *one) for one in claims]


def _claim(
    db: sqlite3.Connection, process: Process, handlers: Mapping[str, int], now: datetime, limit: int
) -> list[Work]:
    due: list[tuple[int, int]] = []
    for handler, most in handlers.items():
        if (room := min(most, limit)) > 0:
            parameters = {"now": microseconds(now), "handler": handler, "limit": room}
            due += db.execute(SQL["due_deliveries"], parameters)
    # Oldest first over all of them: the handler that is asked about first must not starve the others.
    taken = [seq for _, seq in sorted(due)[: max(limit, 0)]]
    if not taken:
        return []
    names = {"deliveries": rows.text(taken), "now": microseconds(now)}
    db.execute(SQL["claim_deliveries"], names | {"worker": process.id})
    db.execute(SQL["open_attempts"], names)
    return _works(db, names)


def _works(db: sqlite3.Connection, names: Mapping[str, object]) -> list[Work]:
    attempts = {row["delivery_id"]: rows.attempt(row) for row in _rows(db, "claimed_attempts", names)}
    events = {row["id"]: rows.event(row) for row in _rows(db, "claimed_events", names)}
    tasks = {row["id"]: rows.task(row) for row in _rows(db, "claimed_tasks", names)}
    works = []
    for row in _rows(db, "claimed_deliveries", names):
        delivery = rows.delivery(row)
        event = events[delivery.event_id]
        task = tasks.get(event.task_id) if event.task_id else None
        works.append(Work(delivery=delivery, attempt=attempts[delivery.id], event=event, task=task))
    return works


def _rows(db: sqlite3.Connection, query: str, parameters: Mapping[str, object]) -> Iterable[sqlite3.Row]:
    # Only what a statement names may be bound.
    cursor = db.execute(SQL[query], {key: value for key, value in parameters.items() if f":{key}" in SQL[query]})
    cursor.row_factory = sqlite3.Row
    return cursor


def settle(db: sqlite3.Connection, batches: Sequence[Sequence[Settled]]) -> Sequence[Sequence[bool]]:
    """Close attempts and move their deliveries, behind the fence."""
    data = [_settled(item) for batch in batches for item in batch]
    moved = {row[0] for row in db.execute(SQL["settle_deliveries"], {"rows": rows.text(data)}).fetchall()}
    db.execute(SQL["close_attempts"], {"rows": rows.text(data)})
    return [[item.attempt_id in moved for item in batch] for batch in batches]


def _settled(item: Settled) -> list[object]:
    return [
        item.delivery_id,
        item.attempt_id,
        item.state,
        rows.micros(item.due_at),
        item.counted,
        microseconds(item.finished_at),
        item.error,
        item.outcome,
        item.traceback,
    ]


def beat(db: sqlite3.Connection, beats: Sequence[tuple[Process, datetime, datetime, bool]]) -> Sequence[int]:
    """Note who lives, and hand back what the silent held."""
    return [_beat(db, *one) for one in beats]


def _beat(db: sqlite3.Connection, process: Process, now: datetime, dead_before: datetime, leaving: bool) -> int:
    if leaving:
        db.execute(SQL["forget_process"], {"id": process.id})
    else:
        db.execute(
            SQL["upsert_process"],
            {
                "id": process.id,
                "role": process.role,
                "host": process.host,
                "pid": process.pid,
                "started_at": microseconds(process.started_at),
                "now": microseconds(now),
            },
        )
    dead = {"dead_before": microseconds(dead_before)}
    lapsed = [row[0] for row in db.execute(SQL["lapsed_deliveries"], dead)]
    if lapsed:
        names = {"deliveries": rows.text(lapsed), "now": microseconds(now)}
        db.execute(SQL["lapse_attempts"], names)
        db.execute(SQL["lapse_deliveries"], names)
    db.execute(SQL["forget_dead"], dead)
    return len(lapsed)


def replay(
    db: sqlite3.Connection, wishes: Sequence[tuple[Sequence[str], str, datetime]]
) -> Sequence[Sequence[Delivery] | Exception]:
    """Make new runs of settled deliveries."""
    return [_replay(db, *wish) for wish in wishes]


def _replay(db: sqlite3.Connection, ids: Sequence[str], by: str, now: datetime) -> Sequence[Delivery] | Exception:
    known = {row[0] for row in db.execute(SQL["replay_known"], {"ids": rows.text(ids)})}
    if missing := [name for name in ids if name not in known]:
        return NotFound(f"no delivery {missing[0]}; see: ringback deliveries list")
    made = db.execute(SQL["replay"], {"ids": rows.text(ids), "by": by, "now": microseconds(now)}).fetchall()
    names = {"deliveries": rows.text([row[0] for row in made])}
    return [rows.delivery(row) for row in _rows(db, "claimed_deliveries", names)]

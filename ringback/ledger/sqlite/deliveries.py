"""Fanning out, claiming and settling, as batches; each function runs inside the writer's transaction."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import takewhile

from ringback import lifecycle
from ringback.ledger.protocol import Claimed, Process, Registration, Settled, Work
from ringback.ledger.queries import load
from ringback.ledger.sqlite import rows, steps
from ringback.model import Delivery, DeliveryState, Outcome, microseconds
from ringback.retry import Policy

SQL = load("sqlite/deliveries.sql")

FELL_SILENT = "its worker died or fell silent"

Beat = tuple[Process, datetime, datetime, Mapping[str, Registration], bool]
Claim = tuple[Process, Mapping[str, int], datetime, int, bool]
Due = tuple[int, int, int]  # due_at, seq, lapses


def fan_out(db: sqlite3.Connection, wishes: Sequence[tuple[datetime, int]]) -> Sequence[int]:
    """Write the deliveries of waiting events. Several wishes in one batch are one: the first gets the count."""
    now, limit = wishes[0]
    events = [row[0] for row in db.execute(SQL["waiting_events"], {"now": microseconds(now), "limit": limit})]
    if events:
        parameters = {"now": microseconds(now), "events": rows.text(events)}
        db.execute(SQL["insert_deliveries"], parameters)
        db.execute(SQL["mark_fanned_out"], parameters)
    return [len(events)] + [0] * (len(wishes) - 1)


def claim(db: sqlite3.Connection, claims: Sequence[Claim]) -> Sequence[Claimed]:
    """Take due deliveries, each claimer what it asked for."""
    return [_claim(db, *one) for one in claims]


def _claim(
    db: sqlite3.Connection, process: Process, handlers: Mapping[str, int], now: datetime, limit: int, idle: bool
) -> Claimed:
    waiting: list[Due] = []
    for handler, most in handlers.items():
        if (room := min(most, limit)) > 0:
            waiting += db.execute(SQL["next_deliveries"], {"handler": handler, "limit": room})
    # Oldest first over all of them: the handler that is asked about first must not starve the others.
    waiting.sort()
    due = [one for one in waiting if one[0] <= microseconds(now)]
    taken = [seq for _, seq, _ in _together(due[: max(limit, 0)], idle)]
    if not taken:
        return Claimed(next_due_at=_next_due(db, waiting))
    names = {"deliveries": rows.text(taken), "now": microseconds(now)}
    db.execute(SQL["claim_deliveries"], names | {"worker": process.id})
    db.execute(SQL["open_attempts"], names)
    return Claimed(works=_works(db, names))


def _together(due: Sequence[Due], idle: bool) -> Sequence[Due]:
    """Choose what may run side by side: all before the first that must run alone, or that one where it comes first.

    What is due after it waits too: else a busy worker would never be idle, and the lapsed one never run.
    """
    ahead = list(takewhile(lambda one: not lifecycle.runs_alone(one[2]), due))
    return due[:1] if idle and not ahead else ahead


def _next_due(db: sqlite3.Connection, waiting: Sequence[Due]) -> datetime | None:
    moments = [due_at for due_at, _, _ in waiting[:1]]
    moments += [row[0] for row in db.execute(SQL["next_event"]) if row[0] is not None]
    return rows.when(min(moments, default=None))


def _works(db: sqlite3.Connection, names: Mapping[str, object]) -> list[Work]:
    attempts = {row["delivery_id"]: rows.attempt(row) for row in _rows(db, "claimed_attempts", names)}
    events = {row["id"]: rows.event(row) for row in _rows(db, "claimed_events", names)}
    tasks = {row["id"]: rows.task(row) for row in _rows(db, "claimed_tasks", names)}
    deliveries = {row["seq"]: rows.delivery(row) for row in _rows(db, "claimed_deliveries", names)}
    # A delivery's first attempt in its first run has nothing behind it: the usual claim is spared a query.
    again = [seq for seq, owed in deliveries.items() if owed.run > 1 or attempts[owed.id].number > 1]
    done = steps.done_before(db, again) if again else {}
    works = []
    for delivery in deliveries.values():
        event = events[delivery.event_id]
        works.append(
            Work(
                delivery=delivery,
                attempt=attempts[delivery.id],
                event=event,
                task=tasks.get(event.task_id) if event.task_id else None,
                steps=done.get(delivery.id, frozenset()),
            )
        )
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


def beat(db: sqlite3.Connection, beats: Sequence[Beat]) -> Sequence[Sequence[Delivery]]:
    """Note who lives and what it has code for, and take from the silent what they hold."""
    return [_beat(db, *one) for one in beats]


def _beat(
    db: sqlite3.Connection,
    process: Process,
    now: datetime,
    dead_before: datetime,
    handlers: Mapping[str, Registration],
    leaving: bool,
) -> Sequence[Delivery]:
    if leaving:
        db.execute(SQL["forget_process"], {"id": process.id})
    else:
        values = {name: getattr(process, name) for name in ("id", "role", "host", "pid")}
        times = {"started_at": microseconds(process.started_at), "now": microseconds(now)}
        db.execute(SQL["upsert_process"], values | times)
    if handlers:
        data = [[name, rows.text(found.patterns), found.attempts] for name, found in handlers.items()]
        db.execute(SQL["upsert_handlers"], {"rows": rows.text(data), "now": microseconds(now)})
    dead = {"dead_before": microseconds(dead_before)}
    lapsed = db.execute(SQL["lapsed_deliveries"], dead).fetchall()
    if lapsed:
        _lapse(db, lapsed, now)
    db.execute(SQL["forget_dead"], dead)
    names = {"deliveries": rows.text([row[0] for row in lapsed])}
    return [rows.delivery(row) for row in _rows(db, "claimed_deliveries", names)] if lapsed else []


def _lapse(db: sqlite3.Connection, lapsed: Sequence[tuple[int, int, int, int | None]], now: datetime) -> None:
    """Close the attempts of these deliveries (seq, attempts, lapses, how many attempts are allowed)."""
    data = []
    for seq, attempts, lapses, most in lapsed:
        policy = Policy() if most is None else Policy(attempts=most)
        what = lifecycle.settle(attempts, Outcome.LAPSED, policy, now, 0.0, lapses=lapses)
        given_up = what.state is DeliveryState.DISCARDED
        reason = f"given up: {FELL_SILENT} {lapses + 1} times" if given_up else FELL_SILENT
        data.append([seq, what.state, rows.micros(what.due_at), what.counted, reason])
    names = {"rows": rows.text(data), "now": microseconds(now)}
    db.execute(SQL["lapse_attempts"], names | {"error": FELL_SILENT})
    db.execute(SQL["lapse_deliveries"], names)

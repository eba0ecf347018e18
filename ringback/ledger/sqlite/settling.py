"""How attempts end: settled by their worker behind the fence, or taken from one that fell silent.

Called by `turn` and, for heartbeats, by the ledger and `heart`; each function runs inside a transaction.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ringback import lifecycle
from ringback.ledger.queries import chunks, execute_many, load
from ringback.ledger.results import STORE_RESULTS
from ringback.ledger.sqlite import results, rows
from ringback.ledger.turns import Process, Registration, Settled
from ringback.model import Delivery, DeliveryState, Outcome, microseconds
from ringback.retry import Policy

SQL = load("sqlite/settling.sql")

FELL_SILENT = "its worker died or fell silent"

Beat = tuple[Process, datetime, datetime, Mapping[str, Registration], bool]


def settle(db: sqlite3.Connection, settled: Sequence[Settled]) -> tuple[bool, ...]:
    """Close attempts and move their deliveries; False for each that no longer was the current one."""
    if not settled:
        return ()
    ends = {item.attempt.id: _end(item) for item in settled}
    moved: set[str] = set()
    closed: list[tuple[Any, ...]] = []  # attempts that are not written yet
    keys: set[tuple[str, str]] = set()
    storing: dict[str, int] = {}  # events by the attempts that stored their results
    handlers: set[str] = set()
    for statement, values in chunks(db, SQL["settle_deliveries"], list(ends.values())):
        for seq, attempt, handler, key, event_seq, number in db.execute(statement, values).fetchall():
            moved.add(attempt)
            if number is not None:
                closed.append(_attempt(seq, number, ends[attempt]))
            handlers.add(handler)
            if key is not None:
                keys.add((handler, key))
            if handler == STORE_RESULTS:
                storing[attempt] = event_seq
    _insert_attempts(db, closed)
    db.execute(SQL["lock_settled"], {"handlers": rows.text(list(handlers))})
    free(db, keys)
    if storing:
        _nudge(db, settled, storing)
    return tuple(item.attempt.id in moved for item in settled)


def _nudge(db: sqlite3.Connection, settled: Sequence[Settled], storing: Mapping[str, int]) -> None:
    """Let go what waited for results of which storing has come to its end."""
    over = {
        item.attempt.id: item.finished_at
        for item in settled
        if item.attempt.id in storing and item.state is not DeliveryState.PENDING
    }
    if over:
        results.nudge(db, {storing[attempt] for attempt in over}, microseconds(max(over.values())))


def lock(db: sqlite3.Connection, handlers: Iterable[str]) -> None:
    """Keep out who may be parking deliveries of these handlers: what ends now frees nothing that is parked later."""
    db.execute(SQL["lock_handlers"], {"handlers": rows.text(list(handlers))})


def free(db: sqlite3.Connection, keys: Iterable[tuple[str, str]]) -> None:
    """Let the next of each key (with its handler) go on: the one before it ends, or is to be tried again later."""
    if waiting := sorted(keys):
        lock(db, {handler for handler, _ in waiting})
        db.execute(SQL["free_parked"], {"keys": rows.text(waiting)})


def _end(item: Settled) -> tuple[Any, ...]:
    """Write an end, in the order of `settle_deliveries`."""
    attempt = item.attempt
    return (
        attempt.delivery_id,
        attempt.id,
        item.state._value_,
        rows.micros(item.due_at),
        not item.counted,
        microseconds(item.finished_at),
        item.error,
        attempt.worker,
        microseconds(attempt.started_at),
        item.outcome._value_,
        item.traceback,
    )


def _attempt(delivery_seq: int, number: int, end: tuple[Any, ...]) -> tuple[Any, ...]:
    """Write an attempt, in the order of `insert_attempts`, from how it ended."""
    _, attempt, _, _, _, finished_at, error, worker, started_at, outcome, traceback = end
    return attempt, delivery_seq, number, worker, started_at, finished_at, outcome, error, traceback


def _insert_attempts(db: sqlite3.Connection, closed: Sequence[tuple[Any, ...]]) -> None:
    execute_many(db, SQL["insert_attempts"], closed)


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
        times["dead_at"] = microseconds(now + process.silence)
        db.execute(SQL["upsert_process"], values | times)
    if handlers:
        data = [_registered(name, found) for name, found in handlers.items()]
        db.execute(SQL["lock_new_handlers"], {"rows": rows.text(data)})
        db.execute(SQL["upsert_handlers"], {"rows": rows.text(data), "now": microseconds(now)})
    dead = {"dead_before": microseconds(dead_before), "now": microseconds(now)}
    lapsed = db.execute(SQL["lapsed_deliveries"], dead).fetchall()
    if lapsed:
        _lapse(db, lapsed, now)
    db.execute(SQL["forget_dead"], dead)
    if not lapsed:
        return []
    cursor = db.execute(SQL["deliveries_by_seq"], {"deliveries": rows.text([row[0] for row in lapsed])})
    cursor.row_factory = sqlite3.Row
    return [rows.delivery(row) for row in cursor]


def _registered(name: str, found: Registration) -> list[Any]:
    return [name, rows.text(found.patterns), found.attempts, rows.micros(found.since)]


def _lapse(db: sqlite3.Connection, lapsed: Sequence[tuple[Any, ...]], now: datetime) -> None:
    """Close the attempts of these deliveries, as `lapsed_deliveries` gives them."""
    ended, closed, moment = [], [], microseconds(now)
    for seq, attempts, lapses, most, attempt, begun, worker, started_at, _, _ in lapsed:
        policy = Policy() if most is None else Policy(attempts=most)
        what = lifecycle.settle(attempts, Outcome.LAPSED, policy, now, 0.0, lapses=lapses)
        given_up = what.state is DeliveryState.DISCARDED
        reason = f"given up: {FELL_SILENT} {lapses + 1} times" if given_up else FELL_SILENT
        settled_at = moment if given_up else None
        ended.append((seq, what.state._value_, rows.micros(what.due_at), not what.counted, settled_at, reason))
        outcome = Outcome.LAPSED._value_
        closed.append((attempt, seq, begun, worker, started_at, moment, outcome, FELL_SILENT, None))
    lock(db, {row[-2] for row in lapsed})
    execute_many(db, SQL["lapse_deliveries"], ended)
    _insert_attempts(db, closed)
    free(db, {(handler, key) for *_, handler, key in lapsed if key is not None})

"""Fanning out: new events become deliveries of every handler that wants them; some begin in the same stroke.

Also the looking back of a handler that asked for past events when it was new. Called by `turn`, in its transaction.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from ringback.ledger.patterns import Pattern, any_fits
from ringback.ledger.queries import execute_many, load
from ringback.ledger.sqlite import rows
from ringback.ledger.turns import Turn, Work
from ringback.model import Attempt, Delivery, DeliveryState, Event, Task, microseconds, new_id

SQL = load("sqlite/fan_out.sql")
LOOK_BACK = 500  # past events looked at in one turn

_patterns = lru_cache(maxsize=1024)(msgspec.json.Decoder(tuple[Pattern, ...]).decode)


class Wanted(NamedTuple):
    """A handler as it was registered by whoever has its code."""

    name: str
    patterns: str  # JSON
    since: int | None
    catch_up: int | None

    def wants(self, event_type: str, provider: str, model: str | None) -> bool:
        """Tell whether it listens for such an event."""
        return any_fits(_patterns(self.patterns), event_type, provider, model)


def handlers(db: sqlite3.Connection) -> list[Wanted]:
    """List the handlers that were ever registered."""
    return [Wanted(*row) for row in db.execute(SQL["handlers"])]


def first_event(db: sqlite3.Connection, since: int) -> int | None:
    """Give the row of the first event of that time or later."""
    found: int | None = db.execute(SQL["first_event"], {"since": max(0, since)}).fetchone()[0]
    return found


def fan_out(
    db: sqlite3.Connection, turn: Turn, wanted: Sequence[Wanted], may_begin: Callable[[str], bool]
) -> tuple[int, list[Work]]:
    """Write the deliveries of waiting events; gives how many events there were, and what begins at once.

    `may_begin` is asked for each delivery, and takes its place where it says yes. A delivery that begins is written
    as running: it is spared being found, and moved, a moment later.
    """
    begun: list[Work] = []
    owed: list[tuple[Any, ...]] = []
    events: list[int] = []
    unwanted: list[int] = []
    alike: dict[tuple[str, str, str | None], list[str]] = {}  # most events of a batch are wanted by the same handlers
    now = microseconds(turn.now)
    for seq, event, task in _waiting(db, turn):
        kind = (event.type, event.provider, task.form.model if task and task.form else None)
        if (names := alike.get(kind)) is None:
            names = alike[kind] = [handler.name for handler in wanted if handler.wants(*kind)]
        (events if names else unwanted).append(seq)
        for name in names:
            work = _begin(turn, event, task, name) if may_begin(name) else None
            owed.append(_delivery(turn, now, seq, name, work))
            if work is not None:
                begun.append(work)
    _insert(db, owed)
    if events:
        db.execute(SQL["mark_owed"], {"now": now, "events": rows.text(events)})
    if unwanted:
        db.execute(SQL["mark_unwanted"], {"now": now, "events": rows.text(unwanted)})
    return len(events) + len(unwanted), begun


def look_back(db: sqlite3.Connection, turn: Turn, wanted: Sequence[Wanted]) -> bool:
    """Owe past events to handlers that asked for them, a few at a time; tells whether there was anything to do."""
    behind, now = [handler for handler in wanted if handler.catch_up is not None], microseconds(turn.now)
    for handler in behind:
        begin = handler.catch_up or first_event(db, handler.since or 0)  # which reads many: once is enough
        span = {"from_seq": begin, "since": handler.since, "limit": LOOK_BACK}
        found = [] if begin is None else db.execute(SQL["past_events"], span).fetchall()
        past = [seq for seq, event_type, provider, model in found if handler.wants(event_type, provider, model)]
        _insert(db, [_delivery(turn, now, seq, handler.name) for seq in past])
        further = found[-1][0] + 1 if len(found) == LOOK_BACK else None
        db.execute(SQL["caught_up"], {"name": handler.name, "next": further})
    return bool(behind)


def _waiting(db: sqlite3.Connection, turn: Turn) -> Iterator[tuple[int, Event, Task | None]]:
    cursor = db.execute(SQL["waiting_events"], {"now": microseconds(turn.now), "limit": turn.fan_out})
    read = rows.EventsWithTasks(cursor)
    for row in cursor.fetchall():
        yield row[0], read.event(row), read.task(row)


def _begin(turn: Turn, event: Event, task: Task | None, handler: str) -> Work:
    delivery_id, attempt_id = new_id("dlv", turn.now), new_id("att", turn.now)
    worker = turn.process.id
    delivery = Delivery(
        id=delivery_id,
        event_id=event.id,
        handler=handler,
        state=DeliveryState.RUNNING,
        attempts=1,
        attempt=attempt_id,
        worker=worker,
        due_at=turn.now,
        created_at=turn.now,
    )
    attempt = Attempt(id=attempt_id, delivery_id=delivery_id, number=1, worker=worker, started_at=turn.now)
    return Work(delivery=delivery, attempt=attempt, event=event, task=task)


def _delivery(turn: Turn, now: int, event_seq: int, handler: str, work: Work | None = None) -> tuple[Any, ...]:
    """Write a new delivery, in the order of `insert_deliveries`."""
    if work is None:
        return new_id("dlv", turn.now), event_seq, handler, "pending", now, 0, 0, None, None, None, now
    return work.delivery.id, event_seq, handler, "running", now, 1, 1, work.attempt.id, turn.process.id, now, now


def _insert(db: sqlite3.Connection, owed: Sequence[tuple[Any, ...]]) -> None:
    execute_many(db, SQL["insert_deliveries"], owed)

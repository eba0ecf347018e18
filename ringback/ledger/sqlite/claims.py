"""The claim: which due deliveries begin now, in this worker. Called by `turn`, in its transaction."""

import sqlite3
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from ringback.ledger.queries import execute_many, load
from ringback.ledger.results import STORE_RESULTS, runs_alone
from ringback.ledger.sqlite import results, rows, settling, steps
from ringback.ledger.sqlite.seats import Seats
from ringback.ledger.sqlite.serial import Serial, Waiting
from ringback.ledger.turns import Keyless, Turn, Work
from ringback.model import Attempt, Delivery, DeliveryState, Event, Task, microseconds, moment, new_id

SQL = load("sqlite/claims.sql")
LOOK = 200  # at least so many are looked at where some may have to wait, or their order is another
STORING = 60_000_000  # microseconds until it is looked at again what waits for its results, where nothing nudges it


class Claimed(NamedTuple):
    """What a claim gives."""

    works: Sequence[Work]
    keyless: Sequence[Keyless]
    parked: int  # or put off
    next_due_at: int | None  # of the first that waits, due or not


def lock(db: sqlite3.Connection, turn: Turn) -> None:
    """Keep other turns of the same limited handlers out, before anything is read."""
    limited = [handler for handler, share in turn.shares.items() if share.limited]
    if limited or turn.fan_out > 0:
        db.execute(SQL["lock_turn"], {"handlers": rows.text(limited)})


def claim(db: sqlite3.Connection, turn: Turn, seats: Seats) -> Claimed:
    """Take due deliveries, oldest first over all handlers: the one that is asked about first must starve no other."""
    waiting: list[Waiting] = []
    now = microseconds(turn.now)
    for handler, share in turn.shares.items():
        if (room := seats.room(handler)) > 0:
            look = max(room, LOOK) if share.keyed or share.ordered or share.stored or share.soonest else room
            values = {"handler": handler, "now": now, "limit": look}
            waiting += map(Waiting._make, db.execute(SQL["next_deliveries"], values))
    waiting.sort(key=lambda one: one[:2])
    due = [one for one in waiting if one.due_at <= now]
    chosen = _together(due, turn.idle)
    seats.closed = len(chosen) < len(due) or any(runs_alone(one.handler, one.lapses) for one in chosen)
    ready = _soonest_first(db, turn, _stored(db, turn, chosen))
    taken, keyless, parked = _choose(db, turn, seats, ready)
    return Claimed(
        works=_works(db, turn, taken) if taken else (),
        keyless=_keyless(db, keyless) if keyless else (),
        parked=parked + len(chosen) - len(ready),
        next_due_at=min((one.due_at for one in waiting), default=None),
    )


def next_event(db: sqlite3.Connection) -> int | None:
    """Tell when the first event that waits may be fanned out."""
    found: int | None = db.execute(SQL["next_event"]).fetchone()[0]
    return found


def store_keys(db: sqlite3.Connection, turn: Turn) -> None:
    """Write down the keys that the worker has found."""
    execute_many(db, SQL["store_keys"], turn.keys.items())


def _together(due: Sequence[Waiting], idle: bool) -> Sequence[Waiting]:
    """Choose what may run side by side: all before the first that must run alone, or that one where it comes first.

    What is due after it waits too: else a busy worker would never be idle, and the lapsed one never run. Storing
    results counts for nothing here: a worker at that is idle, and it may begin beside the lapsed one.
    """
    ahead = list(takewhile(lambda one: not runs_alone(one.handler, one.lapses), due))
    first = idle and all(one.handler == STORE_RESULTS for one in ahead)
    return due[: len(ahead) + 1] if first else ahead


def _stored(db: sqlite3.Connection, turn: Turn, chosen: Sequence[Waiting]) -> Sequence[Waiting]:
    """Put off what waits until its results are stored; gives the others. What was begun once waits no more."""
    waits = [one for one in chosen if turn.shares[one.handler].stored and not one.begun]
    if not waits:
        return chosen
    now = microseconds(turn.now)
    events = results.unstored(db, {one.event_seq for one in waits}, now)
    late = {one.seq: one for one in waits if one.event_seq in events}
    if not late:
        return chosen
    results.postpone(db, list(late), now + STORING)
    # What is parked behind one of these may go before it.
    settling.free(db, {(one.handler, one.key) for one in late.values() if one.key is not None})
    return [one for one in chosen if one.seq not in late]


def _soonest_first(db: sqlite3.Connection, turn: Turn, chosen: Sequence[Waiting]) -> Sequence[Waiting]:
    """Put deliveries of such handlers in the order in which their results' URLs end; the others keep their place."""
    places = [place for place, one in enumerate(chosen) if turn.shares[one.handler].soonest]
    if len(places) < 2:
        return chosen
    ends = results.ends(db, {chosen[place].event_seq for place in places}, last=False)
    in_order = sorted((chosen[place] for place in places), key=lambda one: (ends[one.event_seq], one.seq))
    ordered = list(chosen)
    for place, one in zip(places, in_order, strict=True):
        ordered[place] = one
    return ordered


def _choose(
    db: sqlite3.Connection, turn: Turn, seats: Seats, chosen: Sequence[Waiting]
) -> tuple[list[tuple[Waiting, str | None]], list[Waiting], int]:
    """Take those that may begin; gives them with their keys, those without a key, and how many were parked."""
    taken: list[tuple[Waiting, str | None]] = []
    keyless: list[Waiting] = []
    serial = Serial(db, chosen, turn.shares)
    for one in chosen:
        if seats.room(one.handler) <= 0:
            continue
        if turn.shares[one.handler].keyed and one.key is None:
            keyless.append(one)
        elif serial.may_begin(one):
            seats.take(one.handler)
            taken.append((one, serial.key(one)))
    return taken, keyless, serial.park()


def _works(db: sqlite3.Connection, turn: Turn, taken: Sequence[tuple[Waiting, str | None]]) -> list[Work]:
    begun = [(one, key, new_id("att", turn.now)) for one, key in taken]
    worker, now = turn.process.id, microseconds(turn.now)
    claimed = [(one.seq, attempt, key, worker, now) for one, key, attempt in begun]
    execute_many(db, SQL["claim_deliveries"], claimed)
    events = _events(db, [one for one, _ in taken])
    # A delivery's first attempt in its first run has nothing behind it: the usual claim is spared a query.
    again = [one.seq for one, _ in taken if one.run > 1 or one.begun > 0]
    done = steps.done_before(db, again) if again else {}
    works = []
    for one, _, attempt_id in begun:
        event, task = events[one.event_seq]
        attempt = Attempt(
            id=attempt_id, delivery_id=one.id, number=one.begun + 1, worker=turn.process.id, started_at=turn.now
        )
        delivery = _delivery(one, event, attempt)
        works.append(
            Work(delivery=delivery, attempt=attempt, event=event, task=task, steps=done.get(one.id, frozenset()))
        )
    return works


def _keyless(db: sqlite3.Connection, found: Sequence[Waiting]) -> list[Keyless]:
    events = _events(db, found)
    owed = [(one, *events[one.event_seq]) for one in found]
    return [Keyless(delivery=_delivery(one, event), event=event, task=task) for one, event, task in owed]


def _events(db: sqlite3.Connection, found: Sequence[Waiting]) -> dict[int, tuple[Event, Task | None]]:
    cursor = db.execute(SQL["events_with_tasks"], {"events": rows.text(list({one.event_seq for one in found}))})
    read = rows.EventsWithTasks(cursor)
    found_rows = cursor.fetchall()
    events = results.with_stored(db, {row[0]: read.event(row) for row in found_rows})
    return {row[0]: (events[row[0]], read.task(row)) for row in found_rows}


def _delivery(one: Waiting, event: Event, attempt: Attempt | None = None) -> Delivery:
    """Make the record of it, as it stands after the claim where there is an attempt."""
    more: dict[str, Any] = {}
    if attempt is not None:
        more = {"state": DeliveryState.RUNNING, "attempt": attempt.id, "worker": attempt.worker}
    return Delivery(
        id=one.id,
        event_id=event.id,
        handler=one.handler,
        run=one.run,
        attempts=one.attempts + (attempt is not None),
        lapses=one.lapses,
        due_at=moment(one.due_at),
        created_at=moment(one.created_at),
        reason=one.reason,
        replayed_by=one.replayed_by,
        replay_reason=one.replay_reason,
        **more,
    )

"""Which deliveries a query means: for the lists and for what operators do to many. Read-only."""

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ringback.ledger.actions import Query
from ringback.ledger.queries import load
from ringback.ledger.sqlite import rows
from ringback.model import DeliveryState, EventType

SQL = load("sqlite/matching.sql")
ABOVE_ALL = 2**63 - 1
# These are few, as a rule, and each has an index of its own; what has succeeded is everywhere.
FEW = frozenset(DeliveryState) - {DeliveryState.SUCCEEDED}
MOST = 10_000  # beyond that they are soon come upon


@dataclass(frozen=True, slots=True)
class Match:
    """One delivery that is meant."""

    seq: int
    id: str
    state: DeliveryState


def deliveries(
    db: sqlite3.Connection,
    query: Query,
    limit: int | None,
    *,
    below: int | None = None,
    within: frozenset[DeliveryState] = frozenset(DeliveryState),
) -> list[Match]:
    """Find deliveries, newest first; all without a limit, only older ones than the row `below`, in these states."""
    states = sorted(state for state in within if query.state in (None, state))
    values = {
        "provider": query.provider, "type": query.type, "states": rows.text(states), "handler": query.handler,
        "before": rows.micros(query.before), "text": query.text, "latest": query.latest,
        "below": ABOVE_ALL if below is None else below, "limit": -1 if limit is None else limit,
    }  # fmt: skip
    among = _among(db, query)
    if among is None and FEW.issuperset(states):
        among = _unfinished(db, states)
    if among is None and query.type is not None:
        among = _of_type(db, EventType(query.type))
    if among is None:
        found = db.execute(SQL["matching"], values)
    else:
        found = db.execute(SQL["matching_among"], values | {"among": rows.text(sorted(among))})
    return [Match(seq, name, DeliveryState(state)) for seq, name, state in found]


def _among(db: sqlite3.Connection, query: Query) -> set[int] | None:
    """Find the deliveries of what the query names; None where it names nothing."""
    found = []
    if query.ids is not None:
        found.append(_seqs(db.execute(SQL["deliveries_by_id"], {"ids": rows.text(query.ids)})))
    if query.event_id is not None:
        found.append(_of_events(db, _seqs(db.execute(SQL["event_by_id"], {"event_id": query.event_id}))))
    if query.task_id is not None:
        found.append(_of_events(db, _seqs(db.execute(SQL["events_by_task"], {"task_id": query.task_id}))))
    return set.intersection(*found) if found else None


def _unfinished(db: sqlite3.Connection, states: Collection[DeliveryState]) -> set[int] | None:
    """Find the deliveries in these states; None where there are many."""
    wanted: dict[str, Any] = {state.value: state in states for state in FEW}
    found = _seqs(db.execute(SQL["unfinished_deliveries"], wanted | {"most": MOST + 1}))
    return found if len(found) <= MOST else None


def _of_type(db: sqlite3.Connection, kind: EventType) -> set[int] | None:
    """Find the deliveries of all events of a type; None where there are many."""
    if kind is EventType.TASK_COMPLETED or count_seldom(db, [kind], MOST)[kind] == MOST:
        return None
    return _seqs(db.execute(SQL["deliveries_by_type"], {"type": kind}))


def count_seldom(db: sqlite3.Connection, kinds: Iterable[EventType], most: int) -> dict[EventType, int]:
    """Count the events of types that are not everywhere, of each at most so many."""
    found = db.execute(SQL["count_seldom"], {"types": rows.text(list(kinds)), "most": most})
    return {EventType(kind): count for kind, count in found}


def _of_events(db: sqlite3.Connection, events: set[int]) -> set[int]:
    return _seqs(db.execute(SQL["deliveries_by_event"], {"events": rows.text(sorted(events))}))


def _seqs(found: Iterable[tuple[int]]) -> set[int]:
    return {row[0] for row in found}

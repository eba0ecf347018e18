"""What people ask: read-only, on the connection that cannot write.

Nothing here takes longer as the past grows: lists of what is seldom come from indexes that hold little else. What is
counted is in `summaries`.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ringback.errors import NotFound
from ringback.ledger.actions import Query
from ringback.ledger.awaited import Awaited
from ringback.ledger.protocol import Owed, Story
from ringback.ledger.queries import load
from ringback.ledger.sqlite import matching, results, rows, steps
from ringback.ledger.turns import Process
from ringback.model import Attempt, Event, EventType, Task, TaskState, microseconds

SQL = load("sqlite/reports.sql")
EVERYTHING = 1_000_000
FOREVER = 1 << 62  # later than any time
MOST = 5_000  # of what is seldom; where there are more, a walk from the newest soon comes upon them
NEWEST = 10_000  # tasks that are looked at in any case, even where an index does not hold what is open
OPEN = frozenset({TaskState.PENDING, TaskState.SUBMITTED, TaskState.PROCESSING})
# Of which type an event says that a task ended so.
ENDS: Mapping[str, EventType] = {name: EventType(f"task.{name}") for name in ("failed", "cancelled", "expired")}


def _rows(db: sqlite3.Connection, query: str, **parameters: Any) -> list[sqlite3.Row]:
    cursor = db.execute(SQL[query], parameters)
    cursor.row_factory = sqlite3.Row
    return cursor.fetchall()


def tasks(db: sqlite3.Connection, query: Query) -> list[Task]:
    """List tasks, newest first."""
    wanted = {"provider": query.provider, "state": query.state, "limit": query.limit}
    if query.since is not None:
        before = FOREVER if query.before is None else microseconds(query.before)
        page = {"since": microseconds(query.since), "before": before, "below": query.below}
        return [rows.task(row) for row in _rows(db, "tasks_between", **wanted, **page)]
    ids = _ids(query.ids, query.task_id)
    if ids is not None:
        found = _rows(db, "tasks_by_id", ids=ids, **wanted)
    elif query.state in OPEN:
        found = _open_tasks(db, wanted, query.limit)
    elif (among := _few_tasks(db, query.state)) is not None:
        found = _rows(db, "tasks_among", among=rows.text(among), **wanted)
    elif query.provider is not None:
        found = _rows(db, "tasks_of_provider", **wanted)
    else:
        found = _rows(db, "tasks", **wanted)
    return [rows.task(row) for row in found]


def _open_tasks(db: sqlite3.Connection, wanted: Mapping[str, Any], limit: int) -> list[sqlite3.Row]:
    """Find tasks that are in a state which is not final: among the newest, then by an index that holds little else."""
    lately = _rows(db, "tasks_lately", newest=NEWEST, **wanted)
    if len(lately) >= limit:
        return lately
    if wanted["state"] == TaskState.PENDING:
        found = _rows(db, "pending_tasks", **wanted)
    elif wanted["state"] == TaskState.PROCESSING:
        found = _rows(db, "processing_tasks", **wanted)
    else:
        found = _rows(db, "submitted_tasks", **wanted)
    merged = {row["seq"]: row for row in (*lately, *found)}
    return [merged[seq] for seq in sorted(merged, reverse=True)[:limit]]


def _few_tasks(db: sqlite3.Connection, state: str | None) -> list[int] | None:
    """Find all tasks that ended so; None where there are many, or any state will do."""
    kind = ENDS.get(state or "")
    if kind is None or matching.count_seldom(db, [kind], MOST)[kind] == MOST:
        return None
    return [row[0] for row in tuples(db, "ended_tasks", type=kind)]


def events(db: sqlite3.Connection, query: Query) -> list[Event]:
    """List events, newest first."""
    wanted = {"provider": query.provider, "type": query.type, "limit": query.limit}
    ids, task = _ids(query.ids, query.event_id), {"task_id": query.task_id}
    if ids is not None:
        return _events(db, _rows(db, "events_by_id", ids=ids, **task, **wanted))
    if query.task_id is not None:
        found = _rows(db, "events_of_one_task", **task, **wanted)
    elif query.type in (None, EventType.TASK_COMPLETED):
        found = _rows(db, "events", **wanted)
    else:
        found = _rows(db, "events_of_type", **wanted)
    return _events(db, found)


def _events(db: sqlite3.Connection, found: Sequence[sqlite3.Row]) -> list[Event]:
    """Read events, each result with where it is stored."""
    return list(results.with_stored(db, {row["seq"]: rows.event(row) for row in found}).values())


def _ids(several: Sequence[str] | None, one: str | None) -> str | None:
    """Give the ids that were asked for, as the JSON that the statements take; None when any will do."""
    if several is None and one is None:
        return None
    if several is None:
        return rows.text([one])
    return rows.text([name for name in several if one is None or name == one])


def deliveries(db: sqlite3.Connection, query: Query) -> list[Owed]:
    """List deliveries with their attempts, newest first."""
    seqs = rows.text([match.seq for match in matching.deliveries(db, query, query.limit)])
    found = _rows(db, "deliveries", deliveries=seqs)
    attempts: dict[str, list[Attempt]] = {}
    for row in (*_rows(db, "attempts", deliveries=seqs), *_rows(db, "open_attempts", deliveries=seqs)):
        attempts.setdefault(row["delivery_id"], []).append(rows.attempt(row))
    done = steps.of_deliveries(db, [row["id"] for row in found])
    return [
        Owed(
            delivery=rows.delivery(row),
            event_type=EventType(row["event_type"]),
            provider=row["event_provider"],
            task_id=row["event_task"],
            attempts=tuple(attempts.get(row["id"], ())),
            steps=done.get(row["id"], ()),
            replayed_as=row["replayed_as"],
        )
        for row in found
    ]


def story(db: sqlite3.Connection, reference: str) -> Story:
    """Tell all about one task."""
    found = _rows(db, "task_by_reference", reference=reference)
    if not found:
        raise NotFound(f"no task {reference!r}: give our id (task_…), your key, or the provider's id")
    task = rows.task(found[0])
    return Story(
        task=task,
        events=tuple(_events(db, _rows(db, "events_of_task", task_id=task.id))),
        callbacks=tuple(rows.kept_callback(row) for row in _rows(db, "callbacks_of_task", task_id=task.id)),
        deliveries=tuple(reversed(deliveries(db, Query(task_id=task.id, limit=EVERYTHING)))),
        children=tuple(rows.task(row) for row in _rows(db, "children_of_task", task_id=task.id)),
    )


def awaited(db: sqlite3.Connection, _: Awaited) -> Mapping[str, int]:
    """Count open tasks by the secret behind their callback URL."""
    return dict(tuples(db, "awaited", newest=NEWEST))


def processes(db: sqlite3.Connection, now: datetime) -> tuple[Process, ...]:
    """List the processes that were seen within the last minute, or may still be silent."""
    since = microseconds(now - timedelta(minutes=1))
    return tuple(rows.process(row) for row in _rows(db, "processes", since=since, now=microseconds(now)))


def tuples(db: sqlite3.Connection, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement of the reports; gives all rows."""
    return db.execute(SQL[query], parameters).fetchall()

"""What people ask: read-only, on the connection that cannot write."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ringback.errors import NotFound
from ringback.ledger.actions import Query
from ringback.ledger.protocol import Owed, Queue, Story, Summary
from ringback.ledger.queries import load
from ringback.ledger.sqlite import matching, results, rows, steps
from ringback.ledger.turns import Process
from ringback.model import Attempt, DeliveryState, Event, EventType, Outcome, Task, TaskState, microseconds, moment

SQL = load("sqlite/reports.sql")
EVERYTHING = 1_000_000


def _rows(db: sqlite3.Connection, query: str, **parameters: Any) -> list[sqlite3.Row]:
    cursor = db.execute(SQL[query], parameters)
    cursor.row_factory = sqlite3.Row
    return cursor.fetchall()


def tasks(db: sqlite3.Connection, query: Query) -> list[Task]:
    """List tasks, newest first."""
    wanted = {"provider": query.provider, "state": query.state, "limit": query.limit}
    if query.since is not None:
        page = {"since": microseconds(query.since), "before": rows.micros(query.before), "below": query.below}
        return [rows.task(row) for row in _rows(db, "tasks_between", **wanted, **page)]
    ids = _ids(query.ids, query.task_id)
    found = _rows(db, "tasks", **wanted) if ids is None else _rows(db, "tasks_by_id", ids=ids, **wanted)
    return [rows.task(row) for row in found]


def events(db: sqlite3.Connection, query: Query) -> list[Event]:
    """List events, newest first."""
    wanted = {"provider": query.provider, "type": query.type, "limit": query.limit}
    ids, task = _ids(query.ids, query.event_id), {"task_id": query.task_id}
    if ids is not None:
        return _events(db, _rows(db, "events_by_id", ids=ids, **task, **wanted))
    found = (
        _rows(db, "events", **wanted) if query.task_id is None else _rows(db, "events_of_one_task", **task, **wanted)
    )
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


def summary(db: sqlite3.Connection, now: datetime) -> Summary:
    """Count everything, in one snapshot."""
    db.execute("BEGIN")
    try:
        return _summary(db, now)
    finally:
        db.execute("ROLLBACK")


def _summary(db: sqlite3.Connection, now: datetime) -> Summary:
    by_state, by_provider = Counter[TaskState](), Counter[str]()
    task_rows = _tuples(db, "count_tasks")
    for provider, state, count, *_ in task_rows:
        by_state[TaskState(state)] += count
        by_provider[provider] += count
    event_rows = _tuples(db, "count_events")
    verdicts = Counter(dict(_tuples(db, "count_callbacks")))
    delivery_rows = _tuples(db, "count_deliveries")
    rejection_rows = _tuples(db, "count_rejections", since=(now - timedelta(days=1)).date().isoformat())
    queues = _queues(db)
    oldest = [queue.oldest_due_at for queue in queues.values() if queue.oldest_due_at is not None]
    return Summary(
        tasks=dict(by_state),
        tasks_by_provider=dict(by_provider),
        events={EventType(row[0]): row[1] for row in event_rows},
        callbacks=_total(task_rows, 3) + _tuples(db, "count_taskless")[0][0],
        duplicates=_total(event_rows, 2),
        conflicts=verdicts["conflict"] + _total(event_rows, 3),
        hints=verdicts["hint"],
        unrecognised=verdicts["unrecognised"],
        settled_by_poll=_total(task_rows, 4),
        recovered=_total(task_rows, 5),
        deliveries={DeliveryState(state): count for state, count in delivery_rows},
        discarded=sum(queue.discarded for queue in queues.values()),
        attempts={Outcome(outcome): count for outcome, count in _tuples(db, "count_attempts")},
        waiting_events=_total(event_rows, 5),
        oldest_due_at=min(oldest, default=None),
        queues=queues,
        rejections={(provider, reason): count for provider, reason, count, _ in rejection_rows},
        new_rejections={(provider, reason): count for provider, reason, _, count in rejection_rows if count},
        unknown_sends=_total(task_rows, 6),
        open_by_url_key=dict(_tuples(db, "open_by_key")),
        url_keys=tuple(row[0] for row in _tuples(db, "url_keys")),
        handlers={name: moment(seen_at) for name, seen_at in _tuples(db, "handlers")},
        orphaned=dict(_tuples(db, "orphaned", before=microseconds(now - timedelta(days=1)))),
        processes=processes(db, now),
    )


def _queues(db: sqlite3.Connection) -> dict[str, Queue]:
    found: dict[str, Queue] = {}
    for handler, state, count, due in _tuples(db, "queues"):
        queue = replace(found.get(handler, Queue()), **{state: count})
        found[handler] = queue if due is None else replace(queue, oldest_due_at=moment(due))
    return dict(sorted(found.items()))


def processes(db: sqlite3.Connection, now: datetime) -> tuple[Process, ...]:
    """List the processes that were seen within the last minute."""
    return tuple(rows.process(row) for row in _rows(db, "processes", since=microseconds(now - timedelta(minutes=1))))


def _tuples(db: sqlite3.Connection, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    return db.execute(SQL[query], parameters).fetchall()


def _total(found: Sequence[tuple[Any, ...]], column: int) -> int:
    return sum(row[column] or 0 for row in found)

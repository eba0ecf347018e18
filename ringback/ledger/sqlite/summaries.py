"""What a ledger holds, in numbers: exact while there is not much of it, then partly estimates. Read-only.

To count ten million rows takes a minute, and to keep their number would cost every callback. So from some size on, the
past is told from a sample that is spread evenly over it. What is open, waits or runs is counted in any case, and so is
what is seldom: there are indexes that hold little else.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ringback.ledger.protocol import Queue, Summary
from ringback.ledger.sqlite import matching, reports
from ringback.ledger.sqlite.reports import tuples
from ringback.ledger.sqlite.snapshot import snapshot
from ringback.model import DeliveryState, EventType, Outcome, TaskState, moment

EXACT = 10_000  # rows of a table: so many are counted one by one
SAMPLE = 5_000  # of more, so many are read at most, and half as many at least
LEAST = 1_000  # rows of a sample; where rows are missing in between, it is made denser
SELDOM = 100_000  # what there is less of is counted by an index


@dataclass(frozen=True, slots=True)
class _Sample:
    """What was counted of a table; `every`: in every so-many-th run of its rows, 1 in all of them."""

    rows: Sequence[tuple[Any, ...]]
    every: int

    def total(self, column: int) -> int:
        """Sum a column up."""
        return sum(row[column] or 0 for row in self.rows)


def summary(db: sqlite3.Connection, now: datetime) -> Summary:
    """Count everything, in one snapshot."""
    with snapshot(db):
        return _summary(db, now)


def _summary(db: sqlite3.Connection, now: datetime) -> Summary:
    sizes = {name: (size or 0, scaled) for name, size, scaled in tuples(db, "sizes")}
    tasks = _sampled(db, "count_tasks", 2, *sizes["tasks"])
    events = _sampled(db, "count_events", 1, *sizes["events"])
    callbacks = _sampled(db, "count_callbacks", 1, *sizes["callbacks"])
    deliveries = _sampled(db, "count_deliveries", 1, *sizes["deliveries"])
    attempts = _sampled(db, "count_attempts", 1, *sizes["attempts"])
    parts = {"tasks": tasks, "events": events, "callbacks": callbacks, "deliveries": deliveries, "attempts": attempts}
    by_provider, verdicts = Counter[str](), Counter(dict(callbacks.rows))
    for provider, _, count, *_ in tasks.rows:
        by_provider[provider] += count
    types = _types(db, events)
    queues = _queues(db)
    oldest = [queue.oldest_due_at for queue in queues.values() if queue.oldest_due_at is not None]
    rejections = tuples(db, "count_rejections", since=(now - timedelta(days=1)).date().isoformat())
    handlers = {name: moment(seen_at) for name, seen_at in tuples(db, "handlers")}
    return Summary(
        tasks=_by_name(_states(db, tasks, types)),
        tasks_by_provider=_by_name(by_provider),
        events=_by_name(types),
        callbacks=tasks.total(3) + events.total(4),
        duplicates=events.total(2),
        conflicts=verdicts["conflict"] + events.total(3),
        hints=verdicts["hint"],
        unrecognised=verdicts["unrecognised"],
        settled_by_poll=tasks.total(4),
        recovered=tasks.total(5),
        deliveries=_by_name(_deliveries(db, deliveries, queues)),
        discarded=sum(queue.discarded for queue in queues.values()),
        attempts=_by_name({Outcome(outcome): count for outcome, count in attempts.rows}),
        waiting_events=tuples(db, "count_waiting")[0][0],
        oldest_due_at=min(oldest, default=None),
        queues=queues,
        rejections=_by_name({(provider, reason): count for provider, reason, count, _ in rejections}),
        new_rejections=_by_name({(provider, reason): count for provider, reason, _, count in rejections if count}),
        unknown_sends=tuples(db, "unknown_sends")[0][0],
        url_keys=tuple(row[0] for row in tuples(db, "url_keys")),
        handlers=handlers,
        orphaned=_orphaned(queues, handlers, now - timedelta(days=1)),
        processes=reports.processes(db, now),
        estimated=frozenset(name for name, part in parts.items() if part.every > 1),
    )


def _sampled(db: sqlite3.Connection, query: str, named: int, size: int, scaled: bool) -> _Sample:
    """Count a table of about this size, in groups that so many columns name."""
    every = 1 if size <= EXACT else 1 << ((size - 1) // SAMPLE).bit_length()
    while True:
        found = tuples(db, query, every=every)
        total = sum(row[named] for row in found)
        if every == 1:
            return _Sample(found, every)
        if total >= LEAST:
            factor = size / total if scaled else min(every, size / total)
            grown = [(*row[:named], *(round(factor * (count or 0)) for count in row[named:])) for row in found]
            return _Sample(grown, every)
        every = max(1, every // 8)


def _types(db: sqlite3.Connection, events: _Sample) -> dict[EventType, int]:
    """Count events by their type."""
    found = {EventType(row[0]): row[1] for row in events.rows}
    if events.every == 1:
        return found
    seldom = matching.count_seldom(db, (kind for kind in EventType if kind is not EventType.TASK_COMPLETED), SELDOM)
    return _corrected(found, {kind: count for kind, count in seldom.items() if count < SELDOM})


def _states(db: sqlite3.Connection, tasks: _Sample, types: Mapping[EventType, int]) -> dict[TaskState, int]:
    """Count tasks by their state; those that ended otherwise than usual by the events that say so."""
    found, known = Counter[TaskState](), Counter(dict.fromkeys(reports.OPEN, 0))
    for _, state, count, *_ in tasks.rows:
        found[TaskState(state)] += count
    if tasks.every == 1:
        return dict(found)
    for state, count in tuples(db, "count_open", newest=reports.NEWEST):
        known[TaskState(state)] += count
    ended = {TaskState(state): types.get(kind, 0) for state, kind in reports.ENDS.items()}
    return _corrected(found, known | {state: count for state, count in ended.items() if count < SELDOM})


def _deliveries(db: sqlite3.Connection, deliveries: _Sample, queues: Mapping[str, Queue]) -> dict[DeliveryState, int]:
    """Count deliveries by their state."""
    found = {DeliveryState(state): count for state, count in deliveries.rows}
    if deliveries.every == 1:
        return found
    given_up = {DeliveryState(state): count for state, count in tuples(db, "count_given_up", most=SELDOM)}
    known = {state: count for state, count in given_up.items() if count < SELDOM}
    known[DeliveryState.PENDING] = sum(queue.pending for queue in queues.values())
    known[DeliveryState.RUNNING] = sum(queue.running for queue in queues.values())
    return _corrected(found, known)


def _corrected(found: Mapping[Any, int], known: Mapping[Any, int]) -> dict[Any, int]:
    """Put what is known in the place of what was estimated."""
    return {key: count for key, count in {**found, **known}.items() if count}


def _by_name(found: Mapping[Any, Any]) -> dict[Any, Any]:
    """Put it in an order that is the same on every engine; what is grouped comes in any."""
    return {name: found[name] for name in sorted(found)}


def _queues(db: sqlite3.Connection) -> dict[str, Queue]:
    found: dict[str, Queue] = {}
    for handler, state, count, due in tuples(db, "queues"):
        queue = replace(found.get(handler, Queue()), **{state: count})
        found[handler] = queue if due is None else replace(queue, oldest_due_at=moment(due))
    return _by_name(found)


def _orphaned(queues: Mapping[str, Queue], handlers: Mapping[str, datetime], before: datetime) -> dict[str, int]:
    """Give what waits for handlers that no worker has had since then."""
    waiting = {name: queue.pending for name, queue in queues.items() if queue.pending}
    return {name: count for name, count in waiting.items() if name not in handlers or handlers[name] < before}

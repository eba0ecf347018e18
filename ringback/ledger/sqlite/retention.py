"""Retention, a step at a time: what has settled long ago loses its bodies, then all but its keys, then itself.

`look` finds a step's records on the connection that cannot write; `take` looks at those again inside the writer's
transaction, since a callback or an operator may have been there first, and takes away what it may.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ringback.ledger.queries import load
from ringback.ledger.retention import REJECTIONS_KEPT, STEP, Level, Place, Prune, Pruned
from ringback.ledger.sqlite import rows

SQL = load("sqlite/retention.sql")


class Ripe(NamedTuple):
    """A task, or an event about none, that loses something."""

    seq: int
    id: str
    level: Level
    events: tuple[int, ...] = ()  # a task's


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a step found, and what it would do."""

    seqs: tuple[int, ...]  # that lose something
    pruned: Pruned


Part = tuple[Callable[[sqlite3.Connection, Prune, Level], Look], Level]


def look(db: sqlite3.Connection, wish: Prune) -> Look:
    """Find what the next step takes away."""
    see, level = PARTS[wish.after.part]
    return see(db, wish, level)


def take(db: sqlite3.Connection, wishes: Sequence[tuple[Prune, Look]]) -> Sequence[Pruned]:
    """Take away what was found, as far as it still may go."""
    return [_take(db, *wish) for wish in wishes]


def _take(db: sqlite3.Connection, wish: Prune, found: Look) -> Pruned:
    see, _ = PARTS[wish.after.part]
    seqs = rows.text(found.seqs)
    if see is _look_at_rejections:
        dropped = db.execute(SQL["drop_rejections"], {"day": _oldest_day(wish)}).rowcount
        return Pruned(rejections=dropped)
    if see is _look_at_requests:
        dropped = db.execute(SQL["drop_old_requests"], {"seqs": seqs}).rowcount
        return Pruned(requests=dropped, next=found.pruned.next)
    tasks = see is _look_at_tasks
    db.execute(SQL["lock_tasks"] if tasks else SQL["lock_events"], {"seqs": seqs})
    ripe, _ = (_ripe_tasks if tasks else _ripe_events)(db, wish, found.seqs)
    for level in Level:
        if chosen := [item for item in ripe if item.level is level]:
            (_prune_tasks if tasks else _prune_events)(db, level, chosen)
    return _counted(ripe, next=found.pruned.next)


def _look_at_tasks(db: sqlite3.Connection, wish: Prune, level: Level) -> Look:
    return _look(wish, _page(db, "settled_tasks", wish, level), lambda seqs: _ripe_tasks(db, wish, seqs))


def _look_at_events(db: sqlite3.Connection, wish: Prune, level: Level) -> Look:
    page = [] if wish.states else _page(db, "other_events", wish, level)
    return _look(wish, page, lambda seqs: _ripe_events(db, wish, seqs))


def _look_at_requests(db: sqlite3.Connection, wish: Prune, level: Level) -> Look:
    page = [] if wish.states else _page(db, "old_requests", wish, level)
    unknown = tuple(seq for _, seq, known in page if not known)
    return Look(seqs=unknown, pruned=Pruned(requests=len(unknown), next=_next(wish, page)))


def _look_at_rejections(db: sqlite3.Connection, wish: Prune, _level: Level) -> Look:
    (count,) = (0,) if wish.states else db.execute(SQL["old_rejections"], {"day": _oldest_day(wish)}).fetchone()
    return Look(seqs=(0,) * min(count, 1), pruned=Pruned(rejections=count))


PARTS: tuple[Part, ...] = (
    *((_look_at_tasks, level) for level in (Level.WHOLE, Level.WITHOUT_BODIES, Level.KEYS_ONLY)),
    *((_look_at_events, level) for level in (Level.WHOLE, Level.WITHOUT_BODIES, Level.KEYS_ONLY)),
    (_look_at_requests, Level.WHOLE),
    (_look_at_rejections, Level.WHOLE),
)


def _page(db: sqlite3.Connection, query: str, wish: Prune, level: Level) -> list[tuple[Any, ...]]:
    """Read the next records of a part: their time, their row, and what else the statement tells."""
    if (before := wish.reach(level)) is None:
        return []
    names = {"before": before, "moment": wish.after.moment, "seq": wish.after.seq, "limit": STEP}
    return _execute(db, query, level=level, **names).fetchall()


def _next(wish: Prune, page: Sequence[tuple[Any, ...]]) -> Place:
    """Go on behind a full page, else with the next part; rejections are the last, and end the walk."""
    if len(page) < STEP:
        return Place(wish.after.part + 1)
    return Place(wish.after.part, page[-1][0], page[-1][1])


def _look(
    wish: Prune, page: Sequence[tuple[Any, ...]], ripen: Callable[[Sequence[int]], tuple[list[Ripe], int]]
) -> Look:
    ripe, waiting = ripen([row[1] for row in page])
    pruned = _counted(ripe, waiting=waiting, next=_next(wish, page))
    return Look(seqs=tuple(item.seq for item in ripe), pruned=pruned)


def _counted(ripe: Iterable[Ripe], *, waiting: int = 0, next: Place | None) -> Pruned:
    levels = [item.level for item in ripe]
    return Pruned(
        bodies=levels.count(Level.WITHOUT_BODIES),
        emptied=levels.count(Level.KEYS_ONLY),
        removed=levels.count(Level.GONE),
        waiting=waiting,
        next=next,
    )


def _ripe_tasks(db: sqlite3.Connection, wish: Prune, seqs: Sequence[int]) -> tuple[list[Ripe], int]:
    """Say which of these tasks lose something, and how many would if nothing of them waited."""
    tasks = db.execute(SQL["tasks_to_prune"], {"seqs": rows.text(seqs)}).fetchall()
    names = {"tasks": rows.text([task[1] for task in tasks])}
    heard = dict(db.execute(SQL["requests_heard"], names).fetchall())
    events: dict[str, list[int]] = {}
    unsettled: set[str] = set()
    for task_id, seq, seen_at, settled_at, open_count in db.execute(SQL["events_to_prune"], names):
        events.setdefault(task_id, []).append(seq)
        heard[task_id] = max(heard.get(task_id, 0), seen_at, settled_at)
        if open_count:
            unsettled.add(task_id)
    ripe, waiting = [], 0
    for seq, task_id, provider, state, pruned, settled_at, is_asked, has_parent in tasks:
        level = wish.level(provider, max(settled_at, heard.get(task_id, 0)))
        level = min(level, Level.KEYS_ONLY) if has_parent else level
        if level <= pruned or (wish.states and state not in wish.states):
            continue
        if is_asked or task_id in unsettled:
            waiting += 1
        else:
            ripe.append(Ripe(seq, task_id, level, tuple(events.get(task_id, ()))))
    return ripe, waiting


def _ripe_events(db: sqlite3.Connection, wish: Prune, seqs: Sequence[int]) -> tuple[list[Ripe], int]:
    """Say the same of events about no task."""
    ripe, waiting = [], 0
    found = db.execute(SQL["other_events_to_prune"], {"seqs": rows.text(seqs)})
    for seq, event_id, provider, pruned, heard_at, open_count in found:
        if (level := wish.level(provider, heard_at)) > pruned:
            if open_count:
                waiting += 1
            else:
                ripe.append(Ripe(seq, event_id, level))
    return ripe, waiting


# What is done to events, besides to tasks, and besides to events about no task.
EVENT_STEPS: Mapping[Level, Sequence[str]] = {
    Level.WITHOUT_BODIES: ("empty_event_bodies",),
    Level.KEYS_ONLY: ("drop_attempts", "drop_results", "empty_events", "drop_deliveries"),
    Level.GONE: ("drop_attempts", "drop_deliveries", "drop_events"),
}
TASK_STEPS: Mapping[Level, Sequence[str]] = {
    Level.WITHOUT_BODIES: ("empty_requests_of_tasks", "mark_tasks"),
    Level.KEYS_ONLY: ("drop_requests_of_tasks", "empty_tasks"),
    Level.GONE: ("drop_requests_of_tasks", "drop_tasks"),
}
OTHER_STEPS: Mapping[Level, Sequence[str]] = {
    Level.WITHOUT_BODIES: ("empty_requests_of_events",),
    Level.KEYS_ONLY: ("drop_requests_of_events",),
    Level.GONE: ("drop_requests_of_events",),
}


def _prune_tasks(db: sqlite3.Connection, level: Level, tasks: Sequence[Ripe]) -> None:
    _run(db, EVENT_STEPS[level], level=level, events=rows.text([seq for task in tasks for seq in task.events]))
    names = {"tasks": rows.text([task.id for task in tasks]), "seqs": rows.text([task.seq for task in tasks])}
    _run(db, TASK_STEPS[level], level=level, **names)


def _prune_events(db: sqlite3.Connection, level: Level, events: Sequence[Ripe]) -> None:
    _run(db, EVENT_STEPS[level], level=level, events=rows.text([event.seq for event in events]))
    _run(db, OTHER_STEPS[level], ids=rows.text([event.id for event in events]))


def _run(db: sqlite3.Connection, steps: Iterable[str], **parameters: Any) -> None:
    for step in steps:
        _execute(db, step, **parameters)


def _execute(db: sqlite3.Connection, query: str, **parameters: Any) -> sqlite3.Cursor:
    # Only what a statement names may be bound.
    return db.execute(SQL[query], {name: value for name, value in parameters.items() if f":{name}" in SQL[query]})


def _oldest_day(wish: Prune) -> str:
    return (wish.now - REJECTIONS_KEPT).date().isoformat()

"""One at a time: deliveries of one key, or of one task in the order of its states.

What has to wait is *parked*: it leaves the queue of what is due, so that a thousand of one key never hide another one,
and comes back when the one before it ends (`settling.free`). So while anything is parked, there always is one of its
handler and key that is not, and whose end frees it. Where that one gets another key (a deploy has changed the handler's
options), it frees what waits under the old one. Called by `claims`, in the turn's transaction.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ringback import lifecycle
from ringback.ledger.queries import execute_many, load
from ringback.ledger.sqlite import rows, settling
from ringback.ledger.turns import Share
from ringback.model import TaskState

SQL = load("sqlite/claims.sql")


class Waiting(NamedTuple):
    """A pending delivery, as `next_deliveries` gives it."""

    due_at: int
    seq: int
    lapses: int
    id: str
    event_seq: int
    handler: str
    run: int
    begun: int
    attempts: int
    created_at: int
    reason: str | None
    replayed_by: str | None
    replay_reason: str | None
    key: str | None


class Owed(NamedTuple):
    """One delivery that a task still has open, in the order in which they are handed over."""

    rank: int
    event_seq: int
    seq: int
    key: str | None


class Serial:
    """Says which candidates may begin, as they are asked about one by one, and parks the others at the end."""

    def __init__(self, db: sqlite3.Connection, candidates: Iterable[Waiting], shares: Mapping[str, Share]) -> None:
        self._db = db
        self._shares = shares
        self._busy: set[tuple[str, str]] = set()  # handler and key of what runs
        self._tasks: dict[int, str] = {}  # by event
        self._owed: dict[tuple[str, str], list[Owed]] = {}  # by handler and task
        self._parked: list[tuple[int, str]] = []
        self._heads: dict[int, str] = {}
        self._left: set[tuple[str, str]] = set()  # by handler: keys under which others may wait for what has left them
        by_handler: dict[str, list[Waiting]] = defaultdict(list)
        for candidate in candidates:
            by_handler[candidate.handler].append(candidate)
        for handler, found in by_handler.items():
            if shares[handler].keyed:
                self._look_at_keys(handler, found)
            elif shares[handler].ordered:
                self._look_at_tasks(handler, found)

    def key(self, candidate: Waiting) -> str | None:
        """Give the key under which it runs."""
        if self._shares[candidate.handler].ordered:
            return self._tasks.get(candidate.event_seq)
        return candidate.key

    def may_begin(self, candidate: Waiting) -> bool:
        """Tell whether nothing is before it; where something is, it is parked."""
        key = self.key(candidate)
        self._leave(candidate.handler, candidate.key, key)
        if key is None:
            return True
        place = (candidate.handler, key)
        if place in self._busy:
            self._parked.append((candidate.seq, key))
            return False
        head = min(self._owed.get(place, ()), default=None)
        if head is not None and head.seq != candidate.seq:
            self._parked.append((candidate.seq, key))
            self._lead(candidate.handler, head, key)  # which may itself be parked, behind something due earlier
            return False
        if self._is_serial(candidate.handler):
            self._busy.add(place)
        return True

    def park(self) -> int:
        """Write down what waits, and for what; tells how many had to be parked."""
        execute_many(self._db, SQL["park"], self._parked)
        execute_many(self._db, SQL["unpark"], self._heads.items())
        settling.free(self._db, self._left)
        return len(self._parked)

    def _lead(self, handler: str, owed: Owed, key: str) -> None:
        """Let the end of this one free what waits for the key."""
        self._heads[owed.seq] = key
        self._leave(handler, owed.key, key)

    def _leave(self, handler: str, before: str | None, now: str | None) -> None:
        if before is not None and before != now:
            self._left.add((handler, before))

    def _is_serial(self, handler: str) -> bool:
        return self._shares[handler].keyed or self._shares[handler].ordered

    def _look_at_keys(self, handler: str, found: Sequence[Waiting]) -> None:
        keys = rows.text([candidate.key for candidate in found if candidate.key is not None])
        running = self._db.execute(SQL["running_keys"], {"handler": handler, "keys": keys})
        self._busy |= {(handler, row[0]) for row in running}

    def _look_at_tasks(self, handler: str, found: Sequence[Waiting]) -> None:
        events = rows.text([candidate.event_seq for candidate in found])
        tasks = dict(self._db.execute(SQL["tasks_of_events"], {"events": events}).fetchall())
        self._tasks |= tasks
        values = {"handler": handler, "tasks": rows.text(sorted(set(tasks.values())))}
        for task_id, status, event_seq, seq, key, running in self._db.execute(SQL["owed_of_tasks"], values):
            owed = Owed(lifecycle.RANK[TaskState(status)], event_seq, seq, key)
            self._owed.setdefault((handler, task_id), []).append(owed)
            if running:
                self._busy.add((handler, task_id))
                if key != task_id:  # begun by a worker whose code asks for no order
                    self._lead(handler, owed, task_id)

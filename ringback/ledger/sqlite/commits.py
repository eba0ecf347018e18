"""Commits what waits, a batch at a time, in the thread of the write connection.

It takes the next batch as soon as the last one is on disk, without asking the event loop, which may be busy with those
who were just answered; so the disk never waits for Python. A batch is one transaction of each operation's set-based
statements; what it stands in is each engine's own: for SQLite lock, BEGIN IMMEDIATE, COMMIT, unlock. Made and told to
work by `writer`; nothing else calls it.
"""

import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from ringback.errors import LedgerUnavailable, RingbackError
from ringback.ledger import faults
from ringback.ledger.sqlite.lock import WAIT_SECONDS, FileLock

log = structlog.get_logger("ringback.ledger")

Operation = Callable[[Any, Sequence[Any]], Sequence[Any]]

BATCH_BOUND = 1_000
TURN_SECONDS = 0.05  # then whoever wants to read on the write connection has a chance
IMPATIENT_SECONDS = 0.2  # how long to wait for the lock after it was not to be had
CHECKPOINT_IDLE_SECONDS = 1.0
CHECKPOINT_REQUESTS = 2_000  # so many writes, some 5 MiB of WAL, then it is copied into the database
CALM_REQUESTS = 500  # so many, and nothing waits: a checkpoint so small that hardly anybody notices
CALM_SECONDS = 0.001  # where a commit takes longer, so does each of a checkpoint's fsyncs, however small it is
SELDOM = 4  # times as many where each of a checkpoint's three fsyncs takes long…
SLOW_SECONDS = 0.003  # …as the last commit did
ROWS = 2  # that a callback writes: a step of pruning is one request, and writes a thousand
BATCH_COST = 12  # a batch touches about as many pages by itself as so many requests: alone 34 kB, among 64 under 3 kB

# What one record can do to a statement; any other error means that trying again later may well help.
RECORDS_FAULT = frozenset(
    {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE}
)
# The file or the disk is in trouble, not this record: everybody in the batch gets 503 and may try again.
TROUBLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)
ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "the disk gave an error",
    sqlite3.SQLITE_READONLY: "the file cannot be written; check its permissions and those of its folder",
    sqlite3.SQLITE_BUSY: "another program holds the database",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; check its folder and permissions",
    sqlite3.SQLITE_CORRUPT: "the database is damaged; restore a backup",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
}


def trouble(error: sqlite3.Error) -> LedgerUnavailable | None:
    """Tell whether an error is the database's trouble, in words; None when one record may have caused it."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the sqlite3 module itself, about a value or a closed connection
        closed = isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error)
        return LedgerUnavailable("the ledger is closed") if closed else None
    primary = code & 0xFF
    if primary not in TROUBLE:
        return None
    advice = ADVICE.get(primary, "the database cannot be used right now")
    return LedgerUnavailable(f"{advice} ({error})", public=advice)


@dataclass(slots=True)
class Request:
    """One thing to write, and who waits for it."""

    operation: Operation
    item: Any
    waiter: Any  # a future, or a protocol.Waiter; touched by the event loop only


Outcomes = list[tuple[Request, Any]]  # each request with its answer, or the error


Operations = Mapping[Operation, Sequence[Request]]
Tell = Callable[[Outcomes, bool], None]


class Commits:
    """The work of the thread. `waiting` is shared with the event loop: appended to there, taken from here.

    `tell` is called after each commit with what became of whom, and whether anything was changed.
    """

    def __init__(self, waiting: deque[Request], tell: Tell) -> None:
        self._waiting = waiting
        self._tell = tell
        self._last = 0  # how many were in the last batch
        self.batch: list[Request] = []  # what is being written
        self.commit_seconds = 0.0  # how long the last commit took to be on disk

    def transaction(self, connection: Any, operations: Operations) -> tuple[list[Sequence[Any]], bool]:
        """Run one batch; tells also whether it changed anything.

        Raises:
            LedgerUnavailable: nobody's record is at fault, and none would fare better alone.
        """
        raise NotImplementedError

    def verdict(self, error: Exception) -> RingbackError:
        """Say what becomes of a record that failed alone."""
        raise NotImplementedError

    def tidy(self, connection: Any) -> None:
        """Do what is due after a batch."""

    def rest_seconds(self) -> float | None:
        """Tell how long to wait for requests before `rest` is called; None: for ever."""
        return None

    def rest(self, connection: Any) -> None:
        """Do what can be done while nothing waits."""

    def end(self, connection: Any) -> None:
        """Do what is due before the connection is closed."""

    def work(self, connection: Any) -> None:
        """Commit until nothing waits, or for one turn."""
        end = time.monotonic() + TURN_SECONDS
        while self._waiting and time.monotonic() < end:
            # Half of those who wait and those who were just answered, and who may be on their way again: so the event
            # loop and this thread each have one half in hand. Taking all, the halves drift apart until one is nearly
            # everybody, and then the two take turns instead of working at the same time.
            size = min(BATCH_BOUND, len(self._waiting), (len(self._waiting) + self._last + 1) // 2)
            self.batch = self._take(size)
            self._last = size
            self.commit(connection, self.batch)
            self.tidy(connection)
        self.batch = []

    def _take(self, most: int) -> list[Request]:
        taken: list[Request] = []
        with contextlib.suppress(IndexError):  # a loop that ended has emptied the queue
            while len(taken) < most:
                taken.append(self._waiting.popleft())
        return taken

    def commit(self, connection: Any, batch: list[Request]) -> LedgerUnavailable | None:
        """Write one batch; gives the trouble where the database cannot be used at all."""
        operations: dict[Operation, list[Request]] = {}
        for request in batch:
            operations.setdefault(request.operation, []).append(request)
        try:
            answers, changed = self.transaction(connection, operations)
        except LedgerUnavailable as error:
            self._tell([(request, error) for request in batch], False)
            return error
        except Exception as error:  # whatever one record caused must not reach its neighbours
            if len(batch) == 1:
                self._tell([(batch[0], self.verdict(error))], False)
                return None
            for place, request in enumerate(batch, 1):
                if (unavailable := self.commit(connection, [request])) is not None:
                    self._tell([(rest, unavailable) for rest in batch[place:]], False)
                    return unavailable
        else:
            pairs = zip(operations.values(), answers, strict=True)
            self._tell([pair for requests, group in pairs for pair in zip(requests, group, strict=True)], changed)
        return None


class SqliteCommits(Commits):
    """Batches of SQLite: each under the lock, and now and then the WAL is copied into the database."""

    def __init__(self, lock: FileLock, waiting: deque[Request], tell: Tell) -> None:
        super().__init__(waiting, tell)
        self._lock = lock
        self._lock_wait_seconds = WAIT_SECONDS
        self._dirty = 0  # requests committed since the last checkpoint, in callbacks' worth of rows

    def transaction(self, connection: sqlite3.Connection, operations: Operations) -> tuple[list[Sequence[Any]], bool]:
        """Run one batch; tells also whether it changed anything."""
        before = connection.total_changes
        try:
            answers = self._locked(connection, operations)
        except LedgerUnavailable:
            # Whoever comes while the lock is not to be had shall not wait for two turns of 2 s.
            self._lock_wait_seconds = IMPATIENT_SECONDS
            raise
        self._lock_wait_seconds = WAIT_SECONDS
        changes = connection.total_changes - before
        if changes:
            self._dirty += max(sum(map(len, operations.values())), changes // ROWS) + BATCH_COST
        return answers, changes > 0

    def _locked(self, connection: sqlite3.Connection, operations: Operations) -> list[Sequence[Any]]:
        with self._lock.held(self._lock_wait_seconds):
            try:
                connection.execute("BEGIN IMMEDIATE")
                answers = [op(connection, [request.item for request in reqs]) for op, reqs in operations.items()]
                began = time.perf_counter()
                connection.execute("COMMIT")
                self.commit_seconds = time.perf_counter() - began
            except BaseException as error:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell
                        connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error) and (known := trouble(error)) is not None:
                    raise known from error
                raise
        return answers

    def verdict(self, error: Exception) -> RingbackError:
        """Say what becomes of a record that failed alone."""
        return verdict(error)

    def tidy(self, connection: sqlite3.Connection) -> None:
        """Checkpoint where enough was written."""
        if self._dirty >= CHECKPOINT_REQUESTS * (SELDOM if self.commit_seconds >= SLOW_SECONDS else 1):
            self.rest(connection)

    def rest_seconds(self) -> float | None:
        """Tell when to checkpoint what was written last: at once, if it is enough to be worth it."""
        if self._dirty >= CALM_REQUESTS and self.commit_seconds < CALM_SECONDS:
            return 0.0
        return CHECKPOINT_IDLE_SECONDS if self._dirty else None

    def rest(self, connection: sqlite3.Connection) -> None:
        """Copy the WAL into the database, as far as readers let it be."""
        self._dirty = 0
        try:
            self._checkpoint(connection, "PASSIVE")
        except Exception as error:  # the writer must outlive whatever is wrong with the disk
            log.warning("ledger.checkpoint_failed", error=str(error))

    def end(self, connection: sqlite3.Connection) -> None:
        """Copy all of the WAL into the database; where that fails, the next opener does it instead."""
        with contextlib.suppress(RingbackError, sqlite3.Error):
            self._checkpoint(connection, "TRUNCATE")

    def _checkpoint(self, connection: sqlite3.Connection, mode: str) -> None:
        with self._lock.held():
            connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()


def verdict(error: Exception) -> RingbackError:
    """Say whether a record that failed alone can ever be stored: only if it is the record that is at fault."""
    if isinstance(error, RingbackError):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in RECORDS_FAULT:
        return faults.rejected(error)
    if code is not None or isinstance(error, (OSError, MemoryError)):
        log.warning("ledger.failed", error=f"{type(error).__name__}: {error}")
        return LedgerUnavailable(f"the database cannot be used right now ({error})")
    return faults.verdict(error)

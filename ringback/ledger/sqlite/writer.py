"""Group commit: requests in flight share one transaction.

One write connection per process. Requests wait in a bounded queue; whatever is there when the last batch is done makes
the next batch, which runs as one function in aiosqlite's thread: lock, BEGIN IMMEDIATE, each operation's set-based
statements, COMMIT, unlock. So the lock is never held across a turn of the event loop, which a user's handler may block.
The writer is never cancelled or timed out; only who waits for it is.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import aiosqlite
import structlog

from ringback.errors import LedgerRejected, LedgerUnavailable, RingbackError
from ringback.ledger.sqlite.lock import WAIT_SECONDS, FileLock
from ringback.ledger.sqlite.thread import in_thread
from ringback.patience import Patience

log = structlog.get_logger("ringback.ledger")

Answer = TypeVar("Answer")
Operation = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]

QUEUE_BOUND = 10_000
BATCH_BOUND = 1_000
IMPATIENT_SECONDS = 0.2  # how long to wait for the lock after it was not to be had
CHECKPOINT_REQUESTS = 2_000  # so many writes, some 5 MiB of WAL, then it is copied into the database
BATCH_COST = 12  # a batch touches about as many pages by itself as so many requests: alone 34 kB, among 64 under 3 kB
CHECKPOINT_IDLE_SECONDS = 1.0

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
    """Tell whether an error is the database's trouble, in words; None when it is the record's own fault."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the sqlite3 module itself, about a value or a closed connection
        closed = isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error)
        return LedgerUnavailable("the ledger is closed") if closed else None
    primary = code & 0xFF
    if primary not in TROUBLE:
        return None
    return LedgerUnavailable(f"{ADVICE.get(primary, 'the database cannot be used right now')} ({error})")


@dataclass(slots=True)
class _Request:
    operation: Operation
    item: Any
    waiter: Any  # a future, or a protocol.Waiter


class Writer:
    """The one writer of this process."""

    def __init__(self, connection: aiosqlite.Connection, lock: FileLock, on_commit: Callable[[], None]) -> None:
        self._connection = connection
        self._lock = lock
        self._on_commit = on_commit
        self._waiting: list[_Request] = []
        self._loop = asyncio.get_running_loop()
        self._patience: Patience[Any] = Patience(lambda waiter: waiter.done(), _give_up)
        self._wake = asyncio.Event()
        self._closing = False
        self._lock_wait_seconds = WAIT_SECONDS
        self._last = 0  # how many were in the last batch
        self._dirty = 0  # requests committed since the last checkpoint
        self._task = asyncio.create_task(self._run(), name="ringback-writer")

    def submit(self, operation: Operation, item: Any, timeout_seconds: float | None = None) -> "asyncio.Future[Any]":
        """Have `operation` applied to `item`, together with whatever else waits; done after the commit.

        Raises, when awaited:
            LedgerUnavailable: nothing was written, or not within the timeout; try again.
            LedgerRejected: this item can never be stored; its neighbours were.
        """
        future = self._loop.create_future()
        self.put(operation, item, future, timeout_seconds)
        return future

    def put(self, operation: Operation, item: Any, waiter: Any, timeout_seconds: float | None = None) -> None:
        """Do as `submit` does for a waiter that is there already: a future, or a `protocol.Waiter`."""
        if self._closing or len(self._waiting) >= QUEUE_BOUND:
            reason = "the ledger is closed" if self._closing else "too many requests wait for the ledger"
            waiter.set_exception(LedgerUnavailable(reason))
            return
        self._waiting.append(_Request(operation, item, waiter))
        if timeout_seconds is not None:
            self._patience.add(waiter, timeout_seconds, self._loop)
        if self._task.done():  # a loop that ends has cancelled it, and what closes last still has something to write
            self._task = asyncio.create_task(self._run(), name="ringback-writer")
        self._wake.set()

    async def read(self, function: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Read something on the write connection, between two batches."""
        return await in_thread(self._connection, function)

    async def close(self) -> None:
        """Write what waits, copy the WAL into the database, and close the connection inside the lock."""
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._task])  # which a loop that ends may have cancelled
        with contextlib.suppress(RingbackError, sqlite3.Error):  # the next opener does it instead
            await in_thread(self._connection, self._checkpoint, "TRUNCATE")
        await close_locked(self._connection, self._lock)

    async def _run(self) -> None:
        batch: list[_Request] = []
        try:
            while not (self._closing and not self._waiting):
                if not self._waiting:
                    await self._rest()
                    continue
                # Half of those who wait and those who were just answered, and who may be on their way again: so the
                # event loop and SQLite's thread each have one half in hand. Taking all, the halves drift apart until
                # one is nearly everybody, and then the two take turns instead of working at the same time.
                size = min(BATCH_BOUND, (len(self._waiting) + self._last + 1) // 2)
                batch, self._waiting = self._waiting[:size], self._waiting[size:]
                self._last = len(batch)
                await self._write(batch)
        finally:  # nobody may wait for a writer that is gone: a loop that ends cancels it before it closes the ledger
            _fail([*batch, *self._waiting], LedgerUnavailable("the ledger's writer was stopped"))
            self._waiting = []

    async def _rest(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(CHECKPOINT_IDLE_SECONDS if self._dirty else None):
                await self._wake.wait()
        except TimeoutError:
            await self._try_checkpoint()

    async def _write(self, batch: list[_Request]) -> None:
        operations: dict[Operation, list[_Request]] = {}
        for request in batch:
            operations.setdefault(request.operation, []).append(request)
        try:
            answers, changed = await in_thread(self._connection, self._transaction, operations)
        except LedgerUnavailable as error:
            # Whoever comes while the lock is not to be had shall not wait for two turns of 2 s.
            self._lock_wait_seconds = IMPATIENT_SECONDS
            _fail(batch, error)
        except Exception as error:  # whatever one record caused must not reach its neighbours
            await self._one_by_one(batch, error)
        else:
            self._lock_wait_seconds = WAIT_SECONDS
            for requests, group in zip(operations.values(), answers, strict=True):
                _answer(requests, group)
            if changed:
                self._dirty += len(batch) + BATCH_COST
                self._on_commit()
            if self._dirty >= CHECKPOINT_REQUESTS:
                await self._try_checkpoint()

    async def _one_by_one(self, batch: list[_Request], error: Exception) -> None:
        if len(batch) > 1:
            for request in batch:
                await self._write([request])
            return
        _fail(batch, _verdict(error))

    def _transaction(
        self, connection: sqlite3.Connection, operations: dict[Operation, list[_Request]]
    ) -> tuple[list[Sequence[Any]], bool]:
        """Run one batch, in the connection's thread; tells also whether it changed anything."""
        before = connection.total_changes
        with self._lock.held(self._lock_wait_seconds):
            try:
                connection.execute("BEGIN IMMEDIATE")
                answers = [op(connection, [request.item for request in reqs]) for op, reqs in operations.items()]
                connection.execute("COMMIT")
            except BaseException as error:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell
                        connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error) and (known := trouble(error)) is not None:
                    raise known from error
                raise
        return answers, connection.total_changes != before

    async def _try_checkpoint(self) -> None:
        self._dirty = 0
        try:
            await in_thread(self._connection, self._checkpoint, "PASSIVE")
        except Exception as error:  # the writer must outlive whatever is wrong with the disk
            log.warning("ledger.checkpoint_failed", error=str(error))

    def _checkpoint(self, connection: sqlite3.Connection, mode: str) -> None:
        with self._lock.held():
            connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()


def _verdict(error: Exception) -> RingbackError:
    """Say whether a record that failed alone can ever be stored: only if it is the record that is at fault."""
    if isinstance(error, RingbackError):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, (OSError, MemoryError)) or (code is not None and code & 0xFF not in RECORDS_FAULT):
        log.warning("ledger.failed", error=f"{type(error).__name__}: {error}")
        return LedgerUnavailable(f"the database cannot be used right now ({error})")
    log.warning("ledger.rejected", error=type(error).__name__)
    return LedgerRejected(f"this record cannot be stored ({type(error).__name__})")


def _give_up(waiter: Any) -> None:
    waiter.set_exception(LedgerUnavailable("the ledger did not commit in time"))


def _fail(batch: list[_Request], error: Exception) -> None:
    for request in batch:
        if not request.waiter.done():
            request.waiter.set_exception(error)


def _answer(requests: list[_Request], answers: Sequence[Any]) -> None:
    for request, answer in zip(requests, answers, strict=True):
        if request.waiter.done():  # whoever waited has given up; it is written all the same
            continue
        if isinstance(answer, Exception):
            request.waiter.set_exception(answer)
        else:
            request.waiter.set_result(answer)


async def close_locked(connection: aiosqlite.Connection, lock: FileLock) -> None:
    """Close a connection inside the lock, since the last one to close checkpoints; without it if it cannot be had."""

    def close(db: sqlite3.Connection) -> None:
        try:
            with lock.held():
                db.close()
        except LedgerUnavailable as error:
            log.warning("ledger.closed_unlocked", error=str(error))
            db.close()

    await in_thread(connection, close)
    await connection.close()

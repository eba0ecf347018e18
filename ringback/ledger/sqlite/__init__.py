"""The ledger on SQLite: one writer per process, a reader that cannot write, and a watch for what others wrote."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar, overload
from urllib.parse import quote

import aiosqlite

from ringback.errors import LedgerError, LedgerMismatch, LedgerMissing, LedgerUnavailable
from ringback.ledger import schema
from ringback.ledger.actions import Action, Done, Query
from ringback.ledger.protocol import (
    Owed,
    Sent,
    Story,
    Summary,
    Waiter,
)
from ringback.ledger.retention import Prune, Pruned
from ringback.ledger.sqlite import intake, keys, operations, reports, retention, settling, steps, tasks
from ringback.ledger.sqlite import turn as turns
from ringback.ledger.sqlite.commits import trouble
from ringback.ledger.sqlite.lock import FileLock
from ringback.ledger.sqlite.thread import in_thread
from ringback.ledger.sqlite.writer import Writer, close_locked
from ringback.ledger.turns import NO_HANDLERS, Process, Registration, Turn, Turned
from ringback.model import Arrival, Attempt, Delivery, Event, Receipt, Task

Answer = TypeVar("Answer")

WATCH_SECONDS = 0.1  # how often to look for what other processes wrote…
CALM_WATCH_SECONDS = 1.0  # …after an idle minute
CALM_AFTER_SECONDS = 60.0
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables

SETUP = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA foreign_keys = ON;
PRAGMA busy_timeout = 2000;
PRAGMA cache_size = -8000;
"""
READER_SETUP = "PRAGMA query_only = 1; PRAGMA wal_autocheckpoint = 0; PRAGMA busy_timeout = 2000;"


class SqliteLedger:
    """See `protocol.Ledger` for what each method promises."""

    def __init__(
        self, lock: FileLock, connection: aiosqlite.Connection, reader: aiosqlite.Connection, dedup: timedelta
    ) -> None:
        self._lock = lock
        self._reader = reader
        self._generation = 1  # counts commits, ours and others'
        self._news = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._dedup = dedup
        self._writer = Writer(connection, lock, self._tell)
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, create: bool, dedup_days: int = 90) -> Self:
        """Open the database, making it first where `create` allows it.

        Raises:
            LedgerMissing: there is none; names the absolute path.
            LedgerMismatch: it has another schema version.
            LedgerUnavailable: it cannot be opened right now.
        """
        path = _checked_place(path, create)
        lock = FileLock.beside(path)
        connections: list[aiosqlite.Connection] = []
        try:
            if create:
                _make_private(path)
            connection = await _connect(path, "rwc" if create else "rw", connections)
            await in_thread(connection, _prepare, lock, path, create)
            reader = await _connect(path, "rw", connections)
            await in_thread(reader, sqlite3.Connection.executescript, READER_SETUP)
        except BaseException as error:
            for opened in reversed(connections):
                await close_locked(opened, lock)
            lock.close()
            if isinstance(error, sqlite3.Error):
                raise _unopened(path, error) from error
            raise
        return cls(lock, connection, reader, timedelta(days=dedup_days))

    async def close(self) -> None:
        """Finish what was begun, then let go of the database."""
        if self._closed:
            return
        self._closed = True
        self._tell()  # whoever waits for a change shall learn of it
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await close_locked(self._reader, self._lock)
        await self._writer.close()
        self._lock.close()

    def record(self, arrival: Arrival, *, timeout_seconds: float | None = None) -> "asyncio.Future[Receipt]":
        """Store one arrival."""
        return self._writer.submit(self._record, arrival, timeout_seconds)

    def record_for(self, waiter: Waiter, arrival: Arrival, *, timeout_seconds: float) -> None:
        """Store one arrival, and tell the waiter."""
        self._writer.put(self._record, arrival, waiter, timeout_seconds)

    def _record(self, db: sqlite3.Connection, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        return intake.record(db, arrivals, self._dedup)

    async def reject(self, counts: Mapping[tuple[str, str], int], now: datetime) -> None:
        """Add to the counts of rejected requests."""
        await self._writer.submit(intake.reject, (counts, now))

    async def add_task(self, task: Task) -> tuple[Task, bool]:
        """Store a new pending task."""
        added: tuple[Task, bool] = await self._writer.submit(tasks.add, task)
        return added

    async def claim_send(self, task: Task, now: datetime, resend_at: datetime | None) -> bool:
        """Claim the right to send."""
        won: bool = await self._writer.submit(tasks.claim_sends, (task, now, resend_at))
        return won

    async def save_send(self, sent: Sent) -> Task:
        """Store how a sending ended."""
        task: Task = await self._writer.submit(self._save_sends, sent)
        return task

    def _save_sends(self, db: sqlite3.Connection, sent: Sequence[Sent]) -> Sequence[Task | Exception]:
        return tasks.save_sends(db, sent, self._record)

    async def due_sends(self, now: datetime, limit: int) -> Sequence[Task]:
        """List pending tasks whose time to be (re)sent has come."""
        return await self._read(tasks.due_sends, now, limit)

    async def claim_fetches(self, provider: str, now: datetime, lease_until: datetime, limit: int) -> Sequence[Task]:
        """Take due tasks to ask about."""
        if not await self._read(tasks.has_due_fetches, provider, now):
            return []  # the usual case, without the write lock
        taken: Sequence[Task] = await self._writer.submit(tasks.claim_fetches, (provider, now, lease_until, limit))
        return taken

    async def plan_fetches(self, plan: Mapping[str, datetime | None]) -> None:
        """Set when to ask next."""
        await self._writer.submit(tasks.plan_fetches, plan)

    async def beat(
        self,
        process: Process,
        now: datetime,
        dead_before: datetime,
        handlers: Mapping[str, Registration] = NO_HANDLERS,
        *,
        leaving: bool = False,
    ) -> Sequence[Delivery]:
        """Tell that the process lives, and take from silent workers what they hold."""
        beat = (process, now, dead_before, handlers, leaving)
        lapsed: Sequence[Delivery] = await self._writer.submit(settling.beat, beat)
        return lapsed

    async def turn(self, turn: Turn) -> Turned:
        """Take a worker's turn."""
        turned: Turned = await self._writer.submit(turns.take, turn)
        return turned

    async def finish_step(self, attempt: Attempt, name: str, now: datetime) -> bool:
        """Record that a step is done, behind the fence."""
        recorded: bool = await self._writer.submit(steps.finish, (attempt, name, now))
        return recorded

    async def tasks(self, query: Query) -> Sequence[Task]:
        """List tasks."""
        return await self._read(reports.tasks, query)

    async def story(self, reference: str) -> Story:
        """Tell all about one task."""
        return await self._read(reports.story, reference)

    async def events(self, query: Query) -> Sequence[Event]:
        """List events."""
        return await self._read(reports.events, query)

    async def deliveries(self, query: Query) -> Sequence[Owed]:
        """List deliveries, with their attempts."""
        return await self._read(reports.deliveries, query)

    @overload
    async def act(self, action: Action) -> Done: ...

    @overload
    async def act(self, action: Prune) -> Pruned: ...

    async def act(self, action: Action | Prune) -> Done | Pruned:
        """Do one step of what an operator asks for."""
        if isinstance(action, Prune):
            return await self._prune(action)
        found = await self._read(operations.look, action)  # which may take long: not where callbacks wait
        if action.dry_run or not found.meant:
            return found.done
        done: Done = await self._writer.submit(operations.do, (action, found))
        return done

    async def _prune(self, wish: Prune) -> Pruned:
        found = await self._read(retention.look, wish)
        if wish.dry_run or not found.seqs:
            return found.pruned
        taken: Pruned = await self._writer.submit(retention.take, (wish, found))
        return replace(taken, waiting=found.pruned.waiting)

    async def summary(self, now: datetime) -> Summary:
        """Count everything."""
        return await self._read(reports.summary, now)

    async def processes(self, now: datetime) -> Sequence[Process]:
        """List the workers and pollers that were seen within the last minute."""
        return await self._read(reports.processes, now)

    async def enlist_keys(self, fingerprints: Sequence[str], now: datetime) -> None:
        """Remember the secrets behind our URLs."""
        await self._writer.submit(keys.enlist, (fingerprints, now))

    async def changed(self, seen: int, timeout_seconds: float) -> int:
        """Wait until the count of writes differs from `seen`, or until the timeout; gives the count."""
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="ringback-watch")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self._generation == seen:
                    await self._news.wait()
        return self._generation

    def _tell(self) -> None:
        self._generation += 1
        self._news.set()
        self._news = asyncio.Event()

    async def _watch(self) -> None:
        """Look for commits of other processes."""
        version, idle_seconds = await self._data_version(), 0.0
        self._tell()  # what was written before this first look may not have been seen
        while True:
            pause = CALM_WATCH_SECONDS if idle_seconds >= CALM_AFTER_SECONDS else WATCH_SECONDS
            await asyncio.sleep(pause)
            latest = await self._data_version()
            idle_seconds = 0.0 if latest != version else idle_seconds + pause
            if latest != version:
                version = latest
                self._tell()

    async def _data_version(self) -> int:
        def read(db: sqlite3.Connection) -> int:
            return int(db.execute("PRAGMA data_version").fetchone()[0])

        try:
            return await self._read(read)
        except LedgerError:
            return -1

    async def _read(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        try:
            answer = await in_thread(self._reader, function, *arguments)
        except sqlite3.Error as error:
            raise trouble(error) or LedgerError(f"the ledger cannot be read ({error})") from error
        return answer


def _checked_place(path: Path, create: bool) -> Path:
    path = Path(os.path.realpath(path))  # two names of one file must share one lock
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise LedgerMismatch(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or newer is needed")
    if path.is_dir():
        raise LedgerMissing(f"{path}: a folder, not a database; name a file in RINGBACK_DATABASE_URL")
    if not create and not path.exists():
        raise LedgerMissing(
            f"{path}: there is no ledger; start `ringback up` or `ringback serve`, or run `ringback migrate`"
        )
    if not path.parent.is_dir():
        raise LedgerMissing(
            f"{path.parent}: there is no such folder; make it, or name another in RINGBACK_DATABASE_URL"
        )
    return path


def _make_private(path: Path) -> None:
    """Make the file for its owner alone: stored bodies may quote callback URLs. SQLite gives -wal and -shm its mode.

    Raises:
        LedgerUnavailable: it cannot be made.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:  # it keeps the mode that its owner gave it
        return
    except OSError as error:
        raise LedgerUnavailable(f"{path}: cannot be made ({error.strerror}); check the folder") from error


async def _connect(path: Path, mode: str, opened: list[aiosqlite.Connection]) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None, cached_statements=256
    )
    opened.append(connection)
    return connection


def _prepare(db: sqlite3.Connection, lock: FileLock, path: Path, create: bool) -> None:
    """Set a connection up, make the tables where there are none, check the version; in the connection's thread."""
    with lock.held():
        empty = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        fresh = create and empty and schema.stored_version(db) == 0
        if not fresh:
            schema.check(db, path)  # before anything is changed: the file may be another program's
        db.executescript(SETUP)
        if fresh:
            schema.create(db)


def _unopened(path: Path, error: sqlite3.Error) -> LedgerError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return LedgerMismatch(f"{path}: not a SQLite database; name another file in RINGBACK_DATABASE_URL")
    known = trouble(error)
    return LedgerUnavailable(f"{path}: {known or error}")

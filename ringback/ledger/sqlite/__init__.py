"""The ledger on SQLite: one writer per process, a reader that cannot write, and a watch for what others wrote."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiosqlite
import structlog

from ringback.errors import LedgerError, LedgerMismatch, LedgerMissing, LedgerUnavailable
from ringback.ledger import schema
from ringback.ledger.sqlite.commits import SqliteCommits, trouble
from ringback.ledger.sqlite.lock import FileLock
from ringback.ledger.sqlite.methods import Methods
from ringback.ledger.sqlite.reader import Reader
from ringback.ledger.sqlite.thread import in_thread
from ringback.ledger.sqlite.writer import Writer

log = structlog.get_logger("ringback.ledger")

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


class SqliteLedger(Methods):
    """See `protocol.Ledger` for what each method promises."""

    def __init__(self, lock: FileLock, connection: aiosqlite.Connection, reader: Reader, dedup: timedelta) -> None:
        super().__init__(dedup)
        self._lock = lock
        self._connection = connection
        self._reader = reader
        self._writer = Writer(partial(in_thread, connection), partial(SqliteCommits, lock), self._tell)

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
            await in_thread(connection, prepare, lock, path, create)
            reader = await _connect(path, "rw", connections)
            await in_thread(reader, sqlite3.Connection.executescript, READER_SETUP)
        except BaseException as error:
            for opened in reversed(connections):
                await close_locked(opened, lock)
            lock.close()
            if isinstance(error, sqlite3.Error):
                raise unopened(path, error) from error
            raise
        return cls(lock, connection, Reader(reader), timedelta(days=dedup_days))

    async def close(self) -> None:
        """Finish what was begun, then let go of the database."""
        if self._closed:
            return
        await self._stop_watching()
        await close_locked(self._reader.connection, self._lock)
        await self._writer.close()
        await close_locked(self._connection, self._lock)
        self._lock.close()

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
        return await self._reader.read(function, *arguments)


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


def address(path: Path, mode: str) -> dict[str, Any]:
    """Give what a connection is opened with."""
    uri = f"file:{quote(str(path))}?mode={mode}"
    return {"database": uri, "uri": True, "isolation_level": None, "cached_statements": 256}


async def _connect(path: Path, mode: str, opened: list[aiosqlite.Connection]) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(**address(path, mode))
    opened.append(connection)
    return connection


def prepare(db: sqlite3.Connection, lock: FileLock, path: Path, create: bool) -> None:
    """Set a connection up, make the tables where there are none, check the version; in the connection's thread."""
    with lock.held():
        empty = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        fresh = create and empty and schema.stored_version(db) == 0
        if not fresh:
            schema.check(db, path)  # before anything is changed: the file may be another program's
        db.executescript(SETUP)
        if fresh:
            schema.create(db)


def unopened(path: Path, error: sqlite3.Error) -> LedgerError:
    """Say in our words why a database could not be opened."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return LedgerMismatch(f"{path}: not a SQLite database; name another file in RINGBACK_DATABASE_URL")
    known = trouble(error)
    return LedgerUnavailable(f"{path}: {known or error}")


async def close_locked(connection: aiosqlite.Connection, lock: FileLock) -> None:
    """Close a connection inside the lock, since the last one to close checkpoints; without it if it cannot be had."""
    await in_thread(connection, close_under, lock)
    await connection.close()


def close_under(db: sqlite3.Connection, lock: FileLock) -> None:
    """Do the same in the connection's own thread."""
    try:
        with lock.held():
            db.close()
    except LedgerUnavailable as error:
        log.warning("ledger.closed_unlocked", error=str(error))
        db.close()

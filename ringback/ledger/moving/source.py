"""The SQLite ledger that is moved: seen as it is at one moment, and never written."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ringback.errors import LedgerMismatch, LedgerMissing, LedgerRejected, LedgerUnavailable
from ringback.ledger import schema
from ringback.ledger.moving.numbers import Numbers
from ringback.ledger.moving.proof import Proof, prove
from ringback.ledger.queries import load
from ringback.ledger.sqlite.lock import FileLock
from ringback.model import microseconds, moment

READ, PROVE = load("moving/read.sql"), load("moving/prove.sql")
SILENT = timedelta(seconds=30)  # then a process is dead
BATCH_ROWS = 1_000
BATCH_BYTES = 4 << 20  # of texts and bodies; one row more at most
MAGIC = b"SQLite format 3\0"
AS_ITS_USER = "run this as the user that Ringback runs as"
# Every connection that SQLite has to a database in WAL mode holds a shared lock on these bytes, idle or not.
SHARED_FIRST, SHARED_SIZE = 0x40000002, 510


@dataclass(slots=True)
class Batch:
    """Some rows, as `read.sql` gives them: first comes what names each for people."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    size: int = 0  # bytes, roughly

    def __len__(self) -> int:
        return len(self.rows)

    def label(self, place: int) -> str:
        """Name the row at a place."""
        return str(self.rows[place][0])


class Source:
    """An open ledger."""

    def __init__(self, db: sqlite3.Connection, in_use: Sequence[str]) -> None:
        self._db = db
        self.in_use = in_use

    def batches(self, table: str) -> Iterator[Batch]:
        """Read a table for its copy.

        Raises:
            LedgerRejected: PostgreSQL cannot hold a value; names its row.
        """
        cursor = self._db.execute(READ[table])
        columns = [column[0] for column in cursor.description]
        batch = Batch()
        for row in cursor:
            batch.size += _checked(table, columns, row)
            batch.rows.append(row)
            if len(batch) >= BATCH_ROWS or batch.size >= BATCH_BYTES:
                yield batch
                batch = Batch()
        if batch.rows:
            yield batch

    def oldest(self) -> int | None:
        """Give the time of the oldest event or attempt, in microseconds."""
        oldest: int | None = self._db.execute(READ["oldest"]).fetchone()[0]
        return oldest

    def proof(self, table: str) -> Proof:
        """Read a table for its proof."""
        cursor = self._db.execute(PROVE.get(f"{table}_of_sqlite") or PROVE[table])
        return prove(table, [column[0] for column in cursor.description], cursor)


@contextlib.contextmanager
def opened_source(path: Path, now: datetime, *, alone: bool) -> Iterator[Source]:
    """Open a ledger for a block, within which it stays as it is.

    `alone` holds the lock that every writer takes, and makes sure that nobody else has the ledger open. Without it,
    others go on, and the block does not see what they write.

    Raises:
        LedgerError: it cannot be read, or is in use; says why.
    """
    path = _checked_place(path)
    lock = FileLock.beside(path) if alone else None
    try:
        with _held(lock, path):
            users = ["another process has it open"] if _is_open(path) else []
            # Who closes last writes the WAL into the database: only where there is none may that be us.
            mode = "rw" if alone and not _has_wal(path) else "ro"
            with contextlib.closing(_connected(path, mode)) as db:
                users += _seen(db, now)
                if alone and users:
                    raise LedgerUnavailable(
                        f"{path} is in use: {'; '.join(users)}. Stop every process that uses it, those that submit "
                        "included, then try again (30 s later, if one was killed)"
                    )
                yield Source(db, users)
    except sqlite3.Error as error:
        if "user-defined function" in str(error):  # ours never fails: Ctrl-C came while it ran
            raise KeyboardInterrupt from error
        raise LedgerUnavailable(f"{path}: cannot be read ({error}); nothing was moved") from error
    finally:
        if lock is not None:
            lock.close()


def _checked_place(path: Path) -> Path:
    path = Path(os.path.realpath(path))  # two names of one file must share one lock
    if path.is_dir():
        raise LedgerMissing(f"{path}: a folder; name the ledger's file")
    if not path.exists():
        raise LedgerMissing(
            f"{path}: there is no such file; name the old ledger, sqlite:///relative.db or sqlite:////absolute.db"
        )
    try:
        with path.open("rb") as file:
            begins = file.read(len(MAGIC))
    except OSError as error:
        raise LedgerUnavailable(f"{path}: cannot be read ({error.strerror}); {AS_ITS_USER}") from error
    if begins != MAGIC:  # before a lock is put beside it
        raise LedgerMismatch(f"{path}: {'not a SQLite database' if begins else 'an empty file'}; name the old ledger")
    return path


@contextlib.contextmanager
def _held(lock: FileLock | None, path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if lock is not None:
            try:
                stack.enter_context(lock.held())
            except LedgerUnavailable as error:
                raise LedgerUnavailable(f"{path} is in use: {error}; stop every process that uses it first") from None
        yield


def _is_open(path: Path) -> bool:
    """Tell whether another process has it open. Before we do: to close a file gives up all locks on it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise LedgerUnavailable(f"{path}: cannot be written ({error.strerror}); {AS_ITS_USER}") from error
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, SHARED_SIZE, SHARED_FIRST)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _has_wal(path: Path) -> bool:
    wal = path.with_name(path.name + "-wal")
    return wal.exists() and wal.stat().st_size > 0


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    """Connect, and begin the transaction that sees the ledger as it is now.

    Raises:
        LedgerMismatch: it is none of this version.
    """
    db = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None)
    try:
        db.executescript("PRAGMA query_only = 1; PRAGMA wal_autocheckpoint = 0; PRAGMA busy_timeout = 2000;")
        db.text_factory = lambda text: text.decode(errors="surrogateescape")  # what is no UTF-8 is found, with its row
        db.execute("BEGIN")
        schema.check(db, path)
        _number(db)
    except BaseException:
        db.close()
        raise
    return db


def _number(db: sqlite3.Connection) -> None:
    """Let the statements ask for new numbers."""
    events, attempts = (Numbers(dict(db.execute(READ[name]))) for name in ("like_events", "like_attempts"))
    db.create_function("event_number", 3, events.of_event, deterministic=True)
    db.create_function("attempt_number", 2, attempts.of_attempt, deterministic=True)


def _seen(db: sqlite3.Connection, now: datetime) -> list[str]:
    found = db.execute(READ["seen"], {"since": microseconds(now - SILENT)}).fetchall()
    return [
        f"a {role} on {host} (pid {pid}) was seen {max(0.0, (now - moment(seen_at)).total_seconds()):.0f} s ago"
        for role, host, pid, seen_at in found
    ]


def _checked(table: str, columns: Sequence[str], row: Sequence[Any]) -> int:
    """Make sure that PostgreSQL can hold a row; gives its size, roughly."""
    size = 0
    for column, value in zip(columns, row, strict=True):
        if isinstance(value, str):
            size += len(value)
            if "\0" in value:
                raise _rejected(table, row, f"{column} holds a NUL character")
            if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
                raise _rejected(table, row, f"{column} is not UTF-8")
        elif isinstance(value, bytes):
            size += len(value)
        elif value is None and column in ("seq", "event_seq"):
            raise _rejected(table, row, "the time of its event is out of range, or its event is missing")
    return size


def _rejected(table: str, row: Sequence[Any], flaw: str) -> LedgerRejected:
    return LedgerRejected(
        f"{table}: row {row[0]}: {flaw}, which PostgreSQL cannot store; nothing was moved. "
        "Mend or delete that row in the old ledger (after a backup), then try again"
    )

"""What a person does to a SQLite ledger from outside: bring its tables up to date, take a secret off its list."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ringback.errors import LedgerUnavailable
from ringback.ledger import schema
from ringback.ledger.sqlite import keys
from ringback.ledger.sqlite.lock import FileLock


def migrate(path: Path) -> list[str]:
    """Take the steps that an older database lacks; gives those taken."""
    if path.is_dir():
        return []  # opening it says what is wrong
    with _held(path, "migrated") as connection:
        known = 0 < schema.stored_version(connection) < schema.schema_version()
        return schema.migrate(connection) if known else []


def forget_key(path: Path, fingerprint: str) -> int:
    """Take a secret off the ledger's list; gives how many open tasks were sent under it."""
    with _held(path, "changed") as connection:
        return keys.forget(connection, fingerprint)


@contextlib.contextmanager
def _held(path: Path, verb: str) -> Iterator[sqlite3.Connection]:
    """Hold the database under the lock that every writer takes, the closing included, since that checkpoints.

    Raises:
        LedgerUnavailable: it cannot be used; says why.
    """
    path = path.resolve()  # two names of one file must share one lock
    lock: FileLock | None = None
    try:
        lock = FileLock(path.with_name(path.name + ".lock"))
        with lock.held(), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            yield connection
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailable(f"{path}: cannot be {verb} ({error})") from error
    finally:
        if lock is not None:
            lock.close()

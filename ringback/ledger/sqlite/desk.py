"""A scribe's desk on SQLite: one more write connection to the file, under the same lock."""

import sqlite3
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

from ringback.ledger.desk import Desk
from ringback.ledger.sqlite import address, close_under, intake, prepare, unopened
from ringback.ledger.sqlite.commits import SqliteCommits
from ringback.ledger.sqlite.lock import FileLock


def open_desk(path: Path, dedup_days: int) -> Desk:
    """Open a database that is there.

    Raises:
        LedgerMismatch: it has another schema version.
        LedgerUnavailable: it cannot be opened right now.
    """
    lock = FileLock.beside(path)
    with ExitStack() as begun:
        begun.callback(lock.close)
        try:
            db = sqlite3.connect(**address(path, "rw"))
            begun.callback(close_under, db, lock)
            prepare(db, lock, path, create=False)
        except sqlite3.Error as error:
            raise unopened(path, error) from error
        record = partial(intake.record, dedup=timedelta(days=dedup_days))
        return Desk(record, db, partial(SqliteCommits, lock), begun.pop_all().close)

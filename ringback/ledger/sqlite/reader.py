"""Questions to a SQLite ledger: one after the other, on a connection that cannot write, each within its time.

The watch for other processes' commits, the poller and people ask over the same connection, so one slow question must
not hold up the others without end. Made by `SqliteLedger.open`.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Any, TypeVar

import aiosqlite

from ringback.errors import LedgerError, LedgerUnavailable
from ringback.ledger.sqlite.commits import trouble
from ringback.ledger.sqlite.thread import in_thread

Answer = TypeVar("Answer")

WAITING_BOUND = 200
LONG_SECONDS = 30.0
LOOK_STEPS = 100_000  # of SQLite's machine, after which it is looked at the clock: some milliseconds


class Reader:
    """Asks over one connection."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self.connection = connection
        self._asked = 0

    async def read(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call a function with the connection, in its thread.

        Raises:
            LedgerUnavailable: it cannot be read now.
            LedgerError: it cannot be read.
        """
        if self._asked >= WAITING_BOUND:
            raise LedgerUnavailable("too many questions wait for the ledger")
        self._asked += 1
        try:
            return await in_thread(self.connection, _in_time, function, arguments)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise LedgerUnavailable(f"the database took longer than {LONG_SECONDS:g} s to answer") from error
            raise trouble(error) or LedgerError(f"the ledger cannot be read ({error})") from error
        finally:
            self._asked -= 1


def _in_time(db: sqlite3.Connection, function: Callable[..., Answer], arguments: tuple[Any, ...]) -> Answer:
    end = time.monotonic() + LONG_SECONDS
    db.set_progress_handler(lambda: time.monotonic() > end, LOOK_STEPS)
    try:
        return function(db, *arguments)
    finally:
        db.set_progress_handler(None, 0)

"""One connection to the server, made anew where it was lost; and how far the server's clock is from ours."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ringback.ledger.postgres.connection import SERVER, STUCK_SECONDS, WRITABLE, Connection, connect
from ringback.ledger.postgres.faults import READ_ONLY, UNPREPARED, is_lost

MEASURED_SECONDS = 60.0  # then the clocks are compared again
SAME_SECONDS = 1.0  # clocks that are so near count as equal
OTHER_COLUMNS = "0A000"  # a prepared statement is known, but a migration has changed what it gives
CLOCK = b"SELECT extract(epoch FROM clock_timestamp())::float8"


class Clock:
    """How far the server's clock is ahead of ours, in whole seconds: leases of all machines go by the server's.

    Kept as its lead over the clock that nobody sets, so that ours may be set right, or wrong, at any moment.
    """

    def __init__(self) -> None:
        self._lead: float | None = None
        self._measured_at = 0.0
        self._measured_on: Connection | None = None

    @property
    def ahead(self) -> timedelta:
        """Tell how far; nothing before it was measured."""
        if self._lead is None:
            return timedelta()
        seconds = self._lead + time.monotonic() - time.time()
        return timedelta(seconds=round(seconds) if abs(seconds) >= SAME_SECONDS else 0)

    def measure(self, db: Connection) -> None:
        """Compare the clocks: now and then, and on every new connection, behind which may be another server."""
        started = time.monotonic()
        if self._measured_on is db and started - self._measured_at < MEASURED_SECONDS:
            return
        row = db.ask(CLOCK).fetchone()
        if row is not None:
            self._lead = row[0] - (started + time.monotonic()) / 2
            self._measured_at, self._measured_on = started, db


class Link:
    """A connection that heals. Used by one thread at a time.

    `patience_seconds`: how long one answer may take; without it, as long as is usual where callbacks wait.
    """

    def __init__(self, url: str, *, prepare: bool, writes: bool, patience_seconds: float = STUCK_SECONDS) -> None:
        self._url = url
        self._prepare = prepare
        self._writes = writes
        self._patience_seconds = patience_seconds
        self._connection: Connection | None = None

    def get(self) -> Connection:
        """Give the connection, which may turn out to be lost.

        Raises:
            psycopg.Error: there is none to be had.
        """
        if self._connection is None or self._connection.raw.closed:
            self.close()
            self._connection = self._connect()
        return self._connection

    def learn(self, error: psycopg.Error) -> None:
        """Draw the consequences of an error: the next connection may be another one."""
        if error.sqlstate in UNPREPARED:
            self._prepare = self._prepare and error.sqlstate == OTHER_COLUMNS
        if error.sqlstate in UNPREPARED or error.sqlstate == READ_ONLY or is_lost(error):
            self.close()

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _connect(self) -> Connection:
        """Connect to a server that takes writes; where one only reads, and there is none, any other will do."""
        several = "," in str(conninfo_to_dict(self._url).get("host", ""))
        wishes = [WRITABLE] if self._writes else [WRITABLE, {}] if several else [{}]
        for wish in wishes[:-1]:  # a standby may lag behind what we have written ourselves
            with contextlib.suppress(psycopg.OperationalError):
                return self._connected(wish)
        return self._connected(wishes[-1])

    def _connected(self, wish: Mapping[str, Any]) -> Connection:
        db = connect(self._url, prepare=self._prepare, patience_seconds=self._patience_seconds, **wish)
        if self._writes:
            row = db.ask(SERVER).fetchone()
            db.server = "" if row is None else row[0]
        return db


@contextlib.contextmanager
def transaction(db: Connection, begin: str) -> Iterator[None]:
    """Run a block in a transaction, without its commit: that is the caller's."""
    db.command(begin)
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg.Error):  # the first error is the one to tell
            db.command("ROLLBACK")
        raise

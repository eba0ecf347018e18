"""One connection to the server, made anew where it was lost; and how far the server's clock is from ours."""

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta

import psycopg

from ringback.ledger.postgres.connection import Connection, connect
from ringback.ledger.postgres.faults import READ_ONLY, UNPREPARED, is_lost

MEASURED_SECONDS = 60.0  # then the clocks are compared again
SAME_SECONDS = 1.0  # clocks that are so near count as equal
OTHER_COLUMNS = "0A000"  # a prepared statement is known, but a migration has changed what it gives
CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"


class Clock:
    """How far the server's clock is ahead of ours, in whole seconds: leases of all machines go by the server's."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self._measured_at: float | None = None

    def measure(self, raw: "psycopg.Connection[tuple[float]]") -> None:
        """Compare the clocks, now and then."""
        started = time.monotonic()
        if self._measured_at is not None and started - self._measured_at < MEASURED_SECONDS:
            return
        ours = time.time()
        row = raw.execute(CLOCK).fetchone()
        took = time.monotonic() - started
        self._measured_at = started
        if row is not None:
            seconds = row[0] - ours - took / 2
            self.ahead = timedelta(seconds=round(seconds) if abs(seconds) >= SAME_SECONDS else 0)


class Link:
    """A connection that heals. Used by one thread at a time."""

    def __init__(self, url: str, *, prepare: bool, writes: bool) -> None:
        self._url = url
        self._prepare = prepare
        self._wish = {"target_session_attrs": "read-write"} if writes else {}
        self._connection: Connection | None = None

    def get(self) -> Connection:
        """Give the connection, which may turn out to be lost.

        Raises:
            psycopg.Error: there is none to be had.
        """
        if self._connection is None or self._connection.raw.closed:
            self._connection = connect(self._url, prepare=self._prepare, **self._wish)
        return self._connection

    def cut(self, seconds: float) -> bool:
        """End a wait of the other thread that has taken longer than this."""
        connection = self._connection
        return connection is not None and connection.cut(seconds)

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

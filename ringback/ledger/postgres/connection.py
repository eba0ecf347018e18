"""Lets the functions that both engines share run on PostgreSQL: a connection that speaks as `sqlite3` does.

They name their statements; here is looked up what PostgreSQL runs in place of each. Rows of values go as one JSON
parameter: its text is the same for any number of them, so it is planned once, and to write it costs a tenth of what
binding each value does. A binary value is base64 in it.
"""

import contextlib
import hashlib
import os
import re
import socket
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

import msgspec
import psycopg
from psycopg import generators
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from ringback.ledger.postgres.guard import GUARD
from ringback.ledger.queries import Statement, load

FILES = (
    *("intake", "tasks", "settling", "claims", "fan_out", "steps", "operations", "matching", "reports", "retention"),
    *("keys", "results", "expectations", "costs"),
)
QUERIES: Mapping[str, bytes] = {
    statement.key: statement.encode() for file in FILES for statement in load(f"postgres/{file}.sql").values()
}
# What reads that which it has just written: the server calls it a SELECT.
WRITING = frozenset(
    key for key, query in QUERIES.items() if re.search(rb" AS (MATERIALIZED )?\(\s*(DELETE|UPDATE) ", query)
)
MOST_PREPARED = 500
STUCK_SECONDS = 3.0  # longer than a statement of the writer may take: the server has ended it, or answers no more
# Where the URL says nothing else. A server that is gone is noticed within 3 s, before who waits for an answer gives up.
DEFAULTS: Mapping[str, Any] = {
    "connect_timeout": 2,
    "application_name": "ringback",
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 3000,
}
WRITABLE: Mapping[str, Any] = {"target_session_attrs": "read-write"}  # of several hosts; a standby takes no writes
# Another one after a restart, a crash (after which statistics begin anew) or a failover.
SERVER = b"SELECT concat_ws(' ', pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter))"
SELECT = b"SELECT"

Command = tuple[bytes, Sequence[bytes]]  # a query, and its values as text

_rows_text = msgspec.json.Encoder().encode


class Row(tuple[Any, ...]):
    """A row whose values are found by name, too."""

    __slots__ = ()
    names: Mapping[str, int] = {}

    def __getitem__(self, place: Any) -> Any:
        """Give a value by its place or its column's name."""
        return tuple.__getitem__(self, self.names[place] if isinstance(place, str) else place)


class Cursor:
    """What a statement gave."""

    __slots__ = ("_found", "row_factory")

    def __init__(self, found: "psycopg.Cursor[tuple[Any, ...]]") -> None:
        self._found = found
        self.row_factory: Any = None  # anything but None: rows by name, as `sqlite3.Row`

    @property
    def description(self) -> Any:
        """Tell the columns; the name of each is its first item."""
        return self._found.description

    @property
    def rowcount(self) -> int:
        """Tell how many rows were changed, or found."""
        return self._found.rowcount

    def fetchone(self) -> Any:
        """Give the next row."""
        found = self._found.fetchone()
        return found if found is None or self.row_factory is None else self._by_name()(found)

    def fetchall(self) -> list[Any]:
        """Give all rows that are left."""
        found = self._found.fetchall()
        return list(map(self._by_name(), found)) if self.row_factory is not None else found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())

    def _by_name(self) -> type[Row]:
        names: dict[str, int] = {}
        for place, column in enumerate(self._found.description or ()):
            names.setdefault(column.name, place)
        return type("NamedRow", (Row,), {"__slots__": (), "names": names})


class Connection:
    """A connection to the server, used by one thread at a time.

    `patience_seconds`: how long an answer may take until the connection counts as dead; None: as long as it likes.
    """

    def __init__(self, raw: "psycopg.Connection[tuple[Any, ...]]", patience_seconds: float | None = None) -> None:
        self.raw = raw
        self.total_changes = 0  # rows written, as SQLite counts them
        self.patience_seconds = patience_seconds
        self.server = ""  # which one answers, of those that have been, as far as a connection that writes has asked
        self._asked_at: float | None = None  # since when an answer is waited for
        self._prepared: set[bytes] = set()  # names of what `together` has had prepared
        GUARD.watch(self)

    def execute(self, statement: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> Cursor:
        """Run what PostgreSQL has in place of a named statement."""
        if not isinstance(statement, Statement):
            return Cursor(self.raw.cursor())  # BEGIN and ROLLBACK of a reader: what it reads is one snapshot already
        if statement.size:
            values = {"rows": rows(cast("Sequence[Any]", values))}
        found = self.ask(QUERIES[statement.key], values)
        result = found.pgresult
        read = result is None or (result.command_status or SELECT).startswith(SELECT)
        if not read or statement.key in WRITING:
            self.total_changes += found.rowcount
        return Cursor(found)

    def ask(self, query: bytes, values: Any = None, prepare: bool | None = None) -> "psycopg.Cursor[tuple[Any, ...]]":
        """Run a query and wait for its answer, not for ever."""
        self._asked_at = time.monotonic()
        try:
            # As binary, a body need not be spelt out in hex, nor a number in digits. Several commands cannot have it.
            return self.raw.execute(query, values, prepare=prepare, binary=prepare is None)
        finally:
            self._asked_at = None

    def together(self, commands: Sequence[Command]) -> Sequence[PGresult]:
        """Send queries in one packet, each with its values, and wait for what became of each.

        The server does them in turn; where one fails, it leaves out the rest. This is libpq's pipeline mode without
        psycopg's, which sends, and so wakes the server, at each of them.

        Raises:
            psycopg.Error: the first that failed says why.
        """
        pgconn = self.raw.pgconn
        self._asked_at = time.monotonic()
        try:
            pgconn.enter_pipeline_mode()
            try:
                found = self.raw.wait(self._found(commands))
            finally:
                if pgconn.status != ConnStatus.BAD:
                    pgconn.exit_pipeline_mode()
        finally:
            self._asked_at = None
        if (failed := next(filter(_has_failed, found), None)) is not None:
            raise error_from_result(failed)
        return found

    def _found(self, commands: Sequence[Command]) -> Generator[Any, Any, list[PGresult]]:
        """Send the commands; gives what became of each, and of what prepares one before it."""
        pgconn = self.raw.pgconn
        sent = self._sent(commands)
        pgconn.pipeline_sync()
        yield from generators.send(pgconn)
        found: list[PGresult] = []
        try:
            while len(found) <= len(sent):  # the last one only tells that there are no more
                if not (answers := (yield from generators.fetch_many(pgconn))):
                    raise psycopg.OperationalError("the connection was lost")
                found += answers
        except psycopg.OperationalError:
            if not any(map(_has_failed, found)):  # which says why the connection has ended
                raise
        pairs = zip(sent, found, strict=False)
        self._prepared |= {name for name, result in pairs if name and not _has_failed(result)}
        return found[: len(sent)]

    def _sent(self, commands: Sequence[Command]) -> list[bytes]:
        """Hand the commands to libpq; gives, for each answer to come, the name of what it prepares, if it does."""
        pgconn, sent = self.raw.pgconn, []
        for query, values in commands:
            if self.raw.prepare_threshold is None:
                pgconn.send_query_params(query, values)
            else:
                name = prepared_name(query)
                if name not in self._prepared and name not in sent:
                    pgconn.send_prepare(name, query)
                    sent.append(name)
                pgconn.send_query_prepared(name, values)
            sent.append(b"")
        return sent

    def command(self, text: str) -> None:
        """Run commands that take no values, several in one go."""
        self.ask(text.encode(), prepare=False)

    def cut(self) -> bool:
        """End the wait of the thread that has waited too long for an answer; tells whether it did.

        A server that hangs, or a network that swallows packets, would keep it for ever. Called from any thread.
        """
        asked_at, patience = self._asked_at, self.patience_seconds
        if asked_at is None or patience is None or time.monotonic() - asked_at < patience:
            return False
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.raw.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
        return True

    def close(self) -> None:
        """Let go of it."""
        GUARD.leave(self)
        self.raw.close()


@cache
def prepared_name(query: bytes) -> bytes:
    """Name a prepared query by what it says: behind a pooler, another one's may be there, and then it is the same."""
    return b"ringback_" + hashlib.sha256(query).hexdigest()[:32].encode()


def _has_failed(result: PGresult) -> bool:
    return result.status in (ExecStatus.FATAL_ERROR, ExecStatus.PIPELINE_ABORTED)


def rows(values: Sequence[Any]) -> str:
    """Write rows of values as one JSON text."""
    return _rows_text(values).decode()


def connect(url: str, *, prepare: bool, patience_seconds: float | None = None, **more: Any) -> Connection:
    """Connect, with our own wishes where the URL has none.

    Raises:
        psycopg.Error: it cannot be done.
    """
    raw = psycopg.connect(url, autocommit=True, **wishes_for(url, more))
    raw.prepare_threshold = 3 if prepare else None
    raw.prepared_max = MOST_PREPARED
    for dumper in (Int8Dumper, Int8BinaryDumper):  # else the type of a parameter depends on how large the number is
        raw.adapters.register_dumper(int, dumper)
    return Connection(raw, patience_seconds)


def wishes_for(url: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """Give our own wishes, but for those that the URL has."""
    given = conninfo_to_dict(url)
    return {name: wish for name, wish in {**DEFAULTS, **more}.items() if name not in given}

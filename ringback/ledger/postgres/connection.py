"""Lets the functions that both engines share run on PostgreSQL: a connection that speaks as `sqlite3` does.

They name their statements; here is looked up what PostgreSQL runs in place of each. Rows of values go as one JSON
parameter: its text is the same for any number of them, so it is planned once, and to write it costs a tenth of what
binding each value does. A binary value is base64 in it.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from ringback.ledger.queries import Statement, load

FILES = (
    *("intake", "tasks", "settling", "claims", "fan_out", "steps", "operations", "matching", "reports", "retention"),
    *("keys", "results", "expectations", "costs"),
)
QUERIES: Mapping[str, bytes] = {
    statement.key: statement.encode() for file in FILES for statement in load(f"postgres/{file}.sql").values()
}
MOST_PREPARED = 500
# Where the URL says nothing else. A server that is gone is noticed within 3 s, before who waits for an answer gives up.
DEFAULTS: Mapping[str, Any] = {
    "connect_timeout": 2,
    "application_name": "ringback",
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 3000,
}
SELECT = b"SELECT"

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
    """A connection to the server, used by one thread at a time."""

    def __init__(self, raw: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self.raw = raw
        self.total_changes = 0  # rows written, as SQLite counts them
        self._asked_at: float | None = None  # since when an answer is waited for

    def execute(self, statement: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> Cursor:
        """Run what PostgreSQL has in place of a named statement."""
        if not isinstance(statement, Statement):
            return Cursor(self.raw.cursor())  # BEGIN and ROLLBACK of a reader: what it reads is one snapshot already
        if statement.size:
            values = {"rows": rows(cast("Sequence[Any]", values), statement.size)}
        self._asked_at = time.monotonic()
        found = self.raw.execute(QUERIES[statement.key], values)
        self._asked_at = None
        result = found.pgresult
        if result is not None and not (result.command_status or SELECT).startswith(SELECT):
            self.total_changes += found.rowcount
        return Cursor(found)

    def command(self, text: str) -> None:
        """Run commands that take no values, several in one go."""
        self._asked_at = time.monotonic()
        self.raw.execute(text.encode(), prepare=False)
        self._asked_at = None

    def cut(self, seconds: float) -> bool:
        """End the wait of the thread that has waited longer than this for an answer; tells whether it did.

        A server that hangs, or a network that swallows packets, would keep it for ever. Called from any thread.
        """
        asked_at = self._asked_at
        if asked_at is None or time.monotonic() - asked_at < seconds:
            return False
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.raw.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
        return True

    def close(self) -> None:
        """Let go of it."""
        self.raw.close()


def rows(values: Sequence[Any], count: int) -> str:
    """Write the values of so many rows as one JSON text."""
    width = len(values) // count
    return _rows_text([values[start : start + width] for start in range(0, len(values), width)]).decode()


def connect(url: str, *, prepare: bool, **more: Any) -> Connection:
    """Connect, with our own wishes where the URL has none.

    Raises:
        psycopg.Error: it cannot be done.
    """
    wishes = {**DEFAULTS, **more}
    given = conninfo_to_dict(url)
    raw = psycopg.connect(url, autocommit=True, **{name: wish for name, wish in wishes.items() if name not in given})
    raw.prepare_threshold = 3 if prepare else None
    raw.prepared_max = MOST_PREPARED
    for dumper in (Int8Dumper, Int8BinaryDumper):  # else the type of a parameter depends on how large the number is
        raw.adapters.register_dumper(int, dumper)
    return Connection(raw)

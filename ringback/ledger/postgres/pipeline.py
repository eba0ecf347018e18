"""Runs a batch with as few waits for the server as can be: two, where each statement by itself would be six.

What gives nothing back is kept until an answer is needed, by a statement that reads or by the commit, and then goes
together with it. Stands in for a `Connection` while the operations of a batch run. Used by `commits` alone.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.pq.abc import PGresult

from ringback.ledger.postgres.connection import QUERIES, Command, Connection, Cursor, rows
from ringback.ledger.queries import Statement

# What gives nothing back, and what gives one text. All else is run by itself.
QUIET = frozenset(
    f"intake.{name}"
    for name in (
        *("insert_unknown_tasks", "advance_tasks", "learn_provider_ids", "insert_events", "count_duplicates"),
        *("insert_callbacks", "count_rejections"),
    )
)
TEXTS = frozenset({"intake.tasks_by_id", "intake.tasks_by_provider_id"})
PLACE = re.compile(rb"%\(\w+\)s")  # each of them has one value
NUMBERED: Mapping[str, bytes] = {key: PLACE.sub(b"$1", QUERIES[key]) for key in QUIET | TEXTS}


class Text:
    """The one text that a statement gave."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def fetchone(self) -> tuple[str]:
        """Give the row."""
        return (self._text,)


class Pipeline:
    """A transaction that keeps statements back. It begins with these commands."""

    def __init__(self, db: Connection, first: Sequence[bytes]) -> None:
        self._db = db
        self._commands: list[Command] = [(command, ()) for command in first]
        self.writes = False  # whether there was anything to write

    def execute(self, statement: Statement, values: Any = ()) -> Cursor | Text | None:
        """Run what PostgreSQL has in place of a named statement, or keep it for later."""
        key = statement.key
        if key in QUIET:
            self.writes = True
            self._commands.append((NUMBERED[key], (rows(values).encode(),)))
            return None
        if key in TEXTS:
            (value,) = values.values()
            self._commands.append((NUMBERED[key], (value.encode(),)))
            return Text((self.send()[-1].get_value(0, 0) or b"").decode())
        self.send()
        return self._db.execute(statement, values)

    def send(self, *last: bytes) -> Sequence[PGresult]:
        """Send what was kept, and these commands; gives what became of each, and of what prepares them.

        Raises:
            psycopg.Error: the first that failed says why.
        """
        commands = [*self._commands, *((command, ()) for command in last)]
        self._commands.clear()
        if not commands:
            return ()
        results = self._db.together(commands)
        for result in results:
            if result.command_status and result.command_status.startswith((b"INSERT", b"UPDATE")):
                self._db.total_changes += result.command_tuples or 0
        return results

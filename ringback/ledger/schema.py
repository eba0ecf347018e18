"""Makes a fresh SQLite ledger from `schema.sql`, and tells whether an existing one fits this program.

`schema.sql` lies inside the installed package (the wheel puts it there), else at the root of the repository.
"""

import re
import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from ringback.errors import LedgerMismatch

MIGRATION = re.compile(r"(\d{4})_\w+\.sql")


def schema_text() -> str:
    """Read the whole current schema."""
    packaged = files("ringback.ledger").joinpath("schema.sql")
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "schema.sql").read_text(encoding="utf-8")


def schema_version(text: str | None = None) -> int:
    """Give the version that this program works with."""
    found = re.search(r"^PRAGMA user_version = (\d+);$", text or schema_text(), re.MULTILINE)
    if found is None:
        raise LedgerMismatch("schema.sql declares no user_version; reinstall Ringback")
    return int(found[1])


def migrations() -> Iterator[tuple[int, str, str]]:
    """Give the steps from version to version: the version that a step reaches, its file's name, its SQL."""
    folder = files("ringback.ledger").joinpath("migrations/sqlite")
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if (match := MIGRATION.fullmatch(entry.name)) is not None:
            yield int(match[1]), entry.name, entry.read_text(encoding="utf-8")


def stored_version(connection: sqlite3.Connection) -> int:
    """Read the version of an open database; 0 when it is empty."""
    row = connection.execute("PRAGMA user_version").fetchone()
    return int(row[0])


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that this program cannot work with.

    Raises:
        LedgerMismatch: says which version it has and what to do.
    """
    have, want = stored_version(connection), schema_version()
    if have == want:
        return
    if have > want:
        raise LedgerMismatch(
            f"{path}: made by a newer Ringback (schema {have}, this one knows {want}); upgrade Ringback"
        )
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if have == 0 and tables:
        raise LedgerMismatch(f"{path}: a SQLite database, but not a Ringback ledger; name another file")
    raise LedgerMismatch(f"{path}: schema {have}, this Ringback needs {want}; run: ringback migrate")


def create(connection: sqlite3.Connection) -> None:
    """Make every table in an empty database; one transaction, the caller's lock."""
    connection.executescript(f"BEGIN IMMEDIATE;\n{schema_text()}\nCOMMIT;")


def migrate(connection: sqlite3.Connection) -> list[str]:
    """Bring an older database to the current version, each step in a transaction of its own; gives the steps taken."""
    taken = []
    for version, name, sql in migrations():
        if version > stored_version(connection):
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {version:d};\nCOMMIT;")
            taken.append(name)
    return taken

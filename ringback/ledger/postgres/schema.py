"""Makes the tables of a PostgreSQL ledger, brings older ones up to date, and tells whether they fit this program.

Each step stands in a transaction with its record in `ringback_migrations`, and one process takes it.
"""

import re
from collections.abc import Iterator
from importlib.resources import files

import psycopg

from ringback.errors import LedgerError, LedgerMismatch, LedgerMissing, SettingsError
from ringback.ledger.postgres import faults
from ringback.ledger.postgres.connection import Connection
from ringback.ledger.schema import MIGRATION
from ringback.settings_values import without_password

OLDEST_SERVER = 130000  # the status of a transaction
RECORDS = "ringback_migrations"
# Not to_regclass: that may still know from before a lock was had that there is none.
IS_THERE = b"SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = %s AND relkind = 'r' AND pg_table_is_visible(oid))"
ARE_THERE = (
    b"SELECT relname FROM pg_class WHERE relname = ANY(%s) AND relkind IN ('r', 'p') AND pg_table_is_visible(oid)"
)
MADE = re.compile(r"^CREATE TABLE (\w+)", re.MULTILINE)
MAKE_RECORDS = (
    f"CREATE TABLE IF NOT EXISTS {RECORDS} "
    '(version bigint PRIMARY KEY, name text COLLATE "C" NOT NULL, taken_at timestamptz NOT NULL DEFAULT now())'
)
ELSEWHERE = (
    "name another database, or another schema: make it first, with CREATE SCHEMA ringback, "
    "then add ?options=-csearch_path%3Dringback"
)


def steps() -> Iterator[tuple[int, str, str]]:
    """Give the steps from version to version: the version that a step reaches, its file's name, its SQL."""
    folder = files("ringback.ledger").joinpath("migrations/postgres")
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if (match := MIGRATION.fullmatch(entry.name)) is not None:
            yield int(match[1]), entry.name, entry.read_text(encoding="utf-8")


def version() -> int:
    """Give the version that this program works with."""
    return max(step[0] for step in steps())


def stored_version(db: Connection) -> int:
    """Read the version of a database; 0 where it holds no ledger."""
    row = db.ask(IS_THERE, (RECORDS,)).fetchone()
    if row is None or not row[0]:
        return 0
    row = db.ask(b"SELECT coalesce(max(version), 0) FROM ringback_migrations").fetchone()
    return 0 if row is None else int(row[0])


def prepare(db: Connection, url: str, *, create: bool) -> list[str]:
    """Make the tables where there are none and it is allowed, and check the version; gives the steps taken.

    Raises:
        LedgerMissing: there are none.
        LedgerMismatch: the server or its tables do not fit.
    """
    place = without_password(url)
    if db.raw.info.server_version < OLDEST_SERVER:
        raise LedgerMismatch(
            f"{place}: PostgreSQL {db.raw.info.server_version // 10000} is too old; 13 or newer is needed"
        )
    if (encoding := db.raw.info.parameter_status("server_encoding")) != "UTF8":
        raise LedgerMismatch(f"{place}: its encoding is {encoding}; create the database with ENCODING 'UTF8'")
    have, want = stored_version(db), version()
    if have == 0 and create:
        return migrate(db, url)
    if have == 0:
        raise LedgerMissing(
            f"{place}: there is no ledger; start `ringback up` or `ringback serve`, or run `ringback migrate`"
        )
    if have > want:
        raise LedgerMismatch(
            f"{place}: made by a newer Ringback (schema {have}, this one knows {want}); upgrade Ringback"
        )
    if have < want:
        raise LedgerMismatch(f"{place}: schema {have}, this Ringback needs {want}; run: ringback migrate")
    return []


def migrate(db: Connection, url: str) -> list[str]:
    """Take the steps that a database lacks, each in a transaction of its own; gives those taken."""
    taken = []
    patience, db.patience_seconds = db.patience_seconds, None  # a step may take its time
    for number, name, text in steps():
        try:
            with db.raw.transaction():
                if _take(db, number, name, text):
                    taken.append(name)
        except psycopg.errors.DuplicateTable as error:
            taken_by = _taken_by(db, text) or f"another program's tables are there ({str(error).splitlines()[0]});"
            raise LedgerMismatch(f"{without_password(url)}: {taken_by} {ELSEWHERE}") from error
    db.patience_seconds = patience
    return taken


def _take(db: Connection, number: int, name: str, text: str) -> bool:
    db.command("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '10s'")
    db.command("SELECT pg_advisory_xact_lock(7460, 0)")
    if stored_version(db) >= number:
        return False
    db.command(MAKE_RECORDS)
    db.command(text)
    db.raw.execute("INSERT INTO ringback_migrations (version, name) VALUES (%s, %s)", (number, name))
    return True


def _taken_by(db: Connection, step: str) -> str:
    """Say of tables that are in a step's way that they are a ledger's; nothing where they are not."""
    ours = {RECORDS, *MADE.findall(step)}
    there = {row[0] for row in db.ask(ARE_THERE, (list(ours),)).fetchall()}
    if stored_version(db) > 0 or not (RECORDS in there or ours - there == {RECORDS}):
        return ""
    flaw = "is empty" if RECORDS in there else "is gone"
    return (
        f"a ledger, but its table {RECORDS} {flaw}, so its version is not known; "
        "restore the whole backup into an empty database, or"
    )


def unopened(url: str, error: psycopg.Error) -> LedgerError | SettingsError:
    """Say why a database cannot be opened."""
    if flaw := faults.url_fault(url, error):
        return SettingsError(f"{without_password(url)}: {flaw}")
    if 'database "' in str(error) and "does not exist" in str(error):
        return LedgerMissing(f"{without_password(url)}: there is no such database; create it first")
    return faults.trouble(error)

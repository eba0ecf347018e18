"""The PostgreSQL database that a ledger is moved to: one transaction, which ends in nothing unless it is committed."""

import contextlib
import re
from collections.abc import Iterator

import psycopg

from ringback.errors import LedgerMismatch, LedgerRejected, LedgerUnavailable
from ringback.ledger.moving.proof import Proof, prove
from ringback.ledger.moving.source import Batch
from ringback.ledger.postgres import faults, partitions, schema
from ringback.ledger.postgres.connection import Connection, connect
from ringback.ledger.postgres.link import transaction
from ringback.ledger.queries import load
from ringback.settings_values import without_password

MOST_WEEKS = 208  # four years: each takes some ten of the server's locks until the commit
LOCK_SECONDS = 10.0
WRITE, PROVE = load("moving/write.sql"), load("moving/prove.sql")
LINE = re.compile(r"^COPY \w+, line (\d+)", re.MULTILINE)
# A server that writes many rows into its indexes may be silent for longer than one that answers callbacks.
PATIENCE = {"connect_timeout": 5, "keepalives_idle": 30, "keepalives_interval": 10, "tcp_user_timeout": 120_000}


class Target:
    """An open database, within the transaction."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    def make_room(self, oldest: int, now: int) -> None:
        """Make the partitions of all weeks there are rows of: many in the default one would hold up each new one."""
        partitions.make_ahead(self._db, max(oldest // 1000, now // 1000 - MOST_WEEKS * partitions.WEEK))
        _be_patient(self._db)

    def write(self, table: str, batch: Batch) -> None:
        """Write some rows.

        Raises:
            LedgerRejected: one of them cannot be stored; names it.
        """
        try:
            with self._db.raw.cursor() as cursor, cursor.copy(WRITE[table].encode()) as copy:
                for row in batch.rows:
                    copy.write_row(row[1:])
        except psycopg.Error as error:
            if not faults.is_records_fault(error):
                raise
            line = LINE.search(error.diag.context or "")
            which = f"row {batch.label(int(line[1]) - 1)}" if line else "a row"
            raise LedgerRejected(f"{table}: {which} cannot be stored ({_said(error)}); nothing was moved") from error

    def settle(self) -> None:
        """Make the tables ready: numbers go on behind those that were copied, and plans know how much there is."""
        self._db.raw.execute(WRITE["count_on"].encode())
        self._db.raw.execute(WRITE["analyze"].encode())

    def proof(self, table: str) -> Proof:
        """Read a table for its proof."""
        text = PROVE[table].encode()
        columns = [column.name for column in self._db.raw.execute(text + b" LIMIT 0").description or ()]
        with self._db.raw.cursor() as cursor:
            return prove(table, columns, cursor.stream(text, binary=True))

    def commit(self) -> None:
        """Make it last.

        Raises:
            LedgerUnavailable: the connection was lost meanwhile.
        """
        try:
            self._db.command("COMMIT")
        except psycopg.Error as error:
            if not faults.is_lost(error):
                raise
            raise LedgerUnavailable(
                f"the connection was lost at the very end ({_said(error)}): all may be moved, or nothing. "
                "Try again: if all was moved, it says that the database is not empty"
            ) from error


@contextlib.contextmanager
def opened_target(url: str) -> Iterator[Target]:
    """Open a database for a block, with tables that are empty; made first where there are none.

    Raises:
        LedgerError: it cannot be used; says why.
    """
    place = without_password(url)
    try:
        db = connect(url, prepare=False, target_session_attrs="read-write", **PATIENCE)
    except psycopg.Error as error:
        reason = schema.unopened(url, error)
        raise type(reason)(str(reason) if str(reason).startswith(place) else f"{place}: {reason}") from error
    try:
        with transaction(db, "BEGIN"):
            _prepare(db, url)
            yield Target(db)
    except psycopg.Error as error:
        advice = faults.ADVICE.get(error.sqlstate or "", "the database cannot be used right now")
        raise LedgerUnavailable(f"{place}: {advice} ({_said(error)}); nothing was moved") from error
    finally:
        db.close()


def _prepare(db: Connection, url: str) -> None:
    schema.prepare(db, url, create=True)
    _be_patient(db)
    db.command(WRITE["lock"])
    if filled := [row[0] for row in db.raw.execute(WRITE["filled"].encode())]:
        raise LedgerMismatch(
            f"{without_password(url)}: not empty, it has {', '.join(filled)} already; nothing was moved. "
            "Name a new database (createdb makes one), or drop and create this one if nobody needs what is in it"
        )


def _be_patient(db: Connection) -> None:
    """Take back the limits that others have set for their moments, or for ever."""
    db.raw.execute(WRITE["patience"].encode())
    db.command(f"SET LOCAL lock_timeout = '{LOCK_SECONDS:g}s'")


def _said(error: psycopg.Error) -> str:
    """Give an error without its details, which quote what was to be stored."""
    return error.diag.message_primary or " ".join(str(error).split())[:300]

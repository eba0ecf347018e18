"""What a person does to a PostgreSQL ledger from outside: bring its tables up to date, take a secret off its list."""

import contextlib
from collections.abc import Iterator

import psycopg

from ringback.ledger.postgres import faults, partitions, schema
from ringback.ledger.postgres.commits import BEGIN
from ringback.ledger.postgres.connection import Connection
from ringback.ledger.postgres.link import Link, transaction
from ringback.ledger.sqlite import keys


def migrate(url: str, *, create: bool) -> tuple[bool, list[str]]:
    """Take the steps that an older database lacks, or make its tables; tells also whether it was we who made them."""
    with _connected(url) as db:
        existed = schema.stored_version(db) > 0
        taken = schema.migrate(db, url) if existed else schema.prepare(db, url, create=create)
        partitions.make_ahead(db)
        return not existed and bool(taken), taken  # who took none came second


def forget_key(url: str, fingerprint: str) -> int:
    """Take a secret off the ledger's list; gives how many open tasks were sent under it."""
    with _connected(url) as db:
        with transaction(db, BEGIN):
            count = keys.forget(db, fingerprint)  # type: ignore[arg-type]
        db.command("COMMIT")
        return count


@contextlib.contextmanager
def _connected(url: str) -> Iterator[Connection]:
    """Connect for a block.

    Raises:
        LedgerError: it cannot be done; says why.
    """
    link = Link(url, prepare=False, writes=True)
    try:
        try:
            db = link.get()
        except psycopg.Error as error:
            raise schema.unopened(url, error) from error
        yield db
    except psycopg.Error as error:
        raise faults.trouble(error) from error
    finally:
        link.close()

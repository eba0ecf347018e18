"""A scribe's desk on PostgreSQL: one more connection that writes."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg

from ringback.ledger.desk import Desk
from ringback.ledger.postgres import schema
from ringback.ledger.postgres.commits import PostgresCommits
from ringback.ledger.postgres.link import Clock, Link
from ringback.ledger.postgres.times import moved_arrivals
from ringback.ledger.sqlite import intake
from ringback.model import Arrival, Receipt


def open_desk(url: str, dedup_days: int) -> Desk:
    """Open a database whose tables are there.

    Raises:
        LedgerMismatch: they have another schema version.
        LedgerUnavailable: it cannot be opened right now.
    """
    link, clock = Link(url, prepare=True, writes=True), Clock()
    try:
        db = link.get()
        schema.prepare(db, url, create=False)
        clock.measure(db)
    except BaseException as error:
        link.close()
        if isinstance(error, psycopg.Error):
            raise schema.unopened(url, error) from error
        raise
    dedup = timedelta(days=dedup_days)

    def record(db: Any, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        return intake.record(db, moved_arrivals(arrivals, clock.ahead), dedup)

    token = secrets.token_hex(8)  # not the receiver's own: what is written here is news to it
    commits = partial(PostgresCommits, clock, (record,), lambda _db, _answers: None, token)  # no answer promises work
    return Desk(record, link, commits, link.close)

"""Makes a PostgreSQL ledger look as if it had been written weeks ago: where its rows lie, the server's clock says."""

import psycopg

from ringback.ledger.postgres import partitions
from ringback.ledger.postgres.connection import Connection

WEEK_OF_SEQ = partitions.WEEK << partitions.SHIFT
# Everything that names an event, or has a time of its own in its number.
COLUMNS = (
    *(("events", "seq"), ("facts", "event_seq"), ("waiting", "event_seq"), ("deliveries", "event_seq")),
    *(("steps", "event_seq"), ("results", "event_seq"), ("attempts", "seq")),
)


def age(url: str, weeks: int) -> None:
    """Have it all written so many weeks earlier, each week with its partitions."""
    with psycopg.connect(url, autocommit=True) as raw:
        db = Connection(raw)
        partitions.make_ahead(db, partitions._now(db) - weeks * partitions.WEEK)
        with raw.transaction():
            for table, column in COLUMNS:
                shift = f"UPDATE {table} SET {column} = {column} - {weeks * WEEK_OF_SEQ} WHERE {column} > 0"  # noqa: S608
                raw.execute(shift.encode())


def lying_in(url: str, table: str = "events") -> dict[str, int]:
    """Count the rows of each partition that has any."""
    counted = f"SELECT tableoid::regclass::text, count(*) FROM {table} GROUP BY 1"  # noqa: S608
    with psycopg.connect(url) as db:
        return dict(db.execute(counted.encode()).fetchall())


def weeks(url: str, table: str = "events") -> list[str]:
    """Name the partitions of weeks."""
    with psycopg.connect(url, autocommit=True) as raw:
        return [week.name for week in partitions.listed(Connection(raw), table)]

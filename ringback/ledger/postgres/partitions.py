"""The partitions of `events` and `attempts`, a week each: made ahead, and dropped when nothing is left in them.

The ledger has them made when it is opened or migrated and, while it stays open, once an hour; it has them dropped when
pruning has come to its end. Any number of processes may do so at once. Nothing waits for it: what has no partition of
its own lies in the default one, and what cannot be had within moments is left to the next time. This module never
touches a row, but for those that landed in the default partition.
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, LiteralString, NamedTuple

import psycopg
import structlog
from psycopg import sql

from ringback.ledger.postgres import faults
from ringback.ledger.postgres.connection import Connection

log = structlog.get_logger("ringback.ledger")

DAY = 86_400_000  # milliseconds, as all times here
WEEK = 7 * DAY
MONDAY = 4 * DAY  # the first one after 1970 began
SHIFT = 20  # a seq begins with the millisecond; so many bits tell apart what was written in the same one
# Each partition is one more lock for every statement that learns only as it runs where its rows lie.
AHEAD = 4
MOVED = 10_000  # rows of the default partition that are moved while nobody can write: some 0.2 s
TRIES = 5
PAUSE_SECONDS = 0.2
# Who waits for a table, or holds it, keeps everybody waiting who comes after.
BRIEF_WAIT = "SET LOCAL lock_timeout = '50ms'"
BRIEF_HOLD = "SET LOCAL statement_timeout = '300ms'"
HELD = faults.HELD | {"57014"}
# What is written once and updated soon after, in place where the page has room.
STORAGE: dict[str, LiteralString] = {
    "events": (
        "fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, "
        "autovacuum_analyze_scale_factor = 0.05"
    ),
    "attempts": "autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1",
}
BOUNDS = re.compile(r"FROM \('(-?\d+)'\) TO \('(-?\d+)'\)")
LISTED = b"""
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid)
FROM pg_class p JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid
WHERE p.relname = %s AND p.relkind = 'p' AND pg_table_is_visible(p.oid) ORDER BY c.relname
"""
CLOCK = b"SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
# A copy of the table, to be attached when it is ready.
CREATE = "CREATE TABLE {week} (LIKE {table} INCLUDING ALL) WITH ({storage})"
ATTACH = "ALTER TABLE {table} ATTACH PARTITION {week} FOR VALUES FROM ({begin}) TO ({end})"
DETACH = "ALTER TABLE {table} DETACH PARTITION {week}"
DROP = "DROP TABLE {week}"
# What lies in the default partition and belongs into a week.
STRAYS = "SELECT count(*) FROM (SELECT 1 FROM {rest} WHERE seq >= {begin} AND seq < {end} LIMIT {most} + 1) strays"
KEEP_OUT = "LOCK TABLE {rest} IN ACCESS EXCLUSIVE MODE"
MOVE = """
WITH moved AS (DELETE FROM {rest} WHERE seq >= {begin} AND seq < {end} RETURNING *)
INSERT INTO {week} SELECT * FROM moved
"""
FIRST_ROW = "SELECT seq FROM {week} ORDER BY seq LIMIT 1"


class Partition(NamedTuple):
    """One week of a table; its end is the next one's beginning."""

    table: str
    name: str
    begin: int
    end: int


class TooMany(Exception):
    """More rows lie in the default partition than can be moved while everybody waits."""


def listed(db: Connection, table: str) -> list[Partition]:
    """List the weeks of a table that have a partition."""
    found = [(name, BOUNDS.search(bound)) for name, bound in db.ask(LISTED, (table,)).fetchall()]
    spans = [(name, int(bounds[1]) >> SHIFT, int(bounds[2]) >> SHIFT) for name, bounds in found if bounds]
    return [Partition(table, name, begin, end) for name, begin, end in spans]


def make_ahead(db: Connection, since: int | None = None) -> list[str]:
    """Make the partitions of this week and the next ones, where they are missing; gives those made.

    `since`: also those of the weeks from that time on, for what comes from elsewhere.
    """
    made: list[str] = []
    with _forgiving("ledger.partitions_not_made"):
        now = _now(db)
        first = _monday(now if since is None else min(since, now))
        wanted = range(first, _monday(now) + AHEAD * WEEK + 1, WEEK)
        for table in STORAGE:
            have = {week.begin for week in listed(db, table)}
            missing = [_week(table, begin) for begin in wanted if begin not in have]
            made.extend(week.name for week in missing if _persist(db, partial(_make, db, week)))
    return made


def drop_empty(db: Connection) -> list[str]:
    """Drop the partitions of weeks that are over and of which nothing is left; gives those dropped."""
    dropped: list[str] = []
    with _forgiving("ledger.partitions_not_dropped"):
        over = _now(db) - DAY  # by a day: whatever began before has ended
        old = [week for table in STORAGE for week in listed(db, table) if week.end < over]
        dropped.extend(week.name for week in old if _is_empty(db, week) and _persist(db, partial(_drop, db, week)))
    return dropped


def _now(db: Connection) -> int:
    ((now,),) = db.ask(CLOCK).fetchall()
    return int(now)


def _monday(moment: int) -> int:
    return (moment - MONDAY) // WEEK * WEEK + MONDAY


def _week(table: str, begin: int) -> Partition:
    day = datetime.fromtimestamp(begin / 1000, UTC)
    return Partition(table, f"{table}_{day:%Y%m%d}", begin, begin + WEEK)


def _make(db: Connection, week: Partition) -> bool:
    """Make one beside the table, and only then attach it: nobody who reads or writes has to wait for that.

    Rows of its time that lie in the default partition move over.
    """
    _lock(db)
    if week.begin in {have.begin for have in listed(db, week.table)}:
        return False  # another process was first
    _do(db, CREATE, week)
    strays = int(_do(db, STRAYS, week).fetchall()[0][0])
    if strays > MOVED:
        raise TooMany
    db.command(BRIEF_HOLD)  # the default partition is read to its end while it is attached
    if strays:
        _do(db, KEEP_OUT, week)
        _do(db, MOVE, week)
    _do(db, ATTACH, week)
    return True


def _drop(db: Connection, week: Partition) -> bool:
    """Take one out and drop it, unless something is in it after all."""
    _lock(db)
    if week not in listed(db, week.table):
        return False  # another process was first
    db.command(BRIEF_HOLD)
    _do(db, DETACH, week)
    if _has_rows(db, week):
        raise psycopg.Rollback
    _do(db, DROP, week)
    return True


def _is_empty(db: Connection, week: Partition) -> bool:
    """Look before anything is locked: through many rows that were deleted lately this may take a while."""
    try:
        with db.raw.transaction():
            db.command("SET LOCAL statement_timeout = '2500ms'")
            return not _has_rows(db, week)
    except psycopg.errors.QueryCanceled:
        return False  # vacuum has not been there yet


def _has_rows(db: Connection, week: Partition) -> bool:
    db.command("SET LOCAL enable_seqscan = off")  # the index drops out of sight what is dead, a table does not
    return _do(db, FIRST_ROW, week).fetchone() is not None


def _do(db: Connection, text: LiteralString, week: Partition) -> "psycopg.Cursor[tuple[Any, ...]]":
    """Run a command about a partition."""
    names = {
        "table": sql.Identifier(week.table),
        "week": sql.Identifier(week.name),
        "rest": sql.Identifier(f"{week.table}_default"),
        "begin": sql.Literal(week.begin << SHIFT),
        "end": sql.Literal(week.end << SHIFT),
        "most": sql.Literal(MOVED),
        "storage": sql.SQL(STORAGE[week.table]),
    }
    return db.ask(sql.SQL(text).format(**names).as_bytes(db.raw), prepare=False)


def _lock(db: Connection) -> None:
    """Keep others from making or dropping any; after this, nothing is waited for long."""
    db.command("SET LOCAL statement_timeout = '2500ms'; SET LOCAL lock_timeout = '500ms'")
    db.command(f"SELECT pg_advisory_xact_lock(7460, 1); {BRIEF_WAIT}")


def _persist(db: Connection, change: Callable[[], bool]) -> bool:
    """Make a change in a transaction of its own, a few times until nothing is in its way; tells whether it was made."""
    for tries in range(TRIES):
        try:
            done = False
            with db.raw.transaction():
                done = change()
        except psycopg.Error as error:
            if error.sqlstate not in HELD or tries == TRIES - 1:
                raise
            time.sleep(random.random() * PAUSE_SECONDS)  # noqa: S311 -- so that others get their turn
        except TooMany:
            return False
        else:
            return done
    raise AssertionError  # pragma: no cover -- it returns or raises


@contextmanager
def _forgiving(event: str) -> Iterator[None]:
    """Leave it for the next time where it cannot be done now; the ledger works without.

    Raises:
        psycopg.Error: the connection is lost.
    """
    try:
        yield
    except psycopg.Error as error:
        if faults.is_lost(error):
            raise
        log.warning(event, reason=str(faults.trouble(error)))

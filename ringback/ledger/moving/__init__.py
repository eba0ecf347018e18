"""Moves a whole ledger from SQLite to PostgreSQL, and proves that it is all there. Called by `upkeep.move`.

The statements are files of this package, not twins in `sqlite/` and `postgres/`: each runs on one side only, but for
`prove.sql`, which both sides run as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ringback.errors import LedgerError
from ringback.ledger import schema
from ringback.ledger.moving.proof import Proof
from ringback.ledger.moving.source import Source, opened_source
from ringback.ledger.moving.target import Target, opened_target
from ringback.model import microseconds

__all__ = ["TABLES", "Moved", "Proof", "move"]

# In this order, since rows refer to those of tables before. `probe` is of its place, and stays there;
# `fetches` is made by PostgreSQL as the tasks arrive.
TABLES = (
    *("tasks", "events", "facts", "waiting", "callbacks", "handlers", "deliveries", "attempts", "starts", "steps"),
    *("results", "rejections", "expectations", "processes", "url_keys"),
)

# What is done, with which table, how many rows of it by now: "copy" and "prove" each table, then "commit", which is
# told of before it is begun, and "moved", once it is done.
Tell = Callable[[str, str, int], None]
ALL = "all tables"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was moved, or would be."""

    version: int  # of the schema
    tables: Sequence[Proof]
    in_use: Sequence[str]  # by whom; never anybody where it was moved

    @property
    def rows(self) -> int:
        """Count all rows."""
        return sum(table.rows for table in self.tables)


def move(path: Path, url: str, now: datetime, tell: Tell, *, dry_run: bool) -> Moved:
    """Copy all there is, in one transaction, which is committed once both sides have the same.

    A dry run reads and checks all that would be copied, makes sure that it could be, and leaves nothing behind.

    Raises:
        LedgerError: nothing was moved; says why.
    """
    with opened_source(path, now, alone=not dry_run) as source, opened_target(url) as target:
        if not dry_run:
            target.make_room(source.oldest() or microseconds(now), microseconds(now))
        for table in TABLES:
            _copy(table, source, target, tell, dry_run=dry_run)
        tables = list(_proven(source, None if dry_run else target, tell))
        moved = Moved(version=schema.schema_version(), tables=tables, in_use=source.in_use)
        if not dry_run:
            tell("commit", ALL, moved.rows)
            target.commit()
            tell("moved", ALL, moved.rows)
        return moved


def _copy(table: str, source: Source, target: Target, tell: Tell, *, dry_run: bool) -> None:
    count = 0
    tell("copy", table, count)
    for batch in source.batches(table):
        if not dry_run:
            target.write(table, batch)
        count += len(batch)
        tell("copy", table, count)


def _proven(source: Source, target: Target | None, tell: Tell) -> Iterator[Proof]:
    """Ask both sides what they have."""
    if target is not None:
        target.settle()
    for table in TABLES:
        tell("prove", table, 0)
        ours = source.proof(table)
        theirs = target.proof(table) if target else ours
        if theirs != ours:
            raise LedgerError(
                f"nothing was moved: of {table}, {ours.rows:,} rows with checksum {ours.checksum} were copied, but "
                f"{theirs.rows:,} with {theirs.checksum} arrived; has PostgreSQL triggers or rules of its own there?"
            )
        yield ours

"""The work of SQLite's thread, without a thread."""

import math
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from ringback.errors import LedgerUnavailable
from ringback.ledger.desk import Desk
from ringback.ledger.sqlite import SqliteLedger, commits
from ringback.ledger.sqlite.commits import Outcomes, Request, SqliteCommits
from ringback.ledger.sqlite.desk import open_desk

from .builders import COMPLETED, fact

LISTS = 400


class Lock:
    """A lock that somebody takes away after some turns."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.waits: list[float] = []

    def held(self, wait_seconds: float) -> AbstractContextManager[None]:
        """Give it, as long as it is to be had."""
        self.waits.append(wait_seconds)
        if len(self.waits) > self.turns:
            raise LedgerUnavailable("somebody else has it")
        return nullcontext()


def picky(_: sqlite3.Connection, items: Sequence[Any]) -> Sequence[Any]:
    """Take everything but the item 0."""
    if 0 in items:
        raise ValueError("not this one")
    return items


def test_a_lost_lock_is_waited_for_once() -> None:
    """While the rows of a bad batch are tried one by one, the first that finds no lock speaks for all the rest."""
    told: list[tuple[Any, Any]] = []

    def tell(outcomes: Outcomes, _: bool) -> None:
        told.extend((request.item, answer) for request, answer in outcomes)

    waiting = deque(Request(picky, item, None) for item in (1, 0, 2, 3, 4))
    lock = Lock(turns=3)  # the batch, and its first two rows
    work = SqliteCommits(lock, waiting, tell)  # type: ignore[arg-type]
    work._last = 5  # so that they are one batch
    work.work(sqlite3.connect(":memory:", isolation_level=None))
    assert [item for item, _ in told] == [1, 0, 2, 3, 4]
    assert told[0][1] == 1
    assert [type(answer).__name__ for _, answer in told[1:]] == ["LedgerRejected"] + ["LedgerUnavailable"] * 3
    assert len(lock.waits) == 4


FLOOD = """
INSERT INTO rejections (provider, reason, day, count)
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :rows)
SELECT 'qingbo', n, '2026-11-21', 1 FROM number
"""


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """A scribe's desk at a new file, on a disk that counts as a fast one."""
    for name in ("CALM_SECONDS", "SLOW_SECONDS"):
        monkeypatch.setattr(commits, name, math.inf)
    path = tmp_path / "ledger.db"
    await (await SqliteLedger.open(path, create=True)).close()
    with open_desk(path, dedup_days=90) as made:
        yield made


def store(desk: Desk, tmp_path: Path, calm: bool) -> list[int]:
    """Store one after the other, and do what is due after each; gives the WAL's size after each."""
    sizes = []
    for number in range(LISTS):
        desk.store([fact(COMPLETED, f"task_{number}", f"p-{number}")])
        desk.tidy()
        if calm and desk.rest_seconds() == 0:
            desk.rest()
        sizes.append((tmp_path / "ledger.db-wal").stat().st_size)
    return sizes


async def test_wal_is_bounded_though_no_pause_ever_comes(desk: Desk, tmp_path: Path) -> None:
    """Under steady load it is put into the database again and again, and begun anew: it takes no more room."""
    sizes = store(desk, tmp_path, calm=False)
    first = commits.CHECKPOINT_REQUESTS // (1 + commits.BATCH_COST) + 1  # lists until the first time
    assert sizes[first - 1] > sizes[0]
    assert max(sizes[first:]) < sizes[first - 1] * 1.5 < 16 << 20


async def test_where_nothing_waits_checkpoints_are_small(desk: Desk, tmp_path: Path) -> None:
    """As soon as nothing waits, a quarter as much is put into the database: that keeps the next one waiting less."""
    assert max(store(desk, tmp_path, calm=True)) < 4 << 20


async def test_one_request_that_writes_much_counts_as_much(desk: Desk) -> None:
    """A step of pruning is one request: by their number, hundreds of MB would lie in the WAL before anybody looked."""

    def flood(db: sqlite3.Connection, items: Sequence[object]) -> Sequence[object]:
        db.execute(FLOOD, {"rows": commits.ROWS * commits.CALM_REQUESTS})
        return items

    desk._commits.commit(desk._connection, [Request(flood, None, 0)])
    assert desk.rest_seconds() == 0


async def test_where_a_commit_takes_long_checkpoints_are_not_made_smaller(desk: Desk) -> None:
    """Each has three fsyncs, however small it is: on a slow disk it waits for a real pause."""
    for number in range(LISTS // 2):
        desk.store([fact(COMPLETED, f"task_{number}", f"p-{number}")])
    assert desk.rest_seconds() == 0
    desk._commits.commit_seconds = math.inf
    assert desk.rest_seconds() == commits.CHECKPOINT_IDLE_SECONDS
    desk.rest()
    assert desk.rest_seconds() is None

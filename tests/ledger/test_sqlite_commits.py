"""The work of SQLite's thread, without a thread."""

import sqlite3
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ringback.errors import LedgerUnavailable
from ringback.ledger.sqlite.commits import Outcomes, Request, SqliteCommits


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
        raise TypeError("not this one")
    return items


def test_a_lost_lock_is_waited_for_once() -> None:
    """While the rows of a bad batch are tried one by one, the first that finds no lock speaks for all the rest."""
    told: list[tuple[Any, Any]] = []

    def tell(outcomes: Outcomes, _: bool) -> None:
        told.extend((request.item, answer) for request, answer in outcomes)

    waiting = deque(Request(picky, item, None) for item in (1, 0, 2, 3, 4))
    lock = Lock(turns=3)  # the batch, and its first two rows
    commits = SqliteCommits(lock, waiting, tell)  # type: ignore[arg-type]
    commits._last = 5  # so that they are one batch
    commits.work(sqlite3.connect(":memory:", isolation_level=None))
    assert [item for item, _ in told] == [1, 0, 2, 3, 4]
    assert told[0][1] == 1
    assert [type(answer).__name__ for _, answer in told[1:]] == ["LedgerRejected"] + ["LedgerUnavailable"] * 3
    assert len(lock.waits) == 4

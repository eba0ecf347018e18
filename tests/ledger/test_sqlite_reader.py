"""Questions to a SQLite ledger are bounded, in number and in time."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from ringback.errors import LedgerUnavailable
from ringback.ledger.sqlite import SqliteLedger, reader

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def count_for_ever(db: sqlite3.Connection) -> int:
    """Ask what never ends."""
    return int(db.execute(ENDLESS).fetchone()[0])


def one(db: sqlite3.Connection) -> int:
    """Ask what ends at once."""
    return int(db.execute("SELECT 1").fetchone()[0])


async def test_a_question_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked is told, and the next question is answered."""
    ledger = await SqliteLedger.open(tmp_path / "a.db", create=True)
    monkeypatch.setattr(reader, "LONG_SECONDS", 0.05)
    with pytest.raises(LedgerUnavailable, match=r"took longer than 0\.05 s"):
        await ledger._read(count_for_ever)
    monkeypatch.undo()
    assert await ledger._read(one) == 1
    await ledger.close()


async def test_so_many_may_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is one too many is told at once; those who wait are answered."""
    monkeypatch.setattr(reader, "WAITING_BOUND", 3)
    ledger = await SqliteLedger.open(tmp_path / "a.db", create=True)
    go = threading.Event()
    held = asyncio.create_task(ledger._read(lambda _db: go.wait(10)))
    waiting = [asyncio.create_task(ledger._read(one)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailable, match="too many questions"):
        await ledger._read(one)
    go.set()
    assert await asyncio.gather(held, *waiting) == [True, 1, 1]
    assert await ledger._read(one) == 1
    await ledger.close()

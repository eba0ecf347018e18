"""The heartbeat from a thread, on SQLite: what it says when it cannot be written, and that nothing stays behind."""

import fcntl
import os
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from ringback.errors import LedgerUnavailable
from ringback.ledger.sqlite import SqliteLedger, heart

from .builders import LONG_AGO, NOW, at, worker


def open_files() -> int:
    """Count the file handles of this process."""
    return len(os.listdir("/proc/self/fd"))


async def test_beat_beside_an_open_ledger(tmp_path: Path) -> None:
    """It writes beside the ledger's own connections, through another name too, and piles up no file handles."""
    path = tmp_path / "ledger.db"
    (tmp_path / "link.db").symlink_to(path)
    ledger = await SqliteLedger.open(path, create=True)
    handles = []
    for second in range(9):
        assert heart.beat(tmp_path / "link.db", worker(), at(second), LONG_AGO, {}) == []
        handles.append(open_files())
    assert len(set(handles)) == 1  # SQLite keeps one for the next connection to the same file
    assert [process.id for process in await ledger.processes(at(8))] == ["w1"]
    assert "link.db.lock" not in os.listdir(tmp_path)
    await ledger.close()


async def test_beat_without_a_database(tmp_path: Path) -> None:
    """Where the file or its folder is gone it says so, makes none, and the next beat may well succeed."""
    beat = partial(heart.beat, process=worker(), now=NOW, dead_before=LONG_AGO, handlers={})
    with pytest.raises(LedgerUnavailable, match=r"lock: cannot be opened \(No such file"):
        beat(tmp_path / "gone" / "ledger.db")
    with pytest.raises(LedgerUnavailable, match="the file cannot be opened"):
        beat(tmp_path / "ledger.db")
    sqlite3.connect(tmp_path / "ledger.db").close()
    (tmp_path / "ledger.db").touch()
    with pytest.raises(LedgerUnavailable, match="no such table"):
        beat(tmp_path / "ledger.db")
    await (await SqliteLedger.open(tmp_path / "ledger.db", create=True)).close()
    assert beat(tmp_path / "ledger.db") == []


@pytest.mark.slow
async def test_beat_while_another_writes(tmp_path: Path) -> None:
    """A lock that is held for over 2 s is told, and nothing was written."""
    path = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(path, create=True)
    with path.with_name("ledger.db.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LedgerUnavailable, match="another process has held the write lock"):
            heart.beat(path, worker(), NOW, LONG_AGO, {})
    assert await ledger.processes(NOW) == ()
    await ledger.close()

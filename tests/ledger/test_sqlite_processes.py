"""Several real processes on one file: full disk, no permission, fair shares, and a kill at any moment."""

import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringback.ledger.schema import schema_text

CHILDREN = str(Path(__file__).with_name("children.py"))


def start(name: str, database: Path, *more: object) -> "subprocess.Popen[str]":
    """Start a child."""
    command = [sys.executable, CHILDREN, name, str(database), *map(str, more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """An empty ledger, made by nobody's process."""
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    connection.executescript(schema_text())
    connection.close()
    return path


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that others may look into, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="ringback-test-") as folder:
        yield Path(folder)


def test_full_disk_is_told_and_heals(tmp_path: Path) -> None:
    """On a full disk the writer says so, what was acknowledged stays, and it goes on once there is room."""
    lines = start("full_disk", tmp_path / "ledger.db").communicate(timeout=30)[0].splitlines()
    told, red, counts = lines
    assert told.startswith("unavailable")
    assert "disk" in told
    assert red == "red"
    _, stored, _, found = counts.split()
    assert int(stored) > 0
    assert int(found) == int(stored) + 1


def test_read_only_file_is_told(public_folder: Path) -> None:
    """A ledger that may not be written cannot be opened, and the message names the file and the cause."""
    said = start("read_only", public_folder / "ledger.db").communicate(timeout=30)[0]
    assert said.startswith("LedgerUnavailable")
    assert str(public_folder / "ledger.db") in said
    assert "check" in said


@pytest.mark.slow
def test_busy_writers_share_fairly(database: Path) -> None:
    """Of three busy processes each gets a fair share of the batches."""
    begin = time.time() + 1.5
    children = [start("busy", database, begin, 2) for _ in range(3)]
    counts = [int(child.communicate(timeout=30)[0]) for child in children]
    assert min(counts) >= 0.15 * sum(counts), counts
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT sum(count) FROM rejections").fetchone()[0] == sum(counts)
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(5))
def test_killed_writer_loses_nothing_acknowledged(database: Path, moment: int) -> None:
    """Whatever was acknowledged before a kill -9 is found, the file is sound, and its neighbour was not held up."""
    victim, neighbour = start("acknowledge", database, "v"), start("acknowledge", database, "n")
    assert victim.stdout is not None
    assert neighbour.stdout is not None
    acknowledged = [neighbour.stdout.readline()]
    acknowledged += [victim.stdout.readline() for _ in range(50 + 137 * moment)]
    victim.kill()
    acknowledged += victim.stdout.readlines()
    acknowledged += [neighbour.stdout.readline() for _ in range(20)]
    neighbour.kill()
    acknowledged += neighbour.stdout.readlines()
    for child in (victim, neighbour):
        child.communicate()
    connection = sqlite3.connect(database)
    found = {row[0] for row in connection.execute("SELECT task_id FROM events")}
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()
    whole = {line.strip() for line in acknowledged if line.endswith("\n")}
    assert len(whole) > 50
    assert whole <= found

"""Opening a SQLite file: what is missing, foreign, newer, older or damaged is named, and left as it was."""

import sqlite3
from pathlib import Path

import pytest

from ringback.errors import LedgerMismatch, LedgerMissing, LedgerUnavailable
from ringback.ledger import open_ledger, sqlite
from ringback.ledger.sqlite import SqliteLedger
from ringback.settings import Settings

from .builders import COMPLETED, NOW, fact


def files(folder: Path) -> list[str]:
    """Name what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def foreign(path: Path, script: str) -> bytes:
    """Make a SQLite file that is not ours."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    return path.read_bytes()


async def test_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who may create does; the rest name the absolute path that is missing, and make nothing."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LedgerMissing, match=f"{tmp_path}/some.db: there is no ledger"):
        await open_ledger(Settings(database_url="sqlite:///some.db"))
    assert files(tmp_path) == []


async def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    """A new database and all that lies beside it can be read by its owner only; an existing one keeps its mode."""
    path = tmp_path / "some.db"
    for mode in (0o600, 0o640):
        ledger = await SqliteLedger.open(path, create=True)
        await ledger.record(fact(COMPLETED, "task_a", "p-a"))
        modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in files(tmp_path)}
        await ledger.close()
        assert modes == {"some.db": mode, "some.db-wal": mode, "some.db-shm": mode, "some.db.lock": 0o600}
        path.chmod(0o640)


def test_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Where no file can be made, the path and the reason are named."""
    with pytest.raises(LedgerUnavailable, match=r"x: cannot be made \(File name too long\)"):
        sqlite._make_private(tmp_path / ("x" * 256))


async def test_missing_folder_is_named(tmp_path: Path) -> None:
    """A folder is never made on the side."""
    with pytest.raises(LedgerMissing, match="no such folder"):
        await SqliteLedger.open(tmp_path / "none" / "some.db", create=True)


async def test_folder_is_no_database(tmp_path: Path) -> None:
    """A folder in place of a file is named as one."""
    with pytest.raises(LedgerMissing, match="a folder, not a database"):
        await SqliteLedger.open(tmp_path, create=True)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("PRAGMA user_version = 99; CREATE TABLE tasks (id)", "newer Ringback"),
        ("CREATE TABLE recipes (id)", "not a Ringback ledger"),
    ],
)
async def test_other_version_is_refused_and_left_alone(tmp_path: Path, script: str, words: str) -> None:
    """A newer ledger and another program's database are refused, and not a byte of them changes."""
    before = foreign(tmp_path / "some.db", script)
    for create in (True, False):
        with pytest.raises(LedgerMismatch, match=words):
            await SqliteLedger.open(tmp_path / "some.db", create=create)
    assert (tmp_path / "some.db").read_bytes() == before


async def test_older_ledger_is_told_to_migrate(tmp_path: Path) -> None:
    """A version below ours names the command, also when the file is empty and may not be filled."""
    (tmp_path / "some.db").touch()
    with pytest.raises(LedgerMismatch, match="ringback migrate"):
        await SqliteLedger.open(tmp_path / "some.db", create=False)
    await (await SqliteLedger.open(tmp_path / "some.db", create=True)).close()


async def test_other_file_is_no_database(tmp_path: Path) -> None:
    """A file of another kind is refused for good, and left alone."""
    (tmp_path / "some.db").write_bytes(b"Dear diary, " * 500)
    with pytest.raises(LedgerMismatch, match="not a SQLite database"):
        await SqliteLedger.open(tmp_path / "some.db", create=True)
    assert (tmp_path / "some.db").read_bytes() == b"Dear diary, " * 500


async def test_damaged_database_is_unavailable(tmp_path: Path) -> None:
    """A file that is cut off in the middle is named, with what to do."""
    path = tmp_path / "some.db"
    ledger = await SqliteLedger.open(path, create=True)
    await ledger.record(fact(COMPLETED, body=b"x" * 100_000))
    await ledger.close()
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    with pytest.raises(LedgerUnavailable, match="damaged"):
        await (await SqliteLedger.open(path, create=False)).record(fact(COMPLETED))


async def test_two_names_of_one_file_share_one_lock(tmp_path: Path) -> None:
    """A symbolic link leads to the file's own lock, and odd characters in a path are no trouble."""
    folder = tmp_path / "a b?c#d%20"
    folder.mkdir()
    (tmp_path / "link.db").symlink_to(folder / "real.db")
    ledger = await SqliteLedger.open(tmp_path / "link.db", create=True)
    await ledger.reject({}, NOW)
    await ledger.close()
    assert files(folder) == ["real.db", "real.db.lock"]

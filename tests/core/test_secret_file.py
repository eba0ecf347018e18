"""The generated secret: complete before it is visible, private, and the same for everybody who asks."""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringback.errors import SettingsError
from ringback.secret_file import ensure_secret, read_secret, secret_path


def test_secret_is_made_once_and_private(tmp_path: Path) -> None:
    """The file has mode 0600 under any umask, is long enough, and stays."""
    database = tmp_path / "r.db"
    assert read_secret(database) is None
    before = os.umask(0)
    try:
        text = ensure_secret(database)
    finally:
        os.umask(before)
    assert len(text) >= 32
    assert ensure_secret(database) == read_secret(database) == text
    assert secret_path(database) == tmp_path / "r.db.secret"
    assert stat.S_IMODE(secret_path(database).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["r.db.secret"]


def test_racing_starters_agree_and_never_see_a_part(tmp_path: Path) -> None:
    """Whoever starts at the same time gets the same secret; a reader meanwhile sees all of it or nothing."""
    for number in range(10):
        database = tmp_path / f"{number}.db"
        barrier = threading.Barrier(8)

        def begin(database: Path = database, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            seen = read_secret(database)
            text = ensure_secret(database)
            assert seen in (None, text)
            return text

        with ThreadPoolExecutor(8) as pool:
            assert len({future.result() for future in [pool.submit(begin) for _ in range(8)]}) == 1
    assert len(list(tmp_path.iterdir())) == 10


def test_leftover_of_a_crash_is_no_obstacle(tmp_path: Path) -> None:
    """A draft that a killed process left behind does not keep a secret from being made."""
    (tmp_path / f"r.db.secret.{os.getpid()}").write_text("half")
    assert len(ensure_secret(tmp_path / "r.db")) >= 32


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    """A missing folder, an unreadable file and an empty one are errors that name the file."""
    with pytest.raises(SettingsError, match="cannot be made"):
        ensure_secret(tmp_path / "none" / "r.db")
    (tmp_path / "a.db.secret").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"a\.db\.secret: cannot be read"):
        read_secret(tmp_path / "a.db")
    (tmp_path / "b.db.secret").touch()
    with pytest.raises(SettingsError, match="it is empty"):
        ensure_secret(tmp_path / "b.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db.secret", "b.db.secret"]

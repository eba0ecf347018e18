"""What is not moved: a ledger that is in use or no ledger, to a place that is taken, or where it arrives otherwise."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from ringback.errors import LedgerError, LedgerMismatch, LedgerMissing, LedgerUnavailable, SettingsError
from ringback.ledger import open_ledger, upkeep
from ringback.ledger.postgres import schema
from ringback.ledger.postgres.connection import Connection
from ringback.ledger.sqlite.lock import FileLock
from ringback.settings import Settings

from .builders import LONG_AGO, NOW, at, submitted, worker
from .server import bare_database, fresh_database
from .test_moving import command, files, is_bare, move, rows, spoil

HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("SELECT * FROM tasks").fetchone()
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_open(old: Settings) -> Iterator[None]:
    """Have another process read the file once, and then do nothing."""
    command = [sys.executable, "-c", HOLD, str(old.database_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield
        process.communicate(timeout=10)


@pytest.fixture
async def old(tmp_path: Path) -> Settings:
    """Make a small ledger."""
    settings = Settings(database_url=f"sqlite:///{tmp_path}/old.db")
    ledger = await open_ledger(settings, create=True)
    await submitted(ledger)
    await ledger.beat(worker(), NOW, LONG_AGO)
    await ledger.close()
    return settings


@pytest.fixture
def new() -> Iterator[Settings]:
    """Name a database without tables."""
    with bare_database() as url:
        yield Settings(database_url=url)


def test_who_was_seen_lately_may_still_run(old: Settings, new: Settings) -> None:
    """A worker that was seen within 30 s is named, and nothing is moved; a dry run only tells of it."""
    with pytest.raises(LedgerUnavailable, match=r"is in use: a worker on here \(pid 1\) was seen 29 s ago. Stop every"):
        move(old, new, at(29))
    assert is_bare(new)
    assert move(old, new, at(29), dry_run=True).in_use == ["a worker on here (pid 1) was seen 29 s ago"]
    assert move(old, new, at(31)).rows == 2


def test_who_has_it_open_is_noticed(old: Settings, new: Settings) -> None:
    """A receiver that nothing comes to, or a shell, leaves no trace in the tables; a dry run goes beside it."""
    with held_open(old):
        with pytest.raises(LedgerUnavailable, match="is in use: another process has it open"):
            move(old, new)
        assert move(old, new, dry_run=True).in_use == ["another process has it open"]
    assert is_bare(new)


def test_who_writes_is_waited_for(old: Settings, new: Settings) -> None:
    """The lock that every writer takes is held by another one: the file is in use."""
    lock = FileLock.beside(old.database_path)
    with lock.held(), pytest.raises(LedgerUnavailable, match=r"is in use: .*held the write lock for 2 s; stop every"):
        move(old, new)
    lock.close()


def test_what_a_crash_left_is_moved(old: Settings, new: Settings) -> None:
    """What stands only in the WAL, since its process was killed, is moved too, and stays there."""
    write = "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); "
    write += "db.execute('UPDATE tasks SET sends = 7'); os._exit(0)"
    subprocess.run([sys.executable, "-c", write, str(old.database_path)], check=True, timeout=20)
    before = files(old)
    assert "old.db-wal" in before
    move(old, new)
    assert rows(new, "SELECT sends FROM tasks") == [(7,)]
    after = files(old)
    assert {name: after[name] for name in ("old.db", "old.db-wal")} == {
        name: before[name] for name in ("old.db", "old.db-wal")
    }


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("none.db", None, LedgerMissing, "there is no such file; name the old ledger"),
        (".", None, LedgerMissing, "a folder"),
        ("notes.txt", b"hello", LedgerMismatch, "not a SQLite database"),
        ("empty.db", b"", LedgerMismatch, "an empty file"),
    ],
)
def test_what_is_no_ledger_is_named(
    tmp_path: Path, name: str, content: bytes | None, error: type[LedgerError], message: str
) -> None:
    """The absolute path is told, and nothing is left beside it."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.iterdir())
    nowhere = Settings(database_url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(error, match=message):
        move(Settings(database_url=f"sqlite:///{tmp_path}/{name}"), nowhere)
    assert sorted(tmp_path.iterdir()) == before


def test_versions_must_fit(old: Settings, new: Settings) -> None:
    """A newer ledger, another program's database, and a target of another version are refused."""
    for number, message in ((99, "made by a newer Ringback"), (0, "not a Ringback ledger")):
        spoil(old, f"PRAGMA user_version = {number}")
        with pytest.raises(LedgerMismatch, match=message):
            move(old, new)
    spoil(old, "PRAGMA user_version = 1")
    move(old, new)
    command(new, "INSERT INTO ringback_migrations (version, name) VALUES (99, 'later')")
    with pytest.raises(LedgerMismatch, match="made by a newer Ringback"):
        move(old, new)


def test_a_damaged_file_is_told(old: Settings, new: Settings) -> None:
    """What SQLite cannot read stops the move."""
    content = old.database_path.read_bytes()
    old.database_path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    with pytest.raises(LedgerUnavailable, match=r"old.db: cannot be read \(.*nothing was moved"):
        move(old, new)


def test_the_target_must_be_empty(old: Settings, new: Settings) -> None:
    """A ledger that holds anything is left alone, and so are another program's tables."""
    move(old, new)
    with pytest.raises(LedgerMismatch, match="not empty, it has tasks, processes already; nothing was moved"):
        move(old, new)
    with bare_database() as url:
        taken = Settings(database_url=url)
        command(taken, "CREATE TABLE events (name text)")
        with pytest.raises(LedgerMismatch, match="another program's tables are there"):
            move(old, taken)


def test_tables_may_be_there(old: Settings) -> None:
    """After `ringback migrate` the tables are there, and empty: that will do."""
    with fresh_database() as url:
        assert move(old, Settings(database_url=url)).rows == 2


def test_the_target_must_be_reached(old: Settings, new: Settings) -> None:
    """No server, no such database, and somebody who holds a table: each in words, without the password."""
    with pytest.raises(LedgerUnavailable, match=r"^postgresql://me@127.0.0.1:1/none: the database cannot") as caught:
        move(old, Settings(database_url="postgresql://me:sesame@127.0.0.1:1/none"))
    assert "sesame" not in str(caught.value)
    with pytest.raises(LedgerMissing, match=r"^postgresql://\S+: there is no such database"):
        move(old, Settings(database_url=new.database_url.replace("ringback_test", "no_such")))
    with fresh_database() as url, psycopg.connect(url) as db:
        db.execute("LOCK TABLE tasks")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ringback.ledger.moving.target.LOCK_SECONDS", 0.1)
            with pytest.raises(LedgerUnavailable, match="somebody else holds what is to be written"):
                move(old, Settings(database_url=url))


def test_a_row_too_long_for_an_index_is_named(old: Settings, new: Settings) -> None:
    """What only PostgreSQL has a limit for is told with its row, not with its content."""
    key = random.Random(1).randbytes(5_000).hex()  # which cannot be compressed into a page
    spoil(old, "UPDATE tasks SET key = ?", key)
    with pytest.raises(LedgerError, match=r"tasks: row task_a cannot be stored .*maximum.*nothing") as caught:
        move(old, new)
    assert key[:20] not in str(caught.value)
    assert is_bare(new)


TRIGGER = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$;
CREATE {} ON tasks {} FOR EACH ROW EXECUTE FUNCTION spoil()
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("RETURN NULL;", "of tasks, 1 rows with checksum .* but 0 with"),
        ("NEW.sends := 3; RETURN NEW;", "of tasks, 1 rows with checksum .* but 1 with"),
    ],
)
def test_what_arrives_otherwise_is_not_kept(old: Settings, new: Settings, body: str, message: str) -> None:
    """Both sides are asked again: a row that is missing, or says something else, undoes all."""
    make_tables(new)
    command(new, TRIGGER.format(body, "TRIGGER spoil BEFORE INSERT", ""))
    with pytest.raises(LedgerError, match=f"nothing was moved: {message}"):
        move(old, new)
    assert rows(new, "SELECT count(*) FROM processes") == [(0,)]


def test_a_lost_commit_is_told(old: Settings, new: Settings) -> None:
    """Whether a commit whose answer was lost was done, nobody knows: that is what is said."""
    make_tables(new)
    end = "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL;"
    command(new, TRIGGER.format(end, "CONSTRAINT TRIGGER spoil AFTER INSERT", "DEFERRABLE INITIALLY DEFERRED"))
    with pytest.raises(LedgerUnavailable, match=r"lost at the very end .*all may be moved, or nothing"):
        move(old, new)
    assert rows(new, "SELECT count(*) FROM tasks") == [(0,)]
    command(new, "DROP TRIGGER spoil ON tasks")
    refuse = "RAISE EXCEPTION 'no'; RETURN NULL;"
    command(new, "DROP FUNCTION spoil")
    command(new, TRIGGER.format(refuse, "CONSTRAINT TRIGGER spoil AFTER INSERT", "DEFERRABLE INITIALLY DEFERRED"))
    with pytest.raises(LedgerUnavailable, match=r"\(no\); nothing was moved"):
        move(old, new)


def make_tables(new: Settings) -> None:
    """Make the tables."""
    with psycopg.connect(new.database_url, autocommit=True) as raw:
        schema.migrate(Connection(raw), new.database_url)


def test_a_dry_run_leaves_nothing(old: Settings, new: Settings) -> None:
    """It reads all there is, and finds what could not be stored."""
    found = move(old, new, dry_run=True)
    assert (found.rows, is_bare(new)) == (2, True)
    spoil(old, "UPDATE tasks SET send_note = char(0)")
    with pytest.raises(LedgerError, match="NUL"):
        move(old, new, dry_run=True)


def test_ends_are_told_as_they_come(old: Settings, new: Settings) -> None:
    """Before the commit is told of, nothing is there to see, and once it is told to be done, all is."""
    told: list[tuple[str, int]] = []

    def tell(what: str, _table: str, _count: int) -> None:
        if not told or told[-1][0] != what:
            told.append((what, 0 if is_bare(new) else rows(new, "SELECT count(*) FROM tasks")[0][0]))

    upkeep.move(old, new, at(1000), tell, dry_run=False)
    assert told == [("copy", 0), ("prove", 0), ("commit", 0), ("moved", 1)]


def test_a_parameter_is_named(old: Settings) -> None:
    """A mistake in the URL is one of the settings, as for every other command."""
    with pytest.raises(SettingsError, match="no parameter sslmod; did you mean sslmode") as caught:
        move(old, Settings(database_url="postgresql://me:sesame@127.0.0.1:1/none?sslmod=require"))
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("sqlite:///a.db", "sqlite:///b.db", "--to names a file"),
        ("postgresql://a/b", "postgresql://c/d", "use pg_dump"),
        ("postgresql://a/b", "sqlite:///b.db", "is not supported. Are --from and --to"),
        ("sqlite:///a.db", "postgresql://u:100%sesame@h/d", "write @ as %40"),
        ("sqlite:///a.db", "postgresql://u:se/same@h/d", "write @ as %40"),
    ],
)
def test_other_roads_are_not_taken(source: str, target: str, message: str) -> None:
    """Between the same engines, the way back, and where a password was not escaped: what to do is said."""
    with pytest.raises(SettingsError, match=message) as caught:
        move(Settings(database_url=source), Settings(database_url=target))
    assert "same" not in str(caught.value)

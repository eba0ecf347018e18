"""`ringback migrate --from … --to …`, as its user sees it."""

import asyncio
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from ringback.cli import moving
from ringback.ledger import Ledger, open_ledger
from ringback.settings import Settings
from tests.ledger.builders import LONG_AGO, owed, submitted, worker
from tests.ledger.server import bare_database, fresh_database

from .conftest import Process, Ringback, within

OLD = "sqlite:///ringback.db"
WAITS = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
CREATE {} FOR EACH ROW EXECUTE FUNCTION wait()
"""
IN_THE_MIDST = "TRIGGER wait BEFORE INSERT ON events"
AT_THE_END = "CONSTRAINT TRIGGER wait AFTER INSERT ON tasks DEFERRABLE INITIALLY DEFERRED"
KILLED = """
import os, sqlite3
sqlite3.connect("ringback.db", isolation_level=None).execute("UPDATE tasks SET sends = 7")
os._exit(0)
"""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"


@pytest.fixture
def url() -> Iterator[str]:
    """Name a database without tables, with a password that nothing may show."""
    with bare_database() as found:
        yield found.replace("postgres@", "postgres:sesame@").replace("postgres:@", "postgres:sesame@")


@pytest.fixture(autouse=True)
def old() -> None:
    """Make a ledger in this folder."""

    async def fill(ledger: Ledger, _: Settings) -> None:
        await submitted(ledger)
        await owed(ledger, 3)
        await ledger.beat(worker(), worker().started_at, LONG_AGO, leaving=True)

    within(fill)


def test_it_tells_what_was_moved(ringback: Ringback, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with counts and checksums, then what to do next; and then it reads the same from there."""
    before = ringback("tasks", "list", "--json").stdout
    Path("ringback.db.secret").write_text("s" * 40)
    Path("ringback.db.secret").chmod(0o600)
    result = ringback("migrate", "--from", OLD, "--to", url)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["table", "rows", "checksum,", "the", "same", "on", "both", "sides"]
    assert {line[0]: line[1] for line in lines[1:6]} == {
        "tasks": "4", "events": "3", "facts": "6", "waiting": "0", "callbacks": "0",
    }  # fmt: skip
    assert f"moved 17 rows from {Path.cwd()}/ringback.db to postgresql://postgres@/ringback_test" in result.stdout
    assert "1. set RINGBACK_DATABASE_URL" in result.stdout
    assert f"2. set RINGBACK_SECRET to what is in {Path.cwd()}/ringback.db.secret" in result.stdout
    assert f"mv {Path.cwd()}/ringback.db {Path.cwd()}/ringback.db.moved" in result.stdout
    assert "sesame" not in result.output
    monkeypatch.setenv("RINGBACK_DATABASE_URL", url)
    assert ringback("tasks", "list", "--json").stdout == before


def test_a_wal_is_put_away_with_its_file(ringback: Ringback, url: str) -> None:
    """What a killed process left in the WAL would be lost, and a new file under the old name would find it."""
    subprocess.run([sys.executable, "-c", KILLED], check=True)
    told = ringback("migrate", "--from", OLD, "--to", url).stdout
    (line,) = [line for line in told.splitlines() if "mv " in line]
    subprocess.run(line.partition(": ")[2], shell=True, check=True)  # noqa: S602 -- it is told to be typed
    assert sorted(path.name for path in Path().glob("ringback.db*")) == [
        "ringback.db.lock", "ringback.db.moved", "ringback.db.moved-wal"
    ]  # fmt: skip


def test_programs_read_it_too(ringback: Ringback, url: str) -> None:
    """One JSON document, of a dry run and of the move."""
    dry = msgspec.json.decode(ringback("migrate", "--from", OLD, "--to", url, "--dry-run", "--json").stdout)
    assert (dry["done"], dry["rows"], dry["in_use"]) == ("checked", 17, [])
    done = msgspec.json.decode(ringback("migrate", "--from", OLD, "--to", url, "--json").stdout)
    assert (done["done"], done["schema"], done["to"].partition("?")[0]) == ("moved", 1, done["to"])
    tables = {table["table"]: table for table in done["tables"]}
    assert tables["tasks"] == {"table": "tasks", "rows": 4, "checksum": tables["tasks"]["checksum"]}
    assert done["rows"] == sum(table["rows"] for table in done["tables"])


def test_a_dry_run_says_so(ringback: Ringback, url: str) -> None:
    """It tells what would be moved, and who is to be stopped before."""

    async def beat(ledger: Ledger, _: Settings) -> None:
        await ledger.beat(worker("w\x1b[31m"), datetime.now(UTC), LONG_AGO)

    within(beat)
    result = ringback("migrate", "--from", OLD, "--to", url, "--dry-run")
    assert (result.exit_code, "nothing was moved: this was a dry run. It would move" in result.stdout) == (0, True)
    assert (
        "note: stop every process of it before you move it: a worker on here (pid 1) was seen 0 s ago" in result.stderr
    )
    with psycopg.connect(url) as db:
        assert db.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    refused = ringback("migrate", "--from", OLD, "--to", url)
    assert (refused.exit_code, "is in use" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--to {url}", "here is no --from"),
        ("--from {old}", "here is no --to"),
        ("--dry-run", "here is no --from and --to"),
        ("--from ringback.db --to {url}", "--from: expected sqlite:///relative/path.db"),
        ("--from {old} --to postgres//me:sesame@h/d", "--to: expected sqlite:///relative/path.db"),
        ("--from {url} --to {old}", "the way back is not supported"),
        ("--from {old} --to sqlite:///new.db", "--to names a file"),
        ("--from {old} --to {url} --forget-secret 0123456789abcdef", "--forget-secret is done by itself"),
        ("--from {old} --to postgresql://me:ses%ame@h/d", "write @ as %40"),
    ],
)
def test_what_is_typed_wrong(ringback: Ringback, url: str, arguments: str, message: str) -> None:
    """Each mistake is told in a line, exit code 2, without the password, and nothing is made."""
    before = hashlib.sha256(Path("ringback.db").read_bytes()).hexdigest()
    result = ringback("migrate", *shlex.split(arguments.format(url=url, old=OLD)))
    assert (result.exit_code, message in result.stderr) == (2, True), result.output
    assert "sesame" not in result.output
    assert "ses%ame" not in result.output
    assert hashlib.sha256(Path("ringback.db").read_bytes()).hexdigest() == before
    assert not Path("new.db").exists()


@pytest.mark.parametrize(
    ("number", "when", "told"),
    [
        (signal.SIGINT, IN_THE_MIDST, "interrupted: nothing was moved\n"),
        (signal.SIGINT, AT_THE_END, "interrupted: at the very end: all may be moved, or nothing. Try again: if"),
        (signal.SIGKILL, IN_THE_MIDST, ""),
    ],
)
def test_it_may_be_interrupted(number: int, when: str, told: str, start: Callable[..., Process]) -> None:
    """Ctrl-C, or a kill, in the midst of it: both sides are as before, and it can be done again."""
    before = hashlib.sha256(Path("ringback.db").read_bytes()).hexdigest()
    with fresh_database() as url, psycopg.connect(url, autocommit=True) as db:
        db.execute(WAITS.format(when).encode())
        db.execute("SELECT pg_advisory_lock(1)")
        process = start("migrate", "--from", OLD, "--to", url)
        ends_at = time.monotonic() + 60
        while db.execute(WAITING.encode()).fetchone() != (1,):
            assert process.popen.poll() is None, process.log()
            assert time.monotonic() < ends_at, process.log()
        code = process.end(number, 60)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        assert "Traceback" not in process.log()
        assert told in process.log()
        db.execute("SELECT pg_advisory_unlock(1)")
        db.execute("DROP FUNCTION wait CASCADE")
        assert db.execute("SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM events)").fetchone() == (0,)
        assert hashlib.sha256(Path("ringback.db").read_bytes()).hexdigest() == before
        again = start("migrate", "--from", OLD, "--to", url)
        assert again.popen.wait(60) == 0, again.log()


def test_it_may_be_interrupted_when_all_is_moved(ringback: Ringback, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it tells what it has done: the ledger is there, and that is said."""
    monkeypatch.setattr(moving, "_print", lambda *_: signal.raise_signal(signal.SIGINT))
    result = ringback("migrate", "--from", OLD, "--to", url)
    assert (result.exit_code, result.stderr) == (130, "interrupted: but all was moved before\n")
    assert "not empty" in ringback("migrate", "--from", OLD, "--to", url).stderr


def test_what_waits_runs_there(url: str, ringback: Ringback) -> None:
    """What was pending is pending there, for whoever asks."""
    ringback("migrate", "--from", OLD, "--to", url)

    async def pending() -> Any:
        ledger = await open_ledger(Settings(database_url=url))
        try:
            return (await ledger.summary(worker().started_at)).deliveries
        finally:
            await ledger.close()

    assert asyncio.run(pending()) == {"pending": 3}
    assert "RINGBACK_DATABASE_URL" not in os.environ

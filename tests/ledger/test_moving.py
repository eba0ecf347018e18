"""A ledger moves from SQLite to PostgreSQL: whole, proven, or not at all."""

import asyncio
import hashlib
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ringback.errors import LedgerRejected
from ringback.ledger import Ledger, Query, Registration, open_ledger, upkeep
from ringback.ledger.moving import TABLES, Moved, numbers, source, target
from ringback.ledger.postgres import partitions
from ringback.ledger.sqlite import fan_out
from ringback.model import DeliveryState, Verdict
from ringback.settings import Settings

from .builders import ANY, COMPLETED, LONG_AGO, NOW, at, fact, submitted, worker, working
from .hands import PLAIN, Hand
from .moving_case import all_of, fill, same
from .server import bare_database

LATER = at(1000)  # nobody was seen lately


def nothing(*_: Any) -> None:
    """Show no progress."""


def move(old: Settings, new: Settings, now: datetime = LATER, *, dry_run: bool = False) -> Moved:
    """Move a ledger."""
    return upkeep.move(old, new, now, nothing, dry_run=dry_run)


def read(place: Settings) -> dict[str, Any]:
    """Read everything that people can."""

    async def read() -> dict[str, Any]:
        ledger = await open_ledger(place)
        try:
            return await all_of(ledger)
        finally:
            await ledger.close()

    return asyncio.run(read())


def files(old: Settings) -> dict[str, str]:
    """Tell what is in the folder of a ledger, byte for byte."""
    found = old.database_path.parent.iterdir()
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def spoil(old: Settings, statement: str, *values: Any) -> None:
    """Write something into the file that the ledger would not."""
    with closing(sqlite3.connect(old.database_path)) as db, db:
        db.execute("PRAGMA ignore_check_constraints = 1")
        db.execute(statement, values)


def rows(new: Settings, statement: str) -> list[tuple[Any, ...]]:
    """Ask PostgreSQL itself."""
    with psycopg.connect(new.database_url) as db:
        return db.execute(statement.encode()).fetchall()


def command(new: Settings, *statements: str) -> None:
    """Have PostgreSQL do something."""
    with psycopg.connect(new.database_url, autocommit=True) as db:
        for statement in statements:
            db.execute(statement.encode())


def is_bare(new: Settings) -> bool:
    """Tell whether there are no tables."""
    return rows(new, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a ledger with something of every kind."""
    path = tmp_path_factory.mktemp("filled") / "old.db"

    async def make() -> None:
        ledger = await open_ledger(Settings(database_url=f"sqlite:///{path}"), create=True)
        try:
            await fill(ledger)
        finally:
            await ledger.close()

    asyncio.run(make())
    return path


@pytest.fixture
def old(filled: Path, tmp_path: Path) -> Settings:
    """Give a copy of it."""
    shutil.copy(filled, tmp_path)
    return Settings(database_url=f"sqlite:///{tmp_path}/old.db")


@pytest.fixture
def new() -> Iterator[Settings]:
    """Name a database without tables."""
    with bare_database() as url:
        yield Settings(database_url=url)


def test_the_case_has_everything(old: Settings) -> None:
    """Every table has rows, and every word that a column may hold stands in one."""
    with closing(sqlite3.connect(old.database_path)) as db:
        found = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in sqlite_tables(db)}  # noqa: S608
        words = {
            column: {row[0] for row in db.execute(f"SELECT DISTINCT {column} FROM {table}")}  # noqa: S608
            for table, column in (
                ("tasks", "state"),
                ("events", "type"),
                ("callbacks", "verdict"),
                ("events", "pruned"),
            )
        }
        states = {row[0] for row in db.execute("SELECT DISTINCT state FROM deliveries")}
        assert db.execute("SELECT count(*) FROM deliveries WHERE parked = 1").fetchone()[0] > 0
    assert [name for name, count in found.items() if not count] == []
    assert {name: len(kinds) for name, kinds in words.items()} == {"state": 7, "type": 8, "verdict": 3, "pruned": 2}
    assert states == {state.value for state in DeliveryState}


def sqlite_tables(db: sqlite3.Connection) -> set[str]:
    """Name the tables of a ledger that hold its records."""
    return {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")} - {"probe"}


def test_everything_reads_the_same(old: Settings, new: Settings) -> None:
    """Lists, stories, reports and counts are equal on both; the old ledger is not touched."""
    before = files(old)
    moved = move(old, new)
    assert files(old) == {**before, "old.db.lock": hashlib.sha256(b"").hexdigest()}
    assert [table.table for table in moved.tables] == list(TABLES)
    assert moved.in_use == []
    counts = {table: rows(new, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}  # noqa: S608
    assert {table.table: table.rows for table in moved.tables} == counts
    same(read(new), read(old))


def test_every_column_is_moved(old: Settings, new: Settings) -> None:
    """A table or a column that a later version adds cannot be forgotten, neither in the copy nor in its proof."""
    move(old, new)
    listed = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    partition = re.compile(r"(events|attempts)_\w+|probe|ringback_migrations|costs|fetches")
    theirs: dict[str, set[str]] = {}
    for table, column in rows(new, listed):
        if not partition.fullmatch(table):
            theirs.setdefault(table, set()).add(column)
    assert theirs.keys() == set(TABLES)
    with closing(sqlite3.connect(old.database_path)) as db:
        db.create_function("event_number", 3, lambda *_: 1)
        db.create_function("attempt_number", 2, lambda *_: 1)
        for table in TABLES:
            ours = [column[0] for column in db.execute(source.READ[table]).description][1:]
            copied = re.search(r"\(([^)]+)\)", target.WRITE[table])
            assert copied is not None
            assert copied[1].replace(",", " ").split() == ours
            assert set(ours) == theirs[table] - ({"stage"} if table == "tasks" else set())
        assert sqlite_tables(db) <= set(TABLES)


def test_rows_lie_in_the_partition_of_their_week(old: Settings, new: Settings) -> None:
    """None is in the default one, which would hold up each new one; what is emptied lies apart, as it would there."""
    move(old, new)
    for table, moment in (("events", "received_at"), ("attempts", "finished_at")):
        where = f"SELECT DISTINCT tableoid::regclass::text, {moment} / 1000 FROM {table} WHERE seq > 0"  # noqa: S608
        assert {name for name, _ in rows(new, where)} == {
            f"{table}_{datetime.fromtimestamp(begin / 1000, NOW.tzinfo):%Y%m%d}"
            for begin in [
                (milliseconds - partitions.MONDAY) // partitions.WEEK * partitions.WEEK + partitions.MONDAY
                for _, milliseconds in rows(new, where)
            ]
        }
    assert rows(new, "SELECT tableoid::regclass::text, count(*) FROM events WHERE pruned = 2 GROUP BY 1") == [
        ("events_emptied", 2)
    ]


async def test_life_goes_on(old: Settings, new: Settings) -> None:
    """A copy of an old callback is a copy, new ones come in, and what was pending runs, as if nothing had happened."""
    move(old, new)
    ledger = await open_ledger(new)
    try:
        again = await ledger.record(fact(COMPLETED, "task_3", "p-task_3", seconds=2000))
        assert (again.verdict, again.duplicate) == (Verdict.DUPLICATE, True)
        emptied = await ledger.record(fact(COMPLETED, "task_old1", "p-old1", seconds=2000))
        assert emptied.verdict is Verdict.DUPLICATE
        assert (await ledger.record(fact(COMPLETED, "task_quiet", "p-quiet", seconds=2001))).verdict is Verdict.NEW
        await submitted(ledger, "task_new", "p-new")
        assert [task.id for task in await ledger.tasks(Query(limit=1))] == ["task_new"]
        await _run_all(ledger)
        left = await ledger.deliveries(Query(handler="h", limit=9999))
        assert {one.delivery.state for one in left} == {DeliveryState.SUCCEEDED, DeliveryState.DISCARDED}
    finally:
        await ledger.close()


async def _run_all(ledger: Ledger) -> None:
    """Let a new worker take over: first what the dead one held, then all there is."""
    await working(ledger, "h", process="w9")
    await ledger.beat(worker("w9"), at(3000), at(2900), {"h": Registration(patterns=ANY, attempts=3)})
    hand = Hand(ledger, PLAIN, name="w9")
    for number in range(200):
        works = await hand.begin(100_000 + number, fan_out=50, idle=True)
        if not works:
            return
        await hand.end(*works, seconds=100_000 + number)
    raise AssertionError("it never ends")


async def test_looking_back_goes_on(tmp_path: Path, new: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that was in the midst of its past events gets each of them once."""
    monkeypatch.setattr(fan_out, "LOOK_BACK", 3)
    old = Settings(database_url=f"sqlite:///{tmp_path}/old.db")
    ledger = await open_ledger(old, create=True)
    hand = Hand(ledger, name="w1")
    for number in range(10):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}", seconds=number))
    await hand.turn(20, fan_out=50)
    await ledger.beat(worker(), at(20), LONG_AGO, {"late": Registration(patterns=ANY, since=LONG_AGO)})
    await hand.turn(21, fan_out=50)
    owed = len(await ledger.deliveries(Query(handler="late")))
    await ledger.close()
    assert 0 < owed < 10
    move(old, new)
    ledger = await open_ledger(new)
    try:
        hand = Hand(ledger, name="w1")
        while (await hand.turn(30, fan_out=50)).more:
            pass
        tasks = [one.task_id for one in await ledger.deliveries(Query(handler="late"))]
        assert sorted(map(str, tasks)) == [f"task_{number}" for number in range(10)]
    finally:
        await ledger.close()


def test_numbers_are_made_of_time() -> None:
    """The millisecond, then the old number; one that is taken gives way; a time that does not fit in has none."""
    plain, moved = numbers.Numbers({}), numbers.Numbers({7: 2})
    assert plain.of_attempt(5_999, 7) == 5 << 20 | 7
    assert moved.of_attempt(5_999, 7) == 7 << 20 | 7
    assert plain.of_event(5_999, (1 << 20) + 7, 1) == 5 << 20 | 7
    assert plain.of_event(5_999, 7, 2) == (5 << 20 | 7) - (1 << 62)
    assert [plain.of_event(moment, 7, 0) for moment in (None, -1, 0, 1 << 53)] == [None] * 4
    assert (numbers.SHIFT, partitions.SHIFT) == (20, 20)


def test_what_has_the_same_number_gives_way(old: Settings, new: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one millisecond whose old numbers end alike are moved all the same, with what refers to them."""
    monkeypatch.setattr(source, "BATCH_ROWS", 7)
    for table in ("events", "attempts"):
        spoil(old, f"UPDATE {table} SET seq = seq << 20")  # noqa: S608
    for table in ("deliveries", "steps", "results"):
        spoil(old, f"UPDATE {table} SET event_seq = event_seq << 20")  # noqa: S608
    move(old, new)
    same(read(new), read(old))


FLAWS = {
    "NUL": (
        "UPDATE tasks SET send_note = 'a' || char(0) WHERE id = 'task_a'",
        "tasks: row task_a: send_note holds a NUL",
    ),
    "not UTF-8": (
        "UPDATE tasks SET send_note = CAST(x'c3' AS TEXT) WHERE id = 'task_a'",
        "tasks: row task_a: send_note is not UTF-8",
    ),
    "too late": ("UPDATE events SET received_at = 1 << 62 WHERE seq = 3", r"events: row evt_\w+: .*out of range"),
    "no event": ("UPDATE deliveries SET event_seq = 99999 WHERE seq = 4", r"deliveries: row dlv_\w+: .*is missing"),
    "a check": ("UPDATE tasks SET progress = 101 WHERE id = 'task_0'", r"tasks: row task_0 cannot be stored \(.*check"),
}


def test_ctrl_c_is_heard_everywhere(old: Settings, new: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite swallows what a function of ours raises; that it was Ctrl-C is not lost."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(numbers.Numbers, "of_event", interrupted)
    with pytest.raises(KeyboardInterrupt):
        move(old, new)
    assert is_bare(new)


@pytest.mark.parametrize("flaw", sorted(FLAWS))
def test_what_cannot_be_stored_is_named(old: Settings, new: Settings, flaw: str) -> None:
    """The table and the row are told, never what is in it, and nothing is moved."""
    statement, message = FLAWS[flaw]
    spoil(old, statement)
    before = files(old)
    with pytest.raises(LedgerRejected, match=f"{message}.*nothing was moved"):
        move(old, new)
    assert is_bare(new)
    assert files(old).items() >= before.items()

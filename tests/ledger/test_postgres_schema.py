"""The PostgreSQL schema and statements: equal in meaning to SQLite's, made and brought up to date by one process."""

import asyncio
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from ringback.errors import LedgerMismatch, LedgerMissing, LedgerUnavailable, SettingsError
from ringback.ledger import queries, upkeep
from ringback.ledger.postgres import PostgresLedger, partitions, schema
from ringback.ledger.postgres.connection import QUERIES, Connection
from ringback.ledger.schema import schema_text
from ringback.settings import Settings

from .builders import NOW
from .server import bare_database, fresh_database

FOLDER = Path(queries.__file__).parent
FILES = sorted(path.stem for path in (FOLDER / "sqlite").glob("*.sql"))
SQLITE = {statement.key: statement for file in FILES for statement in queries.load(f"sqlite/{file}.sql").values()}
TYPES = {"INTEGER": "bigint", "TEXT": 'text COLLATE "C"', "BLOB": "bytea"}
# Tables that are partitioned by time have a seq that begins with it, and nothing may refer to their rows.
CLOCK_SEQ = "(((extract(epoch FROM clock_timestamp()) * 1000)::bigint << 20) | (nextval('{}_seq') & 1048575))"
NO_REFERENCE = re.compile(r" REFERENCES (?:events|deliveries) \(seq\)(?: ON DELETE CASCADE)?")
# What is unique, or waits, over all partitions is told by tables of their own.
BY_OTHER_MEANS = {
    *("CREATE UNIQUE INDEX events_id", "CREATE UNIQUE INDEX events_event_key", "CREATE UNIQUE INDEX events_fact_key"),
    *("CREATE INDEX events_task", "CREATE INDEX events_waiting"),
}
FOR_PARTITIONS = {
    *("CREATE TABLE facts", "CREATE TABLE waiting"),
    *("CREATE TABLE events_emptied", "CREATE TABLE events_default", "CREATE TABLE attempts_default"),
}
# So that a callback updates its task in place (docs/adr/0016).
CHANGED_BY_CALLBACKS = {
    *("CREATE INDEX tasks_fetch", "CREATE INDEX tasks_fetch_other"),
    *("CREATE INDEX tasks_pending", "CREATE INDEX tasks_settled"),
}
FOR_UPDATES_IN_PLACE = {
    *("CREATE TABLE fetches", "CREATE INDEX fetches_due"),
    *("CREATE INDEX tasks_stage", "CREATE INDEX tasks_pending_provider", "CREATE INDEX tasks_pruned"),
}
STAGE = re.compile(r'stage text COLLATE "C" GENERATED ALWAYS AS \(CASE .*? END\) STORED, ')
WAITING = b"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
# These are for people, and read whole tables.
SLOW = re.compile(r"costs\.costs\w*|matching\.matching|results\.count_stored|keys\.open_tasks\w+")


def names(statement: str) -> set[str]:
    """Name what a statement of SQLite binds; `rows` where it takes rows of values."""
    text = re.sub(r"--[^\n]*", "", statement)
    if queries.ROW.search(text):
        return {"rows"}
    return set(re.findall(r"(?<![:\w']):(\w+)", text))


def test_every_statement_is_there() -> None:
    """Each statement of one engine has its counterpart in the file of the same name."""
    assert sorted(path.stem for path in (FOLDER / "postgres").glob("*.sql")) == FILES
    assert QUERIES.keys() == SQLITE.keys()


@pytest.mark.parametrize("key", sorted(SQLITE))
def test_statements_bind_the_same(key: str) -> None:
    """Both bind the same names, and as many values a row."""
    given = names(SQLITE[key])
    bound = {name.decode() for name in re.findall(rb"%\((\w+)\)s", QUERIES[key])}
    if "there is nothing to " in SQLITE[key]:
        return
    assert bound - {"now"} == given - {"now"}
    if values := queries.ROW.search(SQLITE[key]):
        places = {int(place) for place in re.findall(rb"value ->> (\d+)", QUERIES[key])}
        assert places == set(range(values[1].count("?")))


def plain(text: str) -> dict[str, str]:
    """Read each table and index of a schema, without comments and spaces that mean nothing."""
    text = re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", text)).replace("( ", "(").replace(" )", ")")
    found = re.findall(r"(CREATE (?:TABLE|UNIQUE INDEX|INDEX) \w+)(.*?);", text)
    return {head: rest.strip() for head, rest in found}


def translated(head: str, rest: str) -> str:
    """Write a table of SQLite as PostgreSQL has it."""
    rest = re.sub(r" (?:STRICT|WITHOUT ROWID),? ?", " ", rest + " ").replace(" WITHOUT ROWID ", "").strip()
    table = head.split()[-1]
    if table in partitions.STORAGE:
        rest = rest.replace("(seq INTEGER", "(seq bigint DEFAULT " + CLOCK_SEQ.format(table))
        rest += " PARTITION BY RANGE (seq)"
    rest = NO_REFERENCE.sub("", rest)
    rest = rest.replace("seq INTEGER PRIMARY KEY", "seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    rest = re.sub(r"(?<=\w )(INTEGER|TEXT|BLOB)\b", lambda found: TYPES[found[1]], rest)
    if head.endswith(" probe"):
        rest = rest.replace("only ", '"only" ')
    if head.endswith(" url_keys"):  # which has no rowid to say which was first
        rest = rest.replace("(", "(seq bigint GENERATED ALWAYS AS IDENTITY, ", 1)
    return rest


def test_schema_says_the_same() -> None:
    """Tables, columns, defaults, checks, keys and indexes are those of `schema.sql`, but for the names of types."""
    (_, _, made), *_ = schema.steps()
    ours, theirs = plain(made), plain(schema_text())
    ours["CREATE TABLE tasks"] = STAGE.sub("", ours["CREATE TABLE tasks"])
    assert set(theirs) - set(ours) == BY_OTHER_MEANS | CHANGED_BY_CALLBACKS
    assert set(ours) - set(theirs) == FOR_PARTITIONS | FOR_UPDATES_IN_PLACE
    assert {head: ours[head] for head in theirs if head in ours} == {
        head: translated(head, rest) for head, rest in theirs.items() if head in ours
    }
    assert len(ours) > 30


def test_views_have_the_same_columns() -> None:
    """What a view says is said in each engine's own words; its columns are the same."""
    with fresh_database() as url, psycopg.connect(url) as db:
        columns = {
            view: [column.name for column in db.execute(b"TABLE " + view.encode()).description or ()]
            for view in re.findall(r"^CREATE VIEW (\w+)", schema_text(), re.MULTILINE)
        }
    assert columns == {
        "costs": [
            *("seq", "id", "provider", "model", "state", "created_at", "settled_at", "pruned", "price", "charged"),
            *("bought", "void", "spent", "refunded"),
        ]
    }


@pytest.fixture(scope="module")
def database() -> Iterator[Connection]:
    """Give a connection to empty tables, which plans as the writer does."""
    with ExitStack() as stack:
        raw = stack.enter_context(psycopg.connect(stack.enter_context(fresh_database()), autocommit=True))
        raw.execute("SET enable_seqscan = off")
        yield Connection(raw)


@pytest.mark.parametrize("key", sorted(key for key in QUERIES if not SLOW.fullmatch(key)))
def test_statements_have_their_index(database: Connection, key: str) -> None:
    """No statement of the intake, the submitter, the poller or the worker has to read a whole table that grows."""
    found: list[bytes] = []

    def place(name: re.Match[bytes]) -> bytes:
        if name[1] not in found:
            found.append(name[1])
        return b"$%d" % (found.index(name[1]) + 1)

    text = re.sub(rb"%\((\w+)\)s", place, QUERIES[key])
    database.command(f"PREPARE one AS {text.decode()}")
    nothing = ", ".join(["NULL"] * len(found))
    explain = f"EXPLAIN EXECUTE one({nothing})" if found else "EXPLAIN EXECUTE one"
    database.command("SET plan_cache_mode = force_generic_plan")
    plan = [row[0] for row in database.raw.execute(explain.encode()).fetchall()]
    database.command("DEALLOCATE one")
    scans = [
        line for line in plan if re.search(r"Seq Scan on (?:tasks|events|deliveries|attempts|steps|callbacks)", line)
    ]
    assert scans == []


async def test_tables_are_made_only_where_allowed() -> None:
    """Without leave to make them, a database without tables is named, and how to get them."""
    with bare_database() as url:
        with pytest.raises(LedgerMissing, match=r"postgresql://\S+: there is no ledger; .*ringback migrate"):
            await PostgresLedger.open(url, create=False)
        ledgers = await asyncio.gather(*[PostgresLedger.open(url, create=True) for _ in range(3)])
        await ledgers[0].reject({}, NOW)
        for ledger in ledgers:
            await ledger.close()
        assert upkeep.migrate(Settings(database_url=url), create=True) == upkeep.Migrated(
            made=False, steps=[], version=schema.version()
        )


def test_one_of_several_has_made_them() -> None:
    """Of those that find no tables at the same time, one makes them, and the others know that it was not they."""
    with bare_database() as url, psycopg.connect(url, autocommit=True) as db, ThreadPoolExecutor(3) as threads:
        db.execute("SELECT pg_advisory_lock(7460, 0)")
        calls = [threads.submit(upkeep.migrate, Settings(database_url=url), create=True) for _ in range(3)]
        ends_at = time.monotonic() + 8
        while db.execute(WAITING).fetchone() != (3,) and time.monotonic() < ends_at:
            pass
        db.execute("SELECT pg_advisory_unlock(7460, 0)")
        assert sorted(call.result(30).made for call in calls) == [False, False, True]
        assert {tuple(call.result().steps) for call in calls} == {()}


async def test_schema_must_be_there() -> None:
    """A schema that the URL names and nobody has made is told with what to do; then the tables are made in it."""
    with bare_database() as url:
        own = f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3Dringback"
        with pytest.raises(LedgerUnavailable, match=r"^there is no such schema.*: make it first, with CREATE SCHEMA"):
            await PostgresLedger.open(own, create=True)
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("CREATE SCHEMA ringback")
            await (await PostgresLedger.open(own, create=True)).close()
            found = db.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'events'").fetchall()
        assert found == [("ringback",)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sslmod=require", "there is no parameter sslmod; did you mean sslmode?"),
        ("password=sesame&zzz=1", "there is no parameter zzz; see PostgreSQL's"),
        ("port=sesame", "its port is wrong"),
        ("port=99999", "its port is wrong"),
        ("sslmode=sesame", "its sslmode is wrong"),
        ("connect_timeout=sesame", "its connect_timeout is wrong"),
    ],
)
async def test_parameters_must_be_right(query: str, message: str) -> None:
    """What no server was asked about is a mistake in the setting: the parameter is named, and no value is."""
    for place in ("", "127.0.0.1:1"):
        url = f"postgresql://me:sesame@{place}/db?{query}"
        with pytest.raises(SettingsError, match=f"^postgresql://me@{place}/db: {re.escape(message)}") as caught:
            await PostgresLedger.open(url, create=True)
        assert "sesame" not in str(caught.value)


async def test_hosts_must_be_right() -> None:
    """A port, or an address, that cannot be read is told without the URL, which the driver quotes."""
    for place, message in (
        ("127.0.0.1:1,127.0.0.1:abc", "its port is wrong"),
        ("[::1", "end of string reached when looking for"),
    ):
        with pytest.raises(SettingsError, match=re.escape(f"postgresql://me@{place}/db: {message}")) as caught:
            await PostgresLedger.open(f"postgresql://me:sesame@{place}/db", create=True)
        assert "sesame" not in str(caught.value)


async def test_missing_database_is_named() -> None:
    """A database that does not exist is told from one that cannot be reached, and the password is not told."""
    with bare_database() as url:
        gone = url.replace("postgres@", "postgres:sesame@").replace("ringback_test", "no_such")
    with pytest.raises(LedgerMissing, match="there is no such database") as caught:
        await PostgresLedger.open(gone, create=True)
    assert "sesame" not in str(caught.value)
    with pytest.raises(LedgerUnavailable):
        await PostgresLedger.open("postgresql://nobody@127.0.0.1:1/none", create=True)


async def test_other_versions_are_refused() -> None:
    """A newer ledger wants a newer program, an older one a migration; neither is touched."""
    with fresh_database() as url:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("INSERT INTO ringback_migrations (version, name) VALUES (99, 'later')")
        with pytest.raises(LedgerMismatch, match="made by a newer Ringback"):
            await PostgresLedger.open(url, create=True)
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("DELETE FROM ringback_migrations WHERE version = 99")
        want = schema.version() + 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schema, "version", lambda: want)
            with pytest.raises(LedgerMismatch, match=f"this Ringback needs {want}; run: ringback migrate"):
                await PostgresLedger.open(url, create=True)


async def test_another_programs_tables_are_left_alone() -> None:
    """Where a table of one of our names exists, nothing is made."""
    with bare_database() as url:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("CREATE TABLE events (name text)")
        with pytest.raises(LedgerMismatch, match=r'tables are there .*"events" already exists'):
            await PostgresLedger.open(url, create=True)
        with psycopg.connect(url, autocommit=True) as db:
            found = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert found == [("events",)]


@pytest.mark.parametrize(
    ("spoil", "said"), [("DELETE FROM ringback_migrations", "is empty"), ("DROP TABLE ringback_migrations", "is gone")]
)
async def test_ledger_without_its_version_is_told(spoil: str, said: str) -> None:
    """A ledger of which a restore has left out what tells its version is not called another program's."""
    with bare_database() as url, psycopg.connect(url, autocommit=True) as db:
        schema.migrate(Connection(db), url)
        db.execute(spoil.encode())
        with pytest.raises(LedgerMismatch, match=rf"a ledger, but its table ringback_migrations {said}.*restore"):
            await PostgresLedger.open(url, create=True)
        assert db.execute("SELECT count(*) FROM probe").fetchone() == (1,)


async def test_database_must_be_utf8() -> None:
    """A database that cannot hold every text is refused."""
    other = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    with bare_database(other) as url, pytest.raises(LedgerMismatch, match="its encoding is SQL_ASCII"):
        await PostgresLedger.open(url, create=True)


def test_migration_takes_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are taken in order, each with its record; one that fails leaves nothing behind."""
    folder = tmp_path / "migrations" / "postgres"
    folder.mkdir(parents=True)
    monkeypatch.setattr(schema, "files", lambda _: tmp_path)
    for name, text in (("0002_two.sql", "ALTER TABLE one ADD b int"), ("0001_one.sql", "CREATE TABLE one (a int)")):
        (folder / name).write_text(text)
    with bare_database() as url, psycopg.connect(url, autocommit=True) as raw:
        db = Connection(raw)
        assert schema.migrate(db, url) == ["0001_one.sql", "0002_two.sql"]
        (folder / "0003_broken.sql").write_text("CREATE TABLE three (a int); SELECT no_such_column FROM one")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            schema.migrate(db, url)
        assert schema.stored_version(db) == 2
        (folder / "0003_broken.sql").write_text("CREATE TABLE three (a int)")
        assert schema.migrate(db, url) == ["0003_broken.sql"]
        assert schema.migrate(db, url) == []

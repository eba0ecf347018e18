"""The schema: both roads to it are equal, its CHECKs list what the model says, and hot statements use its indexes."""

import ast
import re
import sqlite3
from collections.abc import Iterator
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

import pytest

from ringback.errors import LedgerMismatch
from ringback.ledger import queries, schema
from ringback.ledger.sqlite import retention, tasks
from ringback.model import (
    DeliveryState,
    EventType,
    Origin,
    Outcome,
    Source,
    Standing,
    TaskState,
    Trust,
    Verdict,
)

from .builders import SelfClosing

OLDEST = Path(__file__).with_name("schema_v1.sql").read_text(encoding="utf-8")
WRITING = ("intake", "tasks", "settling", "fan_out", "claims", "steps", "operations", "retention", "expectations")
STATEMENTS = {
    name: queries.load(f"sqlite/{name}.sql") for name in (*WRITING, "matching", "reports", "costs", "keys", "results")
}
NEEDLESS = re.compile(r"-- [^\n]*nothing to (?:lock|take away)\.")  # what only PostgreSQL has to do
HOT = [(file, name) for file in WRITING for name, text in STATEMENTS[file].items() if not NEEDLESS.fullmatch(text)]
HOT += [("results", name) for name in STATEMENTS["results"] if name != "count_stored"]
HOT += [("costs", name) for name in STATEMENTS["costs"] if name not in ("costs", "costs_of_tasks")]
# What people ask, too, but for what begins at one end of a table or an index, and ends early.
ASKED = ("reports", "matching", "costs")
WALKS = ("tasks", "events", "task_by_reference")
HOT += [("matching", name) for name in STATEMENTS["matching"] if name != "matching"]
HOT += [("reports", name) for name in STATEMENTS["reports"] if name not in WALKS]
# Partial indexes, which hold only what waits.
WAITING = re.compile(
    r"USING (?:COVERING )?INDEX "
    r"(?:events_waiting|deliveries_(?:due|parked|running|discarded|cancelled)|tasks_(?:resend|fetch|fetch_other|pending))$"
)
# What a provider has, or when it was made: to walk there for one task would be to walk through most.
LISTS = re.compile(r"USING (?:COVERING )?INDEX (?:tasks_provider|tasks_created|events_seldom) ")
LARGE = re.compile(r"SCAN (?:tasks|costs|results|events|deliveries|attempts|steps|callbacks|[tedacosu]|held|other)\b")


def database(script: str) -> sqlite3.Connection:
    """Make a database in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=SelfClosing)
    connection.executescript(script)
    return connection


def shape(connection: sqlite3.Connection) -> dict[str, object]:
    """Read what a schema is: its tables with their columns, its indexes, its version; without comments."""
    described: dict[str, object] = {"version": schema.stored_version(connection)}
    for kind, name, text in connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql NOT NULL"):
        plain = re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", text)).replace("( ", "(").replace(" )", ")")
        described[f"{kind} {name}"] = plain.replace('"', "")
    return described


def test_both_roads_lead_to_one_schema() -> None:
    """The oldest schema with every migration applied equals `schema.sql`."""
    old, fresh = database(OLDEST), database(schema.schema_text())
    taken = schema.migrate(old)
    assert len(taken) == schema.schema_version() - schema.schema_version(OLDEST)
    assert shape(old) == shape(fresh)
    assert schema.migrate(old) == []


def test_migrations_are_numbered_without_gaps() -> None:
    """Each step reaches the version that its name says, one after another, up to the current one."""
    versions = [version for version, _, _ in schema.migrations()]
    assert versions == list(range(schema.schema_version(OLDEST) + 1, schema.schema_version() + 1))


def test_migration_takes_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged schema is preferred; steps above the stored version are taken in order, each in a transaction."""
    steps = tmp_path / "migrations" / "sqlite"
    steps.mkdir(parents=True)
    (tmp_path / "schema.sql").write_text("PRAGMA user_version = 3;\n")
    for name in ("0003_more.sql", "0002_one.sql", "0001_old.sql"):
        (steps / name).write_text(f"CREATE TABLE t{name[:4]} (id);")
    (steps / "README.md").touch()
    monkeypatch.setattr(schema, "files", lambda _: tmp_path)
    db = database("PRAGMA user_version = 1;")
    assert schema.schema_version() == 3
    assert schema.migrate(db) == ["0002_one.sql", "0003_more.sql"]
    assert shape(db).keys() == {"version", "table t0002", "table t0003"}
    assert schema.stored_version(db) == 3
    (steps / "0004_broken.sql").write_text("CREATE TABLE t0004 (id); CREATE TABLE t0004 (id);")
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(db)
    db.rollback()
    assert schema.stored_version(db) == 3
    assert "table t0004" not in shape(db)


def test_schema_without_a_version_is_refused() -> None:
    """A schema file must say its version."""
    with pytest.raises(LedgerMismatch):
        schema.schema_version("CREATE TABLE x (id)")


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("tasks", "origin", Origin),
        ("tasks", "state", TaskState),
        ("tasks", "settled_by", Source),
        ("events", "type", EventType),
        ("events", "source", Source),
        ("events", "trust", Trust),
        ("events", "standing", Standing),
        ("callbacks", "verdict", [Verdict.CONFLICT, Verdict.UNRECOGNISED, Verdict.HINT]),
        ("callbacks", "trust", Trust),
        ("deliveries", "state", DeliveryState),
        ("attempts", "outcome", Outcome),
    ],
)
def test_checks_list_the_models_words(table: str, column: str, words: type[StrEnum] | list[Verdict]) -> None:
    """A CHECK names exactly the values that the model knows."""
    (text,) = (
        database(schema.schema_text()).execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    )
    word = rf"{column} = '([^']+)'"
    listed = re.search(rf"CHECK \((?:\s*--[^\n]*)?\s*({word}(?:\s+OR\s+{word})*)\)", text)
    assert listed is not None
    assert re.findall(word, listed[1]) == [word.value for word in words]


def columns() -> Iterator[tuple[str, str, bool]]:
    """Give each table's columns as written, and whether their line has a comment."""
    for table, body in re.findall(r"^CREATE TABLE (\w+) \(\n(.*?)^\)", schema.schema_text(), re.MULTILINE | re.DOTALL):
        for line in body.splitlines():
            if match := re.match(r" {4}(\w+) +(?:TEXT|INTEGER|BLOB)", line):
                yield table, match[1], "--" in line


def test_every_column_is_explained_or_obvious() -> None:
    """A column without a comment is one whose name says it, with a unit in its name or in the file's head."""
    obvious = {
        *("seq", "id", "provider", "task_id", "status", "type", "source", "trust", "standing", "origin", "state"),
        *("settled_at", "created_at", "received_at", "last_seen_at", "seen_at", "registered_at", "started_at"),
        *(
            "finished_at",
            "done_at",
            "due_at",
            "first_seen_at",
            "written_at",
            "sends",
            "fetches",
            "progress",
            "results",
            "error",
        ),
        *("provider_event_id", "headers", "verdict", "reason", "name", "event_seq", "delivery_seq", "handler"),
        *("worker", "number", "outcome", "role", "host", "pid", "day", "count", "fingerprint", "only"),
    }
    seen = list(columns())
    assert len(seen) > 80
    assert [(table, name) for table, name, explained in seen if not explained and name not in obvious] == []
    assert len(re.findall(r"^-- .*\nCREATE TABLE", schema.schema_text(), re.MULTILINE)) == len({t for t, *_ in seen})


def used_names() -> set[str]:
    """Find every statement name that the engine's modules use."""
    names = {f"adopt_{step}" for step in tasks.ADOPTION} | {"adopt_"}
    tables = (retention.EVENT_STEPS, retention.TASK_STEPS, retention.OTHER_STEPS)
    names |= {step for table in tables for steps in table.values() for step in steps}
    for entry in files("ringback.ledger.sqlite").iterdir():
        if not entry.name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(entry.read_text(encoding="utf-8"))):
            looked_at: list[ast.AST] = []
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("SQL"):
                looked_at = list(ast.walk(node.slice))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("_rows", "tuples", "_page", "_sampled"):
                looked_at = list(node.args[1:2])
            names |= {str(found.value) for found in looked_at if isinstance(found, ast.Constant)}
    return names - {"adopt_"}


def test_every_statement_is_used_and_every_used_one_exists() -> None:
    """The `.sql` files hold exactly the statements that the code names, none of them twice."""
    known = [name for statements in STATEMENTS.values() for name in statements]
    assert used_names() == set(known)


def test_statement_names_are_unique(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that occurs twice in a file stops the start."""
    (tmp_path / "twice.sql").write_text("-- name: a\nSELECT 1\n-- name: a\nSELECT 2\n")
    monkeypatch.setattr(queries, "files", lambda _: tmp_path)
    with pytest.raises(ValueError, match="twice"):
        queries.load("twice.sql")


@pytest.fixture(scope="module")
def filled() -> Iterator[sqlite3.Connection]:
    """A ledger with 10,000 tasks, events and deliveries, and no statistics."""
    db = database(schema.schema_text())
    db.executescript("""
        BEGIN;
        CREATE TEMP TABLE n AS WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 10000)
            SELECT i FROM c;
        INSERT INTO tasks (id, provider, provider_id, origin, state, created_at)
            SELECT 'task_' || i, 'qingbo', 'p-' || i, 'submission', 'submitted', i FROM n;
        INSERT INTO events (id, type, provider, task_id, source, trust, standing, fact_key, body, received_at,
                            last_seen_at, fanned_out_at)
            SELECT 'evt_' || i, 'task.progressed', 'qingbo', 'task_' || i, 'callback', 'token', 'accepted',
                   'task_' || i || ':processing', x'00', i, i, i FROM n;
        INSERT INTO deliveries (id, event_seq, handler, state, due_at, created_at, settled_at)
            SELECT 'dlv_' || i, i, 'h', 'succeeded', i, i, i FROM n;
        COMMIT;
    """)
    yield db
    db.close()


def plan(db: sqlite3.Connection, file: str, name: str, rows: int = 1) -> list[str]:
    """Tell how SQLite would run a statement, for so many rows where it takes rows."""
    text = re.sub(r"--[^\n]*", "", STATEMENTS[file][name])
    text = re.sub(r"VALUES (\([?, ]+\))", lambda found: "VALUES " + ", ".join([found[1]] * rows), text)
    named, plain = re.findall(r":(\w+)", text), text.count("?")
    parameters = dict.fromkeys(named, "[]") if named else ["[]"] * plain
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", parameters)]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(("file", "name"), HOT)
def test_hot_statements_read_no_whole_table(filled: sqlite3.Connection, file: str, name: str, rows: int) -> None:
    """No statement of the intake, the submitter, the poller or the worker walks through a table that grows."""
    details = plan(filled, file, name, rows)
    scans = [detail for detail in details if LARGE.match(detail) and not WAITING.search(detail)]
    assert scans == []
    assert not any("AUTOMATIC" in detail for detail in details)
    assert file in ASKED or not any(LISTS.search(detail) for detail in details)


BY_ROW = "USING INTEGER PRIMARY KEY"
OPEN = {
    "pending_tasks": [BY_ROW, "INDEX tasks_pending"],
    "processing_tasks": [BY_ROW, "INDEX tasks_fetch_other (state=?)"],
    "submitted_tasks": [BY_ROW, "COVERING INDEX tasks_fetch", "INDEX tasks_fetch_other"],
    "count_open": [
        "COVERING INDEX tasks_fetch", "INDEX tasks_fetch_other", "INDEX tasks_fetch_other (state=?)",
        "INDEX tasks_pending", BY_ROW,
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", OPEN)
def test_open_tasks_are_found_by_their_indexes(filled: sqlite3.Connection, name: str) -> None:
    """However many tasks have ended, or are open in another state: the rows that are read are those that are shown."""
    used = [line for line in plan(filled, "reports", name) if re.match(r"(?:SCAN|SEARCH) tasks USING", line)]
    assert len(used) == len(OPEN[name])
    assert all(index in line for index, line in zip(OPEN[name], used, strict=True))


def test_nothing_else_is_found_by_the_index_of_what_is_not_submitted(filled: sqlite3.Connection) -> None:
    """SQLite takes an index for whatever it seems to fit: this one is for the lists and counts of open tasks alone."""
    users = {
        name
        for file, statements in STATEMENTS.items()
        for name, text in statements.items()
        if not NEEDLESS.fullmatch(text) and any("tasks_fetch_other" in line for line in plan(filled, file, name))
    }
    assert users == {"processing_tasks", "submitted_tasks", "count_open"}

"""What the statements of every moment touch, where events lie in many partitions: the one that they are about."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from ringback.ledger.postgres import partitions, schema
from ringback.ledger.postgres.connection import QUERIES, Connection

from .server import bare_database

WEEKS = 12
# A few events a week: enough that a plan which reads them all would look cheap.
FILL = """
WITH made AS (
    INSERT INTO events (seq, id, type, provider, task_id, status, source, trust, standing, fact_key, body, received_at,
                        last_seen_at, fanned_out_at)
    SELECT ((extract(epoch FROM clock_timestamp()) * 1000)::bigint - week::bigint * 604800000 << 20) + number,
           format('evt_%s_%s', week, number), 'task.completed', 'qingbo', format('task_%s_%s', week, number),
           'completed', 'callback', 'signed', 'accepted', format('task_%s_%s:completed', week, number), 'body', 0, 0,
           CASE WHEN week > 0 THEN 0 END
    FROM generate_series(0, 11) week, generate_series(1, 300) number
    RETURNING seq, id, task_id, fact_key, fanned_out_at),
tasks AS (
    INSERT INTO tasks (id, provider, origin, state, created_at)
    SELECT task_id, 'qingbo', 'submission', 'submitted', 0 FROM made),
owed AS (
    INSERT INTO deliveries (id, event_seq, handler, state, due_at, created_at)
    SELECT replace(id, 'evt', 'dlv'), seq, 'h', 'pending', 0, 0 FROM made),
waiting AS (INSERT INTO waiting SELECT seq, NULL, 0 FROM made WHERE fanned_out_at IS NULL)
INSERT INTO facts SELECT unnest(ARRAY[id, fact_key]), seq FROM made
"""
EVENT_ROW = (
    *("evt_new", "task.completed", "qingbo", "task_0_1", "completed", "callback", "signed", "late", None, None),
    *("e:qingbo:new", None, "[]", None, "", "[]", 0, 0, None),
)


@pytest.fixture(scope="module")
def db() -> Iterator[Connection]:
    """A connection that plans as the writer does, to a ledger of twelve weeks."""
    with ExitStack() as stack:
        url = stack.enter_context(bare_database())
        raw = stack.enter_context(psycopg.connect(url, autocommit=True))
        db = Connection(raw)
        schema.migrate(db, url)
        partitions.make_ahead(db, partitions._now(db) - WEEKS * partitions.WEEK)
        db.command(FILL)
        db.command("ANALYZE; SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan")
        yield db


def seqs(db: Connection, week: int, count: int = 3) -> list[int]:
    """Give some events of a week, counted back from now."""
    found = db.raw.execute("SELECT seq FROM events WHERE id LIKE %s ORDER BY seq LIMIT %s", (f"evt_{week}_%", count))
    return [row[0] for row in found]


def touched(db: Connection, key: str, **values: Any) -> set[str]:
    """Name the partitions of events that a statement looks into."""
    return set(scanned(explained(db, key, **values)))


def explained(db: Connection, key: str, **values: Any) -> dict[str, Any]:
    """Run a statement, to no effect; gives its plan."""
    found: list[str] = []

    def place(name: re.Match[bytes]) -> bytes:
        if name[1].decode() not in found:
            found.append(name[1].decode())
        return b"$%d" % (found.index(name[1].decode()) + 1)

    text = re.sub(rb"%\((\w+)\)s", place, QUERIES[key])
    db.command(f"PREPARE one AS {text.decode()}")
    given = ", ".join(psycopg.sql.Literal(values[name]).as_string(db.raw) for name in found)
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE one{f'({given})' if given else ''}"
    try:
        with db.raw.transaction(force_rollback=True):
            ((plan,),) = db.ask(explain.encode()).fetchall()
    finally:
        db.command("DEALLOCATE one")
    made: dict[str, Any] = plan[0]["Plan"]
    return made


def scanned(node: dict[str, Any]) -> Iterator[str]:
    """Name what is scanned at least once by a node and those below it."""
    name = node.get("Relation Name", "")
    if node["Node Type"].endswith("Scan") and node["Actual Loops"] and name.startswith("events_"):
        yield name
    for below in node.get("Plans", ()):
        yield from scanned(below)


STATEMENTS = {
    "claims.events_with_tasks": {"events": "seqs"},
    "claims.tasks_of_events": {"events": "seqs"},
    "claims.owed_of_tasks": {"tasks": '["task_3_1", "task_3_2"]', "handler": "h"},
    "intake.events_by_key": {"facts": '["task_3_1:completed", "task_3_2:completed"]', "keys": '["e:no"]'},
    "intake.count_duplicates": {"rows": '[["evt_3_1", 1, 1, null], ["evt_3_2", 1, 1, null]]'},
    "results.lives_of_events": {"events": "seqs"},
    "settling.deliveries_by_seq": {"deliveries": "[901, 902]"},
    "reports.events_of_task": {"task_id": "task_3_1"},
}


@pytest.mark.parametrize("key", STATEMENTS)
def test_only_the_partition_in_question_is_touched(db: Connection, key: str) -> None:
    """A claim, what is owed to a task, and a redelivery look into one partition, whatever lies in the others."""
    events = json.dumps(seqs(db, 3))
    values = {name: events if value == "seqs" else value for name, value in STATEMENTS[key].items()}
    assert len(touched(db, key, **values)) == 1


def test_a_fan_out_finds_what_waits_in_its_partition(db: Connection) -> None:
    """What was fanned out long ago is not walked past."""
    assert len(touched(db, "fan_out.waiting_events", now=1, limit=50)) == 1
    assert touched(db, "claims.next_event") == set()


def test_new_facts_are_looked_for_in_no_partition(db: Connection) -> None:
    """What is new is written without looking into what is old; what settles touches no event at all."""
    assert touched(db, "intake.events_by_key", facts='["task_new:completed"]', keys="[]") == set()
    assert touched(db, "intake.insert_events", rows=json.dumps([EVENT_ROW])) == set()
    settled = json.dumps([["dlv_3_1", "att", "succeeded", None, False, 1, None, "w", 0, "succeeded", None]])
    assert touched(db, "settling.settle_deliveries", rows=settled) == set()


def test_a_claim_over_several_weeks_touches_those_only(db: Connection) -> None:
    """What was put off for weeks is claimed with what is new, each looked for in its own partition."""
    events = json.dumps([*seqs(db, 0), *seqs(db, 7)])
    assert len(touched(db, "claims.events_with_tasks", events=events)) == 2


# Tasks that are open, behind which nobody knows how many have ended.
OPEN_TASKS = """
INSERT INTO tasks (id, provider, origin, state, created_at, fetch_at)
SELECT format('task_open_%s', number), 'qingbo', 'submission',
       CASE number % 100 WHEN 0 THEN 'submitted' WHEN 1 THEN 'pending' ELSE 'processing' END, 0, number
FROM generate_series(1, 3000) number
"""
LISTS = {
    "pending_tasks": {"tasks_stage", "tasks_pkey"},
    "processing_tasks": {"tasks_stage", "tasks_pkey"},
    "submitted_tasks": {"fetches_pkey", "tasks_stage", "tasks_pkey"},
}


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("name", LISTS)
def test_lists_of_open_tasks_are_held_to_their_indexes(db: Connection, name: str, analysed: bool) -> None:
    """Whatever the server believes to be frequent, no list of open tasks walks through the settled ones."""
    with db.raw.transaction(force_rollback=True):
        db.command(OPEN_TASKS)
        db.command("UPDATE tasks SET state = 'completed', settled_at = 1, settled_by = 'poll' WHERE fetch_at IS NULL")
        if analysed:
            db.command("ANALYZE tasks")
        plan = explained(db, f"reports.{name}", provider=None, limit=50)
        assert set(indexes(plan)) == LISTS[name]
        assert plan["Actual Rows"] == (50 if name == "processing_tasks" else 30)


def indexes(node: dict[str, Any]) -> Iterator[str]:
    """Name the indexes that a node and those below it use; `all` where one does without."""
    if node["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Index Scan"):
        yield node["Index Name"]
    elif node["Node Type"] == "Seq Scan":
        yield "all"
    for below in node.get("Plans", ()):
        yield from indexes(below)


# One an hour: ten are younger than any whole event, the others older than the newest three hundred of those.
EMPTIED = """
INSERT INTO events (seq, id, type, provider, source, trust, standing, pruned, body, received_at, last_seen_at)
SELECT ((extract(epoch FROM clock_timestamp()) * 1000)::bigint - hour::bigint * 3600000 << 20) - 4611686018427387904,
       format('evt_emptied_%s', hour), CASE WHEN hour % 2 = 0 THEN 'task.completed' ELSE 'task.failed' END,
       'qingbo', 'callback', 'signed', 'accepted', 2, '', 0, 0
FROM generate_series(-10, 6000) hour WHERE hour <> 0
"""
HALF_FAILED = "UPDATE events SET type = 'task.failed' WHERE seq > 0 AND seq & 1 = 1"
EVENT_LISTS: dict[str, dict[str, Any]] = {
    "events": {"provider": None, "type": None},
    "events_of_type": {"provider": None, "type": "task.failed"},
}


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("name", EVENT_LISTS)
def test_lists_of_events_are_held_to_their_length(db: Connection, name: str, analysed: bool) -> None:
    """Whole and emptied events are walked through by an index each, no further than the list goes."""
    with db.raw.transaction(force_rollback=True):
        db.command(EMPTIED)
        db.command(HALF_FAILED)
        db.command("SET LOCAL plan_cache_mode = force_custom_plan")  # as those plan who only read
        if analysed:
            db.command("ANALYZE events")
        plan = explained(db, f"reports.{name}", limit=20, **EVENT_LISTS[name])
        assert plan["Actual Rows"] == 20
        rows = dict(looked_at(plan))
        assert 5 <= rows.pop("events_emptied") <= 10
        # Each week shows its newest whole one, so that the newest of all is found.
        assert sum(rows.values()) == 20 + (WEEKS - 1)


def looked_at(node: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Tell how many rows each partition of events gave, or was looked through for."""
    if node.get("Relation Name", "").startswith("events_"):
        yield node["Relation Name"], node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    for below in node.get("Plans", ()):
        yield from looked_at(below)

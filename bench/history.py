"""Fills a ledger with a past: tasks that have settled, their events, deliveries that succeeded, and closed attempts.

Written by set-based SQL outside of the product, as fast as it goes: indexes are made afterwards. The rows are what the
ledger itself would have written in so many days, in their order; one task in 25 has failed, one event in 20 came twice,
one delivery in 50 needed a second attempt. Everything is made of a row's number, so that both engines hold the same.
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from string import Template
from typing import Any

from bench.backlog import BODY, FORM_OF_TASKS, URL, settings_of, settle_down
from bench.engines import connected
from bench.running import SECRET
from ringback.ledger import open_ledger
from ringback.ledger.postgres.partitions import MONDAY, SHIFT, STORAGE, WEEK
from ringback.providers.signatures import fingerprint

DAYS = 60
AT_ONCE = 500_000
TABLES = ("tasks", "events", "deliveries", "attempts")
HEADERS = '[["content-type","application/json"]]'
RESULTS = f'[{{"kind":"video","url":"{URL % "0"}"}}]'

STATEMENTS = tuple(
    Template(text)
    for text in (
        """
INSERT INTO tasks (seq, id, provider, provider_id, origin, state, settled_by, settled_event, settled_at, form, url_key,
                   created_at, sent_at, sends, accepted_at, progress, callbacks) $overriding
SELECT n, 'task_' || name, provider, 'task-wave' || substr(name, 11), 'submission', state, 'callback', 'evt_' || name,
       ms * 1000, '$form', '$url_key', ms * 1000 - 90000000, ms * 1000 - 90000000, 1, ms * 1000 - 89000000, 100,
       CASE n % 20 WHEN 0 THEN 2 ELSE 1 END FROM $rows""",
        """
INSERT INTO events (seq, id, type, provider, task_id, status, source, trust, standing, fact_key, results, body, headers,
                    received_at, last_seen_at, duplicates, fanned_out_at)
SELECT $seq, 'evt_' || name, 'task.' || state, provider, 'task_' || name, state, 'callback', 'token', 'accepted',
       'task_' || name || ':' || state, CASE state WHEN 'completed' THEN '$results' ELSE '[]' END,
       $bytes, '$headers', ms * 1000, ms * 1000, CASE n % 20 WHEN 0 THEN 1 ELSE 0 END, ms * 1000 + 20000 FROM $rows""",
        """
INSERT INTO deliveries (seq, id, event_seq, handler, state, due_at, begun, attempts, attempt, created_at, settled_at)
    $overriding
SELECT n, 'dlv_' || name, $seq, 'bench', 'succeeded', ms * 1000 + 20000, CASE n % 50 WHEN 0 THEN 2 ELSE 1 END,
       CASE n % 50 WHEN 0 THEN 2 ELSE 1 END, 'att_' || name, ms * 1000 + 20000, ms * 1000 + 50000 FROM $rows""",
        """
INSERT INTO attempts (seq, id, delivery_seq, number, worker, started_at, finished_at, outcome, error)
SELECT $earlier, 'atf_' || name, n, 1, 'bench-1', ms * 1000 + 10000, ms * 1000 + 11000, 'failed', 'OSError: bench'
FROM $rows WHERE n % 50 = 0""",
        """
INSERT INTO attempts (seq, id, delivery_seq, number, worker, started_at, finished_at, outcome)
SELECT $attempt, 'att_' || name, n, CASE n % 50 WHEN 0 THEN 2 ELSE 1 END, 'bench-1', ms * 1000 + 20000,
       ms * 1000 + 50000, 'succeeded' FROM $rows""",
    )
)
FACTS = Template(
    """
INSERT INTO facts (key, event_seq)
SELECT key, $seq FROM $rows CROSS JOIN LATERAL (VALUES ('evt_' || name), ('task_' || name || ':' || state)) k (key)"""
)
# What a row is made of: its number, its moment, the part of its ids after the prefix, whose it is and how it ended.
ROWS = Template(
    """(
    SELECT n, ms, $hex_ms || $mixed AS name, CASE n % 10 WHEN 0 THEN 'standard' ELSE 'qingbo' END AS provider,
           CASE n % 25 WHEN 0 THEN 'failed' ELSE 'completed' END AS state
    FROM (SELECT n, $began + n * $span / $count AS ms FROM ($series) numbers) moments) made"""
)
MIXED = ("(n * 2654435761) % 68719476736", "(n * 40503000001) % 68719476736")  # nine hex digits each, in no order
SQLITE = {
    "overriding": "",
    "seq": "n",
    "attempt": "NULL",
    "earlier": "NULL",
    "hex_ms": "printf('%012x', ms)",
    "mixed": " || ".join(f"printf('%09x', {part})" for part in MIXED),
    "series": "WITH RECURSIVE c (n) AS (SELECT $first UNION ALL SELECT n + 1 FROM c WHERE n < $last) SELECT n FROM c",
    "bytes": "CAST($body AS BLOB)",
}
POSTGRES = {
    "overriding": "OVERRIDING SYSTEM VALUE",
    "seq": f"(ms << {SHIFT}) | (n & {(1 << SHIFT) - 1})",
    "attempt": f"((ms + 50) << {SHIFT}) | (n & {(1 << SHIFT) - 1})",
    "earlier": f"((ms + 11) << {SHIFT}) | (n & {(1 << SHIFT) - 1})",
    "hex_ms": "lpad(to_hex(ms), 12, '0')",
    "mixed": " || ".join(f"lpad(to_hex({part}), 9, '0')" for part in MIXED),
    "series": "SELECT generate_series($first::bigint, $last::bigint) AS n",
    "bytes": "convert_to($body, 'UTF8')",
}
SQLITE_INDEXES = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
POSTGRES_INDEXES = """
SELECT indexname, replace(indexdef, ' ON ONLY ', ' ON ') FROM pg_indexes
WHERE schemaname = current_schema() AND (tablename = 'tasks' OR tablename = 'deliveries' OR tablename = 'attempts')
  AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = indexname)
"""
SQLITE_FAST = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -500000")
POSTGRES_FAST = ("SET synchronous_commit = off", "SET maintenance_work_mem = '512MB'", "SET jit = off")


async def make(url: str) -> None:
    """Make an empty ledger."""
    ledger = await open_ledger(settings_of(url), create=True)
    await ledger.close()


def fill(url: str, count: int) -> None:
    """Make a ledger with so many events, of the days until now."""
    asyncio.run(make(url))
    began = time.perf_counter()
    until = datetime.now(UTC) - timedelta(hours=1)
    first, last = (int(moment.timestamp() * 1000) for moment in (until - timedelta(days=DAYS), until))
    is_sqlite = url.startswith("sqlite:")
    with connected(url) as db:
        for pragma in SQLITE_FAST if is_sqlite else POSTGRES_FAST:
            db.execute(pragma)
        if not is_sqlite:
            _make_weeks(db, first, last)
        indexes = db.execute(SQLITE_INDEXES if is_sqlite else POSTGRES_INDEXES).fetchall()
        for name, _ in indexes:
            db.execute(f"DROP INDEX {name}")
        for done, statement in _statements(is_sqlite, count, first, last - first):
            db.execute(statement)
            _tell(f"filling: {done:,} of {count:,}", began)
        for name, index in indexes:
            db.execute(index)
            _tell(f"filling: index {name}", began)
        if is_sqlite:
            db.execute("PRAGMA journal_mode = WAL")
        else:
            for table in ("tasks", "deliveries"):
                db.execute("SELECT setval(pg_get_serial_sequence(%s, 'seq'), %s)", (table, count))
    settle_down(url)
    _tell("filling: done", began)


def _statements(is_sqlite: bool, count: int, began: int, span: int) -> Iterator[tuple[int, str]]:
    engine = SQLITE if is_sqlite else POSTGRES
    texts = {"form": FORM_OF_TASKS, "url_key": fingerprint(SECRET.encode()), "headers": HEADERS, "results": RESULTS}
    pieces = BODY.split("%s")
    texts["body"] = "'" + "' || 'task-wave' || substr(name, 11) || '".join(pieces) + "'"
    templates: Sequence[Template] = STATEMENTS if is_sqlite else (*STATEMENTS, FACTS)
    for start in range(1, count + 1, AT_ONCE):
        end = min(count, start + AT_ONCE - 1)
        series = Template(engine["series"]).substitute(first=start, last=end)
        rows = ROWS.substitute(engine | {"began": began, "span": span, "count": count, "series": series})
        given = engine | texts | {"rows": rows, "bytes": Template(engine["bytes"]).substitute(texts)}
        for template in templates:
            yield end, template.substitute(given)


def _make_weeks(db: Any, first: int, last: int) -> None:
    """Make the partitions that the ledger would have made as time went by."""
    (have,) = db.execute("SELECT array_agg(relname::text) FROM pg_class WHERE relispartition").fetchone()
    for begin in range((first - MONDAY) // WEEK * WEEK + MONDAY, last, WEEK):
        day = datetime.fromtimestamp(begin / 1000, UTC)
        for table, storage in STORAGE.items():
            if (name := f"{table}_{day:%Y%m%d}") not in have:
                span = f"FROM ({begin << SHIFT}) TO ({(begin + WEEK) << SHIFT})"
                db.execute(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES {span} WITH ({storage})")


def _tell(what: str, began: float) -> None:
    print(f"{what}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)

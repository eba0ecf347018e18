"""Fills ledgers for the benchmarks, untimed: submitted tasks, events not yet fanned out, or waiting deliveries.

Tasks and events come through the ledger's own methods, as a submission and a callback store them. Only what would
take too long that way is written by SQL: the answers to the submissions, and a million waiting deliveries.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from bench.engines import connected
from bench.running import SECRET
from ringback.ledger import Ledger, open_ledger
from ringback.model import Arrival, Callback, Form, Kind, Reading, Result, Source, Task, TaskState, Trust, new_id
from ringback.providers.signatures import callback_mac, fingerprint
from ringback.settings import Settings

AT_ONCE = 5000
FORM_OF_TASKS = '{"model":"grok-imagine-1.0-video","prompt":"bench"}'
URL = "https://cdn.example.com/media/%s/0.mp4"
BODY = (
    '{"task_id":"%s","model":"grok-imagine-1.0-video","action":"generate","status":"completed","created_at":'
    '1775285160040,"completed_at":1775285195,"progress":100,"cost":22313,"result":{"videos":[{"url":["' + URL + '"],'
    '"expires_at":1775371595}]}}'
)
# The last 20 characters: a negative place means something else to PostgreSQL. Each is to be asked about in an hour, if
# no push comes, as the Submitter has it: what a push does about that is part of its price.
ANSWERED = (
    "UPDATE tasks SET state = 'submitted', accepted_at = 1, provider_id = 'task-wave' || substr(id, length(id) - 19), "
    "fetch_at = created_at + 3600000000"
)

# Numbered alike in all three tables, and in the order of their ids, as the ledger itself would write them.
WAITING = """
INSERT INTO tasks (seq, id, provider, provider_id, origin, state, settled_by, settled_at, form, created_at, callbacks)
WITH RECURSIVE n (seq) AS (SELECT :first UNION ALL SELECT seq + 1 FROM n WHERE seq < :first + :count - 1)
SELECT seq, 'task_' || printf('%012x', :now / 1000 + seq) || lower(hex(randomblob(9))), 'qingbo', 'task-wave' || seq,
       'submission', 'completed', 'callback', :now, :form, :now, 1 FROM n;
INSERT INTO events (seq, id, type, provider, task_id, status, source, trust, standing, fact_key, results, body,
                    received_at, last_seen_at, fanned_out_at)
SELECT seq, 'evt_' || printf('%012x', :now / 1000 + seq) || lower(hex(randomblob(9))), 'task.completed', 'qingbo', id,
       'completed', 'callback', 'token', 'accepted', id || ':completed', :results, :body, :now, :now, :now
FROM tasks WHERE seq >= :first;
INSERT INTO deliveries (seq, id, event_seq, handler, state, due_at, created_at)
SELECT seq, 'dlv_' || printf('%012x', :now / 1000 + seq) || lower(hex(randomblob(9))), seq, 'bench', 'pending',
       :due_at + seq, :now
FROM events WHERE seq >= :first
"""

Item = TypeVar("Item")


def settings_of(url: str) -> Settings:
    """Give the settings under which a benchmark opens a ledger."""
    return Settings(database_url=url)


async def submit_tasks(url: str, count: int) -> list[Task]:
    """Make a ledger with that many tasks that the provider has accepted."""
    tasks = new_tasks(count)
    await submit(url, tasks)
    return tasks


def new_tasks(count: int, provider: str = "qingbo") -> list[Task]:
    """Make up tasks, whose ids are of different milliseconds."""
    now, form = datetime.now(UTC), Form(model="grok-imagine-1.0-video", prompt="bench")
    return [
        Task(
            id=new_id("task", now + timedelta(milliseconds=number)),
            provider=provider,
            form=form,
            created_at=now,
            url_key=fingerprint(SECRET.encode()),
        )
        for number in range(count)
    ]


async def submit(url: str, tasks: Sequence[Task]) -> None:
    """Make a ledger with these tasks, as if the provider had accepted them."""
    ledger = await open_ledger(settings_of(url), create=True)
    await _all(tasks, ledger.add_task)
    await ledger.close()
    with connected(url) as db:
        db.execute(ANSWERED)
    settle_down(url)


async def record_events(url: str, tasks: Sequence[Task]) -> None:
    """Store a callback for each of these tasks, which says that it has completed."""
    ledger: Ledger = await open_ledger(settings_of(url))
    await _all(tasks, lambda task: ledger.record(_arrival(task)))
    await ledger.close()


def settle_down(url: str) -> None:
    """Leave a ledger as it would be some time after it was filled: vacuumed, with all in its file."""
    with connected(url) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)" if url.startswith("sqlite:") else "VACUUM ANALYZE")


async def _all(items: Sequence[Item], store: Callable[[Item], Awaitable[object]]) -> None:
    for start in range(0, len(items), AT_ONCE):
        await asyncio.gather(*(store(item) for item in items[start : start + AT_ONCE]))


def push_of(task: Task) -> tuple[str, bytes]:
    """Give path and body of the callback which says that a task has completed."""
    mac = callback_mac(SECRET.encode(), task.provider, task.id).decode()
    return f"/callbacks/{task.provider}/{task.id}.{mac}", (BODY % (_provider_id(task), task.id)).encode()


def _arrival(task: Task) -> Arrival:
    provider_id = _provider_id(task)
    return Arrival(
        kind=Kind.FACT,
        provider=task.provider,
        source=Source.CALLBACK,
        trust=Trust.TOKEN,
        task_id=task.id,
        callback=Callback(
            body=push_of(task)[1], headers=(("content-type", "application/json"),), received_at=datetime.now(UTC)
        ),
        reading=Reading(
            status=TaskState.COMPLETED,
            provider_id=provider_id,
            progress=100,
            results=(Result(kind="video", url=URL % task.id),),
        ),
    )


def _provider_id(task: Task) -> str:
    return f"task-wave{task.id[-20:]}"  # as ANSWERED has it


async def fill_waiting(url: str, count: int, due_in: timedelta) -> None:
    """Add to a SQLite file so many pending deliveries of the handler `bench`, each of its own event, due one by one."""
    ledger = await open_ledger(settings_of(url), create=True)
    await ledger.close()
    now = int(datetime.now(UTC).timestamp() * 1e6)
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
        # Only the filling is quick and unsafe; what is measured opens the file anew.
        db.execute("PRAGMA synchronous = OFF")
        (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()
        values = {
            "first": last + 1,
            "count": count,
            "now": now,
            "due_at": now + int(due_in.total_seconds() * 1e6) - last - count,
            "form": FORM_OF_TASKS,
            "results": '[{"kind":"video","url":"https://cdn.example.com/media/0.mp4"}]',
            "body": BODY.replace("%s", "0").encode(),
        }
        for statement in WAITING.split(";"):
            db.execute(statement, values)
        db.commit()
    settle_down(url)

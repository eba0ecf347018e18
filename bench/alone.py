"""What the parts of an intake cost by themselves, in CPU time: verifying one push, and storing one row of a batch.

Together with what bare ASGI spends on a request, that is the least for which a durable intake can be had, and
`bench.ingest` holds Ringback against the sum. One thread, no network; each row lies in a transaction with others, whose
commit waits for the disk, as a group commit has it.

    .venv/bin/python -m bench.alone
"""

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.backlog import push_of
from bench.figures import Figure, rows
from bench.naive import INSERT, SCHEMA
from bench.pushes import RAW_SECRET, SIGNED_BODY, Auth
from bench.running import SECRET
from ringback.model import Form, Task, new_id
from ringback.providers.signatures import Headers, Key, StandardWebhooks, token_is_valid

CALLS = 5000
BATCH = 64
ROWS = 6400
USUAL = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"330")]


def verification(auth: Auth, rounds: int) -> Figure:
    """Measure the check of one push."""
    call = {Auth.TOKEN: _token, Auth.SIGNED: _signed}[auth]()
    values = tuple(_cpu_microseconds(call) for _ in range(rounds))
    return Figure(name="verification alone", subject=auth.value, unit="µs", values=values)


def row(rounds: int, batch: int = BATCH) -> Figure:
    """Measure one row of a group commit: SQLite, one unique key, the body in the row, synchronous = FULL."""
    body = push_of(_task())[1]
    with tempfile.TemporaryDirectory(prefix="ringback-bench-") as name:
        values = tuple(_stored(Path(name, f"{number}.db"), body, batch) for number in range(rounds))
    return Figure(name="one group-committed row alone", subject=f"{batch} a commit", unit="µs", values=values)


def _stored(path: Path, body: bytes, batch: int) -> float:
    made = [(f"task_{number:020}", body, number) for number in range(ROWS)]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(SCHEMA)
        began = time.process_time()
        for start in range(0, ROWS, batch):
            db.execute("BEGIN IMMEDIATE")
            db.executemany(INSERT, made[start : start + batch])
            db.execute("COMMIT")
        return (time.process_time() - began) / ROWS * 1e6


def _token() -> Callable[[], object]:
    task = _task()
    mac, key = push_of(task)[0].rpartition(".")[2].encode(), SECRET.encode()
    return lambda: token_is_valid(mac, task.provider, task.id, (key,))


def _signed() -> Callable[[], object]:
    task, scheme, now = _task(), StandardWebhooks(), datetime.now(UTC)
    body = (SIGNED_BODY % (task.id[-20:], task.id)).encode()
    made = scheme.sign(body, RAW_SECRET, now=now, event_id="msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")
    lines = [*USUAL, *((name.encode(), value.encode()) for name, value in made.items())]
    keys, tolerance = (Key(RAW_SECRET),), timedelta(minutes=5)
    return lambda: scheme.verify(Headers(lines), body, keys, now, tolerance)


def _task() -> Task:
    now = datetime.now(UTC)
    form = Form(model="grok-imagine-1.0-video", prompt="bench")
    return Task(id=new_id("task", now), provider="qingbo", form=form, created_at=now)


def _cpu_microseconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - began) / CALLS * 1e6


if __name__ == "__main__":
    print(rows([verification(Auth.TOKEN, 5), verification(Auth.SIGNED, 5), row(5)]))

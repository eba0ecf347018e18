"""procrastinate over the PostgreSQL server of the benchmark, which runs on the same cores as the worker.

`prepare FOLDER COUNT` and `drain FOLDER SECONDS`. Its URL is in BENCH_SERVER, and in BENCH_SERVER_PID its process,
where what that spends can be counted.
"""

import asyncio
import json
import logging
import os
import sys
import time
from importlib.metadata import version
from typing import Any

import psutil
import psycopg
from procrastinate import App, PsycopgConnector
from psycopg.conninfo import make_conninfo

CONCURRENCY = 30  # the best of 1, 4, 10, 30 and 100 in a short trial, where they gave 190 to 360 per second
BATCH = 1000
SERVER = os.environ["BENCH_SERVER"]
BACKLOG, ROUND = "ringback_bench_peer_backlog", "ringback_bench_peer_round"
DONE = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
LEFT = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'"


def main() -> int:
    """Do what the command line says."""
    action, number = sys.argv[1], int(sys.argv[3])
    logging.getLogger("procrastinate").setLevel(logging.ERROR)  # it warns of tasks in `__main__`, which ours may be
    if action == "prepare":
        asyncio.run(prepare(number))
    else:
        print(json.dumps(asyncio.run(drain(number))))
    return 0


async def nothing(number: int) -> None:
    """Do nothing."""


def app_of(database: str) -> tuple[App, Any]:
    """Make the application and its one task."""
    connector = PsycopgConnector(conninfo=make_conninfo(SERVER, dbname=database), max_size=20)
    app = App(connector=connector, import_paths=[])
    return app, app.task(name="nothing")(nothing)


async def prepare(count: int) -> None:
    """Defer so many jobs, in a database that each round copies."""
    with psycopg.connect(SERVER, autocommit=True) as db:
        db.execute(f"DROP DATABASE IF EXISTS {BACKLOG}")
        db.execute(f"CREATE DATABASE {BACKLOG} TEMPLATE template0")
    app, task = app_of(BACKLOG)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for start in range(0, count, BATCH):
            numbers = range(start, min(count, start + BATCH))
            await task.batch_defer_async(*({"number": number} for number in numbers))
    with psycopg.connect(SERVER, dbname=BACKLOG, autocommit=True) as db:
        db.execute("VACUUM ANALYZE")


async def drain(seconds: float) -> dict[str, object]:
    """Work on a copy of the backlog until it is empty, or for so many seconds."""
    with psycopg.connect(SERVER, autocommit=True) as db:
        db.execute(f"DROP DATABASE IF EXISTS {ROUND}")
        db.execute(f"CREATE DATABASE {ROUND} TEMPLATE {BACKLOG}")
        db.execute("CHECKPOINT")
    app, _ = app_of(ROUND)
    with psycopg.connect(SERVER, dbname=ROUND, autocommit=True) as db:
        safe = [_one(db, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")]
        if safe != ["on"] * 3:
            raise SystemExit(f"fsync, synchronous_commit and full_page_writes must be on, and are {safe}")
        expected = int(_one(db, LEFT))
        async with app.open_async():
            began, spent = time.perf_counter(), _cpu_seconds()
            working = asyncio.create_task(
                app.run_worker_async(
                    concurrency=CONCURRENCY, wait=False, listen_notify=False, install_signal_handlers=False
                )
            )
            await asyncio.wait({working}, timeout=seconds)
            count, took = int(_one(db, DONE)), time.perf_counter() - began
            spent = _cpu_seconds() - spent
            working.cancel()
            await asyncio.wait({working}, timeout=30)
        postgres = str(_one(db, "SHOW server_version")).split()[0]
    with psycopg.connect(SERVER, autocommit=True) as db:
        db.execute(f"DROP DATABASE {ROUND} WITH (FORCE)")
    return {
        "count": count,
        "expected": expected,
        "seconds": took,
        "cpu_seconds": spent,
        "name": f"procrastinate {version('procrastinate')}, PostgreSQL {postgres}",
    }


def _one(db: Any, statement: str) -> Any:
    return db.execute(statement).fetchone()[0]


def _cpu_seconds() -> float:
    """Sum up this process and the server, with those of its processes that have ended."""
    living, ended = [psutil.Process()], 0.0
    if pid := os.environ.get("BENCH_SERVER_PID"):
        postmaster = psutil.Process(int(pid))
        living += [postmaster, *postmaster.children(recursive=True)]
        ended = postmaster.cpu_times().children_user + postmaster.cpu_times().children_system
    times = [process.cpu_times() for process in living]
    return float(sum(spent.user + spent.system for spent in times) + ended)


if __name__ == "__main__":
    sys.exit(main())

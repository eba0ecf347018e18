"""Durable, authenticated callbacks per second, over a bare Starlette route that reads the body and answers 204.

Both run in this run, in turn, each alone with the load generator (wrk): the bare route on uvicorn with uvloop and
httptools, Ringback as `ringback serve`, which is the same plus what ringback/cli/server.py sets. Every
callback is about another task, submitted beforehand; its URL's token is checked, and its event and its task's advance
are on disk before the 200. After each round the ledger is asked whether it holds as many events as there were answers.

    make bench                                  # 5 rounds of 6 s, 64 connections
    .venv/bin/python -m bench.ingest --rounds 3 --seconds 4 --connections 16
"""

import argparse
import asyncio
import contextlib
import os
import platform
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ringback.ledger import open_ledger
from ringback.model import Form, Task, new_id
from ringback.providers.signatures import callback_mac, fingerprint
from ringback.settings import Settings

SECRET = "bench-secret-0123456789-0123456789-0123456789"  # noqa: S105 -- signs nothing but this bench's own load
THREADS = 1
OURS = "ringback serve"
MOST_PER_SECOND = 16_000  # so many tasks are prepared for each second of load


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one round gave."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    answers: int


def main() -> int:
    """Run the rounds and print the table."""
    options = _options()
    if shutil.which("wrk") is None:
        print("wrk is missing; on Debian and Ubuntu: apt-get install wrk", file=sys.stderr)
        return 1
    bare, ours = [], []
    with tempfile.TemporaryDirectory(prefix="ringback-bench-") as name:
        for number in range(1, options.rounds + 1):
            folder = Path(name, str(number))
            folder.mkdir()
            paths = asyncio.run(_prepare(folder, options.seconds * MOST_PER_SECOND))
            bare.append(_round("bench.bare:app", folder, paths, options))
            ours.append(_round(OURS, folder, paths, options))
            _check(folder, ours[-1])
            shutil.rmtree(folder)
            print(
                f"round {number}: bare {bare[-1].per_second:,.0f}/s, ringback {ours[-1].per_second:,.0f}/s", flush=True
            )
    _report(options, bare, ours)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--connections", type=int, default=64)
    return parser.parse_args()


async def _prepare(folder: Path, count: int) -> Path:
    """Submit that many tasks, as far as the ledger is concerned, and list their callback paths."""
    settings = Settings(database_url=f"sqlite:///{folder}/bench.db")
    ledger = await open_ledger(settings, create=True)
    now, form, key = datetime.now(UTC), Form(model="grok-imagine-1.0-video", prompt="bench"), SECRET.encode()
    tasks = [
        Task(
            id=new_id("task", now + timedelta(milliseconds=number)),
            provider="qingbo",
            form=form,
            created_at=now,
            url_key=fingerprint(key),
        )
        for number in range(count)
    ]
    for start in range(0, count, 5000):
        await asyncio.gather(*(ledger.add_task(task) for task in tasks[start : start + 5000]))
    await ledger.close()
    with contextlib.closing(sqlite3.connect(folder / "bench.db")) as db, db:  # as their submissions' answers would
        db.execute(
            "UPDATE tasks SET state = 'submitted', accepted_at = 1, provider_id = 'task-wave' || substr(id, -20)"
        )
    paths = folder / "paths"
    with paths.open("w") as file:
        for task in tasks:
            mac = callback_mac(key, "qingbo", task.id).decode()
            file.write(f"/callbacks/qingbo/{task.id}.{mac} task-wave{task.id[-20:]}\n")
    return paths


def _round(app: str, folder: Path, paths: Path, options: argparse.Namespace) -> Result:
    with _serving(app, folder) as url:
        environ = os.environ | {"BENCH_PATHS": str(paths), "BENCH_THREADS": str(THREADS)}
        lua = str(Path(__file__).with_name("ingest.lua"))
        command = ["wrk", f"-t{THREADS}", f"-c{options.connections}", f"-d{options.seconds}s", "-s", lua, url]
        output = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    numbers = next(line for line in output.splitlines() if line.startswith("RESULT")).split()[1:]
    requests, microseconds, errors = (int(number) for number in numbers[:3])
    return Result(
        per_second=requests / (microseconds / 1e6),
        p50_ms=float(numbers[3]),
        p99_ms=float(numbers[4]),
        errors=errors,
        answers=requests,
    )


@contextlib.contextmanager
def _serving(app: str, folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ringback.cli", "serve", "--port", str(port)]
    if app != OURS:
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            app,
            "--port",
            str(port),
            "--no-access-log",
            "--log-level",
            "warning",
        ]
        command += ["--loop", "uvloop", "--http", "httptools", "--lifespan", "auto"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RINGBACK_")} | {
        "RINGBACK_DATABASE_URL": f"sqlite:///{folder}/bench.db",
        "RINGBACK_SECRET": SECRET,
        "RINGBACK_LOG_LEVEL": "warning",
        "RINGBACK_ALLOW_EPHEMERAL": "true",  # the temporary folder may lie in memory
    }
    process = subprocess.Popen(command, env=environ)
    try:
        url = f"http://127.0.0.1:{port}"
        _await_start(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _await_start(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the server did not start within 10 s")


def _check(folder: Path, result: Result) -> None:
    """Hold the answers against the ledger: every 200 must be an event."""
    with contextlib.closing(sqlite3.connect(folder / "bench.db")) as db:
        (events,) = db.execute("SELECT count(*) FROM events WHERE type = 'task.completed'").fetchone()
        (settled,) = db.execute("SELECT count(*) FROM tasks WHERE state = 'completed'").fetchone()
    if result.errors or events < result.answers or settled != events:
        raise SystemExit(f"not a valid round: {result}, {events} events, {settled} tasks settled")


def _report(options: argparse.Namespace, bare: list[Result], ours: list[Result]) -> None:
    rates = {"bare Starlette, 204": bare, "ringback, durable 200": ours}
    print(f"\n{options.connections} connections, {options.rounds} rounds of {options.seconds} s, ", end="")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}\n")
    print("| | requests/s, median | min–max | p50 ms | p99 ms |\n|---|---|---|---|---|")
    for name, results in rates.items():
        each = [result.per_second for result in results]
        p50 = statistics.median(result.p50_ms for result in results)
        p99 = statistics.median(result.p99_ms for result in results)
        spread = f"{min(each):,.0f}–{max(each):,.0f}"
        print(f"| {name} | {statistics.median(each):,.0f} | {spread} | {p50:.1f} | {p99:.1f} |")
    ratios = [our.per_second / their.per_second for our, their in zip(ours, bare, strict=True)]
    print(f"\nratio, median of rounds: {statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f})")


if __name__ == "__main__":
    sys.exit(main())

"""huey over SQLite, one worker thread, fsync at every commit: `prepare FOLDER COUNT` and `drain FOLDER SECONDS`."""

import json
import resource
import shutil
import sqlite3
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

from huey import SqliteHuey


class Drain:
    """Counts what runs; says when it began and when so many have run."""

    def __init__(self) -> None:
        self.count = 0
        self.expected = 0
        self.began_at = 0.0
        self.began, self.ended = threading.Event(), threading.Event()

    def start(self) -> None:
        """Note that the worker has started up."""
        self.began_at = time.perf_counter()
        self.began.set()

    def task(self, number: int) -> None:  # noqa: ARG002 -- a job without any argument would be none of this kind
        """Do nothing but count."""
        self.count += 1
        if self.count == self.expected:
            self.ended.set()


def main() -> int:
    """Do what the command line says."""
    action, folder, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if action == "prepare":
        prepare(folder / "huey.db", number)
    else:
        print(json.dumps(drain(folder, number)))
    return 0


def prepare(path: Path, count: int) -> None:
    """Enqueue so many jobs; without fsync, since this is not measured."""
    huey = SqliteHuey("bench", filename=str(path), fsync=False)
    task = huey.task(name="nothing")(Drain().task)
    for number in range(count):
        task(number)
    huey.storage.close()


def drain(folder: Path, seconds: float) -> dict[str, object]:
    """Work on a copy of the backlog until it is empty, or for so many seconds."""
    (
        place := folder / "huey-round"
    ).mkdir()  # a new one: a write-ahead log that was left behind belongs to another copy
    path = Path(shutil.copy(folder / "huey.db", place))
    huey = SqliteHuey("bench", filename=str(path), fsync=True)
    found = Drain()
    huey.task(name="nothing")(found.task)
    huey.on_startup()(found.start)
    found.expected = huey.pending_count()
    consumer = huey.create_consumer(workers=1, periodic=False, check_worker_health=False)
    spent = _cpu_seconds()
    consumer.start()
    found.began.wait(30)
    found.ended.wait(seconds)
    count, took, spent = found.count, time.perf_counter() - found.began_at, _cpu_seconds() - spent
    consumer.stop(graceful=True)
    if found.expected - found.count != huey.pending_count():
        raise SystemExit(f"{found.count} of {found.expected} ran, but {huey.pending_count()} are left")
    shutil.rmtree(place)
    return {
        "count": count,
        "expected": found.expected,
        "seconds": took,
        "cpu_seconds": spent,
        "name": f"huey {version('huey')}, SQLite {sqlite3.sqlite_version}",
    }


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())

"""The handlers that the benchmarks run, by the real command: `ringback work --handlers bench.handlers:noop`.

What was measured is written where the environment says: the lifespan's length, which begins when the worker has
started up and ends when all is settled, or a line per event with the moment at which its handler began.
"""

import json
import os
import resource
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from receiver import Event, Handlers


@asynccontextmanager
async def measured(_: Handlers) -> AsyncIterator[None]:
    """Write wall-clock and CPU seconds of this process, from the worker's start to its end, to BENCH_RESULT."""
    began, spent = time.perf_counter(), _cpu_seconds()
    yield
    _write({"seconds": time.perf_counter() - began, "cpu_seconds": _cpu_seconds() - spent})


def _write(result: dict[str, float]) -> None:
    Path(os.environ["BENCH_RESULT"]).write_text(json.dumps(result))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


noop = Handlers(lifespan=measured)


@noop.on("task.completed", name="bench")
async def nothing(event: Event) -> None:
    """Do nothing."""


class Countdown:
    """Sends SIGTERM to its own process at the last of BENCH_STOP_AFTER events, as whoever stops a worker would."""

    def __init__(self) -> None:
        self._left = int(os.environ.get("BENCH_STOP_AFTER", "0"))

    async def __call__(self, _: Event) -> None:
        """Count one event."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


counted = Handlers(lifespan=measured)
counted.on("task.completed", name="bench")(Countdown())


class Stamp:
    """Appends a line to BENCH_STAMPS as each handler begins; blocks the event loop at the event of BENCH_BLOCK_TASK."""

    def __init__(self) -> None:
        self._path = os.environ.get("BENCH_STAMPS", os.devnull)
        self._block_task = os.environ.get("BENCH_BLOCK_TASK")
        self._block_seconds = float(os.environ.get("BENCH_BLOCK_SECONDS", "0"))
        self._file: int | None = None

    async def __call__(self, event: Event) -> None:
        """Say when it began, and until when it blocked."""
        began = time.time()
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        task_id = event.task.id if event.task else "none"
        if task_id == self._block_task:
            time.sleep(self._block_seconds)  # noqa: ASYNC251 -- a handler that blocks the loop is what is measured
        os.write(self._file, f"{task_id} {began} {time.time()}\n".encode())


stamped = Handlers()
stamped.on("task.completed", name="bench")(Stamp())

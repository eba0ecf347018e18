"""Runs the load generator, wrk, against one receiver, and tells what it has seen and what the receiver has spent.

One thread of wrk, which keeps up with whatever answers here; it shares the machine with who is measured. As many
requests are on their way as there are connections: who is slow is asked less. For a steady rate see `bench.paced`.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.pushes import Load

MISSING = None if shutil.which("wrk") else "wrk, the load generator; on Debian and Ubuntu: apt-get install wrk"
SCRIPT = Path(__file__).with_name("load.lua")
PATIENCE_SECONDS = 120.0  # beyond the load's own length: a machine may stand still for a while


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one round gave."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    answers: int
    seconds: float  # by the load generator's clock
    cpu_seconds: float

    @property
    def cpu_microseconds(self) -> float:
        """Give what the receiver spent on each answer."""
        return self.cpu_seconds / max(1, self.answers) * 1e6


def load(
    port: int, requests: Load, *, connections: int, seconds: int, again: bool, spent: Callable[[], float]
) -> Result:
    """Send for so long over so many connections.

    Args:
        port: where the receiver listens on this machine.
        requests: what is sent, in its order.
        connections: on each of which one request is under way at a time.
        seconds: how long.
        again: whether the requests may be repeated once all were sent.
        spent: gives the CPU seconds of the receiver until now.
    """
    environ = os.environ | {"BENCH_REQUESTS": str(requests.path), "BENCH_REQUEST_BYTES": str(requests.request_bytes)}
    environ |= {"BENCH_AGAIN": "1"} if again else {}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT), f"http://127.0.0.1:{port}"]
    before = spent()
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=True, timeout=seconds + PATIENCE_SECONDS
    )
    return read(done.stdout, spent() - before)


def read(output: str, cpu_seconds: float) -> Result:
    """Read what our script had wrk print."""
    numbers = next(line for line in output.splitlines() if line.startswith("RESULT")).split()[1:]
    answers, microseconds, errors = (int(number) for number in numbers[:3])
    return Result(
        per_second=answers / (microseconds / 1e6),
        p50_ms=float(numbers[3]),
        p99_ms=float(numbers[4]),
        errors=errors,
        answers=answers,
        seconds=microseconds / 1e6,
        cpu_seconds=cpu_seconds,
    )


def cpu_seconds(pid: int) -> float:
    """Sum up what a process has spent until now, with all that it has started, ended or not."""
    process, total = psutil.Process(pid), 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total

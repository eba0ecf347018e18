"""How the benchmarks start what they measure: a clean environment, chosen cores, a free port."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SECRET = "bench-secret-0123456789-0123456789-0123456789"  # noqa: S105 -- signs nothing but the benchmarks' own load
RINGBACK = (sys.executable, "-m", "ringback.cli")
Process = subprocess.Popen[bytes]


def environment(url: str, **more: str) -> dict[str, str]:
    """Give the environment of a command that works on this ledger, without the developer's own settings."""
    left = ("PORT", "PYTHONDONTWRITEBYTECODE")  # what is installed has its bytecode: to compile all of it takes longer
    kept = {name: value for name, value in os.environ.items() if name not in left and not name.startswith("RINGBACK_")}
    return kept | {
        "RINGBACK_DATABASE_URL": url,
        "RINGBACK_SECRET": SECRET,
        "RINGBACK_LOG_LEVEL": "warning",
        "RINGBACK_ALLOW_EPHEMERAL": "true",  # the temporary folder may lie in memory
        **more,
    }


@contextlib.contextmanager
def pinned(cores: int | None) -> Iterator[None]:
    """Let whatever is started within the block, and what that starts in turn, run on so many cores; None: on all."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[-(cores or 0) :])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def run(
    command: Sequence[str], cores: int | None, timeout_seconds: float, environ: dict[str, str] | None = None
) -> str:
    """Run a command to its end on so many cores and give what it printed.

    What was written before is brought to the disk first, so that nobody pays for another's.
    """
    os.sync()
    with pinned(cores):
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
    finally:
        end(process, signal.SIGINT)  # upon which it stops what it has started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return output


def free_port() -> int:
    """Find a port that nobody uses right now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@contextlib.contextmanager
def started(commands: Sequence[Sequence[str]], environ: dict[str, str], port: int) -> Iterator[None]:
    """Have these `ringback` commands run during the block, from when the port answers."""
    processes: list[Process] = []
    try:
        for arguments in commands:
            processes.append(subprocess.Popen((*RINGBACK, *arguments), cwd=ROOT, env=environ))
            await_port(port, processes)  # the first makes the port answer
        yield
    finally:
        for process in processes:
            end(process, signal.SIGTERM)


def end(process: "subprocess.Popen[Any]", number: signal.Signals) -> None:
    """Send a process this signal, and wait until it is gone."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def await_port(port: int, processes: Sequence[Process]) -> None:
    """Wait until the port answers anything; gives up where one of the processes ends."""
    for _ in range(200):
        for process in processes:
            if process.poll() is not None:
                raise SystemExit(f"{process.args!r} ended with {process.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the receiver did not start within 10 s")

"""What `ringback up` costs while nothing happens."""

import time
from pathlib import Path

import pytest

from tests.acceptance.processes import Process, Site, wait_until
from tests.acceptance.pushes import body_of, post

pytestmark = pytest.mark.slow

WATCHED_SECONDS = 5.0
HANDLERS = """
from receiver import Handlers

handlers = Handlers()

@handlers.on("task.completed")
async def publish(event):
    print(event.id, flush=True)
"""


def cpu_seconds(process: Process) -> float:
    """Give the CPU time of all its threads, to the nanosecond."""
    threads = Path(f"/proc/{process.popen.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def resident_bytes(process: Process) -> int:
    """Give the memory that it really occupies."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmRSS:"))) * 1024


def test_an_idle_process_costs_nothing(site: Site) -> None:
    """With receiver, worker and poller running, it takes under 80 MB, and under 100 ms of CPU in 5 s of idling."""
    site.handlers(HANDLERS)
    up = site.up()
    answer = post(site.port, "task_a", body_of("p-a"))
    wait_until("handled", lambda: answer.event in up.output)
    time.sleep(2)  # what the first callback set going is over: the checkpoint, connections that close
    before = cpu_seconds(up)
    time.sleep(WATCHED_SECONDS)
    spent, resident = cpu_seconds(up) - before, resident_bytes(up)
    assert (spent < 0.1, resident < 80e6) == (True, True), f"{spent * 1000:.0f} ms, {resident / 1e6:.1f} MB"

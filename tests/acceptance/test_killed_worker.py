"""`kill -9` of a worker in the middle of handlers: nothing is forgotten, and nothing hangs."""

import time

import pytest

from tests.acceptance.processes import Process, Site, wait_until
from tests.acceptance.pushes import body_of, post_together

pytestmark = pytest.mark.slow

KILLS = 4
EVENTS = 60
HANDLERS = """
import asyncio, os, time
from receiver import Handlers

handlers = Handlers()
begun = os.open("begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
ended = os.open("ended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@handlers.on("task.completed")
async def coroutine(event):
    os.write(begun, f"coroutine {event.id}\\n".encode())
    await asyncio.sleep(0.1)
    os.write(ended, f"coroutine {event.id}\\n".encode())

@handlers.on("task.completed")
def function(event):
    os.write(begun, f"function {event.id}\\n".encode())
    time.sleep(0.1)
    os.write(ended, f"function {event.id}\\n".encode())
"""


def test_kill_9_of_the_worker_in_the_middle_of_handlers(site: Site) -> None:
    """A worker that dies while handlers run costs no run: another one takes over what it held."""
    site.handlers(HANDLERS)
    site.set(heartbeat_seconds=0.2, concurrency=8)
    site.serve()
    answers = post_together(site.port, [(f"task_w{n}", body_of(f"p-{n}")) for n in range(EVENTS)])
    owed = {f"{handler} {answer.event}" for answer in answers for handler in ("coroutine", "function")}
    assert len(owed) == 2 * EVENTS
    worker = site.work()
    for _ in range(KILLS):
        _wait_for_the_middle(site)
        worker.kill()
        worker = site.work()
    wait_until("every handler has run to its end", lambda: set(site.lines("ended")) >= owed)
    assert set(site.lines("ended")) == owed
    _check_settled(site, worker)


def _wait_for_the_middle(site: Site) -> None:
    """Wait until a handler has begun, after those of the dead, and not ended."""
    before = len(site.lines("begun"))
    wait_until("a handler begins", lambda: len(site.lines("begun")) > before)
    time.sleep(0.05)  # into the middle of it


def _check_settled(site: Site, worker: Process) -> None:
    """Nothing is pending or running, and the lapsed attempts are on the record."""
    wait_until("all settled", lambda: {d["state"] for d in site.deliveries()} == {"succeeded"})
    deliveries = site.deliveries()
    assert len(deliveries) == 2 * EVENTS
    outcomes = [attempt["outcome"] for delivery in deliveries for attempt in delivery["attempts"]]
    assert outcomes.count("succeeded") == 2 * EVENTS
    assert outcomes.count("lapsed") >= KILLS
    assert set(outcomes) == {"succeeded", "lapsed"}
    assert worker.stop() == 0

"""A handler that kills its process: it alone is given up, and its neighbours lose nothing."""

import signal

import pytest

from tests.acceptance.processes import Process, Site, wait_until
from tests.acceptance.pushes import body_of, post_together

pytestmark = pytest.mark.slow

EVENTS = 501
KILLER = "task_k250"
ATTEMPTS = 2
WORKERS = 3
HANDLERS = f"""
import asyncio, os, signal
from receiver import Handlers
from ringback import Policy

handlers = Handlers()
begun = os.open("begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
running = set()

@handlers.on("task.completed", retry=Policy(attempts={ATTEMPTS}))
async def handle(event):
    running.add(event.task.id)
    os.write(begun, (" ".join(sorted(running)) + "\\n").encode())
    if event.task.id == "{KILLER}":
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.02)
    running.remove(event.task.id)
"""


def test_handler_that_kills_its_process(site: Site) -> None:
    """Of 501 deliveries among three workers only its own is discarded, after as many lone attempts as it has."""
    site.handlers(HANDLERS)
    site.set(heartbeat_seconds=0.2, concurrency=8)
    site.serve()
    for first in range(0, EVENTS, 100):
        numbers = range(first, min(first + 100, EVENTS))
        post_together(site.port, [(f"task_k{n}", body_of(f"p-{n}")) for n in numbers])
    workers = [site.start("work") for _ in range(WORKERS)]
    dead: list[Process] = []

    def settled() -> bool:
        for place, worker in enumerate(workers):
            if not worker.is_alive():  # what a supervisor does
                dead.append(worker)
                workers[place] = site.start("work")
        # The command is slow to start, so it is asked only where something may have changed.
        return _seen(workers) and all(d["state"] in ("succeeded", "discarded") for d in site.deliveries())

    wait_until("all settled", settled, 60)
    deliveries = {delivery["task_id"]: delivery for delivery in site.deliveries()}
    assert len(deliveries) == EVENTS
    killer = deliveries.pop(KILLER)
    assert (killer["state"], killer["counted_attempts"], killer["lapses"]) == ("discarded", ATTEMPTS, ATTEMPTS + 1)
    assert [attempt["outcome"] for attempt in killer["attempts"]] == ["lapsed"] * (ATTEMPTS + 1)
    assert {delivery["state"] for delivery in deliveries.values()} == {"succeeded"}
    assert {delivery["counted_attempts"] for delivery in deliveries.values()} == {1}
    assert {delivery["lapses"] for delivery in deliveries.values()} <= {0, 1}
    beside = [line.split() for line in site.lines("begun") if KILLER in line]
    assert len(beside) == ATTEMPTS + 1
    assert beside[1:] == [[KILLER]] * ATTEMPTS
    assert [worker.stop() for worker in workers] == [0] * WORKERS
    assert [worker.popen.returncode for worker in dead] == [-signal.SIGKILL] * (ATTEMPTS + 1)


def _seen(workers: list[Process]) -> bool:
    """Tell whether a worker has said that a delivery was given up."""
    return any(next(worker.events("delivery.discarded"), None) for worker in workers)

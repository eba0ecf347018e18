"""Receivers, workers, pollers and submitters on one PostgreSQL database, whose clocks are ten minutes apart.

Every beat and every question of a clock that is ahead comes long after all others are dead and their claims are over,
if it is taken as it is.
"""

import itertools
import os
import signal
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.crashing import ASTRAY_SECONDS
from tests.acceptance.forking import Forked, Order, Zygote
from tests.acceptance.processes import Site, wait_until
from tests.acceptance.pushes import body_of, post
from tests.ledger.server import fresh_database

pytestmark = pytest.mark.slow

CLOCKS = (0, 300, -300)
EVENTS = 24
TASKS = 6  # of each submitter
HANDLERS = """
import asyncio, os
from receiver import Handlers

handlers = Handlers()
begun = os.open("begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@handlers.on("task.completed")
async def slow(event):
    os.write(begun, f"{event.id}\\n".encode())
    await asyncio.sleep(2.5)
"""


def test_clocks_that_are_ten_minutes_apart(tmp_path: Path) -> None:
    """No lease is taken early, no handler runs twice, and nothing waits longer than it has to."""
    with fresh_database() as url, Zygote() as zygote, Site(tmp_path, scribe="never") as site:
        site.set(database_url=url, heartbeat_seconds=2, push_deadline_seconds=1, concurrency=4)
        site.handlers(HANDLERS)
        site.sandbox("--delay", "0.2..1", "--fault", "lost_push")
        numbers = itertools.count()

        def start(clock: int, *arguments: str, **settings: object) -> Forked:
            environ = site.environ | {f"RINGBACK_{name.upper()}": str(value) for name, value in settings.items()}
            environ |= {ASTRAY_SECONDS: str(clock)} if clock else {}
            log = str(site.logs / f"{next(numbers):02}-{arguments[0]}-{clock}")
            return zygote.start(Order(arguments=arguments, folder=str(site.folder), environ=environ, log=log))

        def port(receiver: Forked) -> int:
            address: tuple[str, int] = wait_until("it listens", lambda: receiver.address)
            return address[1]

        receivers = [start(clock, "serve", port=0) for clock in CLOCKS]
        others = [start(clock, name) for name in ("work", "poll") for clock in CLOCKS]
        ports = [port(receiver) for receiver in receivers]
        pushed = [
            post(ports[number % 3], f"task_{number}", body_of(f"their-{number}")).event for number in range(EVENTS)
        ]
        prompts = [(clock, f"a dog {clock} {number}") for clock in CLOCKS for number in range(TASKS)]
        buying = [start(clock, "submit", "qingbo", "--prompt", prompt, "--duration", "6") for clock, prompt in prompts]
        assert [zygote.code(one) for one in buying] == [0] * len(buying)

        def left() -> int:
            with psycopg.connect(url) as db:
                ((tasks, deliveries, done),) = db.execute(
                    "SELECT (SELECT count(*) FROM tasks WHERE settled_at IS NULL),"
                    " (SELECT count(*) FROM deliveries WHERE state = 'pending' OR state = 'running'),"
                    " (SELECT count(*) FROM deliveries)"
                ).fetchall()
            return int(tasks + deliveries + EVENTS + len(prompts) - done)

        wait_until("all told and handled", lambda: left() == 0, 60)
        with psycopg.connect(url) as db:
            outcomes: dict[str, int] = dict(db.execute("SELECT outcome, count(*) FROM attempts GROUP BY 1").fetchall())
            completed = {event for (event,) in db.execute("SELECT id FROM events WHERE type = 'task.completed'")}
            workers = {worker for (worker,) in db.execute("SELECT DISTINCT worker FROM attempts")}
            sends = {count for (count,) in db.execute("SELECT sends FROM tasks WHERE origin = 'submission'")}
        assert outcomes == {"succeeded": EVENTS + len(prompts)}
        assert completed >= set(pushed)
        assert Counter(site.lines("begun")) == Counter(dict.fromkeys(completed, 1))
        assert len(workers) == len(CLOCKS)
        assert sends == {1}
        for process in (*receivers, *others):
            os.kill(process.pid, signal.SIGTERM)
        assert {zygote.code(process) for process in (*receivers, *others)} == {0}

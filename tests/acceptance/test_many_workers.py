"""Several workers on one file: `kill -9` of any of them under load loses no run, and none starves beside the others."""

import asyncio
import os
import random
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from tests.acceptance.load import Load
from tests.acceptance.processes import Process, Site, wait_until
from tests.acceptance.pushes import body_of, post_together

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("RINGBACK_TEST_KILLS", "12"))
SEED = 20260702
WORKERS = 4
# What runs is written down by number of the attempt, so that each run can be held against the ledger.
HANDLERS = """
import asyncio, os, time
from receiver import Handlers

handlers = Handlers()
begun = os.open("begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
ended = os.open("ended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def seconds(event):
    return (3 + int(event.task.id.rpartition("_")[2]) * 37 % 98) / 1000

def note(file, handler, event):
    os.write(file, f"{handler} {event.id} {event.attempt}\\n".encode())

@handlers.on("task.completed", name="coroutine")
async def coroutine(event):
    note(begun, "coroutine", event)
    await asyncio.sleep(seconds(event))
    note(ended, "coroutine", event)

@handlers.on("task.completed", name="function")
def function(event):
    note(begun, "function", event)
    time.sleep(seconds(event))
    note(ended, "function", event)
"""
BUSY = 2
BACKLOG = 300
SETTLED = 6000  # attempts in all, while three work: the window of the comparison
ENDLESS = """
import os
from receiver import Handlers, Snooze

handlers = Handlers()

@handlers.on("task.completed")
async def come_again(event):
    return None if os.path.exists("enough") else Snooze(0)
"""


def test_kill_9_of_workers_under_load(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever dies, every handler runs to its end for every 200, and each double run has its lapsed attempt."""
    chance = random.Random(SEED)
    site.handlers(HANDLERS)
    site.set(heartbeat_seconds=0.5, concurrency=8)
    site.serve()
    workers = [site.work() for _ in range(WORKERS)]
    load = Load(site.port, chance, connections=8, pause_seconds=0.05)
    killed = asyncio.run(_torture(site, workers, load, chance))
    wait_until("all settled", lambda: _unsettled(site) == 0, 120)
    assert load.statuses.keys() == {200}
    answered = {answer["event"] for fact in load.facts for answer in fact.answers}
    assert len(answered) == len(load.facts)
    owed = {(handler, event) for handler in ("coroutine", "function") for event in answered}
    attempts = _attempts(site)
    _check_settled(site, owed, attempts)
    begun, ended = _runs(site, "begun"), _runs(site, "ended")
    _check_runs(owed, attempts, begun, ended)
    lapsed = [worker for outcome, worker in attempts.values() if outcome == "lapsed"]
    assert lapsed  # else the kills hit nobody at work, and nothing was shown
    with capsys.disabled():
        print(
            f"\nkill -9 of {WORKERS} workers: seed {SEED}, {KILLS} kills, {len(answered)} events, "
            f"{len(owed)} deliveries, {len(lapsed)} lapsed attempts ({sum(w not in killed for w in lapsed)} of living "
            f"workers), {_doubles(begun)} begun again, {_doubles(ended)} ended again, slowest {_slowest(site):.1f} s",
            file=sys.stderr,
        )
    assert [worker.stop() for worker in workers] == [0] * WORKERS


async def _torture(site: Site, workers: list[Process], load: Load, chance: random.Random) -> set[str]:
    """Kill under load, and replace each at once: some die again while they start. Gives the ids of the killed."""
    killed = set()
    sending = asyncio.create_task(load.run())
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.0, 2.0))
        assert not sending.done()
        assert all(worker.is_alive() for worker in workers)
        place = chance.randrange(WORKERS)
        workers[place].kill()
        killed |= {line["worker"] for line in workers[place].events("worker.started")}
        workers[place] = site.start("work")
    load.stop()
    await asyncio.wait_for(sending, 20)
    return killed


def _query(site: Site, sql: str) -> list[tuple[Any, ...]]:
    """Read the database around our own code."""
    with closing(sqlite3.connect(f"file:{site.database}?mode=ro", uri=True, timeout=10)) as database:
        return database.execute(sql).fetchall()


def _unsettled(site: Site) -> int:
    """Count what is still to be done."""
    ((count,),) = _query(
        site,
        "SELECT (SELECT count(*) FROM events WHERE fanned_out_at IS NULL)"
        " + (SELECT count(*) FROM deliveries WHERE state = 'pending' OR state = 'running')",
    )
    return int(count)


Run = tuple[str, str, int]  # handler, event, number of the attempt


def _attempts(site: Site) -> dict[Run, tuple[str, str]]:
    """Give how every attempt ended, and whose it was."""
    rows = _query(
        site,
        "SELECT d.handler, e.id, a.number, a.outcome, a.worker FROM attempts a"
        " JOIN deliveries d ON d.seq = a.delivery_seq JOIN events e ON e.seq = d.event_seq",
    )
    attempts = {(handler, event, number): (outcome, worker) for handler, event, number, outcome, worker in rows}
    assert len(attempts) == len(rows)
    return attempts


def _runs(site: Site, name: str) -> Counter[Run]:
    """Give how often a handler began, or ended, in each attempt."""
    parts = (line.split() for line in site.lines(name))
    return Counter((handler, event, int(number)) for handler, event, number in parts)


def _check_settled(site: Site, owed: set[tuple[str, str]], attempts: dict[Run, tuple[str, str]]) -> None:
    """The file is whole, one delivery succeeded for all that is owed, and nothing but lapses came before that."""
    assert _query(site, "PRAGMA integrity_check") == [("ok",)]
    rows = _query(site, "SELECT d.handler, e.id, d.state FROM deliveries d JOIN events e ON e.seq = d.event_seq")
    assert [row for row in rows if row[2] != "succeeded"] == []
    assert Counter((handler, event) for handler, event, _ in rows) - Counter(owed) == Counter()
    assert len(rows) == len(owed)
    assert {outcome for outcome, _ in attempts.values()} <= {"succeeded", "lapsed"}
    succeeded = [(handler, event) for (handler, event, _), (outcome, _) in attempts.items() if outcome == "succeeded"]
    assert len(succeeded) == len(set(succeeded)) == len(owed)


def _check_runs(
    owed: set[tuple[str, str]], attempts: dict[Run, tuple[str, str]], begun: Counter[Run], ended: Counter[Run]
) -> None:
    """Hold every run against the ledger.

    What can be promised: each attempt runs its handler at most once, and one that succeeded ran it to its end. So a
    handler that ran more often than that did so in attempts which the ledger knows as lapsed, one for each such run.
    """
    done = {(handler, event) for handler, event, _ in ended}
    assert (owed - done, done - owed) == (set(), set())
    assert (ended.keys() - begun.keys(), begun.keys() - attempts.keys()) == (set(), set())
    assert set(begun.values()) == set(ended.values()) == {1}
    unfinished = [run for run, (outcome, _) in attempts.items() if outcome == "succeeded" and run not in ended]
    assert unfinished == []
    runs = Counter((handler, event) for handler, event, _ in begun)
    lapses = Counter((handler, event) for (handler, event, _), (outcome, _) in attempts.items() if outcome == "lapsed")
    assert {one: (count, lapses[one]) for one, count in runs.items() if count - 1 > lapses[one]} == {}


def _doubles(runs: Counter[Run]) -> int:
    """Count the runs beyond the first of the same handler and event."""
    return runs.total() - len({(handler, event) for handler, event, _ in runs})


def _slowest(site: Site) -> float:
    """Give the longest time from an event's coming to its delivery's end, in seconds."""
    ((slowest,),) = _query(
        site,
        "SELECT max(d.settled_at - e.received_at) / 1e6 FROM deliveries d JOIN events e ON e.seq = d.event_seq",
    )
    return float(slowest)


def test_no_worker_starves_beside_two_busy_ones(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker that joins two busy ones settles at least a third of the mean, and so does each of the two.

    The handler does nothing and every delivery is due again at once, so the three never wait for anything but the file
    and the processor. Each then gets about a third. The bound leaves room for a machine with fewer cores than workers,
    and for one of them being slow for a while; a worker that starves gets close to nothing.
    """
    site.handlers(ENDLESS)
    site.serve()
    for first in range(0, BACKLOG, 100):
        post_together(site.port, [(f"task_f{n}", body_of(f"p-{n}")) for n in range(first, first + 100)])
    workers = [site.work() for _ in range(BUSY)]
    wait_until("two are busy", lambda: len(_settled(site)) == BUSY)
    workers.append(site.work())
    before: Counter[str] = wait_until("the third has begun", lambda: _settled_by(site, BUSY + 1))
    window: Counter[str] = wait_until("the window is over", lambda: _window(site, before), 60)
    with capsys.disabled():
        settled = " / ".join(map(str, sorted(window.values())))
        print(f"\n{BUSY + 1} workers on one file: {settled} attempts settled", file=sys.stderr)
    assert len(window) == BUSY + 1
    assert min(window.values()) >= window.total() / len(window) / 3
    (site.folder / "enough").touch()
    wait_until("the backlog is done", lambda: _unsettled(site) == 0)
    assert [worker.stop() for worker in workers] == [0] * (BUSY + 1)


def _settled(site: Site) -> Counter[str]:
    """Count by worker how many attempts were settled."""
    rows = _query(site, "SELECT worker, count(*) FROM attempts WHERE finished_at IS NOT NULL GROUP BY worker")
    return Counter(dict(rows))


def _settled_by(site: Site, workers: int) -> Counter[str] | None:
    """Count as `_settled` does, once there are so many workers."""
    settled = _settled(site)
    return settled if len(settled) == workers else None


def _window(site: Site, before: Counter[str]) -> Counter[str] | None:
    """Give what was settled since, once it is enough to compare."""
    since = _settled(site)
    since.subtract(before)
    return since if since.total() >= SETTLED else None

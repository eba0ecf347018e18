"""Three receivers, three workers and two pollers on one PostgreSQL database: one of them dies every second.

The server itself is restarted twice in the middle, once by a crash; and the promise holds.

A fixed sample by default; RINGBACK_TEST_KILLS=200 (`make torture`) is the full figure.
"""

import asyncio
import itertools
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from tests.acceptance.cluster import Cluster, lasting_port
from tests.acceptance.load import Load
from tests.acceptance.processes import Process, Site, wait_until
from tests.acceptance.pushes import Answer, begin, body_of, get, path_of, read_answer
from tests.acceptance.standing import make_tables
from tests.acceptance.test_many_workers import HANDLERS

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("RINGBACK_TEST_KILLS", "8"))
TASKS = max(200, KILLS * 10)
SEED = 20261121
RECEIVERS, WORKERS, POLLERS = 3, 3, 2
FAULTS = {"lost_push": 0.1, "duplicate_push": 0.15, "late_push": 0.05, "early_push": 0.02, "failed": 0.05}
TWIN_PAUSE_SECONDS = 0.05
NUMBER = 'int(event.task.id.rpartition("_")[2])'
OWED = """
SELECT (SELECT count(*) FROM waiting)
     + (SELECT count(*) FROM deliveries WHERE state IN ('pending', 'running'))
     + (SELECT count(*) FROM tasks WHERE settled_at IS NULL)
"""
LEFT = (
    "SELECT e.type, e.task_id, w.hold_until FROM waiting w JOIN events e ON e.seq = w.event_seq LIMIT 5",
    "SELECT * FROM deliveries WHERE state IN ('pending', 'running') LIMIT 5",
    "SELECT * FROM tasks WHERE settled_at IS NULL LIMIT 5",
    "SELECT * FROM processes",
)
READY = {"serve": "receiver.listening", "work": "handlers.registered", "poll": "poller.started"}


@dataclass(slots=True)
class Crew:
    """The eight, each in its place: who dies there is replaced at once."""

    site: Site
    ports: list[int]
    places: list[Process] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    refused: int = 0  # starts for which there was no server

    def start(self) -> None:
        """Start all, and wait for them."""
        commands = [*["serve"] * RECEIVERS, *["work"] * WORKERS, *["poll"] * POLLERS]
        self.places = [self._start(command, number) for number, command in enumerate(commands)]
        for process in self.places:
            process.wait_for(READY[_command(process)])

    def kill(self, number: int) -> None:
        """Kill one, and start another in its place."""
        self._check(number)
        process = self.places[number]
        process.kill()
        self.kills[_command(process)] += 1
        self.places[number] = self._start(_command(process), number)

    def keep(self) -> None:
        """Start again who found no server when it started, as whoever supervises processes does."""
        for number in range(len(self.places)):
            self._check(number)

    def _check(self, number: int) -> None:
        process = self.places[number]
        if process.is_alive():
            return
        assert process.popen.returncode == 1, (process.name, process.popen.returncode, process.log)
        assert not list(process.events(READY[_command(process)])), f"{process.name} gave up:\n{process.log}"
        self.refused += 1
        self.places[number] = self._start(_command(process), number)

    def _start(self, command: str, number: int) -> Process:
        return self.site.start(command, **({"port": self.ports[number]} if command == "serve" else {}))


def _command(process: Process) -> str:
    return process.name.partition("-")[2]


class Twins:
    """Sends each push to two receivers at the same moment, again and again until both have taken it."""

    def __init__(self, ports: list[int], chance: random.Random) -> None:
        self.events: dict[str, set[str]] = {}  # by task
        self.together = 0  # taken by both at the first try
        self.over = threading.Event()
        self._ports = ports
        self._chance = chance

    def run(self) -> None:
        """Send until it is over."""
        for number in itertools.count():
            if self.over.is_set():
                return
            answers = self._tell(f"task_twin_{number}", body_of(f"their-twin-{number}"))
            self.events[f"task_twin_{number}"] = {answer.event for answer in answers}
            assert sum(not answer.duplicate for answer in answers) <= 1

    def _tell(self, task: str, body: bytes) -> list[Answer]:
        taken: list[Answer] = []
        for tries in itertools.count():
            for answer in self._send(task, body):
                taken += [answer] if answer.status == 200 else []
                assert answer.status in (200, 503), answer
            if len(taken) >= 2:
                self.together += tries == 0
                return taken
            time.sleep(TWIN_PAUSE_SECONDS)
        raise AssertionError

    def _send(self, task: str, body: bytes) -> list[Answer]:
        connections = []
        for port in self._chance.sample(self._ports, 2):
            try:
                connections.append(begin(port, path_of(task), body))
            except OSError:  # it is down
                continue
        answers = []
        for connection in connections:
            try:
                answers.append(read_answer(connection))
            except (OSError, ValueError, EOFError):
                continue
            except Exception as error:
                if type(error).__module__ != "http.client":
                    raise
        return answers


def test_kill_9_of_any_process_and_restarts_of_the_server(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Every 200 has its event, every fact is one, every handler has run for it, and nothing stays open or pending."""
    chance = random.Random(SEED)
    began = time.monotonic()
    with Cluster() as cluster:
        make_tables(cluster)
        site.set(database_url=cluster.url, heartbeat_seconds=0.5, concurrency=32, push_deadline_seconds=2)
        site.set(request_timeout_seconds=2)
        site.handlers(HANDLERS.replace('"task.completed"', '"task.*"').replace(NUMBER, "sum(event.id.encode())"))
        sandbox = _sandbox(site)
        crew = Crew(site, [lasting_port() for _ in range(RECEIVERS)])
        crew.start()
        _submit(site, crew.ports)
        load = Load(crew.ports[0], chance, *crew.ports[1:], connections=12, pause_seconds=0.1)
        twins = Twins(crew.ports, random.Random(SEED))
        with ThreadPoolExecutor(1) as pool:
            telling = pool.submit(twins.run)
            try:
                asyncio.run(_torture(crew, cluster, load, chance))
            finally:
                twins.over.set()
            telling.result(60)
        _finish(crew, cluster)
        _check(site, cluster, load, twins, sandbox)
        for process in crew.places:
            process.wait_for(READY[_command(process)])  # the last may be starting yet, and not hear signals
            assert process.stop() == 0, process.log
        traced = [process.name for process in site.processes if "Traceback" in process.log]
        assert not traced
        outcomes = dict(cluster.rows("SELECT outcome, count(*) FROM attempts GROUP BY 1"))
        by = dict(cluster.rows("SELECT settled_by, count(*) FROM tasks WHERE origin = 'submission' GROUP BY 1"))
    with capsys.disabled():
        print(
            f"\nkill -9 on PostgreSQL: seed {SEED}, {crew.kills.total()} kills ({dict(crew.kills)}), 2 restarts of the "
            f"server ({crew.refused} starts without it), {load.statuses.total()} answers ({dict(load.statuses)}), "
            f"{len(load.facts)} facts and {len(twins.events)} of twins ({twins.together} taken by two receivers at "
            f"once), {TASKS} tasks bought and settled by {by}, attempts {outcomes}, {time.monotonic() - began:.0f} s",
            file=sys.stderr,
        )


def _sandbox(site: Site) -> int:
    """Start the provider; gives its port."""
    faults = [text for name, rate in FAULTS.items() for text in ("--fault", f"{name}={rate}")]
    address = site.sandbox("--delay", f"0.5..{max(4, KILLS * 0.8):g}", "--seed", "7", "--late", "4", *faults)
    return int(address.rpartition(":")[2])


def _submit(site: Site, ports: list[int]) -> None:
    """Buy the tasks, which call back to any of the receivers."""
    submitting = []
    for number, port in enumerate(ports):
        lines = [
            {"provider": "qingbo", "prompt": f"take {n}", "duration": 6, "key": f"key-{n}"}
            for n in range(number, TASKS, len(ports))
        ]
        (site.folder / f"{number}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        url = f"http://127.0.0.1:{port}"
        submitting.append(site.start("submit", "--file", f"{number}.jsonl", public_url=url))
    for process in submitting:
        assert process.popen.wait(60 + TASKS * 0.1) == 0, process.log


async def _torture(crew: Crew, cluster: Cluster, load: Load, chance: random.Random) -> None:
    """Kill one a second under load, all of them in turn, in any order; and crash the server, and restart it."""
    sending = asyncio.create_task(load.run())
    turn: list[int] = []
    for number in range(KILLS):
        turn = turn or chance.sample(range(len(crew.places)), len(crew.places))
        await asyncio.sleep(1)
        if sending.done():
            sending.result()
        if number in (KILLS // 3, KILLS * 2 // 3):
            await asyncio.to_thread(cluster.stop, "immediate" if number == KILLS // 3 else "fast")
            await asyncio.sleep(chance.uniform(0, 1.5))
            await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(crew.keep)
        await asyncio.to_thread(crew.kill, turn.pop())
    load.stop()
    await asyncio.wait_for(sending, 60)


def _finish(crew: Crew, cluster: Cluster) -> None:
    """Wait until nothing is left to do; what a dead poller had claimed is asked about again after its lease."""
    least = [1 << 60]

    def is_done_or_less() -> bool:
        crew.keep()
        ((left,),) = cluster.rows(OWED)
        less = left < least[0]
        least[0] = min(left, least[0])
        return bool(less or left == 0)

    while least[0]:
        try:
            wait_until("less owed or open", is_done_or_less, 60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {[cluster.rows(query) for query in LEFT]}") from None


def _check(site: Site, cluster: Cluster, load: Load, twins: Twins, sandbox: int) -> None:
    """Hold what was answered, and what ran, against the server's tables and the provider's books."""
    with psycopg.connect(cluster.url) as db:
        # Of tasks: where all stood still for a while, a poller says that pushes are missing, which nobody handles here.
        found = db.execute(
            "SELECT id, task_id, status, duplicates, standing FROM events WHERE task_id IS NOT NULL"
        ).fetchall()
        deliveries: list[Any] = db.execute(
            "SELECT d.handler, e.id, d.state FROM deliveries d JOIN events e ON e.seq = d.event_seq"
        ).fetchall()
        states: dict[str, str] = dict(
            db.execute("SELECT provider_id, state FROM tasks WHERE origin = 'submission'").fetchall()
        )
    events: dict[str, tuple[str, str, int]] = {event: (task, *rest) for event, task, *rest, _ in found}
    late = {event for event, *_, standing in found if standing != "accepted"}
    _check_answers(load, twins, events)
    assert {events[event][1] for event in late} <= {"processing"}  # a poll's answer that a push overtook
    assert max(Counter((task, status) for task, status, _ in events.values()).values()) == 1
    theirs = {task["id"]: task["status"] for task in get(sandbox, "/_sandbox/tasks").body["tasks"]}
    assert len(theirs) == TASKS
    assert states == theirs
    final = [status for _, status, _ in events.values() if status in ("completed", "failed")]
    assert len(final) == len(load.facts) + len(twins.events) + TASKS
    assert {state for *_, state in deliveries} == {"succeeded"}
    owed = {(handler, event) for handler in ("coroutine", "function") for event in events.keys() - late}
    assert Counter((handler, event) for handler, event, _ in deliveries) == Counter(owed)
    ended = {tuple(line.split()[:2]) for line in site.lines("ended")}
    assert ended == owed


def _check_answers(load: Load, twins: Twins, events: dict[str, tuple[str, str, int]]) -> None:
    """All answers about a fact name one event, which is there, and at most one of them says that it was new."""
    assert load.statuses.keys() <= {200, 503}
    for fact in load.facts:
        (event,) = {answer["event"] for answer in fact.answers}
        task, status, duplicates = events[event]
        assert (task, status) == (fact.task_id, "completed")
        assert sum(not answer["duplicate"] for answer in fact.answers) <= 1
        assert len(fact.answers) - 1 <= duplicates
    for name, found in twins.events.items():
        (event,) = found
        assert events[event][0] == name

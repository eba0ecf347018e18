"""A receiver and a worker on a PostgreSQL server of their own, with a network between that can be broken.

What was pushed, what was answered and how soon is kept, to be held against the server at the end.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ringback.ledger.postgres import schema
from ringback.ledger.postgres.connection import connect
from tests.acceptance import noting
from tests.acceptance.cluster import Cluster, url_of
from tests.acceptance.network import Network
from tests.acceptance.processes import Process, Site, wait_until
from tests.acceptance.pushes import Answer, body_of, get, post

TOGETHER = 8
PROMISED_SECONDS = 3.0  # from a push to its 503
HANGING_SECONDS = 8.0  # no answer at all is later than this, however busy the machine is
HEALING_SECONDS = 15.0


@dataclass(slots=True)
class Standing:
    """What stands, and what it was told."""

    site: Site
    cluster: Cluster
    network: Network
    receiver: Process
    acknowledged: dict[str, str] = field(default_factory=dict)  # events by task
    asked: Counter[str] = field(default_factory=Counter)  # pushes by task
    seconds: list[float] = field(default_factory=list)  # from a push to its 503
    _count: int = 0

    def task(self) -> str:
        """Name a task that nobody knows yet."""
        self._count += 1
        return f"task_fault_{self._count}"

    def push(self, task: str, body: bytes | None = None) -> Answer:
        """Push that a task is completed."""
        self.asked[task] += 1
        began = time.monotonic()
        answer = post(self.site.port, task, body or body_of(f"their-{task}"))
        if answer.status == 503:
            self.seconds.append(time.monotonic() - began)
        if answer.status == 200:
            assert self.acknowledged.setdefault(task, answer.event) == answer.event
        return answer

    def together(self, tasks: list[str]) -> list[Answer]:
        """Push about all of them at the same time."""
        with ThreadPoolExecutor(len(tasks)) as pool:
            return list(pool.map(self.push, tasks))

    def is_well(self) -> bool:
        """Tell whether a callback is taken and readiness is green."""
        return self.push(self.task()).status == 200 and get(self.site.port, "/readyz").status == 200

    def is_refusing(self) -> list[str]:
        """See that callbacks get 503 in time and readiness is red while the process lives; gives the tasks refused."""
        self.seconds.clear()
        tasks = [self.task() for _ in range(TOGETHER)]
        answers = self.together(tasks)
        assert {(answer.status, answer.retry_after) for answer in answers} == {(503, "5")}
        ready = get(self.site.port, "/readyz")
        assert (ready.status, ready.body["ready"]) == (503, False), ready
        assert get(self.site.port, "/healthz").status == 200
        assert self.push(self.task()).status == 503
        assert min(self.seconds) < PROMISED_SECONDS  # the others may have waited for a busy machine
        assert max(self.seconds) < HANGING_SECONDS
        return tasks

    def heals(self, tasks: list[str]) -> None:
        """See that all is well again by itself, and that what was refused is taken when it is sent again."""
        wait_until("healed", self.is_well, HEALING_SECONDS)
        wait_until("taken", lambda: {a.status for a in self.together(tasks)} == {200}, HEALING_SECONDS)
        self.keeps(self.cluster)

    def keeps(self, cluster: Cluster) -> None:
        """See that every 200 is stored, each fact once, and handled."""
        rows: list[Any] = cluster.rows("SELECT id, task_id, duplicates FROM events WHERE task_id IS NOT NULL")
        stored = {task: event for event, task, _ in rows}
        assert len(stored) == len(rows)
        assert stored.items() >= self.acknowledged.items()
        assert all(duplicates < self.asked[task] for _, task, duplicates in rows)
        wait_until("handled", lambda: set(self.site.lines("handled")) >= set(self.acknowledged.values()))

    def close(self) -> None:
        """Stop everything in order."""
        for process in self.site.processes:
            assert process.stop() == 0, process.log
            assert "Traceback" not in process.log, process.log


@contextlib.contextmanager
def standing(folder: Path, *, deaf: bool = False, **settings: object) -> Iterator[Standing]:
    """Start everything."""
    with Cluster() as cluster, Network(cluster.port, deaf=deaf) as network, Site(folder) as site:
        make_tables(cluster)
        site.set(database_url=network.url, **settings)
        yield stand(site, cluster, network)


def stand(site: Site, cluster: Cluster, network: Network) -> Standing:
    """Start a receiver and a worker on what is there."""
    site.set(heartbeat_seconds=0.5)
    site.handlers(noting.EVENTS)
    made = Standing(site, cluster, network, site.serve())
    site.work()
    assert made.is_well(), (made.receiver.log, made.seconds, get(site.port, "/readyz"))
    return made


def make_tables(cluster: Cluster) -> None:
    """Make a ledger's tables."""
    db = connect(cluster.url, prepare=False)
    try:
        schema.migrate(db, url_of(cluster))
    finally:
        db.close()

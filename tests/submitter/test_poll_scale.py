"""Polling at scale: what is asked costs, not what is open; and nobody is asked twice, or too much at once."""

import asyncio
import gc
import re
import sqlite3
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ringback.intake import Intake
from ringback.ledger import Learn, Pushes, schema
from ringback.ledger.sqlite import expectations, tasks
from ringback.model import TaskState, microseconds
from ringback.outbound import Outbound
from ringback.settings import ProviderSettings
from submitter.poller import Poller

from .submitter_rig import START, Rig, accepted, answer, completed

FEW, MANY = 1_000, 100_000
DUE = 50
OPEN = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
    INSERT INTO tasks (id, provider, provider_id, origin, state, created_at, accepted_at, sends, sent_at, fetch_at)
    SELECT 'task_' || i, 'reapi', 'task_r' || i, 'submission', 'processing', :now, :now, 1, :now,
           CASE WHEN i <= :due THEN :now ELSE :now + 3600000000 END FROM n
"""


def fill(db: sqlite3.Connection, count: int, due: int) -> None:
    """Store so many open tasks, some of them due at START."""
    db.execute(OPEN, {"count": count, "due": due, "now": microseconds(START)})
    db.commit()


def fill_file(rig: Rig, count: int, due: int) -> None:
    """Do the same in the file of a rig."""
    with sqlite3.connect(rig.settings.database_path) as db:
        fill(db, count, due)
    db.close()


def steps_of(open_tasks: int, work: str) -> int:
    """Count the instructions that SQLite's machine takes for one round of the poller, in steps of ten."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    db = sqlite3.connect(":memory:")
    db.executescript(schema.schema_text())
    fill(db, open_tasks, DUE)
    db.set_progress_handler(step, 10)
    lease = START + timedelta(minutes=1)
    works: dict[str, Callable[[], object]] = {
        "claim": lambda: tasks.claim_fetches(db, [("reapi", START, lease, 8)]),
        "look": lambda: (
            tasks.has_due_fetches(db, "reapi", START),
            tasks.due_sends(db, ["qingbo", "reapi"], START, 200),
        ),
        "plan": lambda: tasks.plan_fetches(db, [{f"task_{n}": lease for n in range(8)}]),
        "watch": lambda: (
            expectations.look(db, Learn(now=START)),
            expectations.pushes(db, Pushes(since=START - timedelta(days=1))),
        ),
    }
    works[work]()
    db.close()
    return count


@pytest.mark.parametrize("work", ["claim", "look", "plan", "watch"])
def test_a_hundred_thousand_open_tasks_are_not_scanned(work: str) -> None:
    """Each part of a poller's round takes about as many instructions as with a thousand open tasks."""
    few, many = steps_of(FEW, work), steps_of(MANY, work)
    assert many <= 1.2 * few + 5
    assert many < 500


@pytest.mark.parametrize(
    ("statement", "index"),
    [("claim_fetches", "tasks_fetch"), ("has_due_fetches", "tasks_fetch"), ("due_sends", "tasks_resend")],
)
def test_due_tasks_come_from_an_index(statement: str, index: str) -> None:
    """Those of one provider that are due, most overdue first, without sorting."""
    db = sqlite3.connect(":memory:")
    db.executescript(schema.schema_text())
    names = dict.fromkeys(re.findall(r":(\w+)", re.sub(r"--[^\n]*", "", tasks.SQL[statement])), 1)
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {tasks.SQL[statement]}", names)]
    db.close()
    assert any(f"INDEX {index} " in line for line in plan)
    assert not any(line.startswith("SCAN tasks") or "ORDER BY" in line for line in plan)


async def rounds(rig: Rig, count: int) -> None:
    """Let the poller take so many rounds, and each of them end."""
    for _ in range(count):
        assert await rig.poller._round() == 8
        await asyncio.gather(*rig.poller._running())


async def peak_of(folder: Path, open_tasks: int) -> int:
    """Give the most memory that Python held during a few rounds in which every open task was due."""
    async with Rig(folder, answer(500), provider_concurrency=8) as rig:
        fill_file(rig, open_tasks, open_tasks)
        await rounds(rig, 1)  # whatever is made once is there
        gc.collect()
        tracemalloc.start()
        try:
            await rounds(rig, 5)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


async def test_a_hundred_thousand_due_tasks_take_no_more_memory_than_a_thousand(tmp_path: Path) -> None:
    """As many are read as can be asked about at once."""
    (tmp_path / "few").mkdir()
    few, many = await peak_of(tmp_path / "few", FEW), await peak_of(tmp_path, MANY)
    assert many < 1.5 * few + 100_000


async def test_several_pollers_never_ask_twice(tmp_path: Path) -> None:
    """Three, each with a ledger of its own on one file: every due task is asked about once, by one of them."""
    asked: Counter[str] = Counter()

    async def slowly(request: httpx.Request) -> httpx.Response:
        asked[request.url.path.rpartition("/")[2]] += 1
        await asyncio.sleep(0)  # let the others claim meanwhile
        return accepted("reapi", int(request.url.path.rpartition("_r")[2]))

    async with Rig(tmp_path, slowly, provider_concurrency=3) as rig:
        fill_file(rig, 100, 60)
        pollers = []
        for _ in range(3):
            ledger = await rig.open_ledger()
            intake = Intake(ledger, rig.settings)
            pollers.append(Poller(rig.settings, ledger, rig.outbound, intake, clock=rig.clock, chance=lambda: 0.5))
        counts = await asyncio.gather(*(poller.run_once(30) for poller in pollers))
        assert sum(counts) == len(asked) == 60
        assert set(asked.values()) == {1}


class Server:
    """A provider on a real socket, which counts connections and what is asked at once."""

    def __init__(self) -> None:
        self.connections = self.requests = self.running = self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer on one connection until it is closed."""
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.running += 1
                self.most = max(self.most, self.running)
                await asyncio.sleep(0.002)  # so that questions do overlap
                number = int(head.partition(b" HTTP")[0].rpartition(b"_r")[2])
                body = completed("reapi", number).content
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                self.requests += 1
                self.running -= 1
        except asyncio.IncompleteReadError:
            writer.close()


async def test_questions_share_few_connections(tmp_path: Path) -> None:
    """One pool for all, with no more connections than questions that a provider may be asked at once."""
    provider = Server()
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
    async with Rig(tmp_path, answer(500), provider_concurrency=4) as rig, server:
        fill_file(rig, 100, 100)
        settings = replace(rig.settings, providers={"reapi": ProviderSettings(api_key="k", base_url=url)})
        async with Outbound(settings) as outbound:
            poller = Poller(settings, rig.ledger, outbound, rig.intake, clock=rig.clock)
            assert await poller.run_once(60) == 100
        summary = await rig.ledger.summary(rig.clock())
    assert summary.tasks == {TaskState.COMPLETED: 100}
    assert (provider.requests, provider.most) == (100, 4)
    assert provider.connections <= 4


async def test_quick_answers_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poller that took all it had room for looks again as soon as there is room, and not a round later."""
    monkeypatch.setattr("submitter.poller.ROUND_SECONDS", 3600.0)

    async def done(request: httpx.Request) -> httpx.Response:
        return completed("reapi", int(request.url.path.rpartition("_r")[2]))

    async with Rig(tmp_path, done, provider_concurrency=3) as rig:
        fill_file(rig, 50, 50)
        stop, seen = asyncio.Event(), 0
        polling = asyncio.create_task(rig.poller.run(stop))
        async with asyncio.timeout(20):
            while (await rig.ledger.summary(rig.clock())).settled_by_poll < 50:
                seen = await rig.ledger.changed(seen, 1)
        stop.set()
        await polling
    assert len(rig.wire.requests) == 50


async def test_a_busy_provider_with_many_due_tasks_is_left_alone(tmp_path: Path) -> None:
    """A 429 costs as many requests as were under way; after Retry-After it is asked again, as slowly as before."""
    async with Rig(tmp_path, answer(429, retry_after="40"), provider_concurrency=3) as rig:
        fill_file(rig, FEW, FEW)
        assert await rig.poll() == 3
        assert await rig.poll(seconds=39) == 0
        assert len(rig.wire.requests) == 3
        await rig.poll(seconds=1)
        assert len(rig.wire.requests) == 6


async def test_a_refused_key_costs_a_few_requests_of_many_due_tasks(tmp_path: Path) -> None:
    """A 401 stops the asking of that provider; the tasks stay due for when the key is right."""
    async with Rig(tmp_path, answer(401), provider_concurrency=3) as rig:
        fill_file(rig, FEW, FEW)
        assert await rig.poll() == 3
        assert await rig.poll(minutes=9) == 0
        assert len(rig.wire.requests) == 3


async def test_an_answer_in_parts_ends_before_somebody_else_may_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole conversation has a limit below the lease; what did not end by then counts as unanswered."""
    monkeypatch.setattr("submitter.asking.CLAIM_SLACK", timedelta(0))

    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with Rig(tmp_path, hang, request_timeout_seconds=0.05) as rig:
        monkeypatch.setattr(rig.outbound, "_settings", replace(rig.settings, request_timeout_seconds=60))
        fill_file(rig, 1, 1)
        async with asyncio.timeout(20):
            assert await rig.poll() == 1
        (task,) = await rig.ledger.tasks(_of("task_1"))
        assert task.fetch_at is not None
        assert (task.state, task.fetch_at > rig.clock()) == (TaskState.PROCESSING, True)


def _of(name: str) -> Any:
    from ringback.ledger import Query

    return Query(task_id=name)


async def test_what_is_sent_elsewhere_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sendings that the ledger's trouble kept back, and that another poller made, do not pile up in memory."""
    monkeypatch.setattr("submitter.poller.LOOKED_AT", 2)
    async with Rig(tmp_path, accepted("qingbo")) as rig:
        kept: dict[str, datetime] = {f"task_{n}": START - timedelta(seconds=1) for n in range(3)}
        rig.poller._not_before = kept | {"task_later": START + timedelta(seconds=1)}
        await rig.poller._round()
        assert set(rig.poller._not_before) == {"task_later"}


async def test_a_provider_that_cannot_be_asked_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of its tasks wait to be sent, and for longer: those of the others are found behind them."""
    monkeypatch.setattr("submitter.poller.LOOKED_AT", 2)
    async with Rig(tmp_path, answer(429)) as rig:
        for number in range(3):
            await rig.submitter.submit("reapi", prompt=str(number))
        task = await rig.submitter.submit("qingbo", prompt="x")
        rig.wire.answers = [accepted("qingbo")]
        rig.poller._lanes["reapi"].paused_until = START + timedelta(days=1)
        assert await rig.poll(minutes=30) == 1
        assert (await rig.task(task)).state is TaskState.SUBMITTED

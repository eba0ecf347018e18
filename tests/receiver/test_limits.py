"""Limits, keys and order as handlers see them, through a real worker."""

import asyncio
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver import Event, Handlers
from receiver.worker import Worker
from ringback.ledger import Ledger, open_ledger
from ringback.model import (
    Arrival,
    Callback,
    DeliveryState,
    Kind,
    Outcome,
    Reading,
    Source,
    TaskState,
    Trust,
)
from ringback.retry import Policy
from ringback.settings import Settings

from .receiver_case import NOW, owed, ring, states, until

SUCCEEDED, PENDING, DISCARDED = DeliveryState.SUCCEEDED, DeliveryState.PENDING, DeliveryState.DISCARDED


class Gate:
    """A handler that waits to be let through, and counts how many are inside."""

    def __init__(self) -> None:
        self.inside: Counter[Any] = Counter()
        self.most: Counter[Any] = Counter()
        self.begun: list[bytes] = []
        self.open = asyncio.Event()
        self.news = asyncio.Event()

    async def pass_through(self, event: Event, place: Any = None) -> None:
        """Go in, wait until it is open, come out."""
        self.begun.append(event.raw)
        self.inside[place] += 1
        self.most[place] = max(self.most[place], self.inside[place])
        self.news.set()
        await self.open.wait()
        for _ in range(3):
            await asyncio.sleep(0)  # a chance for others to come in
        self.inside[place] -= 1

    async def holds(self, count: int) -> None:
        """Wait until so many have come in since the beginning."""
        async with asyncio.timeout(20):
            while len(self.begun) < count:
                self.news.clear()
                await self.news.wait()


async def tell(ledger: Ledger, task_id: str, *statuses: TaskState) -> None:
    """Take callbacks about one task."""
    for status in statuses:
        await ledger.record(
            Arrival(
                kind=Kind.FACT, provider="qingbo", source=Source.CALLBACK, trust=Trust.TOKEN, task_id=task_id,
                callback=Callback(body=status.value.encode(), received_at=NOW),
                reading=Reading(status=status, provider_id=f"p-{task_id}"),
            )
        )  # fmt: skip


async def test_concurrency_over_two_workers(ledger: Ledger, settings: Settings) -> None:
    """No more than three run at once in both workers together; the other handler has all the other slots."""
    gate, free, handlers = Gate(), Gate(), Handlers()
    handlers.on("*", name="few", concurrency=3)(gate.pass_through)

    @handlers.on("*", name="many")
    async def _many(event: Event) -> None:
        await free.pass_through(event)

    free.open.set()
    for _ in range(12):
        await ring(ledger)
    second = await open_ledger(settings)
    workers = [Worker(settings, ledger, handlers), Worker(settings, second, handlers)]
    running = asyncio.gather(*(worker.run_once(20) for worker in workers))
    await gate.holds(3)
    await free.holds(12)
    assert gate.inside.total() == 3
    gate.open.set()
    assert sum(await running) == 24
    await second.close()
    assert (gate.most.total(), await states(ledger)) == (3, [SUCCEEDED] * 24)


async def test_rate(ledger: Ledger, settings: Settings) -> None:
    """No more begin within the period than allowed; the worker comes back by itself when more may."""
    moments: list[datetime] = []
    handlers = Handlers()
    handlers.on("*", name="h", rate="3/second")(lambda _event: moments.append(datetime.now(UTC)))
    for _ in range(7):
        await ring(ledger)
    worker, stop = Worker(settings, ledger, handlers), asyncio.Event()
    running = asyncio.create_task(worker.run(stop))

    async def all_done() -> bool:
        return await states(ledger) == [SUCCEEDED] * 7

    await until(ledger, all_done)
    stop.set()
    await running
    begun = sorted(item.attempts[0].started_at for item in await owed(ledger))
    assert all(later - early >= timedelta(seconds=1) for early, later in zip(begun, begun[3:], strict=False))
    assert len(moments) == 7


async def test_what_a_rate_leaves_waits_for_the_next_time(ledger: Ledger, settings: Settings) -> None:
    """`tick` ends when nothing more may begin, and does not wait for the rate; the next one goes on."""
    now = datetime.now(UTC)
    handlers = Handlers()
    handlers.on("*", name="h", rate="2/minute")(lambda _event: None)
    for _ in range(5):
        await ring(ledger)
    worker = Worker(settings, ledger, handlers, clock=lambda: now)
    assert await worker.run_once(20) == 2
    assert await worker.run_once(20) == 0
    now += timedelta(seconds=61)
    assert await worker.run_once(20) == 2
    now += timedelta(seconds=61)
    assert await worker.run_once(20) == 1


async def test_keys_are_serial_while_others_go_on(ledger: Ledger, settings: Settings) -> None:
    """Deliveries of one key never run beside each other, those of different keys do, and None runs beside any."""
    gate, handlers = Gate(), Handlers()

    @handlers.on("*", name="h", key=lambda event: {b"1": 1, b"none": None}.get(event.raw, event.raw.decode()))
    async def _by_key(event: Event) -> None:
        await gate.pass_through(event, event.raw)

    for body in (b"a", b"a", b"a", b"1", b"1", b"none", b"none"):
        await ring(ledger, body=body)
    settings = replace(settings, concurrency=10)
    running = asyncio.create_task(Worker(settings, ledger, handlers).run_once(20))
    await gate.holds(4)
    assert gate.begun == [b"a", b"1", b"none", b"none"]
    gate.open.set()
    assert await running == 7
    assert gate.most == {b"a": 1, b"1": 1, b"none": 2}
    assert await states(ledger) == [SUCCEEDED] * 7


async def test_a_poisoned_key_blocks_no_other(ledger: Ledger, settings: Settings) -> None:
    """One that fails, again and again, keeps neither its own key nor any other waiting."""
    done: list[bytes] = []
    handlers = Handlers()
    patient = Policy(attempts=3, base_seconds=3600)

    @handlers.on("*", name="h", key=lambda event: event.raw[:1].decode(), retry=patient)
    def _some(event: Event) -> None:
        if event.raw == b"a poison":
            raise ValueError("poison")
        done.append(event.raw)

    for body in (b"a poison", b"a poison", b"a good", b"b good", b"a well"):
        await ring(ledger, body=body)
    assert await Worker(settings, ledger, handlers).run_once(20) == 5
    assert sorted(done) == [b"a good", b"a well", b"b good"]
    assert Counter(await states(ledger)) == {SUCCEEDED: 3, PENDING: 2}


async def test_order_with_retries(ledger: Ledger, settings: Settings) -> None:
    """One task's facts come in state order; the later one waits while the first is tried again, other tasks do not."""
    now = datetime.now(UTC)
    seen: list[tuple[str, str, int]] = []
    handlers = Handlers()

    @handlers.on("task.*", name="h", ordered=True, retry=Policy(attempts=3, base_seconds=60, jitter=0))
    async def _in_order(event: Event) -> None:
        assert event.task is not None
        seen.append((event.task.id, event.type.value, event.attempt))
        if event.type == "task.progressed" and event.task.id == "task_a" and event.attempt < 3:
            raise ValueError("not yet")

    await tell(ledger, "task_a", TaskState.PROCESSING, TaskState.COMPLETED)
    await tell(ledger, "task_b", TaskState.PROCESSING, TaskState.COMPLETED)
    worker = Worker(settings, ledger, handlers, clock=lambda: now)
    assert await worker.run_once(20) == 3
    assert [step for step in seen if step[0] == "task_b"] == [
        ("task_b", "task.progressed", 1), ("task_b", "task.completed", 1),
    ]  # fmt: skip
    now += timedelta(hours=1)
    assert await worker.run_once(20) == 1
    now += timedelta(hours=1)
    assert await worker.run_once(20) == 2
    assert [step for step in seen if step[0] == "task_a"] == [
        ("task_a", "task.progressed", 1), ("task_a", "task.progressed", 2), ("task_a", "task.progressed", 3),
        ("task_a", "task.completed", 1),
    ]  # fmt: skip


async def test_what_is_given_up_lets_the_later_go(ledger: Ledger, settings: Settings) -> None:
    """After its last attempt an earlier fact is discarded, and the later ones of its task are handed over."""
    seen: list[str] = []
    handlers = Handlers()

    @handlers.on("task.*", name="h", ordered=True, retry=False)
    def _in_order(event: Event) -> None:
        seen.append(event.type.value)
        if len(seen) == 1:
            raise ValueError("never")

    await tell(ledger, "task_a", TaskState.PROCESSING, TaskState.COMPLETED)
    assert await Worker(settings, ledger, handlers).run_once(20) == 2
    assert seen == ["task.progressed", "task.completed"]
    assert await states(ledger) == [DISCARDED, SUCCEEDED]


def no_task(event: Event) -> str:
    """Fail for any event of these tests, as a key function does that does not expect it."""
    return {"known": "x"}[event.raw.decode()]


class Exits:
    """A key function that would end the process."""

    def __call__(self, _event: Event) -> str:
        """Exit."""
        raise SystemExit(3)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("key", "error", "traced"),
    [
        (no_task, "KeyError: 'unknown'", 'in no_task\n    return {"known"'),
        (lambda _event: 2.5, "HandlersError: h: key= gave 2.5; expected None, or a whole number or", "HandlersError"),
        (Exits(), "SystemExit: 3", "raise SystemExit(3)"),
    ],
)
async def test_a_key_function_that_fails(
    ledger: Ledger, settings: Settings, key: Any, error: str, traced: str, plain: bool
) -> None:
    """The attempt fails with what the key function raised, without calling the handler; it is tried again."""
    now = datetime.now(UTC)
    calls: list[str] = []
    handlers = Handlers()

    async def is_async(event: Event) -> None:
        calls.append(event.id)

    handlers.on("*", name="h", key=key, retry=Policy(attempts=2, base_seconds=60))(
        (lambda event: calls.append(event.id)) if plain else is_async
    )
    await ring(ledger, body=b"unknown")
    worker = Worker(settings, ledger, handlers, clock=lambda: now)
    with capture_logs() as logs:
        assert await worker.run_once(20) == 1
        now += timedelta(hours=1)
        assert await worker.run_once(20) == 1
    (item,) = await owed(ledger)
    assert [attempt.outcome for attempt in item.attempts] == [Outcome.FAILED] * 2
    assert all(str(attempt.error).startswith(error) for attempt in item.attempts)
    assert all(traced in str(attempt.traceback) for attempt in item.attempts)
    assert not any("in key_of" in str(attempt.traceback) for attempt in item.attempts)  # our frames are no news
    assert (item.delivery.state, calls) == (DISCARDED, [])
    assert "delivery.discarded" in [line["event"] for line in logs]


async def test_a_mended_key_function_is_asked_again(ledger: Ledger, settings: Settings) -> None:
    """What failed for want of a key gets the right one before its next attempt, and waits for it as others do."""
    now = datetime.now(UTC)
    gate, broken, mended = Gate(), Handlers(), Handlers()
    policy = Policy(attempts=5, base_seconds=60)
    broken.on("*", name="h", key=no_task, retry=policy)(lambda _event: None)
    mended.on("*", name="h", key=lambda event: event.raw.decode(), retry=policy)(gate.pass_through)
    for _ in range(2):
        await ring(ledger, body=b"unknown")
    assert await Worker(settings, ledger, broken, clock=lambda: now).run_once(20) == 2
    now += timedelta(hours=1)
    gate.open.set()
    assert await Worker(settings, ledger, mended, clock=lambda: now).run_once(20) == 2
    assert gate.most[None] == 1
    assert await states(ledger) == [SUCCEEDED] * 2


async def test_a_key_function_on_a_thread_handler_runs_before_it(ledger: Ledger, settings: Settings) -> None:
    """A plain handler runs on its thread after its key was told; an event that has no task may have a key too."""
    threads: list[str] = []
    handlers = Handlers()

    @handlers.on("*", name="h", key=lambda event: event.task and event.task.id)
    def _plain(_event: Event) -> None:
        threads.append(threading.current_thread().name)

    await ring(ledger)
    assert await Worker(settings, ledger, handlers).run_once(20) == 1
    assert [name.partition("-")[0] for name in threads] == ["ringback"]


async def test_a_new_handler_catches_up(ledger: Ledger, settings: Settings) -> None:
    """`since=` hands it what was received before it was there; registered again it gets nothing twice."""
    old, new, calls = Handlers(), Handlers(), list[str]()
    old.on("*", name="old")(lambda _event: None)
    new.on("*", name="new", since=NOW - timedelta(days=1))(lambda event: calls.append(event.id))
    ids = [await ring(ledger) for _ in range(3)]
    await Worker(settings, ledger, old).run_once(20)
    for _ in range(2):
        await Worker(settings, ledger, new).run_once(20)
    assert calls == ids


async def test_a_span_of_time_counts_from_the_start(ledger: Ledger, settings: Settings) -> None:
    """`since=timedelta(…)` is that long before the worker's start."""
    old, calls = Handlers(), list[str]()
    old.on("*", name="old")(lambda _event: None)
    await ring(ledger)  # received at NOW
    await Worker(settings, ledger, old).run_once(20)
    for name, days in (("later", 1), ("sooner", 3)):
        handlers = Handlers()
        handlers.on("*", name=name, since=timedelta(days=days))(lambda event: calls.append(event.key.partition(":")[2]))
        await Worker(settings, ledger, handlers, clock=lambda: NOW + timedelta(days=2)).run_once(20)
    assert calls == ["sooner"]


async def test_a_worker_that_may_not_begin_does_not_spin(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While everything due waits for a limit or a key, turns are few: the next end is waited for, not polled."""
    gate, handlers = Gate(), Handlers()
    handlers.on("*", name="one", concurrency=1)(gate.pass_through)

    @handlers.on("*", name="key", key=lambda _event: "k")
    async def _keyed(event: Event) -> None:
        await gate.pass_through(event)

    for _ in range(20):
        await ring(ledger)
    turns = 0
    take = type(ledger).turn

    async def counted(self: Any, turn: Any) -> Any:
        nonlocal turns
        turns += 1
        return await take(self, turn)

    monkeypatch.setattr(type(ledger), "turn", counted)
    running = asyncio.create_task(Worker(settings, ledger, handlers).run_once(30))
    await gate.holds(2)
    before = turns
    for _ in range(5):
        await ledger.changed(await ledger.changed(0, 0), 0.1)
    assert turns - before < 40  # a loop that spins takes hundreds
    gate.open.set()
    assert await running == 40

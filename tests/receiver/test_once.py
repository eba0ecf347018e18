"""Steps: done at least once, and never again once recorded."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver import Event, Handlers
from receiver import actions as module
from receiver.actions import Actions
from receiver.worker import Worker
from ringback.errors import AttemptLost, HandlersError, LedgerUnavailable
from ringback.ledger import Ledger, Process, Query, Replay, Work
from ringback.model import Attempt, Delivery, DeliveryState, EventType, Source, Standing, Trust
from ringback.model import Event as Fact
from ringback.retry import Policy
from ringback.settings import Settings

from .receiver_case import NOW, owed, ring, view

SUCCEEDED, DISCARDED = DeliveryState.SUCCEEDED, DeliveryState.DISCARDED
AT_ONCE = Policy(attempts=3, base_seconds=0.0001, jitter=0)


class Moving:
    """A clock that has moved on by a minute whenever it is read: whatever was put off is due."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        """Tell the time."""
        self.now += timedelta(minutes=1)
        return self.now


def work(handler: str = "h", *steps: str) -> Work:
    """Make a claimed delivery without a ledger."""
    fact = Fact(
        id="evt_1",
        type=EventType.TASK_COMPLETED,
        provider="qingbo",
        task_id=None,
        status=None,
        source=Source.CALLBACK,
        trust=Trust.TOKEN,
        standing=Standing.ACCEPTED,
        received_at=NOW,
        last_seen_at=NOW,
    )
    delivery = Delivery(id="dlv_1", event_id="evt_1", handler=handler, due_at=NOW, created_at=NOW)
    attempt = Attempt(id="att_1", delivery_id="dlv_1", number=1, worker="w", started_at=NOW)
    return Work(delivery=delivery, attempt=attempt, event=fact, task=None, steps=frozenset(steps))


async def recorded(_attempt: Attempt, _name: str) -> bool:
    """Record any step."""
    return True


async def run_attempts(settings: Settings, ledger: Ledger, handlers: Handlers, count: int) -> None:
    """Let a worker run attempts until so many have ended."""
    worker = Worker(settings, ledger, handlers, clock=Moving())
    while count > 0:
        ended = await worker.run_once(10)
        assert 0 < ended <= count
        count -= ended


async def test_a_recorded_step_is_not_done_again(ledger: Ledger, settings: Settings) -> None:
    """A retry after the block skips it; the record stands beside the delivery, with the attempt that made it."""
    seen: list[tuple[int, bool]] = []
    handlers = Handlers()

    @handlers.on("*", name="h", retry=AT_ONCE)
    async def _charge(event: Event) -> None:
        async with event.once("charge") as first:
            seen.append((event.attempt, first))
        if event.attempt == 1:
            raise ValueError("after the step")

    await ring(ledger)
    await run_attempts(settings, ledger, handlers, 2)
    assert seen == [(1, True), (2, False)]
    (item,) = await owed(ledger)
    assert item.delivery.state is SUCCEEDED
    assert [(step.name, step.attempt) for step in item.steps] == [("charge", item.attempts[0].id)]


async def test_a_step_that_raised_is_done_again(ledger: Ledger, settings: Settings) -> None:
    """Nothing is recorded where the block did not end well; what it raised is the attempt's error."""
    seen: list[bool] = []
    handlers = Handlers()

    @handlers.on("*", name="h", retry=AT_ONCE)
    async def _charge(event: Event) -> None:
        async with event.once("charge") as first:
            seen.append(first)
            if event.attempt == 1:
                raise ValueError("within the step")

    await ring(ledger)
    await run_attempts(settings, ledger, handlers, 2)
    assert seen == [True, True]
    (item,) = await owed(ledger)
    assert [attempt.error for attempt in item.attempts] == ["ValueError: within the step", None]
    assert [step.attempt for step in item.steps] == [item.attempts[1].id]


async def test_a_replay_keeps_the_records(ledger: Ledger, settings: Settings) -> None:
    """A further run of the same event and handler does no recorded step again."""
    seen: list[tuple[int, bool]] = []
    handlers = Handlers()

    @handlers.on("*", name="h")
    async def _charge(event: Event) -> None:
        async with event.once("charge") as first:
            seen.append((event.run, first))

    await ring(ledger)
    await run_attempts(settings, ledger, handlers, 1)
    (item,) = await owed(ledger)
    await ledger.act(Replay(query=Query(ids=(item.delivery.id,)), by="me", now=datetime.now(UTC)))
    await run_attempts(settings, ledger, handlers, 1)
    assert seen == [(1, True), (2, False)]


async def test_a_late_finisher_learns_that_nothing_was_recorded(ledger: Ledger, settings: Settings) -> None:
    """A handler whose delivery was taken from it meanwhile must not believe that its step is on record."""
    errors: list[BaseException] = []
    handlers = Handlers()

    @handlers.on("*", name="h")
    async def _charge(event: Event) -> None:
        try:
            async with event.once("charge"):
                later = datetime.now(UTC) + timedelta(days=1)  # by when this worker would have been silent for long
                thief = Process(id="thief", role="worker", host="there", pid=1, started_at=later)
                assert await ledger.beat(thief, later, later)
        except AttemptLost as error:
            errors.append(error)

    await ring(ledger)
    worker = Worker(settings, ledger, handlers)
    with capture_logs():
        await worker.run_once(0.5)
    (error,) = errors
    assert "step 'charge' was done, but could not be recorded: attempt att_" in str(error)
    (item,) = await owed(ledger)
    assert item.steps == ()


async def test_a_step_twice_in_one_attempt() -> None:
    """The second block of the same name is skipped; one within the other is a mistake, and told."""
    do = Actions(work(), recorded, None)
    async with do.once("a") as first, do.once("b") as other:
        assert (first, other) == (True, True)
        with pytest.raises(HandlersError, match="step 'a' was begun already"):
            async with do.once("a"):
                pass
    async with do.once("a") as first:
        assert not first


async def test_a_step_of_an_earlier_attempt_asks_nobody() -> None:
    """What came with the claim is known without a query, and leaving the block records nothing."""
    asked: list[str] = []

    async def finish(_attempt: Attempt, name: str) -> bool:
        asked.append(name)
        return True

    do = Actions(work("h", "charge"), finish, None)
    async with do.once("charge") as first:
        assert not first
    async with do.once("mail") as first:
        assert first
    assert asked == ["mail"]


@pytest.mark.parametrize("failures", [2, 99])
async def test_the_record_is_made_with_patience(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """A ledger that is out of reach is asked again, within bounds; then the handler learns of it."""
    monkeypatch.setattr(module, "RECORDING", Policy(attempts=4, base_seconds=0.0001))
    asked: list[str] = []

    async def finish(_attempt: Attempt, name: str) -> bool:
        asked.append(name)
        if len(asked) <= failures:
            raise LedgerUnavailable
        return True

    do = Actions(work(), finish, None)
    if failures < 4:
        async with do.once("charge"):
            pass
    else:
        with pytest.raises(LedgerUnavailable):
            async with do.once("charge"):
                pass
    assert asked == ["charge"] * min(failures + 1, 4)


@pytest.mark.parametrize("name", ["", "a b", "x" * 101, "ü", "a\n", 5, None])
async def test_names_are_checked(name: Any) -> None:
    """A name that could not be told apart or shown is refused before anything is done."""
    do = Actions(work(), recorded, None)
    with pytest.raises(HandlersError, match=r"event.once: a name is 1 to 100 of"):
        do.once(name)
    with pytest.raises(HandlersError, match=r"event.submit: a name is 1 to 100 of"):
        do.submit(name, "qingbo", {})


async def test_a_plain_function_is_told_to_be_async(ledger: Ledger, settings: Settings) -> None:
    """On a thread, with or without a loop of its own, there is nothing to wait with."""
    errors: list[str] = []
    handlers = Handlers()

    def attempt(call: Any) -> None:
        with pytest.raises(HandlersError, match="needs an `async def` handler") as caught:
            call()
        errors.append(str(caught.value))

    @handlers.on("*", name="h")
    def _plain(event: Event) -> None:
        assert threading.current_thread() is not threading.main_thread()

        async def inside() -> None:
            attempt(lambda: event.once("charge"))

        attempt(lambda: event.once("charge"))
        attempt(lambda: event.submit(name="upscale", provider="qingbo"))
        asyncio.run(inside())

    await ring(ledger)
    await run_attempts(settings, ledger, handlers, 1)
    assert [text.partition(" ")[0] for text in errors] == ["event.once", "event.submit", "event.once"]
    (item,) = await owed(ledger)
    assert item.delivery.state is SUCCEEDED, item.delivery.reason


async def test_an_event_without_a_worker_says_so() -> None:
    """A view that somebody made by hand can be read, and nothing else."""
    with pytest.raises(HandlersError, match="not handed over by a worker"):
        view().once("charge")
    with pytest.raises(HandlersError, match="not handed over by a worker"):
        view().submit(name="upscale", provider="qingbo")

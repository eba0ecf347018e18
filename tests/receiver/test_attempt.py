"""One attempt, run once and classified; and the pool of threads for plain functions."""

import asyncio
import functools
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from receiver import Event, Handlers, attempt
from receiver.attempt import Ended, Running
from receiver.threads import DaemonPool
from ringback.logs import merge_attempt
from ringback.model import Outcome

from .receiver_case import attempted, view


@pytest.fixture
async def pool() -> AsyncIterator[DaemonPool]:
    """Two threads at most."""
    made = DaemonPool(2)
    yield made
    made.close()


async def run(function: Callable[[Event], Any], pool: DaemonPool, timeout_seconds: float = 5.0) -> Ended:
    """Run a function as the only handler."""
    handlers = Handlers()
    handlers.on("*", name="h")(function)
    return await attempted(handlers["h"], pool, timeout_seconds)


def both(function: Callable[[], Any]) -> list[Callable[[Event], Any]]:
    """Make an async and a plain handler of a function."""

    async def on_loop(_event: Event) -> None:
        function()

    def on_thread(_event: Event) -> None:
        function()

    return [on_loop, on_thread]


def throw(error: BaseException) -> None:
    """Raise, as an expression."""
    raise error


class Wordless(Exception):
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("handler", both(lambda: 3))
async def test_return(handler: Callable[[Event], Any], pool: DaemonPool) -> None:
    """A handler that returns has succeeded, whatever it gave."""
    assert await run(handler, pool) == Ended(outcome=Outcome.SUCCEEDED)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("no such file"), "ValueError: no such file"),
        (TimeoutError("upstream"), "TimeoutError: upstream"),
        (SystemExit(1), "SystemExit: 1"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (ExceptionGroup("two", [ValueError(1)]), "ExceptionGroup: two (1 sub-exception)"),
        (Wordless(), "Wordless: (its str() raised RuntimeError)"),
        (ValueError("a\0b\udc80"), "ValueError: a\\0b\\udc80"),
        (ValueError("x" * 9000), "ValueError: " + "x" * 488),
    ],
)
async def test_raise(error: BaseException, words: str, pool: DaemonPool) -> None:
    """Whatever a handler raises is its failure, described in bounded, storable text, and nobody else's end."""
    for handler in both(functools.partial(throw, error)):
        ended = await run(handler, pool)
        assert (ended.outcome, ended.error, ended.straggler) == (Outcome.FAILED, words, None)
        assert ended.traceback is not None
        assert len(ended.traceback) <= attempt.TRACEBACK_CHARS
        assert (ended.traceback + words).encode()


async def test_traceback(pool: DaemonPool) -> None:
    """The traceback begins with the handler and ends with the error; of a long one the end is kept."""
    for handler in both(lambda: throw(ValueError("here"))):
        text = (await run(handler, pool)).traceback or ""
        assert "in throw\n    raise error\nValueError: here\n" in text
        assert "receiver/attempt.py" not in text
        assert "receiver/threads.py" not in text
    long = (await run(both(lambda: throw(ValueError("x" * 9000 + "end")))[0], pool)).traceback or ""
    assert (len(long), long[0], long[-4:]) == (attempt.TRACEBACK_CHARS, "…", "end\n")


async def test_stop_iteration(pool: DaemonPool) -> None:
    """StopIteration, which neither a future nor a coroutine can carry, is a failure too."""
    for handler in both(lambda: throw(StopIteration())):
        ended = await run(handler, pool)
        assert (ended.outcome, (ended.error or "").split()[-1]) == (Outcome.FAILED, "StopIteration")


async def test_own_cancellation(pool: DaemonPool) -> None:
    """A handler that cancels itself has failed: nobody told it to stop."""
    for handler in both(lambda: throw(asyncio.CancelledError())):
        ended = await run(handler, pool)
        assert ended.outcome is Outcome.FAILED
        assert (ended.error or "").startswith("CancelledError")


async def test_wrapped_coroutine(pool: DaemonPool) -> None:
    """A plain function around a coroutine function is awaited, not forgotten."""
    done = asyncio.Event()

    async def inner(_event: Event) -> None:
        done.set()

    def outer(event: Event) -> Any:
        return inner(event)

    assert (await run(outer, pool)).outcome is Outcome.SUCCEEDED
    assert done.is_set()


async def test_timeout_async(pool: DaemonPool) -> None:
    """An async handler is cancelled at its timeout and may clean up."""
    cleaned = asyncio.Event()

    async def handler(_event: Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    ended = await run(handler, pool, 0.01)
    assert ended == Ended(outcome=Outcome.TIMED_OUT, error="no end after 0.01 s")
    assert ended.straggler is None
    assert cleaned.is_set()


async def test_timeout_swallowed(pool: DaemonPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An async handler that swallows its cancellation is given up after a moment, and known until it ends."""
    monkeypatch.setattr(attempt, "LINGER_SECONDS", 0.01)
    release = asyncio.Event()

    async def handler(_event: Event) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    ended = await run(handler, pool, 0.01)
    assert ended.outcome is Outcome.TIMED_OUT
    assert ended.straggler is not None
    assert not ended.straggler.done()
    release.set()
    await ended.straggler


async def test_timeout_plain(pool: DaemonPool) -> None:
    """A plain handler cannot be stopped: its attempt ends at the timeout, its thread is known until it ends."""
    release = threading.Event()
    ended = await run(lambda _event: release.wait(), pool, 0.01)
    assert ended.outcome is Outcome.TIMED_OUT
    assert ended.straggler is not None
    release.set()
    await ended.straggler


async def test_cancelled(pool: DaemonPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is released and goes on is left behind after a moment, however often it is given up."""
    monkeypatch.setattr(attempt, "LINGER_SECONDS", 0.05)
    begun, swallowed = asyncio.Event(), asyncio.Event()

    async def handler(_event: Event) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            swallowed.set()
            await asyncio.Event().wait()

    handlers = Handlers()
    handlers.on("*", name="h")(handler)
    end: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
    running = Running(handlers["h"], view(), {"event_id": "evt_1"}, pool, end.set_result, asyncio.get_running_loop())
    await begun.wait()
    running.release()
    await swallowed.wait()
    running.release()
    running.time_out(5)
    ended = await end
    assert (ended.outcome, ended.error, running.over) == (Outcome.RELEASED, "the worker stopped", True)
    assert ended.straggler is not None
    ended.straggler.cancel()
    await asyncio.wait({ended.straggler})
    running.release()  # and nothing is told twice


async def test_log_ids(pool: DaemonPool) -> None:
    """What a handler logs carries the ids, in both kinds; and nothing of it stays behind."""
    seen: list[dict[str, Any]] = []
    for handler in both(lambda: seen.append(dict(merge_attempt(None, "info", {})))):
        await run(handler, pool)
    ids = {
        "task": "task_1",
        "event_id": "evt_1",
        "delivery": "dlv_1",
        "attempt": 1,
        "handler": "h",
        "provider": "qingbo",
    }
    assert seen == [ids, ids]
    assert merge_attempt(None, "info", {"handler": "mine"}) == {"handler": "mine"}


async def test_pool_is_bounded_and_reused() -> None:
    """No more threads than allowed are started; what is beyond them waits for one."""
    pool = DaemonPool(2)
    names: set[str] = set()
    both_in = threading.Barrier(2)

    def work(number: int) -> int:
        names.add(threading.current_thread().name)
        if number < 2:
            both_in.wait(5)
        return number

    futures = [pool.submit(work, number) for number in range(10)]
    assert [(await future)[0] for future in futures] == list(range(10))
    assert len(names) == 2
    pool.close()


def test_stuck_function_never_delays_the_exit() -> None:
    """A process with a hanging plain handler, or one that ends after the loop is closed, exits at once."""
    code = (
        "import asyncio, time\n"
        "from receiver.threads import DaemonPool\n"
        "async def main():\n"
        "    pool = DaemonPool(2)\n"
        "    for seconds in (60, 0.2): pool.submit(time.sleep, seconds)\n"
        "asyncio.run(main()); time.sleep(0.4); print('out')\n"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("out\n", "")
    assert time.monotonic() - begun < 20

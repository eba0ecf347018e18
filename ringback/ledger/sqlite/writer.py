"""Group commit: requests in flight share one transaction.

One write connection per process. Requests wait in a bounded queue, from which `commits` takes them in the connection's
thread, batch after batch; so the lock is never held across a turn of the event loop, which a user's handler may block.
The writer is never cancelled or timed out; only who waits for it is.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from ringback.errors import LedgerUnavailable
from ringback.ledger.sqlite.commits import Commits, Operation, Outcomes, Request, Tell
from ringback.patience import Patience

QUEUE_BOUND = 10_000

Run = Callable[[Callable[[Any], Any]], Awaitable[Any]]


class Writer:
    """The one writer of this process.

    `run` calls a function with the write connection, in that one's thread. What is an engine's own, its `commits` do.
    """

    def __init__(
        self, run: Run, commits: Callable[[deque[Request], Tell], Commits], on_commit: Callable[[], None]
    ) -> None:
        self._run_in_thread = run
        self._on_commit = on_commit
        self._waiting: deque[Request] = deque()
        self._loop = asyncio.get_running_loop()
        self._commits = commits(self._waiting, self._tell)
        self._patience: Patience[Any] = Patience(lambda waiter: waiter.done(), _give_up)
        self._wake = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="ringback-writer")

    def submit(self, operation: Operation, item: Any, timeout_seconds: float | None = None) -> "asyncio.Future[Any]":
        """Have `operation` applied to `item`, together with whatever else waits; done after the commit.

        Raises, when awaited:
            LedgerUnavailable: nothing was written, or not within the timeout; try again.
            LedgerRejected: this item can never be stored; its neighbours were.
        """
        future = self._loop.create_future()
        self.put(operation, item, future, timeout_seconds)
        return future

    def put(self, operation: Operation, item: Any, waiter: Any, timeout_seconds: float | None = None) -> None:
        """Do as `submit` does for a waiter that is there already: a future, or a `protocol.Waiter`."""
        if self._closing or len(self._waiting) >= QUEUE_BOUND:
            reason = "the ledger is closed" if self._closing else "too many requests wait for the ledger"
            waiter.set_exception(LedgerUnavailable(reason))
            return
        self._waiting.append(Request(operation, item, waiter))
        if timeout_seconds is not None:
            self._patience.add(waiter, timeout_seconds, self._loop)
        if self._task.done():  # a loop that ends has cancelled it, and what closes last still has something to write
            self._task = asyncio.create_task(self._run(), name="ringback-writer")
        self._wake.set()

    async def close(self) -> None:
        """Write what waits; the connection is left to whoever made it."""
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._task])  # which a loop that ends may have cancelled
        await self._run_in_thread(self._commits.end)

    async def _run(self) -> None:
        try:
            while not (self._closing and not self._waiting):
                if self._waiting:
                    await self._run_in_thread(self._commits.work)
                else:
                    await self._rest()
        finally:  # nobody may wait for a writer that is gone: a loop that ends cancels it before it closes the ledger
            stopped = LedgerUnavailable("the ledger's writer was stopped")
            _answer([(request, stopped) for request in (*self._commits.batch, *self._waiting)])
            self._waiting.clear()

    async def _rest(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(self._commits.rest_seconds()):
                await self._wake.wait()
        except TimeoutError:
            await self._run_in_thread(self._commits.rest)

    def _tell(self, outcomes: Outcomes, changed: bool) -> None:
        """Take the news from the thread to the event loop; nobody is there to hear it once that has closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._learn, outcomes, changed)

    def _learn(self, outcomes: Outcomes, changed: bool) -> None:
        _answer(outcomes)
        if changed:
            self._on_commit()


def _give_up(waiter: Any) -> None:
    waiter.set_exception(LedgerUnavailable("the ledger did not commit in time"))


def _answer(outcomes: Outcomes) -> None:
    for request, answer in outcomes:
        if request.waiter.done():  # whoever waited has given up; it is written all the same
            continue
        if isinstance(answer, Exception):
            request.waiter.set_exception(answer)
        else:
            request.waiter.set_result(answer)

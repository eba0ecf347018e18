"""A bounded pool of daemon threads, for handlers that are a plain `def`.

Unlike those of concurrent.futures, its threads never delay the exit of the process: a function that does not end is
left behind. Called by `attempt`, always from the event loop.
"""

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any

Returned = tuple[Any, BaseException | None]  # what the function gave, or what it raised


@dataclass(frozen=True, slots=True)
class _Job:
    function: Callable[[Any], Any]
    argument: Any
    context: contextvars.Context
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Returned]"


class DaemonPool:
    """At most `size` threads, started when needed; a job beyond them waits for one to be free."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = 0
        self._open_jobs = 0

    def submit(self, function: Callable[[Any], Any], argument: Any) -> "asyncio.Future[Returned]":
        """Call the function on a thread; the future is done when it has ended and never holds an exception.

        Nothing waits for a bare future at exit, as `asyncio.run` does for tasks. Do not cancel it: it tells how
        long the thread is taken.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Returned] = loop.create_future()
        self._open_jobs += 1
        self._jobs.put(_Job(function, argument, contextvars.copy_context(), loop, future))
        if self._threads < min(self._open_jobs, self._size):
            self._threads += 1
            Thread(target=self._serve, name=f"ringback-handler-{self._threads}", daemon=True).start()
        return future

    def close(self) -> None:
        """Let idle threads end, and busy ones after what they do."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            returned = _call(job)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                job.loop.call_soon_threadsafe(self._finish, job.future, returned)

    def _finish(self, future: "asyncio.Future[Returned]", returned: Returned) -> None:
        self._open_jobs -= 1
        future.set_result(returned)


def _call(job: _Job) -> Returned:
    # Even SystemExit ends only this call. A pair, because a future refuses to hold StopIteration.
    try:
        return job.context.run(job.function, job.argument), None
    except BaseException as error:
        return None, error

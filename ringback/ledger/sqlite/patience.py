"""Ends the waiting of those whose time is up: one timer for all of them, where one each would cost as much as the rest.

It looks every quarter of a second. Only the waiting ends: what was to be written is written all the same.
"""

import asyncio
from collections import deque
from typing import Any

from ringback.errors import LedgerUnavailable

LOOK_SECONDS = 0.25


class Patience:
    """The futures that have a deadline, oldest first. All are given the same time, so that order is also theirs."""

    def __init__(self) -> None:
        self._futures: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", seconds: float) -> None:
        """Give a future this much time."""
        self._futures.append((loop.time() + seconds, future))
        if self._timer is None or self._timer.when() < loop.time() - LOOK_SECONDS:  # or its loop has ended
            self._timer = loop.call_later(LOOK_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._futures and (self._futures[0][1].done() or self._futures[0][0] <= now):
            _, future = self._futures.popleft()
            if not future.done():
                future.set_exception(LedgerUnavailable("the ledger did not commit in time"))
        self._timer = loop.call_later(LOOK_SECONDS, self._look, loop) if self._futures else None

"""Ends the waiting of those whose time is up, with one timer for all of them.

A timer each costs as much as the rest of a request: uvloop makes, stops and closes a handle for it. This one looks
every quarter of a second, and only while somebody waits. Whoever comes lets go of two before him that wait no more:
thousands at once, with all that they hold, kept everybody else waiting for some milliseconds. Used by the ledger's
writer and courier, and for callback bodies.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

LOOK_SECONDS = 0.25
LET_GO = 2  # by each who comes: one more than come


class Patience(Generic[Item]):
    """Those who wait, with their deadlines. `is_over` tells that one waits no more, `give_up` ends the waiting."""

    def __init__(self, is_over: Callable[[Item], bool], give_up: Callable[[Item], None]) -> None:
        self._is_over = is_over
        self._give_up = give_up
        self._waiting: deque[tuple[float, Item]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0  # when the timer should fire
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, item: Item, seconds: float, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Give an item this much time, give or take a quarter of a second; who knows the running loop may say it."""
        loop = loop or asyncio.get_running_loop()
        waiting, is_over = self._waiting, self._is_over
        for _ in range(LET_GO):
            if waiting and is_over(waiting[0][1]):
                waiting.popleft()
        waiting.append((loop.time() + seconds, item))
        if self._timer is None or self._loop is not loop:  # a loop that has ended took its timer along
            self._loop = loop
            self._set_timer(loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, waiting = loop.time(), self._waiting
        if now > self._due_at + LOOK_SECONDS:
            # The loop was blocked, and answers that came meanwhile stand behind this timer: let them in first.
            self._due_at = now
            loop.call_soon(loop.call_soon, self._look, loop)
            return
        self._waiting = deque(entry for entry in waiting if entry[0] > now and not self._is_over(entry[1]))
        for deadline, item in waiting:
            if deadline <= now and not self._is_over(item):
                self._give_up(item)
        self._timer = None
        if self._waiting:
            self._set_timer(loop)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_at = loop.time() + LOOK_SECONDS
        self._timer = loop.call_later(LOOK_SECONDS, self._look, loop)

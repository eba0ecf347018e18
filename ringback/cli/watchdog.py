"""Names the handler that blocks the event loop: while it does, no callback is answered and no other handler goes on.

A thread compares the clock with a timestamp that the loop renews every 100 ms, only while deliveries are running: an
idle process sets no timer, and the thread waits on a lock.
"""

import asyncio
import sys
import threading
import time
from types import FrameType
from typing import Any

import structlog

from receiver.actions import Submit
from receiver.attempt import Ended
from receiver.handlers import Handler, Handlers
from receiver.worker import Worker
from ringback.ledger import Ledger, Work
from ringback.settings import Settings

BEAT_SECONDS = 0.1
BLOCKED_SECONDS = 0.25

log = structlog.get_logger("ringback.watchdog")


class Watchdog:
    """Watches one event loop, the one it is made in; `names` are those of the handlers, which name their tasks."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._running = 0
        self._beating = False
        self._beaten_at = time.monotonic()
        self._active = threading.Event()
        threading.Thread(target=self._watch, daemon=True, name="ringback-watchdog").start()

    def begin(self) -> None:
        """Watch from here on, for one delivery more."""
        self._running += 1
        if not self._beating:
            self._beating = True
            self._beat()
            self._active.set()

    def end(self) -> None:
        """Watch for one delivery less."""
        self._running -= 1

    def _beat(self) -> None:
        self._beaten_at = time.monotonic()
        if self._running:
            self._loop.call_later(BEAT_SECONDS, self._beat)
        else:
            self._beating = False
            self._active.clear()

    def _watch(self) -> None:
        told: float | None = None
        while not self._loop.is_closed():  # one that ended while deliveries ran has no more beats to miss
            self._active.wait()
            time.sleep(BEAT_SECONDS / 2)
            beaten_at = self._beaten_at
            late = time.monotonic() - beaten_at - BEAT_SECONDS
            if late > BLOCKED_SECONDS and beaten_at != told and self._active.is_set():
                told = beaten_at  # once per blockade
                log.warning("loop.blocked", milliseconds=round(late * 1000), **self._culprit())

    def _culprit(self) -> dict[str, Any]:
        """Tell what the loop is at: the handler whose task it runs, and the line."""
        task = asyncio.current_task(self._loop)
        name = task.get_name() if task is not None else None
        frame = sys._current_frames().get(self._thread_id)
        return {"handler": name if name in self._names else None, "at": _place(frame)}


def _place(frame: FrameType | None) -> str | None:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else None


class WatchedWorker(Worker):
    """A worker whose event loop is watched while it runs deliveries."""

    def __init__(self, settings: Settings, ledger: Ledger, handlers: Handlers, submit: Submit | None = None) -> None:
        super().__init__(settings, ledger, handlers, submit=submit)
        self._watchdog = Watchdog(frozenset(handlers.patterns()))

    def _begin(self, work: Work) -> None:
        self._watchdog.begin()
        super()._begin(work)

    def _end(self, work: Work, handler: Handler, fields: dict[str, Any], ended: Ended) -> None:
        super()._end(work, handler, fields, ended)
        self._watchdog.end()

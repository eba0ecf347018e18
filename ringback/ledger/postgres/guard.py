"""Ends waits for a server that answers no more: one that hangs, or a network that swallows packets.

Whoever waits on a socket cannot look at the time, so one thread does it for all connections of the process, whatever
they are for. Used by `connection` alone; a connection that is cut is made anew by its `Link`.
"""

import threading
import time
import weakref
from typing import Protocol

import structlog

log = structlog.get_logger("ringback.ledger")

LOOK_SECONDS = 0.5
STILL_SECONDS = 0.5


class Asking(Protocol):
    """What may wait too long."""

    def cut(self) -> bool:
        """End a wait that has taken too long; tells whether there was one."""


class _Guard:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: weakref.WeakSet[Asking] = weakref.WeakSet()
        self._thread: threading.Thread | None = None

    def watch(self, asking: Asking) -> None:
        """Look after one until it is left or forgotten; the thread lives as long as there is one."""
        with self._lock:
            self._watched.add(asking)
            if self._thread is None or not self._thread.is_alive():  # which a fork does not take along
                self._thread = threading.Thread(target=self._look, daemon=True, name="ringback-guard")
                self._thread.start()

    def leave(self, asking: Asking) -> None:
        """Look after it no more."""
        with self._lock:
            self._watched.discard(asking)

    def _look(self) -> None:
        while True:
            began = time.monotonic()
            time.sleep(LOOK_SECONDS)
            if time.monotonic() - began > LOOK_SECONDS + STILL_SECONDS:
                continue  # it was our own process that stood still: the answer may be here already
            with self._lock:
                watched = list(self._watched)
                if not watched:
                    self._thread = None
                    return
            for asking in watched:
                if asking.cut():
                    log.warning("ledger.stuck", hint="the server did not answer; the connection was cut")


GUARD = _Guard()

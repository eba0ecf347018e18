"""Several serving processes on one listening socket: `ringback serve --workers N`.

The parent binds the socket, forks, watches and starts again; it never opens the ledger and takes no request. The first
child starts alone, so that what is wrong for all of them is told once. A child stops when the pipe that all of them
look at is closed: by the parent that stops, or by the kernel when the parent is no more. So none is left behind.
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import structlog

from ringback.cli.place import READY, STOP, Place
from ringback.cli.renewal import Renewal
from ringback.cli.run import ECHO_SECONDS, leave
from ringback.errors import RingbackError

HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
CLOSE_SECONDS = 10.0  # beyond the grace time: to save the last counts and to close the ledger

log = structlog.get_logger("ringback")


class Crew:
    """The parent of some processes that serve alike.

    Args:
        count: how many.
        listener: their socket; closed here as soon as the parent stops, so that nobody waits in it in vain.
        grace_seconds: how long a child may take to finish what is in flight.
        started: called once, when all of them serve.
    """

    def __init__(self, count: int, listener: socket.socket, grace_seconds: float, started: Callable[[], None]) -> None:
        self._children = [_Child(seat) for seat in range(count)]
        self._listener = listener
        self._patience = grace_seconds + CLOSE_SECONDS
        self._started: Callable[[], None] | None = started
        self._renewal = Renewal(count)
        self._begun = False  # whether one has ever served
        self._stopped_at: float | None = None
        self._exit_code = 0
        self._failure: str | None = None
        self._selector = selectors.DefaultSelector()
        self._lifeline, self._hold = os.pipe()  # the children see when the parent lets go of its end
        self._signals, self._target = socket.socketpair()

    def run(self, serve: Callable[[Place], None]) -> NoReturn:
        """Keep the processes running until SIGTERM or Ctrl-C; then this one ends, as each of them does.

        Args:
            serve: what a child does, from its start to its end.

        Raises:
            RingbackError: they cannot be kept running. In a child: whatever `serve` raised.
        """
        self._hear_signals()
        while not self._is_over():
            for child in self._due():
                self._start(child, serve)
            self._await_news()
            self._reap()
            self._kill_the_late()
        if self._failure is not None:
            raise RingbackError(self._failure)
        sys.exit(self._exit_code)

    def _is_over(self) -> bool:
        return self._stopped_at is not None and not any(child.pid for child in self._children)

    def _hear_signals(self) -> None:
        """Have signals written into a socket, so that one wait hears them and the children."""
        for end in (self._signals, self._target):
            end.setblocking(False)
        self._selector.register(self._signals, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._target.fileno(), warn_on_full_buffer=False)
        for number in HEARD:
            signal.signal(number, lambda *_: None)

    def _absent(self) -> "list[_Child]":
        """Give the children that are to start, now or later; the others wait for the first one to serve."""
        if self._stopped_at is not None:
            return []
        return [child for child in (self._children if self._begun else self._children[:1]) if child.pid is None]

    def _due(self) -> "list[_Child]":
        now = time.monotonic()
        return [child for child in self._absent() if child.due_at <= now]

    def _start(self, child: "_Child", serve: Callable[[Place], None]) -> None:
        status, told = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # a signal to the child must not be told to the parent
        try:
            child.pid = os.fork()
        except OSError as error:  # too many processes, too little memory: that may pass
            os.close(status)
            self._lost(child, served=False, ended=f"not started: {error.strerror}")
        else:
            if child.pid == 0:
                self._let_go(status)
                signal.pthread_sigmask(signal.SIG_SETMASK, masked)
                serve(Place(child.seat, self._lifeline, told))
                sys.exit(0)
            self._selector.register(status, selectors.EVENT_READ, child)
        os.close(told)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    def _let_go(self, status: int) -> None:
        """Give up, in a child, what is the parent's."""
        signal.set_wakeup_fd(-1)
        for number in HEARD:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent tells
        for key in self._selector.get_map().values():
            if key.data is not None:
                os.close(key.fd)
        self._selector.close()
        self._signals.close()
        self._target.close()
        os.close(status)
        os.close(self._hold)

    def _await_news(self) -> None:
        for key, _ in self._selector.select(self._wait_seconds()):
            if key.data is None:
                with suppress(BlockingIOError):
                    for number in self._signals.recv(4096):
                        self._hear(signal.Signals(number))
            else:
                self._selector.unregister(key.fd)
                if os.read(key.fd, 1) == READY:
                    self._serves(key.data)
                os.close(key.fd)

    def _wait_seconds(self) -> float | None:
        now = time.monotonic()
        if self._is_over():
            return 0.0
        if self._stopped_at is not None:
            return max(0.0, self._stopped_at + self._patience - now)
        moments = [child.due_at for child in self._absent()]
        return max(0.0, min(moments) - now) if moments else None

    def _serves(self, child: "_Child") -> None:
        child.serves = self._begun = True
        self._renewal.serves()
        if self._started is not None and all(child.serves for child in self._children):
            self._started()
            self._started = None
        elif self._started is None:
            log.info("receiver.renewed", process=child.seat + 1, pid=child.pid)

    def _hear(self, number: signal.Signals) -> None:
        """Stop in order at the first signal, at once at the second."""
        if number is signal.SIGCHLD:
            return
        if self._stopped_at is None:
            log.info("process.stopping", signal=number.name, hint="once more stops at once")
            self._stop()
        elif time.monotonic() - self._stopped_at > ECHO_SECONDS:
            log.warning("process.stopped_at_once", signal=number.name)
            self._kill_all()
            leave(128 + number)

    def _stop(self) -> None:
        self._stopped_at = time.monotonic()
        os.write(self._hold, STOP * len(self._children))  # one for each to read
        os.close(self._hold)
        self._listener.close()

    def _reap(self) -> None:
        for child in self._children:
            if child.pid is not None:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: "_Child", code: int) -> None:
        pid, served, child.pid, child.serves = child.pid, child.serves, None, False
        if self._stopped_at is not None:
            if code not in (0, -signal.SIGTERM):  # which came before it could hear
                self._exit_code = 1
            return
        if not self._begun and code > 0:  # it has told why
            self._exit_code = code
            self._stop()
            return
        self._lost(child, served=served, ended=_how(code), pid=pid)

    def _lost(self, child: "_Child", *, served: bool, ended: str, pid: int | None = None) -> None:
        """Have it started again, now or later, or give up."""
        now = time.monotonic()
        child.due_at = self._renewal.ended(now, served=served)
        log.warning("receiver.ended", process=child.seat + 1, pid=pid, ended=ended, again_in=child.due_at - now)
        self._failure = self._renewal.hopeless(now, serving=sum(child.serves for child in self._children))
        if self._failure is not None:
            self._stop()

    def _kill_the_late(self) -> None:
        if self._stopped_at is None or time.monotonic() < self._stopped_at + self._patience:
            return
        late = self._kill_all()
        if late and self._failure is None:
            self._failure = f"{late} of its processes did not stop within {self._patience:g} s and were killed"

    def _kill_all(self) -> int:
        alive = [child.pid for child in self._children if child.pid is not None]
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(alive)


class _Child:
    """One of the processes, or the seat of one that is yet to start."""

    def __init__(self, seat: int) -> None:
        self.seat = seat
        self.pid: int | None = None
        self.serves = False
        self.due_at = 0.0


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"

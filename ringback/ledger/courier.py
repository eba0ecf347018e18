"""Takes arrivals to a scribe, a process that writes them, and its answers back to who waits for them.

Up to two lists are under way: the scribe writes one while the next is there already. Whoever came meanwhile waits, so
the lists grow with the load. The scribe is a help and no need: until it is ready, and when it was lost, arrivals go to
the ledger's own writer, and a new one is started after a while. Made by `Methods.employ` alone.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import structlog

from ringback.errors import LedgerUnavailable
from ringback.ledger import faults, wire
from ringback.ledger.gathering import Gathering
from ringback.ledger.protocol import Waiter
from ringback.model import Arrival
from ringback.patience import Patience

log = structlog.get_logger("ringback.ledger")

LIST_BOUND = 1_000  # arrivals in one list: where one of them is at fault, each is tried alone
LIST_BYTES = 4 << 20  # of bodies in one list
BOUND = 10_000  # arrivals that wait
BOUND_BYTES = 64 << 20  # of their bodies: those who gave up wait no more, but what they brought is still here
SOCKET_BYTES = 1 << 20
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)  # before a lost scribe is replaced; the last one from then on
STEADY_SECONDS = 60.0  # one that lived so long was no failure to start
END_SECONDS = 5.0  # for the scribe to write what it was given, and again to end
LOOK_SECONDS = 4.0  # how often to look whether it still answers
SILENT_LOOKS = 5  # at which it owed the same answer: it hangs, or was stopped
HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # for the receiver, though the whole group gets them
# Without what structlog would load to draw tracebacks.
SCRIBE = "from ringback import lean; lean.import_structlog(); from ringback.ledger.scribe import main; main()"
LOST = "the process that writes was lost; what it was given may be stored"

Rescue = Callable[[Waiter, Arrival], None]


class Courier:
    """The receiver's end.

    Args:
        order: what the scribe must know.
        rescue: takes an arrival that the scribe was not given yet when it was lost.
        on_commit: called when something was written.
    """

    def __init__(self, order: wire.Order, rescue: Rescue, on_commit: Callable[[], None]) -> None:
        self._order = order
        self._rescue = rescue
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._patience: Patience[Waiter] = Patience(lambda waiter: waiter.done(), _give_up)
        self._waiting: deque[tuple[Waiter, Arrival]] = deque()
        self._waiting_bytes = 0
        self._lists: deque[list[Waiter]] = deque()  # under way
        self._line: _Line | None = None  # None: there is no scribe, or it is not ready
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None  # until whoever waits has waited long enough for company
        self._gathering = Gathering()
        self._closed: asyncio.Future[None] = self._loop.create_future()  # once we close
        self._keeper = asyncio.create_task(self._keep(), name="ringback-scribe")

    def put(self, waiter: Waiter, arrival: Arrival, timeout_seconds: float | None) -> bool:
        """Take an arrival, and tell the waiter in the end; False: not now."""
        if self._line is None or self._closed.done():
            return False
        if len(self._waiting) >= BOUND or self._waiting_bytes >= BOUND_BYTES:
            waiter.set_exception(LedgerUnavailable("too many requests wait for the ledger"))
            return True
        self._waiting.append((waiter, arrival))
        self._waiting_bytes += len(arrival.callback.body)
        if timeout_seconds is not None:
            self._patience.add(waiter, timeout_seconds, self._loop)
        if not self._scheduled:  # with all others of this turn of the event loop
            self._scheduled = True
            self._loop.call_soon(self._send)
        return True

    async def close(self) -> None:
        """Have everything written that was taken, and let the scribe go."""
        if not self._closed.done():
            self._closed.set_result(None)
        await asyncio.wait([self._keeper])  # which a loop that ends may have cancelled

    def _send(self) -> None:
        """Send what waits, if it is time."""
        self._scheduled = False
        while self._line is not None and self._waiting:
            first = len(self._lists[0]) if self._lists else 0
            pause = self._gathering.wait_seconds(len(self._waiting), len(self._lists), first, self._loop.time())
            if pause is None:
                return
            if pause > 0:  # or until more have come
                if self._timer is None:
                    self._timer = self._loop.call_later(pause, self._look)
                return
            waiters, content = self._take()
            self._lists.append(waiters)
            self._line.send(content)

    def _look(self) -> None:
        self._timer = None
        self._send()

    def _take(self) -> tuple[list[Waiter], bytes]:
        """Take a list, and write it."""
        waiters: list[Waiter] = []
        arrivals: list[Arrival] = []
        size = 0
        while self._waiting and size < LIST_BYTES and len(waiters) < LIST_BOUND:
            waiter, arrival = self._waiting.popleft()
            waiters.append(waiter)
            arrivals.append(arrival)
            size += len(arrival.callback.body)
        self._waiting_bytes -= size
        try:
            return waiters, wire.write_arrivals(arrivals)
        except Exception:
            return _without_culprits(waiters, arrivals)

    def hear(self, line: "_Line", content: bytes) -> None:
        """Learn that the scribe is ready, or what became of the oldest list."""
        if content == wire.READY:
            self._line = line
            log.debug("scribe.ready", pid=line.pid)
            return
        reply = wire.read_reply(content)
        if len(reply.receipts) != len(self._lists[0]):
            raise ValueError("an answer to another list")
        waiters = self._lists.popleft()
        took = (reply.commit_seconds, reply.other_seconds)
        self._gathering.note(len(waiters), len(self._waiting), *took, self._loop.time())
        self._send()  # before those who waited are told: the scribe shall not wait for that
        for place, (waiter, receipt) in enumerate(zip(waiters, reply.receipts, strict=True)):
            if waiter.done():  # it has given up; it is written all the same
                continue
            if receipt is None:
                waiter.set_exception(reply.failures[place].error())
            else:
                waiter.set_result(receipt)
        if reply.changed:
            self._on_commit()
        if self._closed.done():
            self._part()

    def _lose(self) -> None:
        """Tell those whose arrivals were under way; write the others without a scribe."""
        self._line = None
        lists, self._lists = self._lists, deque()
        for waiter in (waiter for waiters in lists for waiter in waiters if not waiter.done()):
            waiter.set_exception(LedgerUnavailable(LOST))
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        for waiter, arrival in waiting:
            if not waiter.done():
                self._rescue(waiter, arrival)

    def _part(self) -> None:
        """Close the line as soon as nothing is under way."""
        if self._line is not None and not self._lists and not self._waiting:
            self._line.close()

    async def _keep(self) -> None:
        """Have a scribe until the end; a lost one is replaced after a pause."""
        failures = 0
        while not self._closed.done():
            began = time.monotonic()
            try:
                ended = await self._employ()
            except Exception as error:  # no process, no descriptor, no thread to be had: the next time, perhaps
                ended = f"{type(error).__name__}: {error}"
            if self._closed.done():
                return
            failures = 1 if time.monotonic() - began > STEADY_SECONDS else failures + 1
            pause = PAUSES[min(failures, len(PAUSES)) - 1]
            log.warning("scribe.lost", ended=ended, consequence="the receiver writes itself", again_seconds=pause)
            await asyncio.wait([self._closed], timeout=pause)

    async def _employ(self) -> str:
        """Have one scribe, from its start to its end; gives how it ended."""
        process, end = _started()
        line: _Line | None = None
        try:
            _, line = await self._loop.create_unix_connection(lambda: _Line(self, process.pid), sock=end)
            line.send(wire.write_order(self._order))
            await self._attend(process, line)
        finally:  # also where this is cancelled, by a loop that ends
            if line is None:
                end.close()
            else:
                line.cut()
            self._lose()
            await self._loop.run_in_executor(None, _end, process)
        return _how(process.returncode)

    async def _attend(self, process: "subprocess.Popen[bytes]", line: "_Line") -> None:
        """Wait until the scribe is lost, or we close; one that answers no more is killed."""
        last: object = None
        looks = 0
        while not line.lost.done():
            done, _ = await asyncio.wait(
                [self._closed, line.lost], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if self._closed in done:
                await self._dismiss(process, line)
                return
            owed = line if self._line is None else self._lists[0] if self._lists else None
            # Looks are counted, not seconds: where our own loop stood still, the answer may have come long ago.
            looks = looks + 1 if owed is not None and owed is last else 0
            last = owed
            if looks == SILENT_LOOKS:
                log.warning("scribe.silent", pid=line.pid, seconds=SILENT_LOOKS * LOOK_SECONDS)
                process.kill()
                return

    async def _dismiss(self, process: "subprocess.Popen[bytes]", line: "_Line") -> None:
        """Have the scribe write what is left, and let it go."""
        if self._line is None:  # it was given nothing
            process.kill()
        self._part()
        await asyncio.wait([line.lost], timeout=END_SECONDS)


class _Line(asyncio.Protocol):
    """The socket to one scribe."""

    _transport: asyncio.Transport

    def __init__(self, courier: Courier, pid: int) -> None:
        self.pid = pid
        self.lost = asyncio.get_running_loop().create_future()
        self._courier = courier
        self._frames = wire.Frames()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, content: bytes) -> None:
        """Send a frame, if there is still somebody to send it to."""
        if not self._transport.is_closing():
            self._transport.write(wire.frame(content))

    def close(self) -> None:
        """Let the scribe go, which ends when it has read all."""
        self._transport.close()

    def cut(self) -> None:
        """Let it go at once."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand over the frames that are whole now."""
        self._frames.feed(data)
        try:
            for content in self._frames:
                self._courier.hear(self, content)
        except Exception:  # whatever it said, nobody may wait for ever for the rest
            log.exception("scribe.not_understood")
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's form
        """Tell that it is gone."""
        if not self.lost.done():
            self.lost.set_result(None)


def _started() -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """Start a scribe; gives also our end of the socket that it knows as its standard input.

    Raises:
        OSError: there is no room for one more process, or no Python to be found.
    """
    ours, theirs = socket.socketpair()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)  # which it inherits, from its first moment
    with theirs:
        try:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            ours.setblocking(False)
            # With our own places to import from, and without the working directory before all of them.
            places = os.pathsep.join(place for place in sys.path if place)
            command = [sys.executable, "-P", "-c", SCRIBE]
            environ = {**os.environ, "PYTHONPATH": places}
            process = subprocess.Popen(  # noqa: S603 -- our own program
                command, env=environ, stdin=theirs.fileno(), stdout=subprocess.DEVNULL
            )
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
    return process, ours


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for a scribe that was let go; in a thread."""
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _without_culprits(waiters: list[Waiter], arrivals: list[Arrival]) -> tuple[list[Waiter], bytes]:
    """Write the arrivals that can be written, and tell the others that theirs cannot."""
    good: list[tuple[Waiter, Arrival]] = []
    for waiter, arrival in zip(waiters, arrivals, strict=True):
        try:
            wire.write_arrivals([arrival])
        except Exception as error:
            verdict = faults.verdict(error)
            if not waiter.done():
                waiter.set_exception(verdict)
        else:
            good.append((waiter, arrival))
    return [waiter for waiter, _ in good], wire.write_arrivals([arrival for _, arrival in good])


def _give_up(waiter: Waiter) -> None:
    waiter.set_exception(LedgerUnavailable("the ledger did not commit in time"))

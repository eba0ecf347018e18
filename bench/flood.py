"""A crowd of senders that never waits: so many callbacks a second over thousands of connections. For `bench.overload`.

Each connection has one request under way at most. Where none is free the callback is not sent, and counted: else the
senders would wait for the receiver, and it would never be asked for more than it can do.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

TICK_SECONDS = 0.002
SETTLE_SECONDS = 0.01
OPENING = 50  # connections at the same time
HEAD = "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"


def request_of(path: str, body: bytes) -> bytes:
    """Write one request as it goes over the wire."""
    return HEAD.format(path=path, length=len(body)).encode() + body


@dataclass(slots=True)
class Sent:
    """One callback: its place in the list, when it was sent and answered (seconds on one clock), and how; 0: never."""

    number: int
    at: float
    answered: float = 0.0
    status: int = 0


@dataclass(slots=True)
class Book:
    """What was sent, and how many were not for want of a free connection."""

    sent: list[Sent] = field(default_factory=list)
    unsent: int = 0
    lost: int = 0  # connections that ended


class _Connection(asyncio.Protocol):
    """One connection of the crowd; puts itself back among the free ones when the answer is whole."""

    def __init__(self, crowd: "Crowd") -> None:
        self._crowd = crowd
        self._answer = b""
        self._sent: Sent | None = None
        self._transport: Any = None  # uvloop's is no asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, sent: Sent, request: bytes) -> None:
        """Send one request."""
        self._sent = sent
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end or self._sent is None:
            return
        length = head.lower().partition(b"content-length:")[2]
        if len(body) >= int(length.partition(b"\r\n")[0]):
            self._sent.answered, self._sent.status = time.perf_counter(), int(head[9:12])
            self._sent, self._answer = None, b""
            self._crowd.is_free(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        if not self._crowd.closing:
            self._crowd.book.lost += 1
            if self in self._crowd.free:
                self._crowd.free.remove(self)

    def close(self) -> None:
        """End it."""
        self._transport.close()


class Crowd:
    """So many connections to one port, which send what they are told to."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self.free: deque[_Connection] = deque()  # who was quiet for longest comes first: none is to be idle
        self.book = Book()
        self.closing = False
        self._all: list[_Connection] = []
        self._port = port
        self._requests = requests
        self._is_eager = False

    async def open(self, count: int) -> None:
        """Open so many connections."""
        loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(OPENING)

        async def one() -> None:
            async with gate:
                _, made = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
                self._all.append(made)

        await asyncio.gather(*(one() for _ in range(count)))
        self.free.extend(self._all)

    async def send(self, rate: float, seconds: float) -> None:
        """Send so many per second for so long, whatever comes back."""
        began, sent = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            due = int(passed * rate) - sent
            sent += due
            for _ in range(due):
                self._send_one()
            await asyncio.sleep(TICK_SECONDS)

    async def keep_busy(self, seconds: float) -> float:
        """Have every connection send as soon as it has its answer, for so long; gives how many got a 200 per second."""
        self._is_eager = True
        began = time.perf_counter()
        while self.free:
            self._send_one()
        await asyncio.sleep(seconds)
        self._is_eager = False
        return sum(sent.status == 200 for sent in self.book.sent) / (time.perf_counter() - began)

    def is_free(self, connection: _Connection) -> None:
        """Take back a connection whose answer has come."""
        self.free.append(connection)
        if self._is_eager:
            self._send_one()

    async def settle(self, seconds: float) -> None:
        """Wait until everything is answered, but not for longer than so long."""
        for _ in range(int(seconds / SETTLE_SECONDS)):
            if len(self.free) + self.book.lost >= len(self._all):
                return
            await asyncio.sleep(SETTLE_SECONDS)

    def close(self) -> None:
        """Hang up."""
        self.closing = True
        for connection in self._all:
            connection.close()

    def _send_one(self) -> None:
        if not self.free:
            self.book.unsent += 1
            return
        sent = Sent(len(self.book.sent), time.perf_counter())
        self.book.sent.append(sent)
        self.free.popleft().ask(sent, self._requests[sent.number])

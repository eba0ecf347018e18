"""Sends whole requests at a steady rate, an open loop: it never waits for an answer before it sends the next.

A request that finds no connection free waits for one, and that counts as its wait. Used by `bench.paced`, on uvloop:
what the sender spends is taken from the receiver on the same machine.
"""

import asyncio
import gc
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

ANSWER_SECONDS = 10.0  # after the last request
TICK_SECONDS = 0.001


def paced(
    port: int, requests: Sequence[bytes], *, rate: float, connections: int, warm_up_seconds: float = 0.0
) -> "Sent":
    """Send all of these to this port, so many per second; gives what became of them.

    What is sent while the receiver warms up must be answered well, and how long that took is not counted.
    """
    gc.collect()
    gc.disable()  # its pauses would be taken for the receiver's
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Sender(port, connections).send(requests, rate, warm_up_seconds))
    finally:
        gc.enable()


@dataclass(slots=True)
class Sent:
    """What became of the pushes, in milliseconds; `answers` and `errors` count those of the warming up, too."""

    answers: int = 0
    waits: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    errors: int = 0


class _Connection(asyncio.Protocol):
    """One connection, with one request under way at most."""

    def __init__(self, sender: "_Sender") -> None:
        self._sender = sender
        self._transport: asyncio.Transport | None = None
        self._answer = b""
        self._at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def ask(self, request: bytes, at: float) -> None:
        """Send a request, which the sender came to at that time."""
        self._at = at
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        if end and len(body) >= int(length):
            self._answer = b""
            self._sender.answered(self, self._at, head.startswith(b"HTTP/1.1 200"))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class _Sender:
    """Sends to this port at a steady rate, over so many connections at most."""

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._connections = connections
        self._free: deque[_Connection] = deque()  # each in its turn: one that rests for 5 s is closed
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._under_way = 0
        self._counted_from = 0.0
        self._all_answered = asyncio.Event()
        self.sent = Sent()

    async def send(self, requests: Sequence[bytes], rate: float, warm_up_seconds: float) -> Sent:
        """Send all; gives what became of them. Who was not answered in time counts as an error."""
        loop = asyncio.get_running_loop()
        for _ in range(self._connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
            self._free.append(connection)
        opened = list(self._free)
        began, done = time.perf_counter(), 0
        self._counted_from = began + warm_up_seconds
        while done < len(requests):
            now = time.perf_counter() - began
            for number in range(done, min(len(requests), int(now * rate) + 1)):
                self._come_to(requests[number], time.perf_counter(), began + number / rate)
                done = number + 1
            await asyncio.sleep(TICK_SECONDS)
        await self._settle()
        for connection in opened:
            connection.close()
        return self.sent

    def _come_to(self, request: bytes, now: float, due: float) -> None:
        if now >= self._counted_from:
            self.sent.lags.append((now - due) * 1000)
        self._under_way += 1
        if self._free:
            self._free.popleft().ask(request, now)
        else:
            self._waiting.append((request, now))

    def answered(self, connection: _Connection, at: float, is_good: bool) -> None:
        """Note an answer, and give the connection to who waits for one."""
        self.sent.answers += 1
        if at >= self._counted_from:
            self.sent.waits.append((time.perf_counter() - at) * 1000)
        self.sent.errors += not is_good
        self._under_way -= 1
        if self._waiting:
            connection.ask(*self._waiting.popleft())
        else:
            self._free.append(connection)
        if not self._under_way:
            self._all_answered.set()

    async def _settle(self) -> None:
        self._all_answered.clear()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while self._under_way:
                    await self._all_answered.wait()
        except TimeoutError:
            self.sent.errors += self._under_way

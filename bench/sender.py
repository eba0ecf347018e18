"""A provider that pushes at a steady rate over connections that it keeps alive. Used by `bench.latency`.

Not httpx: what the sender spends is taken from the receiver on the same machine.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

ANSWER_SECONDS = 60.0
HEAD = "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"


@dataclass(slots=True, kw_only=True)
class Push:
    """One callback, in seconds since 1970: when the sender came to it, and when it was answered (status 0: never)."""

    at: float
    lag: float  # how late that was: the sender's own doing, and so in nobody's latency
    answered: float = 0.0
    status: int = 0


class Sender:
    """Sends to this port over so many connections at most.

    Args:
        port: on this machine.
        connections: a push that finds none of them free waits for one, and that counts.
    """

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._slots: asyncio.Queue[_Connection | None] = asyncio.Queue()
        for _ in range(connections):
            self._slots.put_nowait(None)

    async def send(self, requests: Sequence[tuple[str, bytes]], rate: int) -> list[Push]:
        """Send all, so many per second, and give what became of each, in order."""
        began, clock = time.time(), time.perf_counter()
        under_way = []
        for number, (path, body) in enumerate(requests):
            due = number / rate
            if (left := due - (time.perf_counter() - clock)) > 0:
                await asyncio.sleep(left)
            now = time.perf_counter() - clock
            push = Push(at=began + now, lag=now - due)
            under_way.append(asyncio.create_task(self._push(push, path, body)))
        pushes = await asyncio.gather(*under_way)
        while not self._slots.empty():
            if (connection := self._slots.get_nowait()) is not None:
                connection.close()
        return pushes

    async def _push(self, push: Push, path: str, body: bytes) -> Push:
        connection = await self._slots.get()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = connection or await _Connection.open(self._port)
                push.status = await connection.ask(path, body)
                push.answered = time.time()
        except (OSError, asyncio.IncompleteReadError):  # a timeout is an OSError, too
            if connection is not None:
                connection.close()
            connection = None
        finally:
            self._slots.put_nowait(connection)
        return push


class _Connection:
    """One connection, for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, path: str, body: bytes) -> int:
        """Send one request; gives the answer's status once it was read whole."""
        self._writer.write(HEAD.format(path=path, length=len(body)).encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        await self._reader.readexactly(length)
        return int(lines[0].split()[1])

    def close(self) -> None:
        self._writer.close()

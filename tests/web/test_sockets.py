"""What only a real server and a real socket can show."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from receiver.web import create_app
from ringback.ledger import Query
from ringback.model import TaskState

from .conftest import TASK, MakeSettings, Receiver, Serve, Start, body_of, path_of, submitted

QUICK = 0.2  # seconds that a body may take in these tests


class Wire:
    """A client that writes bytes as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, text: str, body: bytes = b"") -> None:
        """Write a head, line by line, and what follows."""
        head = text.replace("\n", "\r\n").encode() + b"\r\n\r\n" if text else b""
        self._writer.write(head + body)
        await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers, body."""
        lines = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 5)).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers, body

    async def closed(self) -> bool:
        """Tell whether the server closes within two seconds."""
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self._reader.read(), 2) == b""
        return True

    def abort(self) -> None:
        """Go away without a word."""
        self._writer.transport.abort()


@asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    """Connect to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def served(start: Start, serve: Serve) -> AsyncIterator[tuple[Receiver, int]]:
    """Give a receiver with a small limit and little patience, and its port."""
    async with start(max_body_bytes=4096, body_timeout_seconds=QUICK) as receiver:
        await submitted(receiver.ledger)
        yield receiver, await serve(receiver.app)


Served = tuple[Receiver, int]


def head_of(*headers: str, version: str = "1.1", method: str = "POST") -> str:
    """Give the head of a valid callback's request."""
    return "\n".join((f"{method} {path_of()} HTTP/{version}", "Host: ring.example", *headers))


async def test_slow_body_is_408(served: Served) -> None:
    """The whole body has its time; a sender that drips does not get more."""
    async with wire_to(served[1]) as wire:
        await wire.send(head_of("Content-Length: 100"))

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                for _ in range(50):
                    await wire.send("", b"x")
                    await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        status, headers, body = await wire.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert msgspec.json.decode(body) == {"received": False, "error": "timeout"}
        dripping.cancel()
    assert served[0].state.inflight_bytes == 0


async def test_chunked_body_over_the_limit_is_413_and_hints(served: Served) -> None:
    """A body of unknown length is cut off at the limit, its sender still gets the answer, its task becomes due."""
    receiver, port = served
    async with wire_to(port) as wire:
        await wire.send(head_of("Transfer-Encoding: chunked"))
        for _ in range(12):
            await wire.send("", b"400\r\n" + b"x" * 1024 + b"\r\n")
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (413, "close")
        await wire.send("", b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n")
        assert await wire.closed()
    story = await receiver.ledger.story(TASK)
    assert story.task.fetch_at is not None
    assert [kept.verdict for kept in story.callbacks] == ["hint"]
    assert receiver.state.inflight_bytes == 0


async def test_declared_length_over_the_limit_is_413_while_the_body_is_sent(served: Served) -> None:
    """A sender that writes its whole body before it reads sees 413, and not a reset."""
    async with httpx.AsyncClient() as client:
        response = await client.post(f"http://127.0.0.1:{served[1]}{path_of()}", content=b"x" * 3_000_000)
    assert response.status_code == 413


async def test_sender_that_never_ends_is_left(served: Served) -> None:
    """After a 413 the server listens for a moment only."""
    async with wire_to(served[1]) as wire:
        await wire.send(head_of("Content-Length: 99999999"))
        assert (await wire.answer())[0] == 413
        assert await wire.closed()


async def test_chunked_body_within_the_limit_is_taken(served: Served) -> None:
    """Chunks are put together."""
    body = body_of()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    async with wire_to(served[1]) as wire:
        await wire.send(head_of("Transfer-Encoding: chunked"), chunks)
        assert (await wire.answer())[0] == 200
    (event,) = await served[0].ledger.events(Query())
    assert event.body == body


async def test_expect_continue_is_invited_after_the_checks(served: Served) -> None:
    """A valid URL gets 100 and then 200; a forged one gets 401 and is never invited."""
    async with wire_to(served[1]) as wire:
        body = body_of()
        await wire.send(head_of("Expect: 100-continue", f"Content-Length: {len(body)}"))
        assert (await wire.answer())[0] == 100
        await wire.send("", body)
        assert (await wire.answer())[0] == 200
    async with wire_to(served[1]) as wire:
        await wire.send(head_of("Expect: 100-continue", "Content-Length: 9").replace(f"{TASK}.", f"{TASK}.x"))
        assert (await wire.answer())[0] == 401


async def test_sender_that_leaves_in_the_middle_is_counted(served: Served) -> None:
    """Half a callback is nothing: no event, the memory is given back, and the next one is served."""
    receiver, port = served
    async with wire_to(port) as wire:
        await wire.send(head_of("Content-Length: 100"), b"half")
        wire.abort()
    async with wire_to(port) as wire:
        await wire.send(head_of("Content-Length: 2", version="1.0"), b"{}")
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (200, "close")
    assert receiver.state.rejections.totals["qingbo", "disconnected"] == 1
    assert receiver.state.inflight_bytes == 0


async def test_fifty_parallel_duplicates_make_one_event(served: Served) -> None:
    """Fifty connections with the same callback: fifty times 200, one event, forty-nine duplicates."""
    receiver, port = served
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits) as client:
        responses = await asyncio.gather(*(client.post(path_of(), content=body_of()) for _ in range(50)))
    assert {response.status_code for response in responses} == {200}
    assert sum(not response.json()["duplicate"] for response in responses) == 1
    (event,) = await receiver.ledger.events(Query())
    assert event.duplicates == 49
    assert (await receiver.ledger.story(TASK)).task.state is TaskState.COMPLETED


async def test_head_and_pipelined_requests(served: Served) -> None:
    """A connection stays usable after a refusal, and requests that were sent ahead are answered in order."""
    async with wire_to(served[1]) as wire:
        post = head_of("Content-Length: 2").replace("\n", "\r\n") + "\r\n\r\n{}"
        await wire.send(head_of(method="PUT"), (post + post).encode())
        assert [(await wire.answer())[0] for _ in range(3)] == [405, 200, 200]


async def test_server_without_a_secret_says_so(make_settings: MakeSettings, serve: Serve) -> None:
    """A served application runs its lifespan: opened at start, closed at the end."""
    port = await serve(create_app(make_settings(secret=())))
    async with httpx.AsyncClient() as client:
        response = await client.get(f"http://127.0.0.1:{port}/readyz")
    assert response.status_code == 503
    assert "RINGBACK_SECRET" in response.json()["secret"]

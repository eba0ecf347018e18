"""One connection as a transport: what leaves together, when it is made anew, and whose errors it raises."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import httpcore
import httpx
import pytest

from ringback.outbound.single import Single, _Joined

from .site import HERE, head, serving, whole
from .test_downloads import certified

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
BODY = b'{"prompt": "a paper boat"}'


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[httpx.URL]:
    """Serve each connection with a function; gives the URL."""
    listening = await asyncio.start_server(serve, HERE, 0)
    async with listening:
        yield httpx.URL(f"http://{HERE}:{listening.sockets[0].getsockname()[1]}/tasks")


@asynccontextmanager
async def single(url: httpx.URL) -> AsyncIterator[Single]:
    """Open a connection that is kept for a minute."""
    async with Single(url, None, 60.0) as transport:
        yield transport


async def ask(transport: Single, url: httpx.URL, content: bytes | None = None) -> httpx.Response:
    """Send one request and read the answer whole."""
    request = httpx.Request("GET" if content is None else "POST", url, content=content)
    answer = await transport.handle_async_request(request)
    await answer.aread()
    return answer


async def test_head_and_body_leave_together() -> None:
    """The provider gets both by one read: they were one system call."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(1 << 16))
        writer.write(b"".join(whole(b"{}", connection="close")))
        writer.close()

    async with server(serve) as url, single(url) as transport:
        assert (await ask(transport, url, BODY)).content == b"{}"
    assert got[0].startswith(b"POST /tasks HTTP/1.1\r\n")
    assert got[0].endswith(b"\r\n\r\n" + BODY)


async def test_a_large_body_arrives_whole() -> None:
    """One that no socket takes at once is written as the provider reads it."""
    body = bytes(8 << 20)
    length = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal length
        await reader.readuntil(b"\r\n\r\n")
        length = len(await reader.readexactly(len(body)))
        writer.write(b"".join(whole(b"{}", connection="close")))
        writer.close()

    async with server(serve) as url, single(url) as transport:
        assert (await ask(transport, url, body)).status_code == 200
    assert length == len(body)


async def test_a_connection_that_was_closed_while_idle_is_made_anew() -> None:
    """No word came before it was closed, and nothing is written to what nobody reads."""
    closed = asyncio.Event()
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"".join(whole(b"{}")))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with server(serve) as url, single(url) as transport:
        for _ in range(2):
            assert (await ask(transport, url)).content == b"{}"
            await closed.wait()
            closed.clear()
    assert count == 2


async def test_a_kept_connection_is_used_again() -> None:
    """Also where an answer has no length but is chunked."""
    chunked = [head(200, {"transfer-encoding": "chunked"}) + b"2\r\n{}\r\n0\r\n\r\n"]
    async with serving(chunked, keeps=True) as site:
        url = httpx.URL(f"http://{HERE}:{site.port}/tasks")
        async with single(url) as transport:
            for _ in range(3):
                assert (await ask(transport, url)).content == b"{}"
    assert site.connections == 1


async def test_over_tls(tmp_path: Path) -> None:
    """The certificate is checked against the URL's name, and the connection is kept as any other."""
    serves, trusts = certified(["localhost"], tmp_path)
    async with serving(whole(b"{}"), host="localhost", tls=serves, keeps=True) as site:
        url = httpx.URL(f"https://localhost:{site.port}/tasks")
        async with Single(url, trusts, 60.0) as transport:
            for _ in range(2):
                assert (await ask(transport, url, BODY)).content == b"{}"
        assert site.connections == 1
        other = url.copy_with(host=HERE)  # which its certificate does not name
        async with Single(other, trusts, 60.0) as transport:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await ask(transport, other, BODY)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"", httpx.RemoteProtocolError, id="nothing"),
        pytest.param(b"what?\r\n\r\n", httpx.RemoteProtocolError, id="no HTTP"),
        pytest.param(head(200, {"content-length": 9}) + b"half", httpx.RemoteProtocolError, id="half a body"),
    ],
)
async def test_what_breaks_off_is_told_in_words_of_httpx(answer: bytes, error: type[Exception]) -> None:
    """Whoever calls knows httpx's errors only, in the head and in the body alike."""
    async with serving([answer]) as site:
        url = httpx.URL(f"http://{HERE}:{site.port}/tasks")
        async with single(url) as transport:
            with pytest.raises(error):
                await ask(transport, url)


async def test_nobody_there(unused_tcp_port: int) -> None:
    """A connection that could not be made is none that has to be closed, and the next request tries anew."""
    url = httpx.URL(f"http://{HERE}:{unused_tcp_port}/tasks")
    async with single(url) as transport:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                await ask(transport, url)


async def test_an_answer_that_came_before_the_request_was_read() -> None:
    """A provider may refuse at the head and close: what it said is read although the rest could not be written."""

    class Refusing(httpcore.AsyncMockStream):
        """A stream that takes nothing and has an answer."""

        def get_extra_info(self, info: str) -> object:
            return here if info == "socket" else None

        async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 -- httpcore's
            raise httpcore.WriteError("closed")

    here, there = socket.socketpair()
    with here, there:
        stream = _Joined(Refusing([b"HTTP/1.1 413 Too Large\r\n\r\n"]))
        await stream.write(b"POST / HTTP/1.1\r\n\r\n")
        assert (await stream.read(100)).startswith(b"HTTP/1.1 413")
        assert stream.get_extra_info("is_readable") is False
        there.send(b"x")
        select.select([here], [], [], 5)
        assert stream.get_extra_info("is_readable") is True

"""One connection to one origin, as a transport of httpx: httpcore's own, without the pool around it.

A pool looks for a connection, counts and locks; there is nothing to look for where there is one. And httpcore writes
a request's head and body by themselves, which are two system calls here and two turns there: `_Joined` writes both at
once. Connecting, TLS and HTTP are httpcore's. Used by `connections` alone.
"""

import select
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import httpcore
import httpx


class Single(httpx.AsyncBaseTransport):
    """One connection, made when its first request is sent, and anew where the provider has closed it."""

    def __init__(self, url: httpx.URL, trusted: ssl.SSLContext | None, idle_seconds: float) -> None:
        port = url.port or (443 if url.scheme == "https" else 80)
        self._origin = httpcore.Origin(url.raw_scheme, url.raw_host, port)
        self._trusted = trusted
        self._idle_seconds = idle_seconds
        self._connection = self._make()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and give the answer as soon as its head is there."""
        if self._connection.is_closed() or self._connection.has_expired():
            await self._connection.aclose()
            self._connection = self._make()
        origin, target = self._origin, request.url.raw_path
        url = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target)
        content, extensions = request.stream, request.extensions
        given = httpcore.Request(
            request.method, url, headers=request.headers.raw, content=content, extensions=extensions
        )
        with _in_words_of_httpx():
            answer = await self._connection.handle_async_request(given)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), request=request)

    async def aclose(self) -> None:
        """Close it."""
        await self._connection.aclose()

    def _make(self) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            self._origin, ssl_context=self._trusted, keepalive_expiry=self._idle_seconds, network_backend=_Network()
        )


class _Body(httpx.AsyncByteStream):
    """The body of an answer."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _in_words_of_httpx():
            async for chunk in self._answer.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        with _in_words_of_httpx():
            await self._answer.aclose()


class _Network(httpcore.AnyIOBackend):
    """Connects as httpcore does."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Joined(await super().connect_tcp(host, port, timeout, local_address, socket_options))


class _Joined(httpcore.AsyncNetworkStream):
    """Keeps what is written until an answer is waited for, so that head and body leave together."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._held: list[bytes] = []
        self._patience: float | None = None
        self._readable = select.poll()
        self._readable.register(stream.get_extra_info("socket"), select.POLLIN)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._held:
            held, self._held = b"".join(self._held), []
            with suppress(httpcore.WriteError):  # the provider may have answered before it closed
                await self._stream.write(held, self._patience)
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer:
            self._held.append(buffer)
            self._patience = timeout

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Joined(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked before each request; the socket itself is costly to come by
            return bool(self._readable.poll(0))
        return self._stream.get_extra_info(info)


@contextmanager
def _in_words_of_httpx() -> Iterator[None]:
    """Raise httpx's errors for httpcore's, which have the same names."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise cast("type[httpx.TransportError]", getattr(httpx, type(error).__name__))(str(error)) from error

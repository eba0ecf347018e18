"""Requests to providers.

It adds the key, keeps the limits (total time, requests at once, size of the answer) and turns every failure into
`Unreachable`, which says whether the provider may have seen the request. It never follows a redirect, never retries
and never reads what an answer means. Called by `submitter.sending` and `submitter.poller`.

No message here holds a key or a whole URL. httpx itself logs URLs at INFO: keep its logger at WARNING.
"""

import asyncio
import functools
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from ringback.errors import SettingsError, Unreachable
from ringback.outbound.connections import Connection, Connections, Transport
from ringback.providers import Provider, Request, Response
from ringback.settings import Settings, variable_name

MAX_ANSWER_BYTES = 4 << 20
CONNECT_SECONDS = 10.0
MAX_PORT = 65535

# What ended before anything was written to the provider, and what we say of it.
NOT_SENT: dict[type[Exception], str] = {
    httpx.ConnectTimeout: "no connection in time",
    httpx.ConnectError: "no connection",
    httpx.PoolTimeout: "no free connection",
}
SENT: dict[type[Exception], str] = {
    httpx.ReadTimeout: "no answer in time",
    httpx.WriteTimeout: "the request could not be written in time",
    httpx.RemoteProtocolError: "the connection broke off before the answer was whole",
    httpx.ReadError: "the connection broke off",
    httpx.WriteError: "the connection broke off",
    httpx.DecodingError: "the answer could not be decoded",
}


def request_url(settings: Settings, provider: Provider, request: Request) -> str:
    """Give where a request goes: the configured base URL, with the provider's own path where it has none."""
    base = (settings.provider(provider.name).base_url or provider.base_url).rstrip("/")
    if not urlsplit(base).path:
        base += urlsplit(provider.base_url).path.rstrip("/")
    return base + request.path


def require_key(settings: Settings, provider: Provider) -> str:
    """Give the provider's API key.

    Raises:
        SettingsError: it is missing, or cannot be sent in a header; names the setting.
    """
    name = variable_name((provider.name, "api_key"))
    key = settings.provider(provider.name).api_key
    if key is None:
        raise SettingsError(f"{provider.name} needs an API key: set {name}")
    if not key.isascii() or not key.isprintable():
        raise SettingsError(f"{name}: expected printable ASCII characters only; copy the key again")
    return key


class Outbound:
    """Sends requests to providers. Use it as an async context manager, within one loop."""

    def __init__(self, settings: Settings, *, transport: Transport | None = None) -> None:
        self._settings = settings
        self._connections = Connections(transport)
        total = settings.request_timeout_seconds
        # A host that swallows packets shall end as "not sent", well before the bound on the whole exchange; each byte
        # by itself needs none beside that.
        self._timeout = httpx.Timeout(None, connect=min(CONNECT_SECONDS, total / 2)).as_dict()
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.provider_concurrency)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connections.close()

    def check(self, provider: Provider) -> None:
        """See to it that requests to this provider can be made at all.

        Raises:
            SettingsError: its key is missing or its base URL is no URL; names the setting.
        """
        self._authorization(provider)
        self._url(provider, Request(method="GET", path="/"))

    async def send(self, provider: Provider, request: Request) -> Response:
        """Send one request, wait for the whole answer, whatever its status.

        Raises:
            SettingsError: the key is missing or the base URL is no URL; nothing was sent.
            Unreachable: there was no whole answer.
        """
        built = self._build(provider, request)
        async with self._slots[provider.name]:
            try:
                # The bound on the whole exchange: httpx's own timeouts start anew with every byte.
                async with asyncio.timeout(self._settings.request_timeout_seconds):
                    return await self._exchange(provider, built)
            except TimeoutError:
                raise _unreachable(provider, built, "no whole answer in time", sent=True) from None
            except (httpx.HTTPError, OSError) as error:
                raise _explain(provider, built, error) from None

    def _build(self, provider: Provider, request: Request) -> httpx.Request:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # so that a small answer cannot unfold into a huge one
            "User-Agent": "ringback",
            **request.headers,
            **self._authorization(provider),
        }
        url, extensions = self._url(provider, request), {"timeout": self._timeout}
        return httpx.Request(request.method, url, content=request.body, headers=headers, extensions=extensions)

    def _authorization(self, provider: Provider) -> Mapping[str, str]:
        return provider.authorization(require_key(self._settings, provider), datetime.now(UTC))

    def _url(self, provider: Provider, request: Request) -> httpx.URL:
        return _parse(request_url(self._settings, provider, request), variable_name((provider.name, "base_url")))

    async def _exchange(self, provider: Provider, request: httpx.Request) -> Response:
        connection = self._connections.take(request.url)
        try:
            response = await self._read(provider, request, connection)
        except BaseException:
            await self._connections.drop(connection)
            raise
        await self._connections.give_back(connection)
        return response

    async def _read(self, provider: Provider, request: httpx.Request, connection: Connection) -> Response:
        answer = await connection.transport.handle_async_request(request)
        try:
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise _unreachable(provider, request, f"an answer above {MAX_ANSWER_BYTES >> 20} MiB", sent=True)
            return Response(status=answer.status_code, body=bytes(body), headers=dict(answer.headers))
        finally:
            await answer.aclose()


@functools.lru_cache(maxsize=64)
def _parse(url: str, setting: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SettingsError(f"{setting}: expected an http(s) URL ({error})") from None
    if parsed.port is not None and parsed.port > MAX_PORT:  # httpx would find out only when it connects
        raise SettingsError(f"{setting}: expected a port up to {MAX_PORT}")
    return parsed


def _unreachable(provider: Provider, request: httpx.Request, what: str, *, sent: bool) -> Unreachable:
    return Unreachable(f"{provider.name}: {request.method}: {what}", sent=sent)


def _explain(provider: Provider, request: httpx.Request, error: Exception) -> Unreachable:
    """Say what happened in our own words: a protocol error's text may quote a header, and so the key."""
    if (what := NOT_SENT.get(type(error))) is not None:
        return _unreachable(provider, request, f"{what} to {request.url.host}", sent=False)
    return _unreachable(provider, request, SENT.get(type(error), type(error).__name__), sent=True)

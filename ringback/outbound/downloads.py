"""Fetching results: one GET, streamed, from where it stopped, within limits, and from public addresses only.

A host is resolved once, all of its addresses are judged by `guard`, and the connection goes to one of them by its
number, while the Host header and the certificate are of the name. Each redirect is read, resolved and judged anew.
Nothing of ours goes along: no key, no cookie, no proxy of the environment. There is no httpx client here, only its
transport, which knows none of them and logs no URL. No connection is kept: one whose certificate was checked for one
name must not serve another at the same address.

Provider requests do not pass here: they go where the user's own configuration says. Whoever downloads decides how
many at once. No message holds more of a URL than its host.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpx

from ringback.errors import DownloadError, DownloadExpired, DownloadInterrupted, DownloadRefused
from ringback.outbound.connections import Transport
from ringback.outbound.guard import Address, Flaw, Target, follow, permit, read_target
from ringback.outbound.requests import NOT_SENT, SENT
from ringback.retry import retry_after_seconds
from ringback.settings import Settings

Resolve = Callable[[str, int], Awaitable[Collection[str]]]

RESOLVE_SECONDS = 10.0
CONNECT_SECONDS = 10.0  # per address
IDLE_SECONDS = 30.0  # without a byte
MAX_ADDRESSES = 4  # that are tried
MAX_REDIRECTS = 5
MAX_VALIDATOR = 1000
REDIRECTS = frozenset({301, 302, 303, 307, 308})
TEMPORARY = frozenset({408, 425, 429})  # and all that is not 4xx
LIMITS = httpx.Limits(max_keepalive_connections=0)  # else a connection of one name would serve another
OK, PARTIAL, UNSATISFIABLE = 200, 206, 416

CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>\d{1,18})-(?P<last>\d{1,18})|\*)/(?P<total>\d{1,18}|\*)")
WHAT: dict[type[Exception], str] = {**NOT_SENT, **SENT, socket.gaierror: "its name has no address"}


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system for all addresses of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The beginning of a result that is there already, and how to tell that the rest belongs to it."""

    size: int
    validator: str  # an ETag or a date, for If-Range
    length: int | None = None  # of the whole


class Download:
    """A result that is arriving: iterate over it for its bytes, in chunks of at most 64 KiB or so."""

    def __init__(
        self, host: str, answer: httpx.Response, *, part: Part | None, length: int | None, deadline: float, most: int
    ) -> None:
        headers = answer.headers
        self.host = host  # that answered, after all redirects
        self.status = answer.status_code
        self.start = part.size if part else 0  # where the first chunk belongs
        self.position = self.start  # where the next one does
        self.length = length  # of the whole result, where it is known
        whole = answer.status_code == UNSATISFIABLE  # then these are of a page that says so
        self.content_type: str | None = None if whole else headers.get("content-type")
        self.content_encoding: str | None = None if whole else headers.get("content-encoding")  # nothing is decoded
        self.etag: str | None = headers.get("etag")
        self.last_modified: str | None = headers.get("last-modified")
        self.validator = part.validator if part else _validator(answer)
        self._chunks = None if whole else answer.aiter_raw()
        self._deadline = deadline
        self._most = most

    @property
    def part(self) -> Part | None:
        """What to give to `Downloads.open` to go on from here; None where a new beginning is the only safe way."""
        if self.validator is None or self.position == 0:
            return None
        return Part(size=self.position, validator=self.validator, length=self.length)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Give the next chunk.

        Raises:
            DownloadRefused: it is larger than allowed.
            DownloadInterrupted: there is no more, and it is not whole.
        """
        chunk = await self._read()
        if chunk is None:
            if self.length is not None and self.position < self.length:
                raise _interrupted(self.host, f"{self.position} bytes of {self.length} came")
            raise StopAsyncIteration
        if self.position + len(chunk) > self._most:
            raise _too_large(self.host, self._most)
        if self.length is not None and self.position + len(chunk) > self.length:
            raise _interrupted(self.host, f"more than the {self.length} bytes came that were announced")
        self.position += len(chunk)
        return chunk

    async def _read(self) -> bytes | None:
        if self._chunks is None:
            return None
        with _explained(self.host):
            async with asyncio.timeout_at(self._deadline):
                return await anext(self._chunks, None)


class Downloads:
    """Fetches results. Use it as an async context manager, within one loop.

    `transport` and `resolve` are what tests put in the network's place.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        transport: Transport | None = None,
        resolve: Resolve = resolve,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._resolve = resolve
        self._timeout = httpx.Timeout(idle_seconds, connect=min(CONNECT_SECONDS, idle_seconds))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    @asynccontextmanager
    async def open(self, url: str, *, part: Part | None = None) -> AsyncIterator[Download]:
        """Begin to fetch a result, or go on behind a part of it where it still is the same.

        The whole download may take `results_timeout_seconds`, from here on. Whoever takes long with the chunks uses
        that time up too, but is never interrupted in between.

        Raises:
            DownloadRefused: it is not fetched from there, or is too large.
            DownloadExpired: this URL does not give it; a fresh one may.
            DownloadInterrupted: it may work later.
        """
        deadline = asyncio.get_running_loop().time() + self._settings.results_timeout_seconds
        target, answer = await self._follow(read_target(url), part, deadline)
        if part is not None and answer.status_code in (PARTIAL, UNSATISFIABLE) and not _continues(answer, part):
            await _close(answer)
            part = None  # it has become another one, or the server cannot do this: from the beginning
            target, answer = await self._follow(read_target(url), None, deadline)
        try:
            yield self._accept(target, answer, part, deadline)
        finally:
            await _close(answer)

    async def _follow(self, target: Target, part: Part | None, deadline: float) -> tuple[Target, httpx.Response]:
        """Get an answer that is no redirect; gives also who gave it."""
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._get(target, part, deadline)
            location = answer.headers.get("location")
            if answer.status_code not in REDIRECTS or not location:
                return target, answer
            await _close(answer)
            target = follow(target, location)
        raise DownloadRefused(f"{target.host}: more than {MAX_REDIRECTS} redirects", flaw=Flaw.REDIRECT)

    async def _get(self, target: Target, part: Part | None, deadline: float) -> httpx.Response:
        """Resolve, judge, connect and ask."""
        with _explained(target.host):
            async with asyncio.timeout_at(deadline):
                addresses = permit(target, await self._addresses(target), self._settings.allow_private)
                if not addresses:
                    raise _interrupted(target.host, WHAT[socket.gaierror])
                *others, last = addresses[:MAX_ADDRESSES]
                for address in others:
                    with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                        return await self._send(target, address, part)
                return await self._send(target, last, part)

    async def _addresses(self, target: Target) -> Collection[str | Address]:
        if target.address is not None:
            return [target.address]
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                return list(await self._resolve(target.host, target.port))
        except TimeoutError:
            raise _interrupted(target.host, "its name was not resolved in time") from None

    async def _send(self, target: Target, address: Address, part: Part | None) -> httpx.Response:
        headers = {
            "Host": target.authority,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": "ringback",
        }
        if part is not None:
            headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
        number = f"[{address}]" if address.version == 6 else str(address)
        extensions = {
            "timeout": self._timeout.as_dict(),
            "sni_hostname": target.host,  # what the certificate is checked for, too
            "target": target.path.encode("ascii"),  # as it was given: a signature may cover each of its bytes
        }
        url = f"{target.scheme}://{number}:{target.port}/"
        request = httpx.Request("GET", url, headers=headers, extensions=extensions)
        return await self._open().handle_async_request(request)

    def _open(self) -> Transport:
        """Make the transport when it is first needed: loading the certificates costs time and memory."""
        if self._transport is None:
            self._transport = httpx.AsyncHTTPTransport(trust_env=False, limits=LIMITS)
        return self._transport

    def _accept(self, target: Target, answer: httpx.Response, part: Part | None, deadline: float) -> Download:
        """Take an answer that holds the result, or the rest of it.

        Raises:
            DownloadError: it does not, or that is too large.
        """
        if part is not None and answer.status_code in (PARTIAL, UNSATISFIABLE):
            length = _total(answer) or part.length
        elif answer.status_code == OK:
            part, length = None, _content_length(answer)
        else:
            raise _failure(target.host, answer)
        most = self._settings.results_max_bytes
        if max(part.size if part else 0, length or 0) > most:
            raise _too_large(target.host, most)
        return Download(target.host, answer, part=part, length=length, deadline=deadline, most=most)


def _continues(answer: httpx.Response, part: Part) -> bool:
    """Tell whether an answer is the rest of a part, or says that there is none."""
    found = CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    same = "etag" if part.validator.startswith('"') else "last-modified"  # which a 206 may leave out
    if not found or answer.headers.get(same) not in (None, part.validator):
        return False
    total = _total(answer)
    if answer.status_code == UNSATISFIABLE:
        return total == part.size and part.length in (None, total)
    starts = found["first"] is not None and int(found["first"]) == part.size
    return starts and (total is None or part.length in (None, total))


def _total(answer: httpx.Response) -> int | None:
    """Give the length of the whole, of which this is a range."""
    found = CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    return int(found["total"]) if found and found["total"] != "*" else None


def _content_length(answer: httpx.Response) -> int | None:
    text = answer.headers.get("content-length", "")
    if "transfer-encoding" in answer.headers or not re.fullmatch(r"[0-9]{1,18}", text):
        return None
    return int(text)


def _validator(answer: httpx.Response) -> str | None:
    """Give what tells this version from others byte for byte, for If-Range (RFC 9110, 13.1.5): no weak ETag."""
    etag: str = answer.headers.get("etag", "")
    text: str = answer.headers.get("last-modified", "")
    if etag.startswith('"') and etag.isascii() and len(etag) <= MAX_VALIDATOR:
        return etag
    return text if len(text) <= MAX_VALIDATOR and _is_strong(text, answer.headers.get("date", "")) else None


def _is_strong(modified: str, now: str) -> bool:
    """Tell whether nothing else can have been written in the second of a Last-Modified (RFC 9110, 8.8.2.2)."""
    try:
        return parsedate_to_datetime(now) - parsedate_to_datetime(modified) >= timedelta(seconds=1)
    except (ValueError, TypeError):  # no date, or only one of them with a zone
        return False


def _failure(host: str, answer: httpx.Response) -> DownloadError:
    """Give the error that a status means. Of 4xx, 400 is how Google's storage and Amazon's tokens say "expired"."""
    status = answer.status_code
    if 400 <= status < 500 and status not in TEMPORARY:
        return DownloadExpired(f"{host}: answered {status}; a fresh URL may help", status=status)
    wait = retry_after_seconds(answer.headers.get("retry-after"))
    return DownloadInterrupted(f"{host}: answered {status}", retry_after_seconds=wait)


@contextmanager
def _explained(host: str) -> Iterator[None]:
    """Say what went wrong in our own words: the text of a protocol error may quote a URL."""
    try:
        yield
    except TimeoutError:
        raise _interrupted(host, "not whole in time") from None
    except (httpx.HTTPError, OSError) as error:
        raise _interrupted(host, WHAT.get(type(error), type(error).__name__)) from None


def _interrupted(host: str, what: str) -> DownloadInterrupted:
    return DownloadInterrupted(f"{host}: {what}")


def _too_large(host: str, most: int) -> DownloadRefused:
    return DownloadRefused(f"{host}: larger than {most} bytes (RINGBACK_RESULTS_MAX_BYTES)", flaw=Flaw.SIZE)


async def _close(answer: httpx.Response) -> None:
    with suppress(httpx.HTTPError, OSError):  # it is of no use to us any more
        await answer.aclose()

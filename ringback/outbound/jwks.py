"""The public keys that providers sign with: fetched from a fixed place, kept, and renewed in the background.

A request's fate never waits for a fetch: the receiver gets what is there, and answers 503 while it cannot know. Called
by `receiver.web`; the scheme in `providers.signatures` reads what was fetched.

Each fetch has a thread and an event loop of its own, at most one a minute per provider. So loading httpx and the
certificates does not hold up callbacks, and a function adapter may end its loop with the request that asked.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from ringback.errors import Unreadable
from ringback.providers import Provider
from ringback.providers.signatures import Key
from ringback.providers.signatures.ed25519 import read_jwks
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.outbound.connections import Transport

log = structlog.get_logger("ringback.outbound")

FETCH_SECONDS = 3.0  # for the whole exchange
MAX_SET_BYTES = 64 << 10
PAUSE = timedelta(minutes=1)  # between the starts of two fetches of one provider; a set this young is fresh
RENEW_AFTER = timedelta(hours=12)
KEEP_FOR = timedelta(hours=24)  # PROVIDERS C: both providers allow a day
HERE = ("127.0.0.1", "::1", "localhost")

Keys = tuple[Key, ...]


def utc_now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)


class NoKeys(Exception):
    """Why a fetch gave no keys, in our words."""


class _Held:
    """What is held of one provider. A fetch hands over its result in a future: only `KeySets.keys` takes it.

    A request is so judged by the set that it was verified with, even where the next one arrives meanwhile.
    """

    __slots__ = ("failed", "fetched_at", "fetching", "keys", "started_at")

    def __init__(self) -> None:
        self.keys: Keys | None = None
        self.fetched_at: datetime | None = None  # when the fetch that gave them began
        self.started_at: datetime | None = None  # when the last fetch began
        self.failed = False  # how the last fetch ended
        self.fetching: Future[Keys | None] | None = None

    def take(self) -> None:
        """Take the result of a fetch that has ended; what was there stays where it failed."""
        if self.fetching is None or not self.fetching.done():
            return
        found, self.fetching = self.fetching.result(), None
        self.failed = found is None
        if found is not None:
            self.keys, self.fetched_at = found, self.started_at


class KeySets:
    """The key sets of all providers. `timeout_seconds` bounds one fetch."""

    def __init__(
        self,
        settings: Settings,
        *,
        transport: "Transport | None" = None,
        clock: Callable[[], datetime] = utc_now,
        timeout_seconds: float = FETCH_SECONDS,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._held: dict[str, _Held] = {}

    def keys(self, provider: Provider) -> Keys | None:
        """Give the newest set; None while none was ever fetched, which starts a fetch.

        A set older than twelve hours is renewed in the background and used meanwhile. One older than a day is not:
        None until its renewal has ended; only where that fails it is used on.
        """
        held = self._held.setdefault(provider.name, _Held())
        held.take()
        now = self._clock()
        if not _is_within(held.fetched_at, now, RENEW_AFTER):
            self._start(provider, held, now)
        if held.fetching is not None and not held.failed and not _is_within(held.fetched_at, now, KEEP_FOR):
            return None
        return held.keys

    def doubts(self, provider: Provider) -> bool:
        """Tell, after a signature that did not fit what `keys` gave, whether a fresh set could still hold its key.

        True starts a fetch where one is allowed (at most one a minute per provider), and means: answer 503. It stays
        True while that is under way, and where it failed until the next may start: nothing is known then. False means
        that the set is of this minute: the request is a forgery. A forged flood gets 503 for three seconds of each
        minute, and does no harm to requests that are signed well.
        """
        held = self._held.setdefault(provider.name, _Held())
        return held.fetching is not None or self._start(provider, held, self._clock()) or held.failed

    async def close(self) -> None:
        """Wait for what is being fetched, which ends within three seconds. What is held stays, for a later loop."""
        waiting = [asyncio.wrap_future(held.fetching) for held in self._held.values() if held.fetching is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=self._timeout_seconds + 1)
        for one in waiting:
            one.cancel()

    def _start(self, provider: Provider, held: _Held, now: datetime) -> bool:
        """Start a fetch, unless one is under way or began within the last minute."""
        if held.fetching is not None or _is_within(held.started_at, now, PAUSE):
            return False
        held.failed = held.failed and _is_within(held.started_at, now, RENEW_AFTER)  # later it says nothing any more
        held.started_at, held.fetching = now, Future()
        held.fetching.set_running_or_notify_cancel()  # from here on nobody can cancel it
        url = self._settings.provider(provider.name).jwks_url or provider.jwks_url or ""
        work = (provider.name, url, held.fetching)
        try:
            threading.Thread(target=self._fetch, args=work, name=f"keys-{provider.name}", daemon=True).start()
        except RuntimeError as error:  # no more threads
            _give_up(provider.name, held.fetching, error)
        return True

    def _fetch(self, name: str, url: str, result: "Future[Keys | None]") -> None:
        """Fetch a set and hand it over; None where that fails, however it fails."""

        async def run() -> None:
            result.set_result(await self._read(name, url))

        try:
            asyncio.run(run())  # may return much later, where a name server hangs: hence the result is set inside
        except Exception as error:  # no loop could be made or ended
            _give_up(name, result, error)

    async def _read(self, name: str, url: str) -> Keys | None:
        try:
            keys = await fetch_keys(url, transport=self._transport, timeout_seconds=self._timeout_seconds)
        except NoKeys as error:
            log.warning("keys.fetch_failed", provider=name, reason=str(error))
            return None
        log.info("keys.fetched", provider=name, count=len(keys))
        return keys


async def fetch_keys(url: str, *, transport: "Transport | None" = None, timeout_seconds: float = FETCH_SECONDS) -> Keys:
    """Fetch one key set, once. Besides the receiver, `ringback providers test` does so.

    Raises:
        NoKeys: whatever went wrong; says what.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            return read_jwks(await _get(url, transport))
    except Unreadable as error:
        raise NoKeys(str(error)) from None
    except TimeoutError:
        raise NoKeys(f"no whole answer within {timeout_seconds:g} s") from None
    except NoKeys:
        raise
    except Exception as error:  # whatever a stranger's server, a proxy or the network does; the text may quote it
        raise NoKeys(type(error).__name__) from error


def _give_up(name: str, result: "Future[Keys | None]", error: Exception) -> None:
    if not result.done():
        log.warning("keys.fetch_failed", provider=name, reason=type(error).__name__)
        result.set_result(None)


async def _get(url: str, transport: "Transport | None") -> bytes:
    """Get a document of at most 64 KiB: no redirects, no credentials, nothing from the environment.

    Raises:
        NoKeys: the answer is too large or not 200, or the URL is not https or holds a password.
        httpx.HTTPError: there was no answer.
    """
    parts = urlsplit(url)
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in HERE)
    if not safe or "@" in parts.netloc:
        raise NoKeys("expected an https URL without a password")
    import httpx

    # The encoded bytes are read: what was compressed although we asked for identity is no JSON, and unfolds nowhere.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "ringback"}
    async with (
        httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False, timeout=None) as client,  # noqa: S113 -- the caller bounds the whole exchange
        client.stream("GET", url, headers=headers) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise NoKeys(f"expected 200, got {answer.status_code}")
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MAX_SET_BYTES:
                raise NoKeys(f"an answer above {MAX_SET_BYTES >> 10} KiB")
        return bytes(body)


def _is_within(then: datetime | None, now: datetime, span: timedelta) -> bool:
    """Tell whether a moment lies in the span that ends now; a clock that was set back says no."""
    return then is not None and timedelta(0) <= now - then < span

"""The key sets of providers: fetched from one place, within limits, kept, renewed, and never asked for in a flood."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from ringback.outbound.jwks import MAX_SET_BYTES, KeySets
from ringback.providers import Provider
from ringback.providers.signatures.ed25519 import public_of
from ringback.settings import ProviderSettings, Settings

PUBLIC, NEWER = public_of(b"\x01" * 32), public_of(b"\x02" * 32)
URL = "https://keys.example/.well-known/jwks.json"
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class Acme(Provider):
    """Publishes its keys."""

    name = "acme"
    base_url = "https://acme.example"
    jwks_url = URL


ACME = Acme()


def jwks(*publics: bytes) -> bytes:
    """Give a key set."""
    entries = [{"kty": "OKP", "crv": "Ed25519", "x": urlsafe_b64encode(key).rstrip(b"=").decode()} for key in publics]
    return json.dumps({"keys": entries}).encode()


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 1000):
        yield body[at : at + 1000]


class Site:
    """Where keys are published: counts the requests, and waits with its answer until it may give it."""

    def __init__(self, body: bytes = b"", status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.body = body or jwks(PUBLIC)
        self.status = status
        self.headers = headers
        self.error: Exception | None = None
        self.requests: list[httpx.Request] = []
        self.open = threading.Event()
        self.open.set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.requests.append(request)
        await asyncio.to_thread(self.open.wait, 10)
        if self.error is not None:
            raise self.error
        return httpx.Response(self.status, content=_chunks(self.body), headers=self.headers)


class Rig:
    """Key sets with a clock that is set by hand."""

    def __init__(self, site: Site, **more: Any) -> None:
        self.site = site
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        settings = more.pop("settings", Settings())
        self.sets = KeySets(settings, transport=httpx.MockTransport(site), clock=lambda: self.now, **more)

    def keys(self, provider: Provider = ACME) -> list[bytes] | None:
        """Give what the receiver would verify with."""
        found = self.sets.keys(provider)
        return None if found is None else [key.material for key in found]

    async def settled(self) -> list[bytes] | None:
        """Give the keys once nothing is being fetched."""
        await self.sets.close()
        return self.keys()

    def doubts(self) -> bool:
        """Ask as the receiver does: with the keys first."""
        self.sets.keys(ACME)
        return self.sets.doubts(ACME)


async def test_the_first_request_starts_a_fetch_and_does_not_wait() -> None:
    """Nothing is known until the set is there; then it is used, and no second fetch was made."""
    rig = Rig(Site())
    rig.site.open.clear()
    assert rig.keys() is None
    assert rig.keys() is None
    assert rig.doubts()
    rig.site.open.set()
    assert await rig.settled() == [PUBLIC]
    assert len(rig.site.requests) == 1


async def test_a_fetch_is_logged_once() -> None:
    """People see who published how many keys."""
    rig = Rig(Site(jwks(PUBLIC, NEWER)))
    with capture_logs() as logs:
        rig.keys()
        await rig.settled()
    assert logs == [{"event": "keys.fetched", "log_level": "info", "provider": "acme", "count": 2}]


async def test_the_request_is_plain() -> None:
    """It goes to the provider's URL with no credentials, though an API key is configured."""
    settings = Settings(providers={"acme": ProviderSettings(api_key="sk-private")})
    rig = Rig(Site(), settings=settings)
    rig.keys()
    await rig.settled()
    (request,) = rig.site.requests
    assert (request.method, str(request.url)) == ("GET", URL)
    assert not {"authorization", "cookie"} & set(request.headers)
    assert request.headers["accept-encoding"] == "identity"


async def test_the_configured_url_wins() -> None:
    """RINGBACK_<PROVIDER>_JWKS_URL is asked in place of the documented one."""
    there = "http://127.0.0.1:9/keys.json"
    rig = Rig(Site(), settings=Settings(providers={"acme": ProviderSettings(jwks_url=there)}))
    rig.keys()
    assert await rig.settled() == [PUBLIC]
    assert str(rig.site.requests[0].url) == there


class Plain(Acme):
    name = "plain"
    jwks_url = "http://keys.example/jwks.json"


class Private(Acme):
    name = "private"
    jwks_url = "https://user:private@keys.example/jwks.json"


class Nowhere(Provider):
    name = "nowhere"
    base_url = "https://nowhere.example"


@pytest.mark.parametrize("provider", [Plain(), Private(), Nowhere()])
async def test_only_https_is_asked(provider: Provider) -> None:
    """Keys that anybody on the way could exchange are not fetched; a provider without a place has none."""
    rig = Rig(Site())
    with capture_logs() as logs:
        assert rig.keys(provider) is None
        await rig.sets.close()
    assert rig.keys(provider) is None
    assert (logs[0]["event"], logs[0]["reason"]) == ("keys.fetch_failed", "expected an https URL without a password")
    assert rig.site.requests == []


def _redirect(site: Site) -> None:
    site.status, site.headers = 302, {"location": "https://elsewhere.example/private"}


def _too_large(site: Site) -> None:
    site.body = jwks(PUBLIC).ljust(MAX_SET_BYTES + 1)


def _packed(site: Site) -> None:
    site.body, site.headers = gzip.compress(jwks(PUBLIC)), {"content-encoding": "gzip"}


def _set(name: str, value: object) -> Callable[[Site], None]:
    return lambda site: setattr(site, name, value)


FAILURES = [
    (_redirect, "expected 200, got 302"),
    (_too_large, "an answer above 64 KiB"),
    (_packed, "expected a key set as JSON, got text that is not valid JSON in UTF-8"),
    (_set("status", 500), "expected 200, got 500"),
    (_set("status", 204), "expected 200, got 204"),
    (_set("body", b"<html>private</html>"), "expected a key set as JSON, got text that is not valid JSON in UTF-8"),
    (_set("body", b'{"keys": []}'), "expected a key set with an Ed25519 key, got 0 keys of which none is usable"),
    (_set("error", httpx.ConnectError("private")), "ConnectError"),
    (_set("error", ZeroDivisionError("private")), "ZeroDivisionError"),
]


@pytest.mark.parametrize(("break_it", "reason"), FAILURES)
async def test_a_failed_fetch_is_told_and_keeps_the_last_good_set(
    break_it: Callable[[Site], None], reason: str
) -> None:
    """Whatever comes in place of a set, the old one stays; the log says why, and none of what came."""
    rig = Rig(Site())
    rig.keys()
    await rig.settled()
    break_it(rig.site)
    rig.now += 13 * HOUR
    with capture_logs() as logs:
        assert rig.keys() == [PUBLIC]
        assert await rig.settled() == [PUBLIC]
    assert logs == [{"event": "keys.fetch_failed", "log_level": "warning", "provider": "acme", "reason": reason}]
    assert len(rig.site.requests) == 2


async def test_the_largest_set_is_taken() -> None:
    """The limit belongs to what is allowed."""
    rig = Rig(Site(jwks(PUBLIC).ljust(MAX_SET_BYTES)))
    rig.keys()
    assert await rig.settled() == [PUBLIC]


async def test_a_slow_answer_is_given_up() -> None:
    """The limit holds for the whole exchange."""
    rig = Rig(Site(), timeout_seconds=0.05)
    rig.site.open.clear()
    with capture_logs() as logs:
        rig.keys()
        await rig.sets.close()
    assert logs[0]["reason"] == "no whole answer within 0.05 s"
    assert rig.keys() is None
    rig.site.open.set()


async def test_a_set_is_renewed_in_the_background() -> None:
    """Half a day old it is still used, while a newer one is fetched; the newer one follows."""
    rig = Rig(Site())
    rig.keys()
    await rig.settled()
    rig.now += 12 * HOUR - SECOND
    assert await rig.settled() == [PUBLIC]
    assert len(rig.site.requests) == 1
    rig.site.body = jwks(NEWER)
    rig.now += SECOND
    assert rig.keys() == [PUBLIC]
    assert await rig.settled() == [NEWER]


async def test_a_set_older_than_a_day_waits_for_its_renewal() -> None:
    """Providers allow a day: what was withdrawn meanwhile is not accepted where that can be known."""
    rig = Rig(Site())
    rig.keys()
    await rig.settled()
    rig.site.body = jwks(NEWER)
    rig.now += 24 * HOUR
    assert rig.keys() is None
    assert await rig.settled() == [NEWER]


async def test_a_set_older_than_a_day_is_used_on_where_it_cannot_be_renewed() -> None:
    """A provider's broken page must not turn its callbacks away, not even while it is tried again."""
    rig = Rig(Site())
    rig.keys()
    await rig.settled()
    rig.site.status = 500
    rig.now += 30 * HOUR
    assert rig.keys() is None
    assert await rig.settled() == [PUBLIC]
    rig.now += 61 * SECOND
    rig.site.open.clear()
    assert rig.keys() == [PUBLIC]
    rig.site.open.set()
    assert await rig.settled() == [PUBLIC]
    assert len(rig.site.requests) == 3


async def test_an_old_failure_says_nothing_about_today() -> None:
    """A failure long ago does not let a set older than a day pass."""
    rig = Rig(Site())
    rig.keys()
    await rig.settled()
    rig.site.status = 500
    rig.now += HOUR
    assert rig.doubts()
    await rig.settled()
    rig.now += 30 * HOUR
    assert rig.keys() is None
    await rig.settled()


async def test_a_doubt_within_the_minute_of_a_fetch_is_a_forgery() -> None:
    """The set is fresh: no fetch is started, and the answer is 401."""
    rig = Rig(Site())
    rig.keys()
    await rig.settled()
    rig.now += 59 * SECOND
    assert not rig.doubts()
    assert len(rig.site.requests) == 1


async def test_a_doubt_starts_one_fetch_and_ends_with_it() -> None:
    """While it is under way nothing is decided; the new key is there afterwards, and what still fails is forged."""
    rig = Rig(Site())
    rig.keys()
    await rig.settled()
    rig.now += 60 * SECOND
    rig.site.open.clear()
    rig.site.body = jwks(PUBLIC, NEWER)
    assert [rig.doubts() for _ in range(5)] == [True] * 5
    rig.site.open.set()
    assert await rig.settled() == [PUBLIC, NEWER]
    assert not rig.doubts()
    assert len(rig.site.requests) == 2


async def test_a_flood_asks_once_a_minute() -> None:
    """Ten forgeries a second for five minutes cost five fetches."""
    rig = Rig(Site())
    rig.keys()
    await rig.settled()
    doubted = 0
    for _ in range(300):
        rig.now += SECOND
        rig.site.open.clear()
        doubted += sum(rig.doubts() for _ in range(10))
        rig.site.open.set()
        await rig.sets.close()
    assert len(rig.site.requests) == 1 + 5
    assert doubted == 5 * 10


async def test_a_flood_asks_once_a_minute_where_the_fetch_fails() -> None:
    """While the freshness of a set cannot be established nothing is called a forgery, and the pace is kept."""
    rig = Rig(Site(status=500))
    for _ in range(180):
        assert rig.keys() is None
        assert rig.doubts()
        await rig.sets.close()
        rig.now += SECOND
    assert len(rig.site.requests) == 3


async def test_a_set_that_arrives_meanwhile_decides_nothing() -> None:
    """A request is judged by the keys that it was verified with, even where a newer set is there a moment later."""
    rig = Rig(Site())
    rig.keys()
    await rig.settled()
    rig.now += 61 * SECOND
    assert rig.doubts()
    rig.sets.keys(ACME)
    await rig.sets.close()  # the fetch ends between the look-up of the keys and the doubt
    assert rig.sets.doubts(ACME)
    assert not rig.doubts()


async def test_a_clock_that_was_set_back_stops_nothing() -> None:
    """A fetch in the future is no reason to wait for it."""
    rig = Rig(Site())
    rig.keys()
    await rig.settled()
    rig.now -= 5 * HOUR
    assert rig.doubts()
    await rig.settled()
    assert len(rig.site.requests) == 2
    assert not rig.doubts()


async def test_providers_have_sets_of_their_own() -> None:
    """One provider's flood holds up no other's keys."""

    class Other(Acme):
        name = "other"

    rig = Rig(Site(status=500))
    rig.keys()
    await rig.settled()
    rig.site.status = 200
    assert rig.keys() is None
    assert rig.keys(Other()) is None
    await rig.sets.close()
    assert rig.keys(Other()) == [PUBLIC]
    assert rig.keys() is None


def test_a_fetch_outlives_the_loop_that_asked() -> None:
    """A function adapter runs each request in a loop of its own; the set is there for a later one."""
    rig = Rig(Site())
    rig.site.open.clear()

    async def ask() -> list[bytes] | None:
        return rig.keys()

    assert asyncio.run(ask()) is None
    rig.site.open.set()
    assert asyncio.run(rig.settled()) == [PUBLIC]
    assert len(rig.site.requests) == 1


async def test_close_does_not_wait_for_ever() -> None:
    """A name server that hangs holds its thread, and not the end of the process."""
    rig = Rig(Site(), timeout_seconds=-0.95)
    stuck: Future[Any] = Future()
    stuck.set_running_or_notify_cancel()
    rig.keys()
    rig.sets._held["acme"].fetching = stuck
    await asyncio.wait_for(rig.sets.close(), 5)
    assert not stuck.done()


@pytest.mark.parametrize("name", ["threading.Thread.start", "asyncio.run"])
async def test_where_nothing_can_be_started_the_fetch_has_failed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a thread or a loop to spare a request still gets its answer."""

    def fail(given: Any) -> None:
        if asyncio.iscoroutine(given):
            given.close()
        raise RuntimeError("can't start new thread")

    rig = Rig(Site())
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(name, fail)
        assert rig.keys() is None
        await asyncio.wait_for(rig.sets.close(), 5)
    assert [line["reason"] for line in logs] == ["RuntimeError"]
    assert rig.keys() is None
    assert rig.doubts()


async def test_a_loop_that_does_not_end_well_takes_no_set_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched counts, and nothing else is told."""
    run = asyncio.run
    ended = threading.Event()

    def fail_late(given: Any) -> None:
        run(given)
        ended.set()
        raise RuntimeError("the executor did not finish joining its threads")

    rig = Rig(Site())
    monkeypatch.setattr("asyncio.run", fail_late)
    with capture_logs() as logs:
        rig.keys()
        assert await rig.settled() == [PUBLIC]
        assert await asyncio.to_thread(ended.wait, 5)
    assert [line["event"] for line in logs] == ["keys.fetched"]


def test_httpx_is_loaded_when_a_set_is_fetched() -> None:
    """A receiver whose providers publish no keys does not pay for it."""
    code = "import sys; from ringback.outbound import KeySets; print('httpx' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=environment)
    assert done.stdout.split() == ["False"], done.stderr

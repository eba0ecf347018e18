"""The receiver and a provider that publishes its keys: what is answered while they are fetched, renewed or broken."""

import asyncio
import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from structlog.testing import capture_logs

from receiver.web import create_app
from receiver.web.state import State
from ringback.ledger import Query
from ringback.model import Callback, Reading, TaskState, Trust
from ringback.outbound import KeySets
from ringback.providers import Provider
from ringback.providers.signatures.ed25519 import Ed25519Lines, public_of
from ringback.settings import ProviderSettings, Settings

from .conftest import MakeSettings, Receiver, Start, client_of, path_of

PRIVATE, NEWER, FORGER = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
MINUTE = timedelta(minutes=1)

SCHEME = Ed25519Lines(
    id_header="x-acme-id", user_header="x-acme-user", timestamp_header="x-acme-time", signature_header="x-acme-sig"
)


class Acme(Provider):
    """Signs as fal does; its callbacks come to one URL per account, and to one per task."""

    name = "acme"
    base_url = "https://acme.example"
    scheme = SCHEME
    account_endpoint = True

    def read_callback(self, callback: Callback) -> Reading:
        """Read a body that is the task's id."""
        return Reading(status=TaskState.COMPLETED, provider_id=callback.body.decode())


class Site:
    """A server on this machine where acme publishes its keys."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.asked = 0
        self.open = threading.Event()
        self.open.set()
        self.publish(PRIVATE)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the keys are."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/jwks.json"

    def publish(self, *privates: bytes) -> None:
        """Publish the public keys of these."""
        coordinates = [urlsafe_b64encode(public_of(private)).rstrip(b"=").decode() for private in privates]
        self.body = json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x} for x in coordinates]}).encode()

    def close(self) -> None:
        """Stop serving."""
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked += 1
                site.open.wait(10)
                try:
                    self.send_response(site.status)
                    for name, value in site.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(site.body)))
                    self.end_headers()
                    self.wfile.write(site.body)
                except ConnectionError:  # whoever asked has given up
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        """Give the time."""
        return self.now


class Rig:
    """A receiver that knows acme, acme's site, and the clock by which its keys age."""

    def __init__(self, receiver: Receiver, site: Site, clock: Clock) -> None:
        self.receiver = receiver
        self.site = site
        self.clock = clock

    async def post(self, path: str = "/callbacks/acme", private: bytes = PRIVATE, body: bytes = b"id1") -> int:
        """Send a callback signed with this key; what is turned away gives no reason."""
        response = await push(self.receiver.client, path, private, body)
        if response.status_code == 503:
            assert response.json() == {"received": False, "error": "unavailable"}
            assert int(response.headers["retry-after"]) > 0
        elif response.status_code == 401:
            assert response.json() == {"received": False, "error": "unauthorised"}
        return response.status_code

    async def fetched(self) -> None:
        """Wait until nothing is being fetched."""
        await self.receiver.state.key_sets.close()


async def push(client: httpx.AsyncClient, path: str, private: bytes, body: bytes) -> httpx.Response:
    """Send a callback as acme would."""
    signed = SCHEME.sign(body, private, now=datetime.now(UTC), event_id="r-1")
    return await client.post(path, content=body, headers=dict(signed))


@pytest.fixture
def site() -> Iterator[Site]:
    """Give acme's site."""
    it = Site()
    yield it
    it.close()


def acme(site: Site) -> dict[str, object]:
    """Give the knobs of a receiver that knows acme."""
    return {"catalogue": {"acme": Acme()}, "providers": {"acme": ProviderSettings(jwks_url=site.url)}}


@asynccontextmanager
async def rig_of(start: Start, site: Site, timeout_seconds: float = 3.0) -> AsyncIterator[Rig]:
    """Start a receiver whose keys age by a clock of ours."""
    clock = Clock()
    async with start(**acme(site)) as receiver:
        receiver.state._key_sets = KeySets(receiver.settings, clock=clock, timeout_seconds=timeout_seconds)
        yield Rig(receiver, site, clock)


@pytest.fixture
async def rig(start: Start, site: Site) -> AsyncIterator[Rig]:
    """Give a receiver with acme's keys not yet fetched."""
    async with rig_of(start, site) as it:
        yield it


@pytest.fixture
async def warm(rig: Rig) -> Rig:
    """Give a receiver that has taken a callback, one minute ago."""
    await rig.post()
    await rig.fetched()
    assert await rig.post() == 200
    rig.clock.now += MINUTE
    return rig


async def test_the_first_push_comes_again(start: Start, site: Site) -> None:
    """Without keys nothing can be told: 503 until they are here, then the same callback is stored as signed."""
    async with start(**acme(site)) as receiver:
        response = await push(receiver.client, "/callbacks/acme", PRIVATE, b"id1")
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        await receiver.state.key_sets.close()
        assert (await push(receiver.client, "/callbacks/acme", PRIVATE, b"id1")).status_code == 200
        (event,) = await receiver.ledger.events(Query())
        assert (event.trust, event.status) == (Trust.SIGNED, TaskState.COMPLETED)
    assert site.asked == 1


async def test_a_push_to_a_per_task_url_needs_both(warm: Rig) -> None:
    """The token in the URL replaces no signature, and the signature no token."""
    assert await warm.post(path_of("task_one", "acme")) == 200
    assert await warm.post("/callbacks/acme/task_one.x") == 401
    assert await warm.post(path_of("task_one", "acme"), private=FORGER) == 503
    await warm.fetched()
    assert await warm.post(path_of("task_one", "acme"), private=FORGER) == 401


async def test_a_rotated_key_costs_one_repeat(warm: Rig) -> None:
    """A signature by a key that was published meanwhile gets 503 while it is fetched, and then its 200."""
    warm.site.publish(NEWER, PRIVATE)
    warm.site.open.clear()
    assert await warm.post(private=NEWER) == 503
    assert await warm.post(private=PRIVATE) == 200
    warm.site.open.set()
    await warm.fetched()
    assert await warm.post(private=NEWER) == 200
    assert await warm.post(private=PRIVATE) == 200
    assert warm.site.asked == 2


async def test_a_withdrawn_key_is_a_forgers(warm: Rig) -> None:
    """Once the newer set is here the old key opens nothing."""
    warm.site.publish(NEWER)
    assert await warm.post(private=NEWER) == 503
    await warm.fetched()
    assert await warm.post(private=PRIVATE) == 401
    assert await warm.post(private=NEWER) == 200


async def test_a_forged_flood_asks_once_a_minute_and_turns_no_real_push_away(warm: Rig) -> None:
    """Each minute's first forgery may ask; the others get 401, and what is signed well gets 200 all the while."""
    for minute in range(3):
        answers = []
        for second in range(6):
            answers.append(await warm.post(private=FORGER, body=b"forged"))
            assert await warm.post(body=b"id%d" % (6 * minute + second)) == 200
            await warm.fetched()
            warm.clock.now += timedelta(seconds=10)
        assert answers == [503, 401, 401, 401, 401, 401]
    assert warm.site.asked == 1 + 3
    assert len(await warm.receiver.ledger.events(Query())) == 18  # id1 came in the first place, too


async def test_a_malformed_request_asks_for_nothing(warm: Rig) -> None:
    """Only a signature that does not fit can mean a new key."""
    signed = dict(SCHEME.sign(b"id1", PRIVATE, now=datetime.now(UTC), event_id="r-1"))
    late = SCHEME.sign(b"id1", PRIVATE, now=datetime.now(UTC) - timedelta(hours=1), event_id="r-1")
    for headers in ({}, signed | {"x-acme-sig": "zz"}, late):
        response = await warm.receiver.client.post("/callbacks/acme", content=b"id1", headers=dict(headers))
        assert response.status_code == 401
    await warm.fetched()
    assert warm.site.asked == 1


async def test_a_refusal_tells_the_log_alone(warm: Rig) -> None:
    """Scheme and present headers are told, their values are not."""
    await warm.post(private=FORGER)
    await warm.fetched()
    with capture_logs() as logs:
        assert await warm.post(private=FORGER) == 401
    line = logs[-1]
    assert line["reason"] == "unauthentic.signature"
    assert "ed25519-jwks" in line["detail"]
    assert "x-acme-sig" in line["detail"]
    assert "r-1" not in line["detail"]


def _redirect(site: Site) -> None:
    site.status, site.headers = 302, {"Location": f"{site.url}/private"}


def _too_large(site: Site) -> None:
    site.body = site.body.ljust((64 << 10) + 1)


def _bad_json(site: Site) -> None:
    site.body = b'{"keys": [{"kty": private'


def _error(site: Site) -> None:
    site.status = 500


BREAKS = [
    (_redirect, "expected 200, got 302"),
    (_too_large, "an answer above 64 KiB"),
    (_bad_json, "expected a key set as JSON, got text that is not valid JSON in UTF-8"),
    (_error, "expected 200, got 500"),
]


@pytest.mark.parametrize(("break_it", "reason"), BREAKS)
async def test_a_broken_site_costs_no_callback(warm: Rig, break_it: Callable[[Site], None], reason: str) -> None:
    """The last good set goes on, even a day later; what it does not fit gets 503, since a newer one may exist."""
    break_it(warm.site)
    with capture_logs() as logs:
        assert await warm.post(private=FORGER) == 503
        await warm.fetched()
    assert [line["reason"] for line in logs if line["event"] == "keys.fetch_failed"] == [reason]
    for _ in range(3):
        assert await warm.post(private=FORGER) == 503
        assert await warm.post() == 200
    assert warm.site.asked == 2
    warm.clock.now += timedelta(hours=25)
    assert await warm.post() == 503
    await warm.fetched()
    assert await warm.post() == 200
    assert warm.site.asked == 3


@pytest.mark.parametrize(("break_it", "reason"), BREAKS)
async def test_a_site_that_was_never_whole_turns_everything_away(
    rig: Rig, break_it: Callable[[Site], None], reason: str
) -> None:
    """Without any set everything is 503, with one request a minute, and the first whole set ends it."""
    whole = rig.site.body
    break_it(rig.site)
    with capture_logs() as logs:
        for _ in range(5):
            assert [await rig.post(), await rig.post(private=FORGER)] == [503, 503]
            await rig.fetched()
    assert [line["reason"] for line in logs if line["event"] == "keys.fetch_failed"] == [reason]
    assert rig.site.asked == 1
    rig.site.status, rig.site.headers, rig.site.body = 200, {}, whole
    rig.clock.now += MINUTE
    assert await rig.post() == 503
    await rig.fetched()
    assert [await rig.post(), await rig.post(private=FORGER)] == [200, 401]


async def test_a_slow_site_holds_up_nobody(start: Start, site: Site) -> None:
    """A site that does not answer in time counts as broken; meanwhile requests get their answers at once."""
    async with rig_of(start, site, timeout_seconds=0.1) as rig:
        site.open.clear()
        with capture_logs() as logs:
            assert await rig.post() == 503
            await rig.fetched()
        assert [line["reason"] for line in logs if line["event"] == "keys.fetch_failed"] == [
            "no whole answer within 0.1 s"
        ]
        assert await rig.post() == 503
        site.open.set()
        rig.clock.now += MINUTE
        await rig.post()
        await rig.fetched()
        assert await rig.post() == 200


def test_a_set_outlives_the_loop_that_fetched_it(make_settings: MakeSettings, site: Site) -> None:
    """A function adapter that runs each request in a loop of its own fetches the keys once."""
    settings: Settings = make_settings(**acme(site))
    app = create_app(settings)
    state: State = app.state.receiver

    async def post() -> int:
        async with client_of(app) as client:
            return (await push(client, "/callbacks/acme", PRIVATE, b"id1")).status_code

    assert asyncio.run(post()) == 503
    asyncio.run(state.key_sets.close())
    assert [asyncio.run(post()) for _ in range(3)] == [200, 200, 200]
    assert site.asked == 1

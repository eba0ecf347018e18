"""Connections to providers: how many there are, when one is used again, and when it is closed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from ringback.errors import Unreachable
from ringback.outbound.connections import IDLE_SECONDS, Connections
from ringback.outbound.requests import MAX_ANSWER_BYTES, Outbound
from ringback.providers import CATALOGUE, Request
from ringback.settings import ProviderSettings, Settings

from .site import Asked, Items, Site, head, serving, whole

QINGBO = CATALOGUE["qingbo"]
GET = Request(method="GET", path="/tasks/t1")
HERE, THERE = httpx.URL("http://127.0.0.1:1/a"), httpx.URL("http://127.0.0.1:2/a")


@asynccontextmanager
async def door(site: Site, **knobs: float) -> AsyncIterator[Outbound]:
    """Open the door to a site on this machine."""
    provider = ProviderSettings(api_key="sk-1", base_url=f"http://127.0.0.1:{site.port}")
    async with Outbound(Settings(providers={"qingbo": provider}, **knobs)) as outbound:  # type: ignore[arg-type]
        yield outbound


async def test_a_connection_is_used_again() -> None:
    """One request after the other needs one connection; as many at once as the limit allows need as many."""
    async with serving(whole(b"{}"), keeps=True) as site, door(site, provider_concurrency=3) as outbound:
        for _ in range(4):
            assert (await outbound.send(QINGBO, GET)).status == 200
        assert site.connections == 1
        for _ in range(2):
            await asyncio.gather(*(outbound.send(QINGBO, GET) for _ in range(9)))
        assert site.connections == 3
        assert len(site.asked) == 22


async def test_a_provider_that_closes_its_connections() -> None:
    """The next request makes a new one; nobody learns of it."""
    async with serving(whole(b"{}", connection="close")) as site, door(site) as outbound:
        for _ in range(3):
            assert (await outbound.send(QINGBO, GET)).body == b"{}"
        assert site.connections == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param([None], "no whole answer in time", id="silence"),
        pytest.param([head(200, {"content-length": 9}) + b"half"], "no whole answer in time", id="half an answer"),
        pytest.param([head() + b"x" * (MAX_ANSWER_BYTES + 1)], "an answer above 4 MiB", id="too much"),
    ],
)
async def test_what_ended_badly_is_not_used_again(answer: list[bytes | None], reason: str) -> None:
    """A late answer to one request must never be read as the answer to the next."""
    replies: list[Items] = [answer, whole(b"{}")]
    async with (
        serving(lambda _: replies.pop(0), keeps=True) as site,
        door(site, request_timeout_seconds=0.3, provider_concurrency=1) as outbound,
    ):
        with pytest.raises(Unreachable, match=reason):
            await outbound.send(QINGBO, GET)
        assert (await outbound.send(QINGBO, GET)).body == b"{}"
        assert site.connections == 2


async def test_a_request_that_is_cancelled() -> None:
    """It takes its connection along, and leaves its place to the next one."""
    arrived = asyncio.Event()

    def reply(_: Asked) -> Items:
        if arrived.is_set():
            return whole(b"{}")
        arrived.set()
        return [None]

    async with serving(reply, keeps=True) as site, door(site, provider_concurrency=1) as outbound:
        waiting = asyncio.create_task(outbound.send(QINGBO, GET))
        await arrived.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await outbound.send(QINGBO, GET)).body == b"{}"
        assert site.connections == 2


async def test_idle_connections_are_closed() -> None:
    """The one that was used last is used first, so that after a rush the others grow old and are let go."""
    connections = Connections()
    rush = [connections.take(HERE) for _ in range(3)]
    for connection in rush:
        await connections.give_back(connection)
    for connection in rush[:2]:
        connection.idle_since -= IDLE_SECONDS + 1
    for left in (rush[1:], rush[2:], rush[2:]):
        last = connections.take(HERE)
        assert last is rush[2]
        await connections.give_back(last)
        assert connections._all == {connection.transport for connection in left}
    await connections.close()
    assert connections._all == set()


async def test_each_origin_has_its_own() -> None:
    """A connection leads to one place."""
    connections = Connections()
    first = connections.take(HERE)
    await connections.give_back(first)
    other = connections.take(THERE)
    assert other is not first
    assert connections.take(httpx.URL("http://127.0.0.1:1/b")) is first
    await connections.close()


async def test_certificates_are_loaded_once() -> None:
    """And not at all where nothing is encrypted."""
    connections = Connections()
    assert connections._trust(HERE) is None
    trusted = connections._trust(httpx.URL("https://api.example/"))
    assert connections._trust(httpx.URL("https://other.example/")) is trusted
    await connections.close()

"""The one door out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import httpx
import pytest

from ringback.errors import SettingsError, Unreachable
from ringback.outbound.requests import MAX_ANSWER_BYTES, Outbound, request_url
from ringback.providers import CATALOGUE, Request
from ringback.settings import ProviderSettings, Settings

QINGBO = CATALOGUE["qingbo"]
KEY = "sk-very-private"
GET = Request(method="GET", path="/tasks/t1")

Handler = Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


def settings(api_key: str | None = KEY, base_url: str | None = None, **knobs: float) -> Settings:
    """Configure qingbo."""
    provider = ProviderSettings(api_key=api_key, base_url=base_url)
    return Settings(providers={"qingbo": provider}, **knobs)  # type: ignore[arg-type]


@asynccontextmanager
async def door(handler: Handler, configured: Settings | None = None) -> AsyncIterator[Outbound]:
    """Open the door on a network made of one function."""
    async with Outbound(configured or settings(), transport=httpx.MockTransport(handler)) as outbound:
        yield outbound


def failing(error: Exception) -> Handler:
    """Make a network that fails."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    return fail


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        (None, "https://www.qingbo.dev/v1/tasks/t1"),
        ("http://127.0.0.1:9009", "http://127.0.0.1:9009/v1/tasks/t1"),
        ("http://127.0.0.1:9009/", "http://127.0.0.1:9009/v1/tasks/t1"),
        ("https://api.qingbo.ai/v2", "https://api.qingbo.ai/v2/tasks/t1"),
    ],
)
def test_a_base_url_without_a_path_gets_the_providers_own(configured: str | None, expected: str) -> None:
    """A configured host alone is enough; a configured path is kept."""
    assert request_url(settings(base_url=configured), QINGBO, GET) == expected


async def test_a_request_carries_the_key_and_the_providers_headers() -> None:
    """The key is added here, and what the provider built goes out as it is."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, content=b"body", headers={"X-Some": "thing"})

    async with door(handler) as outbound:
        request = Request(method="POST", path="/tasks", body=b"{}", headers={"Idempotency-Key": "task_1"})
        response = await outbound.send(QINGBO, request)
    assert (response.status, response.body, response.headers["x-some"]) == (201, b"body", "thing")
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert seen[0].headers["idempotency-key"] == "task_1"
    assert seen[0].content == b"{}"


@pytest.mark.parametrize("key", [None, "sk-\u00e9", "sk-\x07bell"])
async def test_a_missing_or_unsendable_key_names_its_setting(key: str | None) -> None:
    """Without a usable key nothing is sent."""
    async with door(failing(AssertionError()), settings(api_key=key)) as outbound:
        with pytest.raises(SettingsError, match="RINGBACK_QINGBO_API_KEY") as caught:
            await outbound.send(QINGBO, GET)
    assert key is None or key not in str(caught.value)


@pytest.mark.parametrize("base_url", ["http://host:99999999", "http://host:port"])
async def test_a_base_url_that_is_none_names_its_setting(base_url: str) -> None:
    """What passes for a URL in the settings may still be none."""
    async with door(failing(AssertionError()), settings(base_url=base_url)) as outbound:
        with pytest.raises(SettingsError, match="RINGBACK_QINGBO_BASE_URL"):
            outbound.check(QINGBO)


async def test_redirects_are_given_back_and_not_followed() -> None:
    """A key must not travel to where a redirect points."""
    async with door(lambda _: httpx.Response(302, headers={"location": "http://elsewhere"})) as outbound:
        assert (await outbound.send(QINGBO, GET)).status == 302


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), False),
        (httpx.ConnectTimeout("slow"), False),
        (httpx.PoolTimeout("busy"), False),
        (httpx.ReadTimeout("slow"), True),
        (httpx.WriteTimeout("slow"), True),
        (httpx.ReadError("reset"), True),
        (httpx.WriteError("reset"), True),
        (httpx.RemoteProtocolError("closed"), True),
        (httpx.LocalProtocolError(f"Illegal header value b'Bearer {KEY}'"), True),
        (ConnectionResetError(104, "reset"), True),
    ],
)
async def test_a_failure_tells_whether_the_provider_may_have_seen_the_request(error: Exception, sent: bool) -> None:
    """Only a connection that was never made counts as not sent; the message gives nothing away."""
    async with door(failing(error)) as outbound:
        with pytest.raises(Unreachable) as caught:
            await outbound.send(QINGBO, GET)
    assert caught.value.sent is sent
    assert str(caught.value).startswith("qingbo: GET: ")
    assert KEY not in str(caught.value)
    assert "/tasks" not in str(caught.value)


async def test_the_whole_exchange_is_bounded() -> None:
    """A provider that trickles or hangs is left after request_timeout_seconds, whatever httpx thinks of it."""

    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with door(hang, settings(request_timeout_seconds=0.1)) as outbound:
        with pytest.raises(Unreachable, match="in time") as caught:
            await outbound.send(QINGBO, GET)
    assert caught.value.sent


async def test_a_refused_connection_on_a_real_socket_was_not_sent(unused_tcp_port: int) -> None:
    """The classification holds for the real transport too."""
    configured = settings(base_url=f"http://127.0.0.1:{unused_tcp_port}")
    async with Outbound(configured) as outbound:
        with pytest.raises(Unreachable, match=r"no connection to 127\.0\.0\.1") as caught:
            await outbound.send(QINGBO, GET)
    assert not caught.value.sent


async def test_an_answer_is_capped() -> None:
    """A huge answer is not taken into memory."""
    async with door(lambda _: httpx.Response(200, content=bytes(MAX_ANSWER_BYTES + 1))) as outbound:
        with pytest.raises(Unreachable, match="4 MiB"):
            await outbound.send(QINGBO, GET)
    async with door(lambda _: httpx.Response(200, content=bytes(MAX_ANSWER_BYTES))) as outbound:
        assert len((await outbound.send(QINGBO, GET)).body) == MAX_ANSWER_BYTES


async def test_no_more_requests_to_one_provider_at_once_than_allowed() -> None:
    """provider_concurrency bounds what runs, and all get their turn."""
    running, most = 0, 0

    async def count(_: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return httpx.Response(200)

    async with door(count, settings(provider_concurrency=2)) as outbound:
        answers = await asyncio.gather(*(outbound.send(QINGBO, GET) for _ in range(7)))
    assert [answer.status for answer in answers] == [200] * 7
    assert most == 2

"""Challenges, over a real receiver: answered where a provider is known to send them, and nowhere else."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from ringback.ledger import Query
from ringback.model import Callback, Reading, TaskState, Trust
from ringback.providers import CATALOGUE, Provider
from ringback.providers.handshakes import Handshake
from ringback.providers.signatures import FixedHeader
from ringback.settings import ProviderSettings, Secret

from .conftest import SECRET, Receiver, Start, path_of

FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "minimax"
SIGNED = {"x-acme-secret": "a secret of acme's"}
ORIGIN = {"WebHook-Request-Origin": "eventemitter.example.com", "WebHook-Request-Rate": "120"}
WEBSUB = "?hub.mode=subscribe&hub.topic=https%3A%2F%2Fa.example&hub.challenge=a%20%3Cb%3E"
ACCOUNT = "/callbacks/acme"
PER_TASK = path_of("task_one", "acme")


class Acme(Provider):
    """Sends challenges of the kinds that a test chooses."""

    name = "acme"
    base_url = "https://acme.example"
    scheme = FixedHeader(header="x-acme-secret")
    account_endpoint = True

    def __init__(self, *kinds: Handshake) -> None:
        self.handshakes = frozenset(kinds)

    def read_callback(self, callback: Callback) -> Reading:  # noqa: ARG002
        """Read any body as the end of one task."""
        return Reading(status=TaskState.COMPLETED, provider_id="id1")


def acme(*kinds: Handshake) -> dict[str, object]:
    """Give the settings of a receiver that knows acme."""
    return {
        "catalogue": {"acme": Acme(*kinds)},
        "providers": {"acme": ProviderSettings(secret=(Secret(text=SIGNED["x-acme-secret"]),))},
    }


async def challenge(
    receiver: Receiver, path: str, headers: Mapping[str, str] = SIGNED, body: bytes = b'{"challenge":"c1"}'
) -> httpx.Response:
    """Post a challenge."""
    return await receiver.client.post(path, content=body, headers=headers)


async def stored(receiver: Receiver) -> int:
    """Count what the ledger holds: events, tasks, hints."""
    summary = await receiver.ledger.summary(datetime.now(UTC))
    return len(await receiver.ledger.events(Query())) + len(await receiver.ledger.tasks(Query())) + summary.hints


@pytest.mark.parametrize("path", [ACCOUNT, PER_TASK, PER_TASK + "/"])
async def test_each_kind_is_answered(start: Start, path: str) -> None:
    """On an account endpoint and on a task's own URL, and nothing is stored."""
    async with start(**acme(*Handshake)) as receiver:
        posted = await challenge(receiver, path)
        got = await receiver.client.get(path + WEBSUB)
        asked = await receiver.client.options(path, headers=ORIGIN)
        assert await stored(receiver) == 0
    assert (posted.status_code, posted.content) == (200, b'{"challenge":"c1"}')
    assert posted.headers["content-type"] == "application/json"
    assert (got.status_code, got.text, got.headers["content-type"]) == (200, "a <b>", "text/plain; charset=utf-8")
    assert (asked.status_code, asked.content, asked.headers["allow"]) == (200, b"", "POST")
    assert asked.headers["webhook-allowed-origin"] == "eventemitter.example.com"
    assert asked.headers["webhook-allowed-rate"] == "120"
    assert {answer.headers["x-content-type-options"] for answer in (posted, got, asked)} == {"nosniff"}


@pytest.mark.parametrize("path", [ACCOUNT, PER_TASK])
@pytest.mark.parametrize("kinds", [(), (Handshake.CHALLENGE,)])
async def test_other_methods_are_refused_where_they_are_not_configured(
    start: Start, path: str, kinds: tuple[Handshake, ...]
) -> None:
    """Without the kind that a GET or OPTIONS is, each is 405, as anywhere."""
    async with start(**acme(*kinds)) as receiver:
        answers = [await receiver.client.get(path + WEBSUB), await receiver.client.options(path, headers=ORIGIN)]
    assert {(answer.status_code, answer.headers["allow"]) for answer in answers} == {(405, "POST")}
    assert all("a <b>" not in answer.text for answer in answers)


async def test_a_challenge_is_a_callback_where_it_is_not_configured(start: Start) -> None:
    """A provider that is not known to challenge has its POST stored, and nothing echoed."""
    async with start(**acme(Handshake.WEBSUB)) as receiver:
        answer = await challenge(receiver, ACCOUNT)
        assert answer.json()["received"] is True
        assert await stored(receiver) == 2


@pytest.mark.parametrize("query", ["", WEBSUB.replace("subscribe", "denied"), WEBSUB.replace("%3Cb%3E", "%0A")])
async def test_a_malformed_challenge_is_405(start: Start, query: str) -> None:
    """What is no challenge is a method that the endpoint does not have."""
    async with start(**acme(*Handshake)) as receiver:
        got = await receiver.client.get(PER_TASK + query)
        asked = await receiver.client.options(PER_TASK, headers=ORIGIN | {"WebHook-Request-Rate": "many"})
        assert (got.status_code, asked.status_code) == (405, 405)
        assert (await receiver.client.head(PER_TASK + WEBSUB)).status_code == 405


async def test_a_challenge_needs_the_urls_token(start: Start) -> None:
    """A stranger does not learn that the endpoint is ours: 401, whatever the method, and no echo."""
    wrong = path_of("task_one", "acme", SECRET[::-1])
    async with start(**acme(*Handshake)) as receiver:
        answers = [
            await challenge(receiver, wrong),
            await receiver.client.get(wrong + WEBSUB),
            await receiver.client.options(wrong, headers=ORIGIN),
        ]
        assert await stored(receiver) == 0
    for answer in answers:
        assert (answer.status_code, answer.json()) == (401, {"received": False, "error": "unauthorised"})
        assert "webhook-allowed-origin" not in answer.headers


@pytest.mark.parametrize("path", [ACCOUNT, PER_TASK])
async def test_a_challenge_needs_the_providers_signature(start: Start, path: str) -> None:
    """Where the provider authenticates its requests, a POST that challenges is one of them."""
    async with start(**acme(*Handshake)) as receiver:
        assert (await challenge(receiver, path, headers={})).status_code == 401
        assert (await challenge(receiver, path, headers={"x-acme-secret": "another"})).status_code == 401


async def test_a_provider_without_an_account_endpoint_has_none_to_challenge(start: Start) -> None:
    """MiniMax signs nothing, so there is no URL without a token, for a GET neither."""
    async with start() as receiver:
        assert (await challenge(receiver, "/callbacks/minimax", {})).status_code == 404
        assert (await receiver.client.get("/callbacks/minimax" + WEBSUB)).status_code == 404
        assert (await receiver.client.get("/callbacks/nobody" + WEBSUB)).status_code == 405


async def test_minimax_from_the_challenge_to_the_end(start: Start) -> None:
    """PROVIDERS C: the challenge is echoed within 3 s and leaves no trace; then every change of the task is stored."""
    path = path_of("task_one", "minimax")
    bodies = [
        b'{"task_id":"115334141465231360","status":"processing","base_resp":{"status_code":0,"status_msg":"success"}}',
        (FIXTURES / "callback_success.json").read_bytes(),
    ]
    async with start() as receiver:
        assert receiver.settings.catalogue["minimax"] is CATALOGUE["minimax"]
        began = datetime.now(UTC)
        with capture_logs() as logs:
            answer = await challenge(receiver, path, {}, (FIXTURES / "challenge.json").read_bytes())
        assert datetime.now(UTC) - began < timedelta(seconds=3)
        assert answer.content == b'{"challenge":"1a3cs1j-601a-118y-ch52-o48911eabc3u"}'
        assert [(line["event"], line["provider"], line["task"]) for line in logs] == [
            ("callback.challenged", "minimax", "task_one")
        ]
        assert await stored(receiver) == 0
        for body in bodies + bodies[1:]:
            assert (await challenge(receiver, path, {}, body)).json()["received"] is True
        events = {event.status: event for event in await receiver.ledger.events(Query())}
    assert set(events) == {TaskState.PROCESSING, TaskState.COMPLETED}
    done = events[TaskState.COMPLETED]
    assert (done.trust, done.task_id, done.duplicates) == (Trust.TOKEN, "task_one", 1)
    assert [(result.kind, result.url) for result in done.results] == [
        ("file", "https://api.minimax.io/v1/files/retrieve?file_id=205258526306433")
    ]

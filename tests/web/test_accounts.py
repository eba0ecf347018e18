"""Account endpoints and providers that sign, shown with a provider made for the test."""

import hmac
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import httpx
import pytest
from structlog.testing import capture_logs

from ringback.errors import Unauthentic, Unreadable
from ringback.ledger import Query
from ringback.model import Callback, Reading, TaskState, Trust
from ringback.providers import CATALOGUE, Provider
from ringback.settings import ProviderSettings

from .conftest import Receiver, Start, path_of

KEY = b"the key that acme signs with"


class Acme(Provider):
    """Signs the body; its callbacks come to one URL per account."""

    name = "acme"
    base_url = "https://acme.example"
    trust = Trust.SIGNED
    account_endpoint = True

    def verify(self, headers: Mapping[bytes, bytes], body: bytes, secrets: tuple[bytes, ...], now: datetime) -> Trust:  # noqa: ARG002
        """Compare the signature; an unsigned body is only a hint."""
        given = headers.get(b"x-acme-signature")
        if given is None:
            return Trust.NONE
        if not any(hmac.compare_digest(hmac.digest(key, body, "sha256").hex().encode(), given) for key in secrets):
            raise Unauthentic("acme: the signature does not fit")
        return Trust.SIGNED

    def read_callback(self, callback: Callback) -> Reading:
        """Read a body that is the task's id."""
        if not callback.body.isalnum():
            raise Unreadable("not an id")
        return Reading(status=TaskState.COMPLETED, provider_id=callback.body.decode())


@pytest.fixture
async def acme(start: Start, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """Give a receiver that knows acme."""
    monkeypatch.setitem(CATALOGUE, "acme", Acme())
    async with start(providers={"acme": ProviderSettings(secret=(KEY,))}) as receiver:
        yield receiver


def _signed(body: bytes) -> dict[str, str]:
    return {"x-acme-signature": hmac.digest(KEY, body, "sha256").hex()}


async def _post(receiver: Receiver, path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
    return await receiver.client.post(path, content=body, headers=headers)


@pytest.mark.parametrize("path", ["/callbacks/acme", "/callbacks/acme/", "/callbacks/acme?x=1"])
async def test_account_endpoint_takes_signed_callbacks(acme: Receiver, path: str) -> None:
    """Without a task in the URL the provider's signature is what counts, and the task is found by its id."""
    assert (await _post(acme, path, b"id1", _signed(b"id1"))).status_code == 200
    (event,) = await acme.ledger.events(Query())
    assert (event.trust, event.status) == (Trust.SIGNED, TaskState.COMPLETED)


async def test_wrong_signature_is_401_and_says_why_only_in_the_log(acme: Receiver) -> None:
    """A changed body is refused without a reason, on an account endpoint and under a valid per-task URL."""
    with capture_logs() as logs:
        for path in ("/callbacks/acme", path_of("task_one", "acme")):
            response = await _post(acme, path, b"id2", _signed(b"id1"))
            assert (response.status_code, response.json()) == (401, {"received": False, "error": "unauthorised"})
    assert logs[0]["detail"] == "acme: the signature does not fit"
    assert await acme.ledger.events(Query()) == []


async def test_signature_does_not_replace_the_token(acme: Receiver) -> None:
    """On a per-task URL both must hold."""
    response = await _post(acme, "/callbacks/acme/task_one.x", b"id1", _signed(b"id1"))
    assert response.status_code == 401


async def test_unconfirmed_callback_is_a_hint(acme: Receiver) -> None:
    """What is trusted too little makes no event, and is answered so."""
    response = await _post(acme, path_of("task_one", "acme"), b"id1", {})
    assert response.json() == {"received": True, "event": None, "duplicate": False}


async def test_oversized_account_callback_names_no_task(acme: Receiver) -> None:
    """Without a task in the URL there is nothing to make due."""
    response = await _post(acme, "/callbacks/acme", b"", {"content-length": "9999999"})
    assert response.status_code == 413
    assert (await acme.ledger.summary(datetime.now(UTC))).hints == 0


class Careless(Acme):
    """Reads what cannot be stored, and has a bug."""

    def read_callback(self, callback: Callback) -> Reading:
        """Give a text that is no UTF-8, or fail."""
        if callback.body == b"bug":
            raise ZeroDivisionError("the body says bug")
        return Reading(status=TaskState.COMPLETED, provider_id="\ud800")


async def test_record_that_can_never_be_stored_is_400(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the ledger's word about this very record is final; a bug of ours is 500, so that the provider comes back."""
    monkeypatch.setitem(CATALOGUE, "acme", Careless())
    async with start(providers={"acme": ProviderSettings(secret=(KEY,))}) as receiver:
        response = await _post(receiver, "/callbacks/acme", b"id1", _signed(b"id1"))
        assert (response.status_code, response.json()) == (400, {"received": False, "error": "bad_request"})
        transport = httpx.ASGITransport(receiver.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver.test") as client:
            response = await client.post("/callbacks/acme", content=b"bug", headers=_signed(b"bug"))
        assert (response.status_code, response.json()) == (500, {"error": "internal error"})

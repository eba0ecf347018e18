"""Account endpoints and providers that sign, shown with a provider made for the test."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import httpx
import pytest
from structlog.testing import capture_logs

from ringback.errors import Unreadable
from ringback.ledger import Query
from ringback.model import Callback, Notice, Reading, TaskState, Trust
from ringback.providers import Provider
from ringback.providers.signatures import FixedHeader, Scheme
from ringback.providers.signatures.body_hmac import BodyHmac
from ringback.settings import ProviderSettings, Secret

from .conftest import Receiver, Start, path_of

KEY = "the key that acme signs with"
SCHEME = BodyHmac(header="x-acme-signature")
SET_UP = {"acme": ProviderSettings(secret=(Secret(text="the key before it"), Secret(text=KEY)))}


class Acme(Provider):
    """Signs the body, which is the task's id or `ping`; its callbacks come to one URL per account."""

    name = "acme"
    base_url = "https://acme.example"
    scheme: Scheme = SCHEME
    account_endpoint = True

    def read_callback(self, callback: Callback) -> Reading | Notice:
        """Read a body that is the task's id."""
        if callback.body == b"ping":
            return Notice(type="ping")
        if not callback.body.isalnum():
            raise Unreadable("not an id")
        return Reading(status=TaskState.COMPLETED, provider_id=callback.body.decode())


class OptIn(Acme):
    """Signs only for who has set a secret up with it."""

    scheme_optional = True


class Fixed(Acme):
    """Sends a fixed secret in a header whose name looks like one of those that are kept."""

    scheme = FixedHeader(header="webhook-secret")


@pytest.fixture
async def acme(start: Start) -> AsyncIterator[Receiver]:
    """Give a receiver that knows acme, and its secret as the older of two."""
    async with start(catalogue={"acme": Acme()}, providers=SET_UP) as receiver:
        yield receiver


def _signed(body: bytes) -> Mapping[str, str]:
    return SCHEME.sign(body, KEY.encode(), now=datetime.now(UTC), event_id="")


async def _post(receiver: Receiver, path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
    return await receiver.client.post(path, content=body, headers=headers)


@pytest.mark.parametrize("path", ["/callbacks/acme", "/callbacks/acme/", "/callbacks/acme?x=1"])
async def test_account_endpoint_takes_signed_callbacks(acme: Receiver, path: str) -> None:
    """Without a task in the URL the provider's signature is what counts, and the task is found by its id."""
    assert (await _post(acme, path, b"id1", _signed(b"id1"))).status_code == 200
    (event,) = await acme.ledger.events(Query())
    assert (event.trust, event.status) == (Trust.SIGNED, TaskState.COMPLETED)


async def test_what_is_not_about_a_task_is_an_event_of_its_own(acme: Receiver) -> None:
    """A signed test call is understood and kept, and belongs to no task."""
    answer = (await _post(acme, "/callbacks/acme", b"ping", _signed(b"ping"))).json()
    (event,) = await acme.ledger.events(Query())
    assert (answer["event"], event.type, event.task_id) == (event.id, "callback.received", None)


async def test_wrong_signature_is_401_and_says_why_only_in_the_log(acme: Receiver) -> None:
    """A changed body is refused without a reason, on an account endpoint and under a valid per-task URL."""
    with capture_logs() as logs:
        for path in ("/callbacks/acme", path_of("task_one", "acme")):
            response = await _post(acme, path, b"id2", _signed(b"id1"))
            assert (response.status_code, response.json()) == (401, {"received": False, "error": "unauthorised"})
    assert logs[0]["reason"] == "unauthentic.signature"
    assert logs[0]["detail"].startswith("hmac: ")
    assert logs[0]["detail"].endswith("headers present: x-acme-signature")
    assert await acme.ledger.events(Query()) == []


async def test_missing_signature_is_401_under_a_valid_url_too(acme: Receiver) -> None:
    """The verifier is chosen by the route: to leave its header out is no way around it."""
    with capture_logs() as logs:
        for path in ("/callbacks/acme", path_of("task_one", "acme")):
            assert (await _post(acme, path, b"id1", {})).status_code == 401
    assert logs[0]["reason"] == "unauthentic.header_missing"
    assert logs[0]["detail"].endswith("headers present: none")


async def test_signature_does_not_replace_the_token(acme: Receiver) -> None:
    """On a per-task URL both must hold."""
    response = await _post(acme, "/callbacks/acme/task_one.x", b"id1", _signed(b"id1"))
    assert response.status_code == 401


async def test_provider_without_its_secret_is_our_own_trouble(start: Start) -> None:
    """Nothing can be verified until a secret is set: 503, so that the provider comes back."""
    async with start(catalogue={"acme": Acme()}) as receiver:
        response = await _post(receiver, "/callbacks/acme", b"id1", _signed(b"id1"))
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


async def test_account_endpoint_of_an_optional_scheme_opens_with_its_secret(start: Start) -> None:
    """Without the secret such an endpoint would believe everybody, so it is not there; per-task URLs are."""
    async with start(catalogue={"acme": OptIn()}) as receiver:
        assert (await _post(receiver, "/callbacks/acme", b"id1", {})).status_code == 404
        assert (await _post(receiver, path_of("task_one", "acme"), b"id1", {})).status_code == 200
        (event,) = await receiver.ledger.events(Query())
        assert event.trust is Trust.TOKEN
    async with start(catalogue={"acme": OptIn()}, providers=SET_UP) as receiver:
        assert (await _post(receiver, "/callbacks/acme", b"id1", {})).status_code == 401
        assert (await _post(receiver, path_of("task_two", "acme"), b"id2", {})).status_code == 401
        assert (await _post(receiver, "/callbacks/acme", b"id1", _signed(b"id1"))).status_code == 200


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


async def test_record_that_can_never_be_stored_is_400(start: Start) -> None:
    """Only the ledger's word about this very record is final; a bug of ours is 500, so that the provider comes back."""
    async with start(catalogue={"acme": Careless()}, providers=SET_UP) as receiver:
        response = await _post(receiver, "/callbacks/acme", b"id1", _signed(b"id1"))
        assert (response.status_code, response.json()) == (400, {"received": False, "error": "bad_request"})
        transport = httpx.ASGITransport(receiver.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver.test") as client:
            response = await client.post("/callbacks/acme", content=b"bug", headers=_signed(b"bug"))
        assert (response.status_code, response.json()) == (500, {"error": "internal error"})


async def test_a_fixed_secret_is_not_kept(start: Start) -> None:
    """It verifies the callback, and is not stored with it, whatever its header is called."""
    async with start(catalogue={"acme": Fixed()}, providers=SET_UP) as receiver:
        assert (await _post(receiver, "/callbacks/acme", b"id1", {"webhook-secret": KEY})).status_code == 200
        (event,) = await receiver.ledger.events(Query())
        assert KEY not in str(event.headers)

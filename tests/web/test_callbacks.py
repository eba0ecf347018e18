"""Every status of a callback, without a socket."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from receiver.web import create_app
from receiver.web.answers import ANSWERS, Reason
from ringback.ledger import Query
from ringback.model import EventType, TaskState, Verdict
from ringback.providers.signatures import callback_mac

from .conftest import SECRET, TASK, MakeSettings, Receiver, Start, body_of, client_of, path_of, submitted

OTHER_SECRET = b"another secret of thirty-two bytes or more"
DEEP = b"[" * 10_000 + b"]" * 10_000
POISON = {
    "a number of 31 digits": b'{"task_id":"task-wave1","status":"completed","created_at":' + b"9" * 31 + b"}",
    "a NUL": b'{"task_id":"task\\u0000wave","status":"completed"}',
    "10,000 levels": DEEP,
    "10,000 levels in a field": b'{"task_id":"task-wave1","status":"completed","result":' + DEEP + b"}",
    "invalid UTF-8": b'{"task_id":"\xff\xfe","status":"completed"}',
    "a lone surrogate": b'{"task_id":"\\ud800","status":"completed"}',
    "nothing": b"",
    "1 MiB": b'{"task_id":"task-wave1","status":"nonsense","x":"' + b"x" * ((1 << 20) - 51) + b'"}',
    "not JSON": b"hello=world",
    "a list": b"[1,2,3]",
    "raw NULs": b"\x00" * 100,
}


def assert_refused(response: httpx.Response, status: int, error: str) -> None:
    """Check a refusal, and that it says no more than that."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"received": False, "error": error}


async def events_of(receiver: Receiver, **query: Any) -> list[EventType]:
    """List the types of the stored events."""
    return [event.type for event in await receiver.ledger.events(Query(**query))]


async def test_valid_callback_is_stored_before_its_200(receiver: Receiver) -> None:
    """A callback with a valid token is in the ledger, byte for byte, when it is answered."""
    await submitted(receiver.ledger)
    response = await receiver.push(headers={"content-type": "application/json", "user-agent": "qingbo/1"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    (event,) = await receiver.ledger.events(Query())
    assert response.json() == {"received": True, "event": event.id, "duplicate": False}
    assert event.body == body_of()
    assert dict(event.headers)["user-agent"] == "qingbo/1"
    assert (await receiver.ledger.story(TASK)).task.state is TaskState.COMPLETED


async def test_duplicate_is_answered_like_the_first(receiver: Receiver) -> None:
    """A redelivery gets 200, the same event and `duplicate`."""
    first, second = [(await receiver.push()).json() for _ in range(2)]
    assert second == first | {"duplicate": True}
    assert receiver.state.tally.verdicts[("qingbo", Verdict.DUPLICATE.value)] == 1


async def test_parallel_duplicates_make_one_event(receiver: Receiver) -> None:
    """Fifty copies at once give one event and forty-nine duplicates."""
    answers = [response.json() for response in await asyncio.gather(*(receiver.push() for _ in range(50)))]
    assert len({answer["event"] for answer in answers}) == 1
    assert sum(answer["duplicate"] for answer in answers) == 49


async def test_query_and_trailing_slash_are_served(receiver: Receiver) -> None:
    """A trailing slash and a query change nothing: a redirect would lose the callback."""
    for suffix in ("/", "?attempt=2", "/?a=b.c"):
        response = await receiver.client.post(path_of() + suffix, content=body_of())
        assert response.status_code == 200


async def test_older_secret_still_verifies(start: Start) -> None:
    """Every listed secret is valid, so that URLs made before a rotation work."""
    async with start(secret=(OTHER_SECRET, SECRET)) as receiver:
        assert (await receiver.push()).status_code == 200
        response = await receiver.client.post(path_of(secret=OTHER_SECRET), content=body_of())
        assert response.json()["duplicate"] is True


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_405(receiver: Receiver, method: str) -> None:
    """Anything but POST is 405 with Allow, even for a valid URL."""
    response = await receiver.client.request(method, path_of())
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path",
    [
        "/callbacks/nobody/task_one.x",
        "/callbacks/reapi/task_one.x",  # it never pushes
        "/callbacks/reapi",
        "/callbacks/qingbo",  # no account endpoint: it does not sign
        "/callbacks/qingbo/",
        "/callbacks/qingbo//",
        "/callbacks/",
        "/callbacks//task_one.x",
        "/callbacks/QINGBO/task_one.x",
        "/callbacks/qingbo/task_one",
        "/callbacks/qingbo/.",
        "/callbacks/qingbo/.mac",
        "/callbacks/qingbo/task_.mac",
        "/callbacks/qingbo/task_" + "a" * 65 + ".mac",
        "/callbacks/qingbo/job_1.mac",
        "/callbacks/qingbo/task_o-ne.mac",
        "/callbacks/qingbo/task_%00.mac",
        "/callbacks/qingbo/task_%C3%A9.mac",
        "/callbacks/qingbo/%FF%FE",
        "/callbacks/qingbo/..%2F..%2Fetc/passwd",
        "/callbacks/qingbo/task_one.a.b",
        "/callbacks/qingbo/task_one/x.mac",
    ],
)
async def test_path_of_another_shape_is_404(receiver: Receiver, path: str) -> None:
    """An unknown provider, one that does not push, and a malformed task are not found."""
    assert_refused(await receiver.client.post(path, content=body_of()), 404, "not_found")


@pytest.mark.parametrize("path", ["/callbacks", "/nothing", "/callback/qingbo/x"])
async def test_unknown_route_is_404_in_json(receiver: Receiver, path: str) -> None:
    """Other paths get our JSON, not a framework's page."""
    response = await receiver.client.post(path)
    assert (response.status_code, response.json()) == (404, {"error": "Not Found"})


@pytest.mark.parametrize(
    "mac",
    [
        "",
        "x",
        "A" * 32,
        callback_mac(SECRET, "qingbo", "task_two").decode(),
        callback_mac(OTHER_SECRET, "qingbo", TASK).decode(),
        callback_mac(SECRET, "qingbo", TASK).decode().lower(),
        callback_mac(SECRET, "qingbo", TASK).decode() + "=",
        "%C3%A9%FF",
        "mac/more",
    ],
)
async def test_wrong_token_is_401_without_a_reason(receiver: Receiver, mac: str) -> None:
    """A wrong token is refused before the body is looked at, and nothing is stored."""
    response = await receiver.client.post(f"/callbacks/qingbo/{TASK}.{mac}", content=body_of())
    assert_refused(response, 401, "unauthorised")
    assert await events_of(receiver) == []


async def test_token_is_checked_before_the_length(receiver: Receiver) -> None:
    """A stranger with a huge body learns nothing but 401."""
    headers = {"content-length": str(1 << 40)}
    response = await receiver.client.post(f"/callbacks/qingbo/{TASK}.x", headers=headers)
    assert_refused(response, 401, "unauthorised")


@pytest.mark.parametrize("length", ["-1", "+1", "1.0", "0x10", "ten", "", "1 2", "1,1"])
async def test_malformed_length_is_400(receiver: Receiver, length: str) -> None:
    """A Content-Length that is no number is 400, where the server lets it through."""
    response = await receiver.push(b"{}", headers={"content-length": length})
    assert_refused(response, 400, "bad_request")
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("length", ["1048577", "9" * 30, "9" * 5000])
async def test_declared_length_above_the_limit_is_413(receiver: Receiver, length: str) -> None:
    """A body that says it is too large is not read, and its task becomes due."""
    await submitted(receiver.ledger)
    before = (await receiver.ledger.story(TASK)).task.fetch_at
    response = await receiver.push(b"", headers={"content-length": length})
    assert_refused(response, 413, "too_large")
    assert response.headers["connection"] == "close"
    story = await receiver.ledger.story(TASK)
    assert [kept.reason for kept in story.callbacks] == ["too_large"]
    assert before is None
    assert story.task.fetch_at is not None
    assert await events_of(receiver) == []


async def test_body_above_the_limit_is_413_however_it_comes(start: Start) -> None:
    """The limit holds while a body streams, and for one that lies about its length."""
    async with start(max_body_bytes=1024) as receiver:
        await submitted(receiver.ledger)

        async def stream() -> Any:
            for _ in range(20):
                yield b"x" * 100

        assert_refused(await receiver.client.post(path_of(), content=stream()), 413, "too_large")
        assert_refused(await receiver.push(b"x" * 1025, headers={"content-length": "10"}), 413, "too_large")
        assert (await receiver.push(b"x" * 1024)).status_code == 200


@pytest.mark.parametrize("name", POISON)
async def test_poison_is_kept_as_unrecognised(receiver: Receiver, name: str) -> None:
    """What cannot be understood, but came with a valid token, is kept byte for byte and answered with 200."""
    await submitted(receiver.ledger)
    response = await receiver.push(POISON[name])
    assert response.status_code == 200
    events = await receiver.ledger.events(Query())
    expected = EventType.TASK_COMPLETED if name == "a number of 31 digits" else EventType.CALLBACK_UNRECOGNISED
    assert [event.type for event in events] == [expected]
    assert events[0].body == POISON[name]
    assert (await receiver.push(body_of(), task_id="task_other")).status_code == 200


async def test_poison_does_not_harm_its_neighbours(receiver: Receiver) -> None:
    """Good callbacks in the same batch as poisonous ones are stored."""
    good = (receiver.push(body_of(provider_id=f"good-{n}"), task_id=f"task_{n}") for n in range(20))
    bad = (receiver.push(body, task_id=f"task_bad{n}") for n, body in enumerate(POISON.values()))
    responses = await asyncio.gather(*good, *bad)
    assert {response.status_code for response in responses} == {200}
    completed = await receiver.ledger.events(Query(type=EventType.TASK_COMPLETED))
    assert {event.task_id for event in completed} >= {f"task_{n}" for n in range(20)}


async def test_body_about_another_task_moves_nothing(receiver: Receiver) -> None:
    """A valid URL for one task with a body about another is kept, and neither task moves."""
    await submitted(receiver.ledger)
    await submitted(receiver.ledger, "task_two", "task-wave2")
    assert (await receiver.push(body_of(provider_id="task-wave2"))).status_code == 200
    states = {task.id: task.state for task in await receiver.ledger.tasks(Query())}
    assert states == {TASK: TaskState.SUBMITTED, "task_two": TaskState.SUBMITTED}
    assert await events_of(receiver) == [EventType.CALLBACK_UNRECOGNISED]


async def test_only_harmless_headers_are_kept(receiver: Receiver) -> None:
    """Known names are kept, cut to size and number; credentials under any name are not."""
    headers = {
        "authorization": "Bearer provider-credential",
        "cookie": "session=provider-credential",
        "proxy-authorization": "Basic provider-credential",
        "x-shared-secret": "provider-credential",
        "content-type": "application/json",
        "webhook-id": "msg_1",
        "svix-timestamp": "17",
        "x-acme-signature": "abc",
        "x-hub-signature-256": "sha256=abc",
        "x-github-event": "y" * 2000,
        "user-agent": "na\xefve",
    }
    await receiver.push(headers=[(k.encode(), v.encode("latin-1")) for k, v in headers.items()])
    (event,) = await receiver.ledger.events(Query())
    kept = dict(event.headers)
    assert set(kept) - {"content-length", "user-agent"} == set(headers) - {
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-shared-secret",
        "user-agent",
    }
    assert (kept["user-agent"], len(kept["x-github-event"])) == ("na\xefve", 512)


async def test_number_of_kept_headers_is_bounded(receiver: Receiver) -> None:
    """Of a hundred headers at most 32 are kept."""
    await receiver.push(headers={f"webhook-n{n}": "1" for n in range(100)})
    (event,) = await receiver.ledger.events(Query())
    assert len(event.headers) == 32


async def test_without_a_secret_callbacks_wait(start: Start) -> None:
    """Where no secret is set nothing can be verified: 503, so that the provider tries again; said at start."""
    with capture_logs() as logs:
        async with start(secret=(), public_url=None) as receiver:
            response = await receiver.push()
    assert_refused(response, 503, "unavailable")
    assert response.headers["retry-after"] == "5"
    assert [line["event"] for line in logs][:2] == ["receiver.no_secret", "receiver.no_public_url"]


async def test_bodies_in_flight_are_bounded(start: Start) -> None:
    """While others fill the room a body is put off; alone it always gets in."""
    async with start(max_inflight_bytes=2048) as receiver:
        assert (await receiver.push(b"x" * 5000)).status_code == 200
        reading, gate = asyncio.Event(), asyncio.Event()

        async def slow() -> Any:
            yield b"x" * 1500
            reading.set()
            await gate.wait()

        waiting = asyncio.create_task(
            receiver.client.post(path_of(), content=slow(), headers={"content-length": "1500"})
        )
        await reading.wait()
        assert receiver.state.inflight_bytes == 1500
        response = await receiver.push(b"y" * 600)
        assert_refused(response, 503, "unavailable")
        assert response.headers["retry-after"] == "5"
        gate.set()
        assert (await waiting).status_code == 200
        assert receiver.state.inflight_bytes == 0


async def test_every_reason_has_an_answer() -> None:
    """Each reason but a disconnected client has a prepared answer, none of them 2xx or 500."""
    assert set(ANSWERS) == set(Reason) - {Reason.DISCONNECTED}
    assert all(400 <= answer.status <= 503 and answer.status != 500 for answer in ANSWERS.values())


async def test_no_log_line_holds_a_token_or_a_secret(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither accepted nor refused callbacks leave the URL's token, a secret or a body in the log."""
    bodies = [body_of(), b"body-text", *POISON.values()]
    with capture_logs() as logs:
        for body in bodies:
            await receiver.push(body)
        await receiver.push(b"", headers={"content-length": "x"})
        await receiver.client.post(f"/callbacks/qingbo/{TASK}.{'Z' * 32}", content=b"body-text")
        await receiver.client.put(path_of())
        await receiver.get("/api/tasks")
        await receiver.state.rejections.close()
    printed = "".join(capfd.readouterr()) + msgspec.json.encode([_plain(line) for line in logs]).decode()
    assert "callback.rejected" in printed
    for secret in (callback_mac(SECRET, "qingbo", TASK), SECRET, b"Z" * 32, b"the-admin-token", b"body-text"):
        assert secret.decode() not in printed


def _plain(line: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in line.items()}


async def test_no_ledger_is_503_with_retry_after(make_settings: MakeSettings, tmp_path: Path) -> None:
    """While the ledger cannot be opened a callback is put off; a second later another try is made."""
    settings = make_settings(database_url=f"sqlite:///{tmp_path}/missing/ringback.db")
    app = create_app(settings)
    async with client_of(app) as client:
        response = await client.post(path_of(), content=body_of())
        assert_refused(response, 503, "unavailable")
        assert response.headers["retry-after"] == "5"
        large = await client.post(path_of(), headers={"content-length": "9" * 9})
        assert_refused(large, 503, "unavailable")

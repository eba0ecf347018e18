"""Kling, both directions; C = PROVIDERS C, K = kling.ai/document-api, from whose samples the fixtures are."""

import base64
import hmac
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringback.errors import InvalidSubmission, SubmissionRefused, Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Task, TaskError, TaskState, Trust
from ringback.providers.kling import Kling
from ringback.providers.provider import Response
from ringback.providers.signatures import Headers

KLING = Kling()
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
FIXTURES = Path(__file__).parent / "fixtures" / "kling"
HOOK = "https://us.example/callbacks/kling/task_1.mac"
ID = "CjI2v8a9b3n4q7p1"
FIRST, LAST, THIRD = "https://a.example/1.png", "https://a.example/2.png", "https://a.example/3.png"
UPDATED = datetime.fromtimestamp(1722769657, UTC)


def fixture(name: str) -> bytes:
    """Read a recorded body."""
    return (FIXTURES / f"{name}.json").read_bytes()


def push(body: bytes | dict[str, Any]) -> Reading:
    """Read a callback."""
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return KLING.read_callback(Callback(body=encoded, received_at=NOW))


def task(**fields: Any) -> Task:
    """Make a task with a form."""
    form = Form(**{"model": "kling-v2-6", "prompt": "a dog"} | fields)
    return Task(id="task_1", provider="kling", provider_id=ID, form=form)


def response(body: bytes | dict[str, Any], status: int = 200) -> Response:
    """Make an answer."""
    return Response(status=status, body=body if isinstance(body, bytes) else msgspec.json.encode(body))


def test_a_success() -> None:
    """C: flat; videos and images, which live 30 days from the last change."""
    told = push(fixture("callback_succeed"))
    assert (told.status, told.provider_id) == (TaskState.COMPLETED, ID)
    kinds = [(result.kind, result.url) for result in told.results]
    assert kinds == [("video", "https://cdn.klingai.com/v.mp4"), ("image", "https://h1.inkwai.com/x.png")]
    assert {result.expires_at for result in told.results} == {UPDATED + timedelta(days=30)}


def test_a_failure() -> None:
    """C: task_status_msg is the reason."""
    error = TaskError(message="Failure to pass the risk control system")
    assert push(fixture("callback_failed")) == Reading(status=TaskState.FAILED, provider_id=ID, error=error)


@pytest.mark.parametrize(
    ("word", "status"),
    [("submitted", TaskState.SUBMITTED), ("processing", TaskState.PROCESSING), ("Succeed", TaskState.COMPLETED)],
)
def test_the_words(word: str, status: TaskState) -> None:
    """C: submitted and processing are pushed too; a success without results is still one."""
    told = push({"task_id": ID, "task_status": word, "task_status_msg": "on its way", "task_result": {"videos": [7]}})
    assert told == Reading(status=status, provider_id=ID)


INVENTED: list[dict[str, Any]] = [
    {"event": "video.completed", "data": {"task_id": ID, "task_status": "succeed"}},
    {"code": 0, "data": {"task_id": ID, "task_status": "succeed"}},
    {"task_id": ID, "status": "succeed"},
    {"task_id": ID, "task_status": "succeeded"},
    {"task_id": ID, "task_status": ["succeed"]},
    {"task_id": ".", "task_status": "succeed"},
    {},
]


@pytest.mark.parametrize("body", INVENTED)
def test_what_third_parties_invented_is_not_read(body: dict[str, Any]) -> None:
    """C: `video.completed` and `data.*` are no callbacks of Kling's."""
    with pytest.raises(Unreadable):
        push(body)


def test_it_signs_nothing() -> None:
    """C: no signature is documented, so the token in our URL is the trust."""
    assert KLING.verify(Headers([]), b"", (), NOW, timedelta()) is Trust.TOKEN is KLING.trust


def test_the_token_of_two_keys() -> None:
    """K, "API authentication": a JWT of the access key, for 30 minutes, signed with the secret key."""
    token = KLING.authorization("ak_1:sk:2", NOW)["Authorization"].removeprefix("Bearer ")
    signed, _, signature = token.rpartition(".")
    header, claims = (msgspec.json.decode(base64.urlsafe_b64decode(part + "==")) for part in signed.split("."))
    seconds = int(NOW.timestamp())
    assert header == {"alg": "HS256", "typ": "JWT"}
    assert claims == {"iss": "ak_1", "exp": seconds + 1800, "nbf": seconds - 5}
    expected = base64.urlsafe_b64encode(hmac.digest(b"sk:2", signed.encode(), "sha256")).rstrip(b"=")
    assert signature.encode() == expected
    assert "=" not in token


def test_a_token_that_is_given_is_sent_as_it_is() -> None:
    """Relays of Kling's API take a plain bearer token."""
    assert KLING.authorization("sk-relay", NOW) == {"Authorization": "Bearer sk-relay"}


SENT: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("text", {}, "text2video", {"prompt": "a dog"}),
    ("the action says the same", {"action": "text2video"}, "text2video", {"prompt": "a dog"}),
    (
        "every field",
        {"aspect_ratio": "16:9", "resolution": "pro", "duration": 5, "extra": {"sound": "off"}},
        "text2video",
        {"prompt": "a dog", "aspect_ratio": "16:9", "mode": "pro", "duration": "5", "sound": "off"},
    ),
    ("an image", {"image_urls": (FIRST,), "prompt": None}, "image2video", {"image": FIRST}),
    (
        "two images",
        {"image_urls": (FIRST, LAST), "action": "image2video"},
        "image2video",
        {"prompt": "a dog", "image": FIRST, "image_tail": LAST},
    ),
]


@pytest.mark.parametrize(("fields", "kind", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(fields: dict[str, Any], kind: str, expected: dict[str, Any]) -> None:
    """K, "Create Task": the images decide the call, which the fetch follows; a duration is text."""
    request = KLING.build_submission(task(**fields), HOOK)
    assert (request.method, request.path) == ("POST", f"/videos/{kind}")
    assert msgspec.json.decode(request.body or b"") == {"model_name": "kling-v2-6", "callback_url": HOOK} | expected
    fetch = KLING.build_fetch(task(**fields))
    assert (fetch.method, fetch.path) == ("GET", f"/videos/{kind}/{ID}")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"callback_events": ("completed",)}, "callback_events", "no filter of events"),
    ({"action": "image2video"}, "action", "contradicts 0 image_urls"),
    ({"action": "upscale", "image_urls": (FIRST,)}, "action", "contradicts 1 image_urls"),
    ({"image_urls": (FIRST, LAST, THIRD)}, "image_urls", "got 3"),
    ({"prompt": None}, "prompt", "required when image_urls is empty"),
    ({"resolution": 7}, "mode", "must be text"),
    ({"extra": {"callback_url": "x"}}, "callback_url", "cannot be given"),
    ({"extra": {"model": "x"}}, "model", "cannot be given"),
]


@pytest.mark.parametrize(("fields", "field", "message"), REFUSED)
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """Before anything is sent, with Kling's own code for bad parameters and its own names."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        KLING.build_submission(task(**fields), HOOK)
    assert (caught.value.field, caught.value.code) == (field, "1201")


def test_what_was_not_submitted_here() -> None:
    """Without a form it cannot be sent, nor asked about: which of the two calls it was is not known."""
    stranger = Task(id="task_1", provider="kling", provider_id=ID)
    with pytest.raises(InvalidSubmission, match="no form"):
        KLING.build_submission(stranger, None)
    with pytest.raises(Unsupported, match="text2video or image2video"):
        KLING.build_fetch(stranger)


def test_the_answer_to_a_submission() -> None:
    """K: the task stands under data."""
    assert KLING.read_acceptance(response(fixture("created")), NOW) == Reading(
        status=TaskState.SUBMITTED, provider_id=ID
    )


def test_a_refusal() -> None:
    """K: a code other than 0, with HTTP 200 or a 4xx."""
    body = {"code": 1102, "message": "Account balance not enough", "request_id": "r1"}
    for status in (200, 429):
        with pytest.raises(SubmissionRefused) as caught:
            KLING.read_acceptance(response(body, status), NOW)
        assert caught.value.code == "1102"
        assert caught.value.args[0] == "Account balance not enough (request_id r1)"


@pytest.mark.parametrize("body", [{"code": 5000, "message": "x"}, {"code": 0, "data": {}}, {"code": "1"}, b"<html>"])
def test_an_answer_in_doubt(body: Any) -> None:
    """Where a task may have been made, nothing is said."""
    with pytest.raises(Unreadable):
        KLING.read_acceptance(response(body), NOW)


def test_an_id_is_not_lost() -> None:
    """A code beside a task that was made does not lose it."""
    told = KLING.read_acceptance(response({"code": 1, "data": {"task_id": ID, "task_status": "?"}}), NOW)
    assert told == Reading(status=TaskState.SUBMITTED, provider_id=ID)


def test_the_fetched_task() -> None:
    """C: a poll wraps the task in code and data; a code other than 0 is about the question."""
    told = KLING.read_task(response(fixture("query_succeed")), task(), NOW)
    assert [result.url for result in told.results] == ["https://cdn.klingai.com/v.mp4"]
    for body in ({"code": 1203, "message": "x"}, {"data": {"task_id": ID, "task_status": "succeed"}}):
        with pytest.raises(Unreadable, match="expected code 0"):
            KLING.read_task(response(body), task(), NOW)


@pytest.mark.parametrize("status", [TaskState.SUBMITTED, TaskState.PROCESSING, TaskState.COMPLETED, TaskState.FAILED])
def test_the_sample_is_read_back(status: TaskState) -> None:
    """What `ringback trigger` sends is what the provider would."""
    told = push(KLING.build_sample(ID, status, NOW).body)
    assert (told.status, told.provider_id) == (status, ID)
    assert bool(told.results) is (status is TaskState.COMPLETED)
    assert bool(told.error) is (status is TaskState.FAILED)


def test_there_is_no_sample_of_what_it_never_says() -> None:
    """Kling has no word for cancelled."""
    with pytest.raises(Unsupported):
        KLING.build_sample(ID, TaskState.CANCELLED, NOW)

"""Ark, both directions; each row names the rule it checks (C = PROVIDERS C, V = volcengine.com/docs/82379/1520757)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringback.errors import InvalidSubmission, SubmissionRefused, Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Result, Task, TaskError, TaskState, Trust
from ringback.providers.ark import Ark
from ringback.providers.provider import Request, Response
from ringback.providers.signatures.scheme import Headers

ARK = Ark()
MODEL = "doubao-seedance-1-5-pro-251215"
ID = "cgt-20260606160057-6bbjd"
ENDED = datetime.fromtimestamp(1780732917, UTC)
NOW = ENDED + timedelta(hours=1)
HOOK = "https://us.example/callbacks/ark/task_1.mac"
A, B = "https://a.example/1.png", "https://a.example/2.png"
PATH = "/contents/generations/tasks"
TASK = Task(id="task_1", provider="ark", provider_id=ID)
TEXT = {"type": "text", "text": "a fox"}


def fixture(name: str) -> dict[str, Any]:
    """Give the body of a fixture; each names the page that it is from."""
    text = (Path(__file__).parent / "fixtures/ark" / f"{name}.json").read_bytes()
    body: dict[str, Any] = msgspec.json.decode(text)["body"]
    return body


def form(**fields: Any) -> Form:
    """Make a form that passes, changed by `fields`."""
    return Form(**{"model": MODEL, "prompt": "a fox"} | fields)


def submission(asked: Form, callback_url: str | None = HOOK) -> Request:
    """Build the request for a form."""
    return ARK.build_submission(Task(id="task_1", provider="ark", form=asked), callback_url)


def push(said: Any) -> Reading:
    """Read a callback."""
    return ARK.read_callback(Callback(body=msgspec.json.encode(said), received_at=NOW))


def image(url: str, **role: str) -> dict[str, Any]:
    """Give an image as content."""
    return {"type": "image_url", "image_url": {"url": url}} | role


SENT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("a prompt", {}, {"content": [TEXT]}),
    (
        "V: its parameters",
        {"aspect_ratio": "16:9", "resolution": "720p", "duration": 5},
        {"content": [TEXT], "ratio": "16:9", "resolution": "720p", "duration": 5},
    ),
    ("V: one image needs no role", {"image_urls": (A,)}, {"content": [TEXT, image(A)]}),
    (
        "V: first and last frame",
        {"prompt": " ", "image_urls": (A, B)},
        {"content": [image(A, role="first_frame"), image(B, role="last_frame")]},
    ),
    (
        "V: references",
        {"prompt": None, "image_urls": (A, B, A)},
        {"content": [image(url, role="reference_image") for url in (A, B, A)]},
    ),
    (
        "the whole content",
        {"prompt": None, "extra": {"content": [image(A, role="last_frame")], "seed": 7}},
        {"content": [image(A, role="last_frame")], "seed": 7},
    ),
]


@pytest.mark.parametrize(("fields", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """The body holds the user's fields, in Ark's names, and our callback."""
    request = submission(form(**fields))
    assert (request.method, request.path) == ("POST", PATH)
    assert request.headers == {"Content-Type": "application/json"}
    assert msgspec.json.decode(request.body or b"") == {"model": MODEL, "callback_url": HOOK} | expected


def test_without_a_url_none_is_sent() -> None:
    """The poller will fetch it then; the key goes as a bearer token."""
    assert msgspec.json.decode(submission(form(), None).body or b"") == {"model": MODEL, "content": [TEXT]}
    assert ARK.authorization("k", NOW) == {"Authorization": "Bearer k"}


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("no filter", {"callback_events": ("completed",)}, "callback_events", "no filter"),
    ("no actions", {"action": "image2video"}, "action", "no actions"),
    ("some content", {"prompt": " "}, "content", "required"),
    ("content once", {"extra": {"content": []}}, "content", "given whole"),
    ("an image beside it", {"prompt": None, "image_urls": (A,), "extra": {"content": []}}, "content", "given whole"),
    ("ours", {"extra": {"ratio": "1:1"}}, "ratio", "the form or Ringback sets it"),
    ("no list of extras", {"extra": ["content"]}, "extra", "must be an object"),
]


@pytest.mark.parametrize(("fields", "field", "message"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """What has no place in Ark's API is refused before anything is sent."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        submission(form(**fields))
    assert caught.value.field == field


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        ARK.build_submission(TASK, None)


def test_the_answer_to_a_submission() -> None:
    """V: an id and nothing else; a refusal is {error: {code, message}}."""
    told = ARK.read_acceptance(Response(status=200, body=msgspec.json.encode({"id": ID})), NOW)
    assert told == Reading(status=TaskState.SUBMITTED, provider_id=ID)
    body = msgspec.json.encode({"error": {"code": "InvalidParameter", "message": "bad ratio", "param": "ratio"}})
    with pytest.raises(SubmissionRefused) as caught:
        ARK.read_acceptance(Response(status=400, body=body), NOW)
    assert (caught.value.code, caught.value.field) == ("InvalidParameter", "ratio")


def test_paths() -> None:
    """V: one path for all; an id that could climb out of it is refused."""
    assert ARK.build_fetch(TASK) == Request(method="GET", path=f"{PATH}/{ID}")
    assert ARK.build_cancel(TASK) == Request(method="DELETE", path=f"{PATH}/{ID}")
    with pytest.raises(Unreadable):
        ARK.build_fetch(Task(id="task_1", provider="ark", provider_id=".."))


def test_a_task_that_succeeded() -> None:
    """C: a push has the body of a fetch; its URLs work for 24 hours from its end, in seconds."""
    said, until = fixture("succeeded"), ENDED + timedelta(hours=24)
    video = Result(kind="video", url=said["content"]["video_url"], expires_at=until)
    frame = Result(kind="image", url=said["content"]["last_frame_url"], expires_at=until)
    expected = Reading(status=TaskState.COMPLETED, provider_id=ID, results=(video, frame))
    assert push(said) == expected
    assert ARK.read_task(Response(status=200, body=msgspec.json.encode(said)), TASK, NOW) == expected


def test_a_task_that_failed() -> None:
    """C: {code, message}."""
    error = TaskError(
        message="the output may contain sensitive information", code="OutputVideoSensitiveContentDetected"
    )
    assert push(fixture("failed")) == Reading(status=TaskState.FAILED, provider_id=ID, error=error)


WORDS = [
    ("queued", TaskState.SUBMITTED),
    ("running", TaskState.PROCESSING),
    ("expired", TaskState.EXPIRED),
    ("cancelled", TaskState.CANCELLED),
]


@pytest.mark.parametrize(("word", "status"), WORDS)
def test_the_other_words(word: str, status: TaskState) -> None:
    """C: six words in all; an end may come without an error."""
    assert push({"id": ID, "status": word, "content": None}) == Reading(status=status, provider_id=ID)


@pytest.mark.parametrize("said", [{}, {"id": ID}, {"id": ID, "status": "done"}, {"status": "queued"}])
def test_what_is_not_understood(said: dict[str, Any]) -> None:
    """Where the id or the status is in doubt nothing is guessed."""
    with pytest.raises(Unreadable):
        push(said)


SAMPLES = [TaskState.SUBMITTED, TaskState.PROCESSING, TaskState.COMPLETED, TaskState.FAILED, TaskState.EXPIRED]


@pytest.mark.parametrize("status", SAMPLES)
def test_a_sample_is_read(status: TaskState) -> None:
    """A sample says what it was made for, with results or an error that fit."""
    told = push(msgspec.json.decode(ARK.build_sample(ID, status, NOW).body))
    assert (told.status, told.provider_id) == (status, ID)
    assert bool(told.results) is (status is TaskState.COMPLETED)
    assert (told.error is not None) is (status is TaskState.FAILED)


def test_what_it_cannot_do() -> None:
    """C: unsigned, so the token in our URL is the trust; a cancellation is seen by fetching only."""
    assert ARK.verify(Headers([]), b"", (), NOW, timedelta(seconds=300)) is Trust.TOKEN
    assert not ARK.account_endpoint
    with pytest.raises(Unsupported):
        ARK.build_sample(ID, TaskState.CANCELLED, NOW)

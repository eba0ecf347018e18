"""Luma, both directions; each row names the rule it checks (C = PROVIDERS C, L = lumalabs/lumaai-python)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringback.errors import InvalidSubmission, SubmissionRefused, Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Result, Task, TaskError, TaskState, Trust
from ringback.providers.luma import Luma
from ringback.providers.provider import Request, Response
from ringback.providers.signatures.scheme import Headers

LUMA = Luma()
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
ID = "123e4567-e89b-12d3-a456-426614174000"
HOOK = "https://us.example/callbacks/luma/task_1.mac"
A, B = "https://a.example/1.png", "https://a.example/2.png"
TASK = Task(id="task_1", provider="luma", provider_id=ID)


def fixture(name: str) -> dict[str, Any]:
    """Give the body of a fixture; each names the page that it is from."""
    text = (Path(__file__).parent / "fixtures/luma" / f"{name}.json").read_bytes()
    body: dict[str, Any] = msgspec.json.decode(text)["body"]
    return body


def form(**fields: Any) -> Form:
    """Make a form that passes, changed by `fields`."""
    return Form(**{"model": "ray-2", "prompt": "a bear"} | fields)


def submission(asked: Form, callback_url: str | None = HOOK) -> Request:
    """Build the request for a form."""
    return LUMA.build_submission(Task(id="task_1", provider="luma", form=asked), callback_url)


def push(said: Any) -> Reading:
    """Read a callback."""
    return LUMA.read_callback(Callback(body=msgspec.json.encode(said), received_at=NOW))


def image(url: str) -> dict[str, str]:
    """Give a frame."""
    return {"type": "image", "url": url}


SENT: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("a video", {}, "video", {"prompt": "a bear"}),
    (
        "L: its fields",
        {"aspect_ratio": "16:9", "resolution": "720p", "duration": 5},
        "video",
        {"prompt": "a bear", "aspect_ratio": "16:9", "resolution": "720p", "duration": "5s"},
    ),
    ("L: a first frame", {"prompt": None, "image_urls": (A,)}, "video", {"keyframes": {"frame0": image(A)}}),
    (
        "L: both frames",
        {"prompt": " ", "image_urls": (A, B)},
        "video",
        {"keyframes": {"frame0": image(A), "frame1": image(B)}},
    ),
    (
        "own frames",
        {"prompt": None, "extra": {"keyframes": {}, "loop": True}},
        "video",
        {"keyframes": {}, "loop": True},
    ),
    (
        "L: an image",
        {"model": "photon-1", "image_urls": (A,)},
        "image",
        {"model": "photon-1", "prompt": "a bear", "image_ref": [{"url": A}]},
    ),
]


@pytest.mark.parametrize(("fields", "what", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(fields: dict[str, Any], what: str, expected: dict[str, Any]) -> None:
    """The body holds the user's fields, in Luma's names, and our callback."""
    request = submission(form(**fields))
    assert (request.method, request.path) == ("POST", f"/generations/{what}")
    assert request.headers == {"Content-Type": "application/json"}
    assert msgspec.json.decode(request.body or b"") == {"model": "ray-2", "callback_url": HOOK} | expected


def test_without_a_url_none_is_sent() -> None:
    """The poller will fetch it then; the key goes as a bearer token."""
    assert msgspec.json.decode(submission(form(), None).body or b"") == {"model": "ray-2", "prompt": "a bear"}
    assert LUMA.authorization("k", NOW) == {"Authorization": "Bearer k"}


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("no filter", {"callback_events": ("completed",)}, "callback_events", "no filter"),
    ("no actions", {"action": "extend"}, "action", "no actions"),
    ("two frames", {"image_urls": (A, B, A)}, "image_urls", "got 3"),
    ("a prompt or frames", {"prompt": " "}, "prompt", "required"),
    ("an image has no length", {"model": "photon-1", "duration": 5}, "duration", "no duration"),
    ("nor a resolution", {"model": "photon-1", "resolution": "4k"}, "resolution", "no resolution"),
    ("twice", {"image_urls": (A,), "extra": {"keyframes": {}}}, "keyframes", "given twice"),
    ("ours", {"extra": {"callback_url": "x"}}, "callback_url", "Ringback sets it"),
]


@pytest.mark.parametrize(("fields", "field", "message"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """What has no place in Luma's API is refused before anything is sent."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        submission(form(**fields))
    assert caught.value.field == field


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        LUMA.build_submission(TASK, None)


def test_the_answer_to_a_submission() -> None:
    """L: 201 with the generation, queued; a refusal is {detail}."""
    body = msgspec.json.encode({"id": ID, "state": "queued", "assets": None})
    told = LUMA.read_acceptance(Response(status=201, body=body), NOW)
    assert told == Reading(status=TaskState.SUBMITTED, provider_id=ID)
    with pytest.raises(SubmissionRefused, match="luma: Insufficient credits"):
        LUMA.read_acceptance(Response(status=400, body=b'{"detail":"Insufficient credits"}'), NOW)


def test_a_completed_generation() -> None:
    """C: a push is the generation, as a fetch gives it; the video that shows the way is no result."""
    until = NOW + timedelta(hours=24)
    video = Result(kind="video", url="https://example.com/video.mp4", expires_at=until)
    still = Result(kind="image", url="https://example.com/thumbnail.jpg", expires_at=until)
    expected = Reading(status=TaskState.COMPLETED, provider_id=ID, results=(video, still))
    said = fixture("completed")
    assert push(said) == expected
    assert LUMA.build_fetch(TASK) == Request(method="GET", path=f"/generations/{ID}")
    assert LUMA.read_task(Response(status=200, body=msgspec.json.encode(said)), TASK, NOW) == expected


def test_a_failed_generation() -> None:
    """C: failure_reason is a text."""
    error = TaskError(message="prompt not allowed because advanced moderation failed")
    assert push(fixture("failed")) == Reading(status=TaskState.FAILED, provider_id=ID, error=error)


@pytest.mark.parametrize("said", [{}, {"id": ID}, {"id": ID, "state": "done"}, {"state": "completed"}])
def test_what_is_not_understood(said: dict[str, Any]) -> None:
    """Where the id or the state is in doubt nothing is guessed."""
    with pytest.raises(Unreadable):
        push(said)


SAMPLES = [TaskState.SUBMITTED, TaskState.PROCESSING, TaskState.COMPLETED, TaskState.FAILED]


@pytest.mark.parametrize("status", SAMPLES)
def test_a_sample_is_read(status: TaskState) -> None:
    """A sample says what it was made for, with results or an error that fit."""
    told = push(msgspec.json.decode(LUMA.build_sample(ID, status, NOW).body))
    assert (told.status, told.provider_id) == (status, ID)
    assert bool(told.results) is (status is TaskState.COMPLETED)
    assert (told.error is not None) is (status is TaskState.FAILED)


def test_what_it_cannot_do() -> None:
    """C: unsigned, so the token in our URL is the trust; there is no state for a cancellation."""
    assert LUMA.verify(Headers([]), b"", (), NOW, timedelta(seconds=300)) is Trust.TOKEN
    assert not LUMA.account_endpoint
    with pytest.raises(Unsupported):
        LUMA.build_sample(ID, TaskState.CANCELLED, NOW)

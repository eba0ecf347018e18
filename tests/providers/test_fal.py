"""fal, both directions; each row names the rule it checks (C = PROVIDERS C, W = webhooks, Q = queue, R = errors)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.web.headers import kept_headers
from ringback.errors import InvalidSubmission, SubmissionRefused, Unauthentic, Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Result, Task, TaskError, TaskState, Trust
from ringback.providers.fal import Fal
from ringback.providers.provider import Request, Response
from ringback.providers.signatures.ed25519 import public_of
from ringback.providers.signatures.scheme import Headers, Key

FAL = Fal()
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
MODEL = "fal-ai/flux/dev"
ID = "123e4567-e89b-12d3-a456-426614174000"
HOOK = "https://us.example/callbacks/fal/task_1.mac"
A, B = "https://a.example/1.png", "https://a.example/2.png"
PRIVATE = bytes(range(32))
TOLERANCE = timedelta(seconds=300)
LIFE = timedelta(days=7)


def fixture(name: str) -> dict[str, Any]:
    """Give the body of a fixture; each names the page that it is from."""
    text = (Path(__file__).parent / "fixtures/fal" / f"{name}.json").read_bytes()
    body: dict[str, Any] = msgspec.json.decode(text)["body"]
    return body


def form(**fields: Any) -> Form:
    """Make a form that passes, changed by `fields`."""
    return Form(**{"model": MODEL, "prompt": "a cat"} | fields)


def task(model: str | None = MODEL, provider_id: str | None = ID) -> Task:
    """Make a task that was submitted."""
    return Task(id="task_1", provider="fal", provider_id=provider_id, form=form(model=model) if model else None)


def submission(asked: Form, callback_url: str | None = HOOK) -> Request:
    """Build the request for a form."""
    return FAL.build_submission(Task(id="task_1", provider="fal", form=asked), callback_url)


def sent(asked: Form) -> Any:
    """Give the JSON that is sent for a form."""
    return msgspec.json.decode(submission(asked).body or b"")


def push(said: Any, *headers: tuple[str, str]) -> Reading:
    """Read a callback."""
    return FAL.read_callback(Callback(body=msgspec.json.encode(said), headers=headers, received_at=NOW))


def polled(said: Any, status: int = 200) -> Reading | Request:
    """Read one part of the answer to a fetch."""
    return FAL.read_task(Response(status=status, body=msgspec.json.encode(said)), task(), NOW)


def test_the_request_on_the_page() -> None:
    """W: the callback URL is a query parameter, percent-encoded; the body is the model's input, and the key a Key."""
    request = submission(form())
    assert (request.method, request.headers) == ("POST", {"Content-Type": "application/json"})
    encoded = "https%3A%2F%2Fus.example%2Fcallbacks%2Ffal%2Ftask_1.mac"
    assert request.path == f"/fal-ai/flux/dev?fal_webhook={encoded}"
    assert submission(form(), None).path == "/fal-ai/flux/dev"
    assert FAL.authorization("k", NOW) == {"Authorization": "Key k"}


SENT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("a prompt", {}, {"prompt": "a cat"}),
    ("one image", {"prompt": " ", "image_urls": (A,)}, {"image_url": A}),
    ("two images", {"image_urls": (A, B)}, {"prompt": "a cat", "image_urls": [A, B]}),
    (
        "our names",
        {"aspect_ratio": "16:9", "resolution": "720p"},
        {"prompt": "a cat", "aspect_ratio": "16:9", "resolution": "720p"},
    ),
    (
        "extras",
        {"extra": {"duration": "5", "image_urls": [A]}},
        {"prompt": "a cat", "duration": "5", "image_urls": [A]},
    ),
    ("a model's own model", {"extra": {"model": "x"}}, {"prompt": "a cat", "model": "x"}),
]


@pytest.mark.parametrize(("fields", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """The body holds the user's fields and extras, and nothing of ours."""
    assert sent(form(**fields)) == expected


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("no filter", {"callback_events": ("completed",)}, "callback_events", "no filter"),
    ("no actions", {"action": "edit"}, "action", "no actions"),
    ("durations differ", {"duration": 5}, "duration", "as an extra"),
    ("no app", {"model": "flux"}, "model", "owner/app"),
    ("no app behind a namespace", {"model": "workflows/me"}, "model", "owner/app"),
    ("no way up", {"model": "fal-ai/../x"}, "model", "owner/app"),
    ("no query", {"model": "fal-ai/flux?a=b"}, "model", "owner/app"),
    ("no trailing slash", {"model": "fal-ai/flux/"}, "model", "owner/app"),
    ("model required", {"model": " "}, "model", "model is required"),
    ("twice", {"extra": {"prompt": "b"}}, "prompt", "given twice"),
    ("ours", {"extra": {"fal_webhook": "x"}}, "fal_webhook", "Ringback sets it"),
    ("a lone image URL", {"image_urls": A}, "image_urls", "must be a list"),
]


@pytest.mark.parametrize(("fields", "field", "message"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """What has no place in fal's API is refused before anything is sent."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        sent(form(**fields))
    assert caught.value.field == field


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        FAL.build_submission(Task(id="task_1", provider="fal"), None)


def test_the_answer_to_a_submission() -> None:
    """Q: the id is request_id."""
    said = fixture("accepted")
    told = FAL.read_acceptance(Response(status=200, body=msgspec.json.encode(said)), NOW)
    assert told == Reading(status=TaskState.SUBMITTED, provider_id=said["request_id"])


DETAILS: list[tuple[Any, str]] = [
    ("Cannot access application", "Cannot access application"),
    ([{"loc": ["body", "n", 0], "msg": "too small"}, {"msg": "late"}, "?"], "body.n.0: too small; late"),
    ([{"loc": "body"}, {"loc": ["x"]}], "refused with 422, no reason given"),
    (None, "refused with 422, no reason given"),
]


@pytest.mark.parametrize(("detail", "message"), DETAILS)
def test_a_refusal(detail: Any, message: str) -> None:
    """R: a `detail` of text or of faults becomes the message."""
    body = msgspec.json.encode({"detail": detail})
    with pytest.raises(SubmissionRefused) as caught:
        FAL.read_acceptance(Response(status=422, body=body), NOW)
    assert caught.value.args[0] == message


APPS = [
    (MODEL, "fal-ai/flux"),
    ("fal-ai/fast-sdxl", "fal-ai/fast-sdxl"),
    ("fal-ai/kling-video/v2/master/image-to-video", "fal-ai/kling-video"),
    ("workflows/me/mine/run", "workflows/me/mine"),
]


@pytest.mark.parametrize(("model", "app"), APPS)
def test_requests_are_asked_about_under_their_app(model: str, app: str) -> None:
    """Q: the sub-path is used when making the request, but not when getting its status or result."""
    path = f"/{app}/requests/{ID}"
    assert FAL.build_fetch(task(model)) == Request(method="GET", path=path + "/status")
    assert FAL.build_cancel(task(model)) == Request(method="PUT", path=path + "/cancel")


def test_without_its_model_a_task_cannot_be_asked_about() -> None:
    """The app is not in the callback; an id that could climb out of the path is refused."""
    with pytest.raises(Unsupported, match="model"):
        FAL.build_fetch(task(None))
    with pytest.raises(Unreadable):
        FAL.build_fetch(task(provider_id=".."))


QUEUE: list[tuple[dict[str, Any], Reading | Request]] = [
    ({"status": "IN_QUEUE", "queue_position": 2}, Reading(status=TaskState.SUBMITTED, provider_id=ID)),
    ({"status": "IN_PROGRESS", "logs": None}, Reading(status=TaskState.PROCESSING, provider_id=ID)),
    ({"status": "COMPLETED", "request_id": ID}, Request(method="GET", path=f"/fal-ai/flux/requests/{ID}")),
    (
        {"status": "COMPLETED", "request_id": ID, "error": "timed out", "error_type": "request_timeout"},
        Reading(status=TaskState.FAILED, provider_id=ID, error=TaskError(message="timed out", code="request_timeout")),
    ),
    ({"status": "IN_PROGRESS", "request_id": "other"}, Reading(status=TaskState.PROCESSING, provider_id="other")),
]


@pytest.mark.parametrize(("said", "expected"), QUEUE)
def test_the_status_of_a_request(said: dict[str, Any], expected: Reading | Request) -> None:
    """Q: three words; once it is completed the results are asked for, unless it failed."""
    assert polled(said) == expected


def test_the_results_of_a_request() -> None:
    """Q: the second part is the model's output alone, whatever it calls its own status."""
    told = polled({"video": {"url": "https://v3.fal.media/x.mp4"}, "status": "COMPLETED"})
    result = Result(kind="video", url="https://v3.fal.media/x.mp4", expires_at=NOW + LIFE)
    assert told == Reading(status=TaskState.COMPLETED, provider_id=ID, results=(result,))
    assert polled({"status": 7, "logs": []}) == Reading(status=TaskState.COMPLETED, provider_id=ID)
    with pytest.raises(Unreadable, match="504"):
        polled({"detail": "timed out"}, 504)


def test_the_push_on_the_page() -> None:
    """W: OK is completed; the image lives for 7 days from when it was seen."""
    result = Result(kind="image", url="https://url.to/image.png", expires_at=NOW + LIFE)
    assert push(fixture("completed")) == Reading(status=TaskState.COMPLETED, provider_id=ID, results=(result,))


PAYLOADS: list[tuple[str, Any, list[tuple[str, str]]]] = [
    ("by its content type", {"out": {"url": A, "content_type": "video/mp4"}}, [("video", A)]),
    ("by the key", {"audio_file": {"url": "https://a.b/c", "content_type": 7}}, [("audio", "https://a.b/c")]),
    ("by its ending", {"mask": {"url": A}}, [("image", A)]),
    (
        "other files",
        {"lora": {"url": "https://a.b/c.safetensors", "content_type": "application/octet-stream"}},
        [("file", "https://a.b/c.safetensors")],
    ),
    ("in their order", {"images": [{"url": B}, {"url": A}, {"url": B}]}, [("image", B), ("image", A)]),
    ("nested", {"a": {"b": {"video": {"url": A}}}}, [("video", A)]),
    ("not for ever", {"a": {"b": {"c": {"d": {"video": {"url": A}}}}}}, []),
    ("no texts", {"output": "a cat", "url": 7, "image_url": A}, []),
    ("no unusable URLs", {"image": {"url": "data:image/png;base64,AA"}}, []),
    ("a bare list", [{"url": A}], [("image", A)]),
]


@pytest.mark.parametrize(("payload", "expected"), [pytest.param(*row[1:], id=row[0]) for row in PAYLOADS])
def test_files_are_found_by_their_shape(payload: Any, expected: list[tuple[str, str]]) -> None:
    """C: the payload is the model's own; objects with a url are its files."""
    told = push({"request_id": ID, "status": "OK", "payload": payload})
    assert [(found.kind, found.url) for found in told.results] == expected


ERRORS: list[tuple[str, dict[str, Any], TaskState, TaskError | None]] = [
    (
        "W: the page",
        fixture("error"),
        TaskState.FAILED,
        TaskError(message="Invalid status code: 422: body.prompt: field required", code="value_error.missing"),
    ),
    (
        "R: a type",
        {"payload": {"detail": "timed out", "error_type": "request_timeout"}},
        TaskState.FAILED,
        TaskError(message="timed out", code="request_timeout"),
    ),
    (
        "R: cancelled by us",
        {"error": "cancelled", "error_type": "client_cancelled"},
        TaskState.CANCELLED,
        TaskError(message="cancelled", code="client_cancelled"),
    ),
    ("a code alone", {"error_type": "x"}, TaskState.FAILED, TaskError(message="x", code="x")),
    ("nothing said", {"error": None, "payload": {"detail": []}}, TaskState.FAILED, None),
]


@pytest.mark.parametrize(("fields", "status", "error"), [pytest.param(*row[1:], id=row[0]) for row in ERRORS])
def test_errors(fields: dict[str, Any], status: TaskState, error: TaskError | None) -> None:
    """The message holds the faults that fal found, and the code its type."""
    told = push({"request_id": ID, "status": "ERROR"} | fields)
    assert told == Reading(status=status, provider_id=ID, error=error)


def test_a_payload_that_was_left_out_is_not_taken_for_the_result() -> None:
    """W, "Payload errors": were the task completed by it, nobody would fetch its results any more."""
    with pytest.raises(Unreadable, match="must be fetched"):
        push(fixture("payload_error"))


@pytest.mark.parametrize("said", [{}, {"request_id": ID}, {"request_id": ID, "status": "COMPLETED", "payload": {}}])
def test_what_is_not_understood(said: dict[str, Any]) -> None:
    """C: the words of a push are not those of the queue."""
    with pytest.raises(Unreadable):
        push(said)


def test_the_header_must_name_the_same_request() -> None:
    """The signature covers both, so a difference is fal's, and nothing is guessed."""
    header = "x-fal-webhook-request-id"
    assert push(fixture("completed"), (header, ID)).provider_id == ID
    with pytest.raises(Unreadable, match="another request"):
        push(fixture("completed"), (header, "other"))


@pytest.mark.parametrize("status", [TaskState.COMPLETED, TaskState.FAILED])
def test_a_signed_sample_is_accepted_and_read(status: TaskState) -> None:
    """What is signed as fal does is verified, keeps what reading needs, and is read; a changed byte is refused."""
    sample = FAL.build_sample(ID, status, NOW)
    assert FAL.scheme is not None
    signed = FAL.scheme.sign(sample.body, PRIVATE, now=NOW, event_id=ID)
    headers = Headers([(name.encode(), value.encode()) for name, value in signed.items()])
    keys = (Key(public_of(PRIVATE)),)
    assert FAL.verify(headers, sample.body, keys, NOW, TOLERANCE) is Trust.SIGNED
    kept = kept_headers(headers)
    assert dict(kept) == signed
    assert FAL.read_callback(Callback(body=sample.body, headers=kept, received_at=NOW)).status is status
    with pytest.raises(Unauthentic):
        FAL.verify(headers, sample.body + b" ", keys, NOW, TOLERANCE)


def test_there_is_no_sample_of_what_fal_does_not_push() -> None:
    """C: OK and ERROR only."""
    with pytest.raises(Unsupported):
        FAL.build_sample(ID, TaskState.PROCESSING, NOW)


def test_other_customers_of_fal_are_kept_out() -> None:
    """Its keys sign for all its customers: without the token in the URL anybody could send a signed callback."""
    assert not FAL.account_endpoint
    assert not FAL.open_endpoint

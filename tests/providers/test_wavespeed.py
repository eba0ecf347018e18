"""WaveSpeed, both directions; fixtures name the pages (C = PROVIDERS C)."""

import hmac
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from msgspec.structs import replace

from ringback.errors import InvalidSubmission, SubmissionRefused, Unreadable, Unsupported
from ringback.model import Form, Reading, Result, Task, TaskError, TaskState, Trust
from ringback.providers import Response
from ringback.providers.wavespeed import WaveSpeed
from tests.providers.recorded import NOW, check_signed, read, recorded, verify

WAVESPEED = WaveSpeed()
SECRET, OTHER = "whsec_0123456789abcdef0123456789abcdef", "whsec_fedcba9876543210fedcba9876543210"
ID = "45b392b22c3b449fa935bd4a1b2c3d4e"
MODEL = "wavespeed-ai/flux-dev-lora"
HOOK = "https://us.example/a?b=c&d/callbacks/wavespeed/task_1.mac"
IMAGE = "https://a.example/1.png"
TASK = Task(id="task_1", provider="wavespeed", provider_id=ID)
URL = "https://d1q70pf5vjeyhc.cloudfront.net/predictions/45b392b2/1.jpeg"


def sent(form: Form, hook: str | None = None) -> tuple[str, Any]:
    """Give path and JSON that are sent for a form."""
    request = WAVESPEED.build_submission(Task(id="task_1", provider="wavespeed", form=form), hook)
    assert request.method == "POST"
    assert request.headers == {"Content-Type": "application/json"}
    return request.path, msgspec.json.decode(request.body or b"")


def accept(status: int, body: Any) -> Reading:
    """Read an answer to a submission."""
    return WAVESPEED.read_acceptance(Response(status=status, body=msgspec.json.encode(body)), NOW)


def test_it_is_signed() -> None:
    """C: the headers of Standard Webhooks, in a dialect."""
    check_signed(WAVESPEED, SECRET, OTHER, recorded("wavespeed", "completed").body)


def test_the_signature_is_the_documented_one() -> None:
    """wavespeed.ai/docs/verify-webhooks: `v3,` and hex, under the text after whsec_, which is not decoded."""
    body = recorded("wavespeed", "completed").body
    timestamp = str(int(NOW.timestamp()))
    digest = hmac.digest(SECRET.removeprefix("whsec_").encode(), f"{ID}.{timestamp}.".encode() + body, "sha256").hex()
    headers = {"webhook-id": ID, "webhook-timestamp": timestamp, "webhook-signature": f"v3,{digest}"}
    assert verify(WAVESPEED, SECRET, body, headers) is Trust.SIGNED


def test_a_completed_task() -> None:
    """wavespeed.ai/docs/how-wavespeedai-works: results are kept for 7 days; an empty error is none."""
    told = read(WAVESPEED, recorded("wavespeed", "completed").body, {"webhook-id": "msg_1"})
    result = Result(kind="image", url=URL, expires_at=NOW + timedelta(days=7))
    assert told == Reading(status=TaskState.COMPLETED, provider_id=ID, event_id="msg_1", results=(result,))


def test_a_failed_task() -> None:
    """The reason is a text."""
    told = read(WAVESPEED, recorded("wavespeed", "failed").body)
    error = TaskError(message="Content flagged as potentially sensitive")
    assert told == Reading(status=TaskState.FAILED, provider_id=ID, error=error)


def test_a_wrapped_push_is_read_as_well() -> None:
    """The answers to our own requests are wrapped; should a push ever be, nothing is lost."""
    body = recorded("wavespeed", "completed")
    assert read(WAVESPEED, msgspec.json.encode({"code": 200, "data": body.json})) == read(WAVESPEED, body.body)


@pytest.mark.parametrize("body", [{"status": "completed"}, {"id": ID}, {"id": ID, "status": "resting"}])
def test_what_is_not_understood(body: dict[str, Any]) -> None:
    """Where the id or the status is in doubt nothing is guessed."""
    with pytest.raises(Unreadable) as caught:
        read(WAVESPEED, msgspec.json.encode(body))
    assert len(str(caught.value)) <= 300


def test_a_fetched_task() -> None:
    """wavespeed.ai/docs/get-result: {code, message, data}."""
    told = WAVESPEED.read_task(Response(status=200, body=recorded("wavespeed", "result").body), TASK, NOW)
    assert (told.status, told.provider_id, told.event_id) == (TaskState.COMPLETED, "pred_abc123", None)
    assert [result.url for result in told.results] == ["https://cdn.wavespeed.ai/generated/image123.png"]
    request = WAVESPEED.build_fetch(TASK)
    assert (request.method, request.path) == ("GET", f"/predictions/{ID}/result")
    with pytest.raises(Unreadable):
        WAVESPEED.build_fetch(replace(TASK, provider_id=".."))


SENT: list[tuple[str, Form, dict[str, Any]]] = [
    (
        "the fields of the form",
        Form(model=MODEL, prompt="a", aspect_ratio="16:9"),
        {"prompt": "a", "aspect_ratio": "16:9"},
    ),
    ("numbers", Form(model=MODEL, resolution="720p", duration=5), {"resolution": "720p", "duration": 5}),
    ("a blank prompt is none", Form(model=MODEL, prompt=" "), {}),
    ("one image", Form(model=MODEL, image_urls=(IMAGE,)), {"image": IMAGE}),
    ("several", Form(model=MODEL, image_urls=(IMAGE, IMAGE)), {"images": [IMAGE, IMAGE]}),
    (
        "extras",
        Form(model=MODEL, extra={"size": "1024*1024", "images": [IMAGE]}),
        {"size": "1024*1024", "images": [IMAGE]},
    ),
]


@pytest.mark.parametrize(("form", "body"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(form: Form, body: dict[str, Any]) -> None:
    """The user's fields, and without a callback URL no query."""
    assert sent(form) == (f"/{MODEL}", body)


def test_the_webhook_stands_in_the_query() -> None:
    """wavespeed.ai/docs/how-to-use-webhooks; whatever is in our URL stays one value."""
    path, body = sent(Form(model=MODEL, prompt="a"), HOOK)
    parts = urlsplit(path)
    assert (parts.path, parse_qs(parts.query)) == (f"/{MODEL}", {"webhook": [HOOK]})
    assert body == {"prompt": "a"}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": "flux"}, "model", "must be a path"),
    ({"model": "a/../b"}, "model", "must be a path"),
    ({"model": "a/b?webhook=x"}, "model", "must be a path"),
    ({"action": "generate"}, "action", "no actions"),
    ({"callback_events": ("completed",)}, "callback_events", "no filter"),
    ({"extra": {"webhook_url": "https://x.example"}}, "webhook_url", "cannot be given"),
    ({"image_urls": (IMAGE,), "extra": {"images": []}}, "images", "cannot be given"),
]


@pytest.mark.parametrize(("fields", "field", "message"), REFUSED)
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """What could only fail, or go elsewhere, is refused before it costs anything."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        sent(Form(**{"model": MODEL} | fields))
    assert (caught.value.provider, caught.value.field) == ("wavespeed", field)


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        WAVESPEED.build_submission(TASK, None)


def test_the_answer_to_a_submission() -> None:
    """wavespeed.ai/docs/submit-task: created, with the id inside data."""
    told = accept(200, recorded("wavespeed", "created").json)
    assert told == Reading(status=TaskState.SUBMITTED, provider_id="pred_abc123")


def test_a_refusal() -> None:
    """The code is the HTTP status, there or in the body; anything else without an id has an unknown end."""
    body = {"code": 400, "message": "invalid model"}
    for status in (400, 200):
        with pytest.raises(SubmissionRefused, match="invalid model"):
            accept(status, body)
    with pytest.raises(Unreadable):
        accept(200, {"code": 500, "message": "try again"})
    assert accept(200, body | {"data": {"id": ID, "status": "created"}}).provider_id == ID


@pytest.mark.parametrize("state", TaskState)
def test_a_sample_is_read_back(state: TaskState) -> None:
    """What `ringback trigger` sends says the state that was asked for; it pushes two of them."""
    if state not in (TaskState.COMPLETED, TaskState.FAILED):
        with pytest.raises(Unsupported, match=state):
            WAVESPEED.build_sample(ID, state, NOW)
        return
    told = read(WAVESPEED, WAVESPEED.build_sample(ID, state, NOW).body)
    assert isinstance(told, Reading)
    assert (told.status, told.provider_id) == (state, ID)
    assert (bool(told.results), bool(told.error)) == (state is TaskState.COMPLETED, state is TaskState.FAILED)

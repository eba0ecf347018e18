"""reAPI, both directions; each row names the rule it checks (S0 = shared seed 000…, B = PROVIDERS B)."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ringback.errors import InvalidSubmission, SubmissionRefused, Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Result, Task, TaskError, TaskState
from ringback.providers.provider import Response
from ringback.providers.reapi import Reapi

REAPI = Reapi()
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
GROK = "grok-imagine-1.0-video"
ID = "task_018f5a3a1b6e7d9f8c2b4d6e8f0a2c4e"
URL = "https://cdn.reapi.ai/media/tasks/018f/0.mp4"
IMAGE = ("https://your-cdn.com/reference.jpg",)
TASK = Task(id="task_1", provider="reapi", provider_id=ID)


def form(**fields: Any) -> Form:
    """Make a form that passes, changed by `fields`."""
    return Form(**{"model": GROK, "prompt": "a dog"} | fields)


def sent(asked: Form) -> Any:
    """Give the JSON that is sent for a form."""
    task = Task(id="task_1", provider="reapi", form=asked)
    return msgspec.json.decode(REAPI.build_submission(task, "https://us.example").body or b"")


def fetch(**fields: Any) -> Reading:
    """Read the answer to a fetch."""
    return REAPI.read_task(Response(status=200, body=msgspec.json.encode({"id": ID} | fields)), TASK, NOW)


def test_the_request_on_the_page() -> None:
    """S0 "Quick example": path, headers and names; no callback_url and no Idempotency-Key are known there."""
    asked = form(aspect_ratio="16:9", duration=6, resolution="720p")
    request = REAPI.build_submission(Task(id="task_1", provider="reapi", form=asked), "https://us.example")
    assert (request.method, request.path) == ("POST", "/videos/generations")
    assert request.headers == {"Content-Type": "application/json"}
    expected = {"model": GROK, "prompt": "a dog", "size": "16:9", "duration": 6, "quality": "720p"}
    assert msgspec.json.decode(request.body or b"") == expected


SENT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("S0: T2V minimum", {}, {"prompt": "a dog"}),
    ("S0: I2V needs no prompt", {"prompt": " ", "image_urls": IMAGE}, {"image_urls": list(IMAGE)}),
    (
        "S0: a blank prompt is missing, not long",
        {"prompt": " " * 5000, "image_urls": IMAGE},
        {"image_urls": list(IMAGE)},
    ),
    ("an action that agrees is not sent", {"action": "generate"}, {"prompt": "a dog"}),
    ("nor the other", {"action": "image2video", "image_urls": IMAGE}, {"prompt": "a dog", "image_urls": list(IMAGE)}),
    ("extra at the top level", {"extra": {"seed": 7}}, {"prompt": "a dog", "seed": 7}),
    ("S0: exactly 4,000", {"prompt": "é" * 4000}, {"prompt": "é" * 4000}),
]


@pytest.mark.parametrize(("fields", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """The body holds the user's fields, in reAPI's names."""
    assert sent(form(**fields)) == {"model": GROK} | expected


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"prompt": None}, "20002", "prompt", "grok-imagine: prompt is required when image_urls is empty (text-to-video)"),
    ({"prompt": " \n"}, "20002", "prompt", "grok-imagine: prompt is required when image_urls is empty (text-to-video)"),
    ({"prompt": "x" * 4001}, "20007", "prompt", "grok-imagine: prompt exceeds 4000 characters (got 4001)"),
    ({"image_urls": IMAGE * 8}, "20003", "image_urls", "grok-imagine: image_urls accepts at most 7 entries, got 8"),
    ({"duration": 31}, "20003", "duration", "grok-imagine: duration must be 6-30 seconds, got 31"),
    (
        {"aspect_ratio": "4:3"},
        "20003",
        "size",
        'grok-imagine: invalid size "4:3" (allowed: 16:9 / 9:16 / 1:1 / 3:2 / 2:3)',
    ),
    ({"resolution": "720P"}, "20003", "quality", 'grok-imagine: invalid quality "720P" (allowed: 480p / 720p)'),
    (
        {"image_urls": ("data:image/png,x",)},
        "20003",
        "image_urls",
        "grok-imagine: image_urls entries must be public http(s) URLs",
    ),
    (
        {"model": "x", "image_urls": ("data:,",)},
        "20003",
        "image_urls",
        "image_urls entries must be public http(s) URLs",
    ),
    ({"duration": "6"}, "20003", "duration", "duration must be an integer, got '6'"),
    ({"duration": False}, "20003", "duration", "duration must be an integer, got bool"),
    ({"aspect_ratio": 1}, "20003", "size", "size must be text, got 1"),
    ({"model": ""}, "20002", "model", "model is required"),
    (
        {"callback_events": ("completed",)},
        "20003",
        "callback_events",
        "reAPI sends no callbacks; leave callback_events out",
    ),
    (
        {"extra": {"quality": "4k"}},
        "20003",
        "quality",
        "quality cannot be given as an extra: the form or Ringback sets it",
    ),
    (
        {"extra": {"callback_url": "x"}},
        "20003",
        "callback_url",
        "callback_url cannot be given as an extra: the form or Ringback sets it",
    ),
]


@pytest.mark.parametrize(("fields", "code", "field", "message"), REFUSED)
def test_what_is_refused(fields: dict[str, Any], code: str, field: str, message: str) -> None:
    """S0 "Validation errors": each trigger gives the code and the message on the page, before anything is sent."""
    with pytest.raises(InvalidSubmission) as caught:
        sent(form(**fields))
    assert (caught.value.code, caught.value.field, caught.value.args[0]) == (code, field, message)


@pytest.mark.parametrize(("action", "images"), [("image2video", ()), ("generate", IMAGE), ("upscale", IMAGE)])
def test_an_action_that_contradicts_is_refused(action: str, images: tuple[str, ...]) -> None:
    """S0 "Mode routing": the count decides; an action that it cannot honour must not be ignored in silence."""
    with pytest.raises(InvalidSubmission, match="contradicts"):
        REAPI.validate(form(action=action, image_urls=images))


def test_other_models_are_checked_for_types_only() -> None:
    """S0 speaks of one model; another one's own limits are not known here."""
    REAPI.validate(Form(model="other", duration=5, aspect_ratio="21:9", resolution="4k", image_urls=IMAGE * 9))


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        REAPI.build_submission(Task(id="task_1", provider="reapi"), None)


PRICES = [
    ("S0: whole credits", 7, Decimal("0.0101"), 71_000),
    ("S0: exact", 10, Decimal("0.01"), 100_000),
    ("S0: default 6 s", None, Decimal("0.01"), 60_000),
    ("no rate on the page", 6, None, None),
    ("no price for nonsense", "6", Decimal("0.01"), None),
]


@pytest.mark.parametrize(("duration", "rate", "expected"), [pytest.param(*row[1:], id=row[0]) for row in PRICES])
def test_the_price(duration: Any, rate: Decimal | None, expected: int | None) -> None:
    """S0 "Pricing": ceil(per_second_usd × duration × 1000) credits of $0.001."""
    assert REAPI.price(form(duration=duration), rate) == expected


def test_paths_are_encoded() -> None:
    """S0 "Endpoint"; an id cannot leave its place in the path."""
    request = REAPI.build_fetch(replace(TASK, provider_id="a:b"))
    assert (request.method, request.path) == ("GET", "/tasks/a%3Ab")
    with pytest.raises(Unreadable):
        REAPI.build_fetch(replace(TASK, provider_id=".."))


def test_what_it_cannot_do() -> None:
    """B: no callbacks, no cancellation."""
    with pytest.raises(Unsupported):
        REAPI.read_callback(Callback(body=b"{}", received_at=NOW))
    with pytest.raises(Unsupported):
        REAPI.build_cancel(TASK)


def test_the_completed_answer_on_the_page() -> None:
    """S0 "Response envelope": the MP4s, valid for 7 days from when they were seen."""
    result = Result(kind="video", url=URL, expires_at=NOW + timedelta(days=7))
    told = fetch(model=GROK, status="completed", created_at=1735000000, output={"video_urls": [URL]}, error=None)
    assert told == Reading(status=TaskState.COMPLETED, provider_id=ID, results=(result,))


OUTPUTS: list[tuple[str, Any, list[tuple[str, str]]]] = [
    (
        "B: all kinds",
        {"audio_urls": ["http://a.b/a"], "image_urls": ["http://a.b/i"], "video_urls": ["http://a.b/v"]},
        [("video", "http://a.b/v"), ("image", "http://a.b/i"), ("audio", "http://a.b/a")],
    ),
    (
        "B: last frame",
        {"video_urls": [URL], "last_frame_url": "https://a.b/last.png"},
        [("video", URL), ("image", "https://a.b/last.png")],
    ),
    ("S0: null", None, []),
    ("unusable shapes are dropped", {"video_urls": URL, "image_urls": [None, "data:,"], "last_frame_url": 7}, []),
]


@pytest.mark.parametrize(("output", "expected"), [pytest.param(*row[1:], id=row[0]) for row in OUTPUTS])
def test_the_results(output: Any, expected: list[tuple[str, str]]) -> None:
    """Every list of URLs is read; a completed task without any is still completed."""
    assert [(found.kind, found.url) for found in fetch(status="completed", output=output).results] == expected


def test_a_failure() -> None:
    """B: a numeric code becomes text, and the request id stays with the message."""
    error = {"code": 80006, "message": "content policy", "request_id": "req_1"}
    expected = TaskError(message="content policy (request_id req_1)", code="80006")
    assert fetch(status="failed", error=error) == Reading(status=TaskState.FAILED, provider_id=ID, error=expected)
    assert fetch(status="processing", error=error).error is None


def test_the_answer_to_a_submission() -> None:
    """S0 "Submit response"; B: the prose calls the id task_id."""
    for key in ("id", "task_id"):
        body = msgspec.json.encode({key: ID, "model": GROK, "status": "processing", "created_at": 1735000000})
        told = REAPI.read_acceptance(Response(status=200, body=body), NOW)
        assert told == Reading(status=TaskState.PROCESSING, provider_id=ID)


def test_a_refusal() -> None:
    """S0: {error: {code, message, request_id}}; also with a 2xx, as long as there is no id."""
    body = b'{"error":{"code":20003,"message":"grok-imagine: invalid size","request_id":"req_1"}}'
    for status in (400, 200):
        with pytest.raises(SubmissionRefused) as caught:
            REAPI.read_acceptance(Response(status=status, body=body), NOW)
        assert (caught.value.code, caught.value.field) == ("20003", None)
        assert str(caught.value) == "reapi: grok-imagine: invalid size (request_id req_1) (code 20003)"


@pytest.mark.parametrize("fields", [{}, {"status": "waiting"}, {"id": None, "status": "failed"}])
def test_what_is_not_understood(fields: dict[str, Any]) -> None:
    """Where the id or the status is in doubt nothing is guessed."""
    with pytest.raises(Unreadable):
        fetch(**fields)

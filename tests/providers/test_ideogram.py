"""Ideogram, both directions; each row names the rule it checks (C = PROVIDERS C, I = developer.ideogram.ai, v2)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.web.headers import kept_headers
from ringback.errors import InvalidSubmission, SubmissionRefused, Unauthentic, Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Result, Task, TaskError, TaskState, Trust
from ringback.providers.ideogram import Ideogram
from ringback.providers.provider import Request, Response
from ringback.providers.signatures.ed25519 import public_of
from ringback.providers.signatures.scheme import Headers, Key

IDEOGRAM = Ideogram()
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
ID = "xtdZiqPwRxqY1Y7NExFmzB"
URL = f"https://ideogram.ai/api/images/ephemeral/{ID}.png"
HOOK = "https://us.example/callbacks/ideogram/task_1.mac"
HEADER = "x-ideogram-webhook-generation-id"
PRIVATE = bytes(range(32))
TOLERANCE = timedelta(seconds=300)
LIFE = timedelta(hours=24)
TASK = Task(id="task_1", provider="ideogram", provider_id=ID)


def fixture(name: str) -> dict[str, Any]:
    """Give the body of a fixture; each names the page that it is from."""
    text = (Path(__file__).parent / "fixtures/ideogram" / f"{name}.json").read_bytes()
    body: dict[str, Any] = msgspec.json.decode(text)["body"]
    return body


def form(**fields: Any) -> Form:
    """Make a form that passes, changed by `fields`."""
    return Form(**{"model": "ideogram-4-5", "prompt": "a cat"} | fields)


def submission(asked: Form, callback_url: str | None = HOOK) -> Request:
    """Build the request for a form."""
    return IDEOGRAM.build_submission(Task(id="task_1", provider="ideogram", form=asked), callback_url)


def push(said: Any, *headers: tuple[str, str]) -> Reading:
    """Read a callback."""
    return IDEOGRAM.read_callback(Callback(body=msgspec.json.encode(said), headers=headers, received_at=NOW))


def accept(status: int, said: Any) -> Reading:
    """Read an answer to a submission."""
    return IDEOGRAM.read_acceptance(Response(status=status, body=msgspec.json.encode(said)), NOW)


def test_the_request_on_the_page() -> None:
    """I: an endpoint per model; JSON for what has no files; the key in a header of its own."""
    asked = form(aspect_ratio="16:9", resolution="1k", extra={"num_images": 2})
    request = submission(asked)
    assert (request.method, request.path) == ("POST", "/image/generate/ideogram-4-5")
    assert request.headers == {"Content-Type": "application/json"}
    assert msgspec.json.decode(request.body or b"") == {
        "prompt": "a cat",
        "aspect_ratio": "16x9",
        "resolution": "1k",
        "async": True,
        "webhook_url": HOOK,
        "num_images": 2,
    }
    assert IDEOGRAM.authorization("k", NOW) == {"Api-Key": "k"}


def test_without_a_url_it_is_still_asynchronous() -> None:
    """I: else the answer would wait for the images."""
    assert msgspec.json.decode(submission(form(), None).body or b"") == {"prompt": "a cat", "async": True}


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("no filter", {"callback_events": ("completed",)}, "callback_events", "no filter"),
    ("no actions", {"action": "remix"}, "action", "leave the action out"),
    ("no durations", {"duration": 5}, "duration", "no duration"),
    ("no URLs of images", {"image_urls": ("https://a.example/1.png",)}, "image_urls", "not as URLs"),
    ("a prompt", {"prompt": " "}, "prompt", "prompt is required"),
    ("any prompt", {"prompt": None}, "prompt", "prompt is required"),
    ("I: a shorter prompt", {"prompt": "x" * 10_001}, "prompt", "got 10001"),
    ("one part of a path", {"model": "a/b"}, "model", "ideogram-4-5"),
    ("no way up", {"model": ".."}, "model", "ideogram-4-5"),
    ("ours", {"extra": {"async": False}}, "async", "Ringback sets it"),
]


@pytest.mark.parametrize(("fields", "field", "message"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """What has no place in Ideogram's API is refused before anything is sent."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        submission(form(**fields))
    assert caught.value.field == field


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        IDEOGRAM.build_submission(TASK, None)


@pytest.mark.parametrize("fields", [{}, {"data": []}, {"data": None, "seed": 1}])
def test_the_answer_to_a_submission(fields: dict[str, Any]) -> None:
    """I: an id without data; an empty list is not taken for a result, which nobody would ask for any more."""
    assert accept(200, {"generation_id": ID} | fields) == Reading(status=TaskState.SUBMITTED, provider_id=ID)


def test_a_refusal() -> None:
    """I: {error, reject_reason}."""
    with pytest.raises(SubmissionRefused, match="no credits"):
        accept(402, {"error": "no credits", "reject_reason": "insufficient_funds"})


def test_the_push_on_the_page() -> None:
    """I: a push has no status; C: URLs work for 24 hours."""
    result = Result(kind="image", url=URL, expires_at=NOW + LIFE)
    told = push(fixture("completed"), (HEADER, ID))
    assert told == Reading(status=TaskState.COMPLETED, provider_id=ID, results=(result,))


def test_the_answers_to_a_fetch() -> None:
    """I: three words; what did not pass the safety checks has no URL; the cost comes in micro-dollars."""
    assert IDEOGRAM.build_fetch(TASK) == Request(method="GET", path=f"/generations/{ID}")

    def fetch(said: Any) -> Reading:
        return IDEOGRAM.read_task(Response(status=200, body=msgspec.json.encode(said)), TASK, NOW)

    done = fetch(fixture("polled"))
    assert (done.status, done.charged_microdollars) == (TaskState.COMPLETED, 60_000)
    assert [(found.kind, found.url.rpartition("/")[2]) for found in done.results] == [
        ("image", "a.png"),
        ("video", "b"),
    ]
    error = TaskError(message="the provider of the model is overloaded")
    assert fetch(fixture("failed")) == Reading(status=TaskState.FAILED, provider_id=ID, error=error)
    waiting = {"generation_id": ID, "status": "pending", "data": None}
    assert fetch(waiting) == Reading(status=TaskState.PROCESSING, provider_id=ID)


DATA: list[tuple[Any, int]] = [(None, 0), ([None, {"url": ""}, {"object_type": 7, "url": URL}], 1), ({"url": URL}, 0)]


@pytest.mark.parametrize(("data", "count"), DATA)
def test_unusable_results_are_dropped(data: Any, count: int) -> None:
    """A completed generation without a usable URL, or with an odd cost, is still completed."""
    told = push({"generation_id": ID, "status": "completed", "data": data, "usage_cost_usd_micros": -1})
    assert (told.status, len(told.results), told.charged_microdollars) == (TaskState.COMPLETED, count, None)


@pytest.mark.parametrize("said", [{}, {"generation_id": ID}, {"generation_id": ID, "data": []}, {"data": [{}]}])
def test_what_is_not_understood(said: dict[str, Any]) -> None:
    """Where the id or the end is in doubt nothing is guessed."""
    with pytest.raises(Unreadable):
        push(said)


def test_the_header_must_name_the_same_generation() -> None:
    """The signature covers both, so a difference is Ideogram's, and nothing is guessed."""
    with pytest.raises(Unreadable, match="another generation"):
        push(fixture("completed"), (HEADER, "other"))


def test_a_signed_sample_is_accepted_and_read() -> None:
    """What is signed as Ideogram does is verified, keeps what reading needs, and is read; a changed byte is refused."""
    sample = IDEOGRAM.build_sample(ID, TaskState.COMPLETED, NOW)
    assert IDEOGRAM.scheme is not None
    signed = IDEOGRAM.scheme.sign(sample.body, PRIVATE, now=NOW, event_id=ID)
    headers = Headers([(name.encode(), value.encode()) for name, value in signed.items()])
    keys = (Key(public_of(PRIVATE)),)
    assert IDEOGRAM.verify(headers, sample.body, keys, NOW, TOLERANCE) is Trust.SIGNED
    kept = kept_headers(headers)
    assert dict(kept)[HEADER] == ID
    told = IDEOGRAM.read_callback(Callback(body=sample.body, headers=kept, received_at=NOW))
    assert (told.status, told.provider_id, len(told.results)) == (TaskState.COMPLETED, ID, 1)
    with pytest.raises(Unauthentic):
        IDEOGRAM.verify(headers, sample.body + b" ", keys, NOW, TOLERANCE)


def test_there_is_no_sample_of_what_is_not_documented() -> None:
    """I: a push is about what completed."""
    with pytest.raises(Unsupported):
        IDEOGRAM.build_sample(ID, TaskState.FAILED, NOW)


def test_other_customers_of_ideogram_are_kept_out() -> None:
    """Its keys sign for all its customers: without the token in the URL anybody could send a signed callback."""
    assert not IDEOGRAM.account_endpoint
    assert not IDEOGRAM.open_endpoint

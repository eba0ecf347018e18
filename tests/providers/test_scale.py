"""Scale, both directions; each row names the rule it checks (C = PROVIDERS C, S = scale.com/docs/api-reference)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.web.headers import is_kept
from ringback.errors import InvalidSubmission, SubmissionRefused, Unauthentic, Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Task, TaskError, TaskState, Trust
from ringback.providers.provider import Request, Response
from ringback.providers.scale import Scale
from ringback.providers.signatures.scheme import Headers, Key

SCALE = Scale()
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
ID = "576c41bf13e36b0600b02b34"
HOOK = "https://us.example/callbacks/scale/task_1.mac"
A = "https://a.example/1.png"
TASK = Task(id="task_1", provider="scale", provider_id=ID)
TOLERANCE = timedelta(seconds=300)


def fixture(name: str) -> dict[str, Any]:
    """Give the body of a fixture; each names the page that it is from."""
    text = (Path(__file__).parent / "fixtures/scale" / f"{name}.json").read_bytes()
    body: dict[str, Any] = msgspec.json.decode(text)["body"]
    return body


def form(**fields: Any) -> Form:
    """Make a form that passes, changed by `fields`."""
    return Form(**{"model": "imageannotation", "prompt": "Draw a box around each cow"} | fields)


def submission(asked: Form, callback_url: str | None = HOOK) -> Request:
    """Build the request for a form."""
    return SCALE.build_submission(Task(id="task_1", provider="scale", form=asked), callback_url)


def push(said: Any) -> Reading:
    """Read a callback."""
    return SCALE.read_callback(Callback(body=msgspec.json.encode(said), received_at=NOW))


INSTRUCTION = {"instruction": "Draw a box around each cow"}
SENT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("an instruction", {}, INSTRUCTION),
    ("an attachment", {"image_urls": (A,)}, INSTRUCTION | {"attachment": A, "attachment_type": "image"}),
    ("extras", {"prompt": " ", "extra": {"project": "cows", "geometries": {}}}, {"project": "cows", "geometries": {}}),
]


@pytest.mark.parametrize(("fields", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """S: the type of the task stands in the path, its parameters in the body, beside our callback."""
    request = submission(form(**fields))
    assert (request.method, request.path) == ("POST", "/task/imageannotation")
    assert request.headers == {"Content-Type": "application/json"}
    assert msgspec.json.decode(request.body or b"") == {"callback_url": HOOK} | expected
    assert msgspec.json.decode(submission(form(**fields), None).body or b"") == expected


def test_the_key_is_the_user() -> None:
    """S, "Authentication": HTTP Basic without a password."""
    assert SCALE.authorization("live_abc", NOW) == {"Authorization": "Basic bGl2ZV9hYmM6"}


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("no filter", {"callback_events": ("completed",)}, "callback_events", "no filter"),
    ("no actions", {"action": "x"}, "action", "type of the task"),
    ("no ratio", {"aspect_ratio": "1:1"}, "aspect_ratio", "no such parameter"),
    ("no duration", {"duration": 5}, "duration", "no such parameter"),
    ("no path", {"model": "../tasks"}, "model", "type of task"),
    ("one attachment", {"image_urls": (A, A)}, "image_urls", "one image"),
    ("twice", {"extra": {"instruction": "x"}}, "instruction", "given twice"),
    ("ours", {"extra": {"callback_url": "x"}}, "callback_url", "Ringback sets it"),
]


@pytest.mark.parametrize(("fields", "field", "message"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """What has no place in Scale's API is refused before anything is sent."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        submission(form(**fields))
    assert caught.value.field == field


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        SCALE.build_submission(TASK, None)


def test_the_answer_to_a_submission() -> None:
    """S: the task, pending; a refusal is {error: text}."""
    body = msgspec.json.encode({"task_id": ID, "status": "pending", "type": "imageannotation"})
    assert SCALE.read_acceptance(Response(status=200, body=body), NOW) == Reading(
        status=TaskState.PROCESSING, provider_id=ID
    )
    with pytest.raises(SubmissionRefused, match="no project"):
        SCALE.read_acceptance(Response(status=400, body=b'{"status_code":400,"error":"no project"}'), NOW)


def test_paths() -> None:
    """S: GET to ask, POST to cancel; an id that could climb out of the path is refused."""
    assert SCALE.build_fetch(TASK) == Request(method="GET", path=f"/task/{ID}")
    assert SCALE.build_cancel(TASK) == Request(method="POST", path=f"/task/{ID}/cancel")
    with pytest.raises(Unreadable):
        SCALE.build_fetch(Task(id="task_1", provider="scale", provider_id="a/b"))


def test_the_answer_to_a_cancellation() -> None:
    """It is the task, as a fetch gives it."""
    answer = Response(status=200, body=msgspec.json.encode({"task_id": ID, "status": "canceled"}))
    assert SCALE.read_cancellation(answer, TASK, NOW) == Reading(status=TaskState.CANCELLED, provider_id=ID)


def test_the_callback_on_the_page() -> None:
    """S: the task stands inside, and a fetch gives it alone; what people answered stays in the body."""
    said, expected = fixture("completed"), Reading(status=TaskState.COMPLETED, provider_id=ID)
    assert push(said) == expected
    alone = msgspec.json.encode(said["task"])
    assert SCALE.read_task(Response(status=200, body=alone), TASK, NOW) == expected


ENDS: list[tuple[dict[str, Any], TaskState, TaskError | None]] = [
    ({"status": "error", "error": "bad image"}, TaskState.FAILED, TaskError(message="bad image")),
    ({"status": "error", "response": {"error": "late"}}, TaskState.FAILED, TaskError(message="late")),
    ({"status": "error", "response": "?"}, TaskState.FAILED, None),
    ({"status": "canceled"}, TaskState.CANCELLED, None),
]


@pytest.mark.parametrize(("task", "status", "error"), ENDS)
def test_other_ends(task: dict[str, Any], status: TaskState, error: TaskError | None) -> None:
    """C: error and canceled; the id may stand outside the task."""
    assert push({"task_id": ID, "task": task}) == Reading(status=status, provider_id=ID, error=error)


NOT_UNDERSTOOD = [{}, {"task_id": ID}, {"task_id": "x", "task": {"task_id": ID, "status": "completed"}}]


@pytest.mark.parametrize("said", NOT_UNDERSTOOD)
def test_what_is_not_understood(said: dict[str, Any]) -> None:
    """Where the id or the status is in doubt nothing is guessed."""
    with pytest.raises(Unreadable):
        push(said)


def test_the_secret_in_the_header() -> None:
    """C: live and test mode have a key each, and both may be listed; the header is a secret, so it is not kept."""
    assert SCALE.scheme is not None
    live, test = (Key(SCALE.scheme.key(text)) for text in ("live_0123456789abcdef", "test_0123456789abcdef"))
    signed = SCALE.scheme.sign(b"", test.material, now=NOW, event_id="x")
    headers = Headers([(name.encode(), value.encode()) for name, value in signed.items()])
    assert SCALE.verify(headers, b"{}", (live, test), NOW, TOLERANCE) is Trust.TOKEN
    with pytest.raises(Unauthentic):
        SCALE.verify(headers, b"{}", (live,), NOW, TOLERANCE)
    assert list(signed) == ["scale-callback-auth"]
    assert not is_kept(b"scale-callback-auth")


def test_without_a_secret_the_token_is_the_trust() -> None:
    """A per-task URL has a token already; one secret more of the same worth is the user's choice."""
    assert SCALE.verify(Headers([]), b"{}", (), NOW, TOLERANCE) is Trust.TOKEN


@pytest.mark.parametrize("status", [TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED])
def test_a_sample_is_read(status: TaskState) -> None:
    """A sample says what it was made for, with an error where that fits."""
    told = push(msgspec.json.decode(SCALE.build_sample(ID, status, NOW).body))
    assert (told.status, told.provider_id) == (status, ID)
    assert (told.error is not None) is (status is TaskState.FAILED)


def test_there_is_no_sample_of_what_scale_does_not_push() -> None:
    """S: a callback tells the end."""
    with pytest.raises(Unsupported):
        SCALE.build_sample(ID, TaskState.PROCESSING, NOW)

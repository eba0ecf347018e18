"""Replicate, both directions; fixtures name the pages (C = PROVIDERS C)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ringback.errors import InvalidSubmission, SubmissionRefused, Unreadable, Unsupported
from ringback.model import Form, Reading, Result, Task, TaskError, TaskState
from ringback.providers import Response
from ringback.providers.replicate import Replicate
from tests.providers.recorded import NOW, check_signed, read, recorded

REPLICATE = Replicate()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ID = "ufawqhfynnddngldkgtslldrkq"
VERSION = "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa"
MODEL = "black-forest-labs/flux-schnell"
HOOK = "https://us.example/callbacks/replicate/task_1.mac"
IMAGE = "https://a.example/1.png"
TASK = Task(id="task_1", provider="replicate", provider_id=ID)
EXPIRES = datetime(2022, 4, 26, 23, 13, 10, 224088, tzinfo=UTC)


def sent(form: Form, hook: str | None = None) -> tuple[str, Any]:
    """Give path and JSON that are sent for a form."""
    request = REPLICATE.build_submission(Task(id="task_1", provider="replicate", form=form), hook)
    assert request.method == "POST"
    assert request.headers == {"Content-Type": "application/json"}
    return request.path, msgspec.json.decode(request.body or b"")


def accept(status: int, body: Any) -> Reading:
    """Read an answer to a submission."""
    return REPLICATE.read_acceptance(Response(status=status, body=msgspec.json.encode(body)), NOW)


def test_it_is_signed() -> None:
    """C: Standard Webhooks with the account's secret."""
    check_signed(REPLICATE, SECRET, OTHER, recorded("replicate", "succeeded").body)


ENDS: list[tuple[str, TaskState, TaskError | None]] = [
    ("starting", TaskState.SUBMITTED, None),
    ("succeeded", TaskState.COMPLETED, None),
    ("failed", TaskState.FAILED, TaskError(message="CUDA out of memory")),
    ("canceled", TaskState.CANCELLED, None),
    ("aborted", TaskState.EXPIRED, None),
]


@pytest.mark.parametrize(("name", "state", "error"), ENDS)
def test_a_push(name: str, state: TaskState, error: TaskError | None) -> None:
    """C: the prediction's id and status, and webhook-id as the event's id; a fetch reads the same without it."""
    body = recorded("replicate", name).body
    told = read(REPLICATE, body, {"webhook-id": "msg_1"})
    assert isinstance(told, Reading)
    assert (told.status, told.provider_id, told.event_id, told.error) == (state, ID, "msg_1", error)
    fetched = REPLICATE.read_task(Response(status=200, body=body), TASK, NOW)
    assert (fetched.status, fetched.results, fetched.event_id) == (state, told.results, None)


def test_its_files_live_for_an_hour() -> None:
    """replicate.com/docs/topics/webhooks: deleted an hour after the prediction; the kind is in the ending."""
    told = read(REPLICATE, recorded("replicate", "succeeded").body)
    assert isinstance(told, Reading)
    assert told.results == (
        Result(kind="image", url="https://replicate.delivery/xezq/abc/out-0.webp", expires_at=EXPIRES),
        Result(kind="video", url="https://replicate.delivery/xezq/abc/out.mp4", expires_at=EXPIRES),
    )


OUTPUTS: list[tuple[Any, list[tuple[str, str]]]] = [
    ("https://a.b/c.mp4", [("video", "https://a.b/c.mp4")]),
    ({"audio": "https://a.b/c", "text": "la la"}, [("audio", "https://a.b/c")]),
    ([{"file": "https://a.b/c"}], [("file", "https://a.b/c")]),
    (["Once", " upon", " a time"], []),
    (None, []),
]


@pytest.mark.parametrize(("output", "expected"), OUTPUTS)
def test_the_shapes_of_output(output: Any, expected: list[tuple[str, str]]) -> None:
    """C: a string, a list or an object, as the model likes; text is no result."""
    told = read(REPLICATE, msgspec.json.encode({"id": ID, "status": "succeeded", "output": output}))
    assert isinstance(told, Reading)
    assert [(result.kind, result.url) for result in told.results] == expected
    assert all(result.expires_at == NOW + timedelta(hours=1) for result in told.results)


@pytest.mark.parametrize("body", [{"status": "succeeded"}, {"id": ID}, {"id": ID, "status": "resting"}])
def test_what_is_not_understood(body: dict[str, Any]) -> None:
    """Where the id or the status is in doubt nothing is guessed."""
    with pytest.raises(Unreadable) as caught:
        read(REPLICATE, msgspec.json.encode(body))
    assert len(str(caught.value)) <= 300


SENT: list[tuple[str, Form, str | None, str, dict[str, Any]]] = [
    (
        "an official model",
        Form(model=MODEL, prompt="a dog", aspect_ratio="16:9"),
        None,
        f"/models/{MODEL}/predictions",
        {"input": {"prompt": "a dog", "aspect_ratio": "16:9"}},
    ),
    (
        "a version",
        Form(model=VERSION, prompt="a"),
        None,
        "/predictions",
        {"version": VERSION, "input": {"prompt": "a"}},
    ),
    (
        "a model's version",
        Form(model=f"stability-ai/sdxl:{VERSION}", resolution="720p", duration=6),
        None,
        "/predictions",
        {"version": VERSION, "input": {"resolution": "720p", "duration": 6}},
    ),
    ("nothing at all", Form(model=MODEL, prompt=" "), None, f"/models/{MODEL}/predictions", {"input": {}}),
    (
        "an image and extras",
        Form(model=MODEL, image_urls=(IMAGE,), extra={"seed": 7, "version": "v1.4"}),
        None,
        f"/models/{MODEL}/predictions",
        {"input": {"image": IMAGE, "seed": 7, "version": "v1.4"}},
    ),
    (
        "several images in the model's own name",
        Form(model=MODEL, extra={"image_input": [IMAGE, IMAGE], "image": IMAGE}),
        None,
        f"/models/{MODEL}/predictions",
        {"input": {"image_input": [IMAGE, IMAGE], "image": IMAGE}},
    ),
    (
        "the end alone by default",
        Form(model=MODEL),
        HOOK,
        f"/models/{MODEL}/predictions",
        {"input": {}, "webhook": HOOK, "webhook_events_filter": ["completed"]},
    ),
    (
        "our words",
        Form(model=MODEL, callback_events=("progressed", "failed", "completed")),
        HOOK,
        f"/models/{MODEL}/predictions",
        {"input": {}, "webhook": HOOK, "webhook_events_filter": ["start", "output", "completed"]},
    ),
    (
        "its own words through extra",
        Form(model=MODEL, extra={"webhook_events_filter": ["logs"]}),
        HOOK,
        f"/models/{MODEL}/predictions",
        {"input": {}, "webhook": HOOK, "webhook_events_filter": ["logs"]},
    ),
    (
        "no filter without a webhook",
        Form(model=MODEL, callback_events=("failed",)),
        None,
        f"/models/{MODEL}/predictions",
        {"input": {}},
    ),
]


@pytest.mark.parametrize(("form", "hook", "path", "body"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(form: Form, hook: str | None, path: str, body: dict[str, Any]) -> None:
    """The user's fields under `input`, our webhook and its filter beside it."""
    assert sent(form, hook) == (path, body)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": "flux"}, "model", "owner/name"),
    ({"model": "a/b/c"}, "model", "owner/name"),
    ({"model": "../b"}, "model", "owner/name"),
    ({"model": "a/b:latest"}, "model", "owner/name"),
    ({"model": ""}, "model", "required"),
    ({"action": "generate"}, "action", "no actions"),
    ({"image_urls": (IMAGE, IMAGE)}, "image_urls", "own name"),
    ({"image_urls": (IMAGE,), "extra": {"image": IMAGE}}, "image", "cannot be given"),
    ({"extra": {"prompt": "b"}}, "prompt", "cannot be given"),
    ({"extra": {"webhook": HOOK}}, "webhook", "cannot be given"),
    ({"callback_events": ("done",)}, "callback_events", "unknown callback event 'done'"),
    ({"callback_events": ([],)}, "callback_events", "unknown callback event list"),
    ({"callback_events": "failed"}, "callback_events", "must be a list"),
    (
        {"callback_events": ("failed",), "extra": {"webhook_events_filter": ["logs"]}},
        "webhook_events_filter",
        "cannot be",
    ),
]


@pytest.mark.parametrize(("fields", "field", "message"), REFUSED)
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """What could only fail, or be sent under a wrong name, is refused before it costs anything."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        sent(Form(**{"model": MODEL} | fields))
    assert (caught.value.provider, caught.value.field) == ("replicate", field)


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        REPLICATE.build_submission(TASK, None)


def test_the_answer_to_a_submission() -> None:
    """201 with the prediction as it stands."""
    assert accept(201, recorded("replicate", "starting").json) == Reading(status=TaskState.SUBMITTED, provider_id=ID)
    assert accept(201, {"id": ID, "status": "resting"}).status is TaskState.SUBMITTED


def test_a_refusal() -> None:
    """422 with title, detail and status: the detail is the reason."""
    body = {"title": "Input validation failed", "detail": "- input: prompt is required\n", "status": 422}
    with pytest.raises(SubmissionRefused) as caught:
        accept(422, body)
    assert caught.value.args[0] == "- input: prompt is required"


def test_the_paths_of_a_prediction() -> None:
    """GET to ask, POST …/cancel to cancel; an id cannot leave its place."""
    fetch, cancel = REPLICATE.build_fetch(TASK), REPLICATE.build_cancel(TASK)
    assert (fetch.method, fetch.path) == ("GET", f"/predictions/{ID}")
    assert (cancel.method, cancel.path) == ("POST", f"/predictions/{ID}/cancel")
    with pytest.raises(Unreadable):
        REPLICATE.build_fetch(replace(TASK, provider_id=".."))


def test_the_answer_to_a_cancellation() -> None:
    """It is the prediction: cancelled already, or still on its way there."""
    for word, state in (("canceled", TaskState.CANCELLED), ("processing", TaskState.PROCESSING)):
        answer = Response(status=200, body=msgspec.json.encode({"id": ID, "status": word}))
        assert REPLICATE.read_cancellation(answer, TASK, NOW) == Reading(status=state, provider_id=ID)


@pytest.mark.parametrize("state", TaskState)
def test_a_sample_is_read_back(state: TaskState) -> None:
    """What `ringback trigger` sends says the state that was asked for."""
    if state is TaskState.PENDING:
        with pytest.raises(Unsupported, match="pending"):
            REPLICATE.build_sample(ID, state, NOW)
        return
    told = read(REPLICATE, REPLICATE.build_sample(ID, state, NOW).body)
    assert isinstance(told, Reading)
    assert (told.status, told.provider_id) == (state, ID)
    assert (bool(told.results), bool(told.error)) == (state is TaskState.COMPLETED, state is TaskState.FAILED)


def test_no_price_is_known() -> None:
    """Replicate bills by the second of hardware, or by the output, as the model has it."""
    assert REPLICATE.price(Form(model=MODEL), None) is None

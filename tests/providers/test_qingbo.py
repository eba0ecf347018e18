"""Qingbo, both directions; each row names the rule it checks (S4 = shared seed 004…, A = PROVIDERS A)."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ringback.errors import InvalidSubmission, SubmissionRefused, Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Result, Task, TaskError, TaskState
from ringback.providers.provider import Response
from ringback.providers.qingbo import Qingbo

QINGBO = Qingbo()
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
GROK = "grok-imagine-1.0-video"
URL = "https://cdn.qingbo.dev/v/0.mp4"
HOOK = "https://us.example/callbacks/qingbo/task_1.mac"
IMAGE = ("https://a.example/1.png",)
ID = "task-wave1775285160b950328499"
TASK = Task(id="task_1", provider="qingbo", provider_id=ID)
EXPIRES = datetime(2026, 4, 5, 6, 46, 30, tzinfo=UTC)
EXPIRES_AT = 1775371590


def form(**fields: Any) -> Form:
    """Make a form that passes, changed by `fields`."""
    return Form(**{"model": GROK, "prompt": "a rainy street"} | fields)


def sent(asked: Form, callback_url: str | None = None) -> Any:
    """Give the JSON that is sent for a form."""
    return msgspec.json.decode(
        QINGBO.build_submission(Task(id="task_1", provider="qingbo", form=asked), callback_url).body or b""
    )


def push(**fields: Any) -> Reading:
    """Read a callback of these fields."""
    return QINGBO.read_callback(Callback(body=msgspec.json.encode(fields), received_at=NOW))


def accept(status: int, body: Any) -> Reading:
    """Read an answer to a submission."""
    return QINGBO.read_acceptance(Response(status=status, body=msgspec.json.encode(body)), NOW)


def test_the_request_on_the_page() -> None:
    """S4 "Examples": path, headers and exactly the fields that the user set."""
    asked = form(duration=6, aspect_ratio="16:9", resolution="480p")
    request = QINGBO.build_submission(Task(id="task_1", provider="qingbo", form=asked), None)
    assert (request.method, request.path) == ("POST", "/tasks")
    assert request.headers == {"Content-Type": "application/json", "Idempotency-Key": "task_1"}
    expected = {"model": GROK, "prompt": "a rainy street", "aspect_ratio": "16:9", "resolution": "480p", "duration": 6}
    assert msgspec.json.decode(request.body or b"") == expected


SENT: list[tuple[str, dict[str, Any], str | None, dict[str, Any]]] = [
    ("nothing unset is sent", {}, None, {}),
    ("S4: callback_url", {}, HOOK, {"callback_url": HOOK}),
    ("S4: image_urls trigger I2V", {"image_urls": IMAGE}, None, {"image_urls": list(IMAGE), "action": "image2video"}),
    (
        "S4: an action is kept",
        {"image_urls": IMAGE, "action": "generate"},
        None,
        {"image_urls": list(IMAGE), "action": "generate"},
    ),
    (
        "no action is guessed for others",
        {"model": "x", "image_urls": IMAGE},
        None,
        {"model": "x", "image_urls": list(IMAGE)},
    ),
    (
        "A: events in its words",
        {"callback_events": ("progressed", "failed", "failed")},
        HOOK,
        {"callback_url": HOOK, "callback_events": ["processing", "failed"]},
    ),
    ("no events without a URL", {"callback_events": ("failed",)}, None, {}),
    ("no empty list of events", {"callback_events": ()}, HOOK, {"callback_url": HOOK}),
    ("extra at the top level", {"extra": {"seed": 7}}, None, {"seed": 7}),
    (
        "raw events through extra",
        {"extra": {"callback_events": ["succeeded"]}},
        HOOK,
        {"callback_url": HOOK, "callback_events": ["succeeded"]},
    ),
    ("an empty extra passes", {"extra": {"extra": {}}}, None, {"extra": {}}),
]


@pytest.mark.parametrize(("fields", "hook", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(fields: dict[str, Any], hook: str | None, expected: dict[str, Any]) -> None:
    """The body holds the user's fields, in the provider's names, and what they imply."""
    assert sent(form(**fields), hook) == {"model": GROK, "prompt": "a rainy street"} | expected


def test_a_blank_prompt_is_left_out_where_images_are_given() -> None:
    """S4: in I2V the prompt is guidance only."""
    assert "prompt" not in sent(form(prompt=" \n", image_urls=IMAGE))


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("S4: prompt required for T2V", {"prompt": None}, "prompt", "prompt is required"),
    ("whitespace is missing", {"prompt": " \t\n"}, "prompt", "prompt is required"),
    ("S4: model required", {"model": " "}, "model", "model is required"),
    ("model is text", {"model": None}, "model", "model is required"),
    ("S4: five ratios", {"aspect_ratio": "4:3"}, "aspect_ratio", 'invalid aspect_ratio "4:3"'),
    ("ratios in I2V too", {"aspect_ratio": "4:3", "image_urls": IMAGE}, "aspect_ratio", "invalid aspect_ratio"),
    ("S4: 480p or 720p", {"resolution": "1080p"}, "resolution", "allowed: 480p / 720p"),
    ("S4: 6 seconds or more", {"duration": 5}, "duration", "6-30 seconds, got 5"),
    ("S4: 30 seconds or less", {"duration": 31}, "duration", "6-30 seconds, got 31"),
    ("duration is a number", {"duration": "6"}, "duration", "must be an integer, got '6'"),
    ("duration is no boolean", {"duration": True}, "duration", "must be an integer, got bool"),
    ("duration is no fraction", {"duration": 6.5}, "duration", "must be an integer, got 6.5"),
    ("duration is storable", {"duration": 10**5000}, "duration", "must be an integer, got int"),
    ("S4: up to 7 images", {"image_urls": IMAGE * 8}, "image_urls", "at most 7 entries, got 8"),
    ("no data: URI", {"image_urls": ("data:image/png;base64,AA",)}, "image_urls", "public http"),
    ("http(s) only", {"image_urls": ("ftp://a.example/1.png",)}, "image_urls", "public http"),
    ("a list of URLs", {"image_urls": "https://a.example/1.png"}, "image_urls", "must be a list"),
    ("S4: two actions", {"action": "upscale"}, "action", "allowed: generate / image2video"),
    ("S4: I2V with image_urls", {"action": "image2video"}, "image_urls", "at least one"),
    ("no lone surrogate", {"prompt": "\ud800"}, "prompt", "must be text"),
    ("no NUL", {"prompt": "a\0b"}, "prompt", "must be text"),
    ("text only", {"prompt": ["a"]}, "prompt", "must be text, got list"),
    (
        "our words for events",
        {"callback_events": ("done",)},
        "callback_events",
        "completed, failed, cancelled, progressed",
    ),
    ("words, not objects", {"callback_events": ([],)}, "callback_events", "unknown callback event list"),
    ("a list of events", {"callback_events": "failed"}, "callback_events", "must be a list"),
    ("extra is not the form", {"extra": {"duration": 30}}, "duration", "cannot be given as an extra"),
    ("extra is not our URL", {"extra": {"callback_url": "https://x.example"}}, "callback_url", "cannot be given"),
    (
        "events only once",
        {"callback_events": ("failed",), "extra": {"callback_events": []}},
        "callback_events",
        "cannot be",
    ),
    ("extra is an object", {"extra": ["a"]}, "extra", "must be an object"),
    ("extra has names", {"extra": {1: 2}}, "extra", "must be an object"),
    ("extra is JSON", {"extra": {"a": object()}}, "extra", "JSON values only"),
    ("extra is Unicode", {"extra": {"a": "\ud800"}}, "extra", "JSON values only"),
]


@pytest.mark.parametrize(("fields", "field", "message"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """What the page does not allow is refused before sending, naming the provider's field."""
    with pytest.raises(InvalidSubmission) as caught:
        sent(form(**fields))
    assert (caught.value.code, caught.value.field) == ("invalid_request", field)
    assert message in str(caught.value)


def test_a_parameter_called_extra_has_its_own_code() -> None:
    """A: a non-empty `extra` gets 400 capability_violation."""
    with pytest.raises(InvalidSubmission) as caught:
        QINGBO.validate(form(extra={"extra": {"a": 1}}))
    assert (caught.value.code, caught.value.field) == ("capability_violation", "extra")


def test_other_models_are_checked_for_types_only() -> None:
    """S4 speaks of one model; another one's own limits are not known here."""
    QINGBO.validate(Form(model="other", action="upscale", duration=-1, aspect_ratio="21:9", image_urls=IMAGE * 9))


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        QINGBO.build_submission(Task(id="task_1", provider="qingbo"), None)


PRICES = [
    ("S4: 5 s $0.037", GROK, 5, None, 37_188),
    ("S4: 10 s $0.074", GROK, 10, None, 74_375),
    ("S4: 30 s $0.223", GROK, 30, None, 223_125),
    ("S4: default 6 s", GROK, None, None, 44_625),
    ("another rate", GROK, 10, Decimal("0.01"), 100_000),
    ("no rate for others", "other", 10, None, None),
    ("a rate for others", "other", 10, Decimal("0.01"), 100_000),
    ("no default for others", "other", None, Decimal("0.01"), None),
    ("no price for nonsense", GROK, "6", None, None),
]


@pytest.mark.parametrize(
    ("model", "duration", "rate", "expected"), [pytest.param(*row[1:], id=row[0]) for row in PRICES]
)
def test_the_price(model: str, duration: Any, rate: Decimal | None, expected: int | None) -> None:
    """The rate times the duration, in micro-dollars, half up."""
    assert QINGBO.price(form(model=model, duration=duration), rate) == expected


def test_paths_are_encoded() -> None:
    """The id of a task cannot leave its place in the path."""
    assert QINGBO.build_fetch(replace(TASK, provider_id="a:b~c")).path == "/tasks/a%3Ab~c"
    assert QINGBO.build_cancel(TASK).path == f"/tasks/{ID}/cancel"
    assert (QINGBO.build_fetch(TASK).method, QINGBO.build_cancel(TASK).method) == ("GET", "POST")
    for bad in (".", "..", "a/b", "", "a" * 201, "a\n", "é"):
        with pytest.raises(Unreadable):
            QINGBO.build_fetch(replace(TASK, provider_id=bad))


@pytest.mark.parametrize(("refunded", "cost"), [(True, 0), (False, None), ("yes", None)])
def test_the_answer_to_a_cancellation(refunded: Any, cost: int | None) -> None:
    """A: task_id, status and refunded; a refunded task costs 0."""
    said = {"task_id": ID, "status": "cancelled", "refunded": refunded, "refunded_quota": 22_312}
    told = QINGBO.read_cancellation(Response(status=200, body=msgspec.json.encode(said)), TASK, NOW)
    assert told == Reading(status=TaskState.CANCELLED, provider_id=ID, charged_microdollars=cost)


DONE: dict[str, Any] = {"status": "completed", "result": {"videos": [{"url": URL, "expires_at": EXPIRES_AT}]}}
FACT = Reading(status=TaskState.COMPLETED, provider_id=ID, results=(Result(kind="video", url=URL, expires_at=EXPIRES),))
SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("A: the task at top level", {"task_id": ID, **DONE}),
    ("A: id instead of task_id", {"id": ID, **DONE}),
    ("task_id wins over id", {"id": "evt_1", "task_id": ID, **DONE}),
    ("A: under data", {"code": 200, "status": "success", "data": {"task_id": ID, **DONE}}),
    ("under task", {"task": {"task_id": ID, **DONE}}),
    ("under data, wrapped once more", {"data": {"data": {"id": ID, **DONE}}}),
    ("under data and task", {"data": {"task": {"task_id": ID, **DONE}}}),
    ("A: an event envelope", {"event": "task.completed", "task_id": ID, "type": "video", **DONE}),
    ("A: its sibling", {"event": "video.completed", "task_id": ID, "type": "video", **DONE}),
    ("an envelope around a task", {"id": "evt_1", "event": "task.completed", "data": {"task_id": ID, **DONE}}),
    ("the id outside", {"event": "task.completed", "task_id": ID, "data": DONE}),
    ("the status in the event alone", {"event": "task.completed", "task_id": ID, "result": DONE["result"]}),
    ("an event of another sort", {"event": "task.updated", "task_id": ID, **DONE}),
    ("an event that is no text", {"event": 7, "task_id": ID, **DONE}),
    ("a status beside the id, results inside", {"task_id": ID, "status": "done", "data": {"result": DONE["result"]}}),
    ("the inside wins", {"task_id": "t-1", "status": "queued", "data": {"task_id": ID, **DONE}}),
    ("something else under data", {"id": ID, "data": {"id": "file_1"}, **DONE}),
    ("nothing under data", {"id": ID, "data": None, "task": {}, **DONE}),
]


@pytest.mark.parametrize(("body"), [pytest.param(*row[1:], id=row[0]) for row in SHAPES])
def test_every_shape_of_a_push(body: dict[str, Any]) -> None:
    """Wherever the task stands, the reading is the same, and a fetch reads as a push does."""
    assert push(**body) == FACT
    assert QINGBO.read_task(Response(status=200, body=msgspec.json.encode(body)), TASK, NOW) == FACT


STATES = [
    ("queued", TaskState.SUBMITTED),
    ("processing", TaskState.PROCESSING),
    ("running", TaskState.PROCESSING),
    ("completed", TaskState.COMPLETED),
    ("succeeded", TaskState.COMPLETED),
    ("succeed", TaskState.COMPLETED),
    ("SUCCESS", TaskState.COMPLETED),
    (" Done", TaskState.COMPLETED),
    ("failed", TaskState.FAILED),
    ("error", TaskState.FAILED),
    ("failure", TaskState.FAILED),
    ("cancelled", TaskState.CANCELLED),
    ("canceled", TaskState.CANCELLED),
    ("expired", TaskState.EXPIRED),
    ("timeout", TaskState.EXPIRED),
]


@pytest.mark.parametrize(("word", "state"), STATES)
def test_the_words_for_a_state(word: str, state: TaskState) -> None:
    """A: every synonym, in any case, is one of our states; the cost counts only at the end."""
    told = push(task_id=ID, status=word, cost=22_312, progress="45%", error={"message": "no", "code": "task_failed"})
    ended = state not in (TaskState.SUBMITTED, TaskState.PROCESSING)
    assert (told.status, told.progress, told.charged_microdollars) == (state, 45, 44_624 if ended else None)
    failed = ended and state is not TaskState.COMPLETED
    assert told.error == (TaskError(message="no", code="task_failed") if failed else None)


UNREADABLE: list[tuple[str, dict[str, Any], str]] = [
    ("no id", {"status": "completed"}, "task id"),
    ("an id that is no text", {"task_id": 7, "status": "completed"}, "got int"),
    ("an id that climbs", {"task_id": "..", "status": "completed"}, "task id"),
    ("an id too long", {"task_id": "a" * 201, "status": "completed"}, "task id"),
    ("an id with a NUL", {"task_id": "a\0", "status": "completed"}, "task id"),
    ("an envelope's id is not the task's", {"id": "evt_1", "data": {"status": "completed"}}, "task id"),
    ("no status", {"task_id": ID}, "there is no status: expected one of queued"),
    ("an envelope's status is not the task's", {"status": "success", "data": {"task_id": ID}}, "there is no status"),
    ("an unknown status", {"task_id": ID, "status": "paused" * 100}, "unknown status 'pausedpaused"),
    ("a status that is no text", {"task_id": ID, "status": 200}, "unknown status int"),
    ("event and status disagree", {"event": "task.failed", "task_id": ID, **DONE}, "says failed but"),
    ("wrapped too deep", {"data": {"data": {"data": {"task_id": ID, **DONE}}}}, "task id"),
]


@pytest.mark.parametrize(("body", "reason"), [pytest.param(*row[1:], id=row[0]) for row in UNREADABLE])
def test_what_is_not_understood(body: dict[str, Any], reason: str) -> None:
    """Where the id or the status is in doubt nothing is guessed."""
    with pytest.raises(Unreadable, match=reason) as caught:
        push(**body)
    assert len(str(caught.value)) < 300


ESTIMATE = NOW + timedelta(hours=24)
RESULTS: list[tuple[str, Any, list[tuple[str, str, datetime]]]] = [
    (
        "A: url is a list",
        {"videos": [{"url": [URL, URL + "2"], "expires_at": EXPIRES_AT}]},
        [("video", URL, EXPIRES), ("video", URL + "2", EXPIRES)],
    ),
    (
        "A: images and audios",
        {"images": [{"url": "http://a.b/i"}], "audios": [{"url": "HTTPS://a.b/a"}]},
        [("image", "http://a.b/i", ESTIMATE), ("audio", "HTTPS://a.b/a", ESTIMATE)],
    ),
    ("A: video_url", {"video_url": URL, "duration": 6}, [("video", URL, ESTIMATE)]),
    (
        "each URL once",
        {"videos": [{"url": URL, "expires_at": EXPIRES_AT}], "video_url": URL},
        [("video", URL, EXPIRES)],
    ),
    ("milliseconds", {"videos": [{"url": URL, "expires_at": EXPIRES_AT * 1000}]}, [("video", URL, EXPIRES)]),
    ("none is still completed", None, []),
    (
        "unusable shapes are dropped",
        {
            "videos": "x",
            "images": [
                7,
                {"url": None},
                {"url": [7, "ftp://a.b", "https://a.b/\0", "https://", "https://a.b/" + "x" * 8192]},
            ],
        },
        [],
    ),
]


@pytest.mark.parametrize(("result", "expected"), [pytest.param(*row[1:], id=row[0]) for row in RESULTS])
def test_the_results(result: Any, expected: list[tuple[str, str, datetime]]) -> None:
    """What can be downloaded is kept; an expiry that is not told is estimated from the arrival."""
    told = push(task_id=ID, status="completed", result=result)
    assert [(found.kind, found.url, found.expires_at) for found in told.results] == expected


def test_an_estimate_starts_at_completion() -> None:
    """Where completed_at is told, a push read late does not promise more; one from the future is not believed."""
    for completed_at, since in (
        (1775285190, -18_810),
        ("2026-04-04T11:00:00Z", -3_600),
        (NOW.timestamp() // 1 + 99, 0),
    ):
        told = push(task_id=ID, status="completed", completed_at=completed_at, result={"video_url": URL})
        assert told.results[0].expires_at == ESTIMATE + timedelta(seconds=since)


@pytest.mark.parametrize("cost", [None, -1, True, 1.5, "7", 2**63 - 1, 10**30])
def test_a_cost_out_of_range_is_not_known(cost: Any) -> None:
    """Only a whole number that the ledger can hold is a charge."""
    assert push(task_id=ID, status="failed", cost=cost).charged_microdollars is None


def test_a_refund_is_a_charge_of_nothing() -> None:
    """A: `cost` is 0 when refunded."""
    assert push(task_id=ID, status="failed", cost=0).charged_microdollars == 0


def test_the_answer_on_the_page() -> None:
    """S4: the answer to a submission."""
    body = {"task_id": ID, "model": GROK, "action": "generate", "status": "queued", "created_at": 1775285160040}
    assert accept(200, body | {"progress": 0}) == Reading(status=TaskState.SUBMITTED, provider_id=ID, progress=0)


def test_an_answer_may_be_terminal() -> None:
    """A: a repeated Idempotency-Key or `Prefer: wait` may return the finished task."""
    assert accept(201, {"task_id": ID, **DONE}) == FACT


@pytest.mark.parametrize(
    "body", [{"task_id": ID}, {"data": {"id": ID, "status": "paused"}}, {"task_id": ID, "status": 7}]
)
def test_an_accepted_id_is_never_lost(body: Any) -> None:
    """A status that cannot be read does not hide that the task exists."""
    assert accept(200, body) == Reading(status=TaskState.SUBMITTED, provider_id=ID)


REFUSALS: list[tuple[str, int, Any, str, str | None, str | None]] = [
    (
        "A: {error: {…}}",
        400,
        {"error": {"message": "no", "code": "capability_violation", "param": "extra"}},
        "no",
        "capability_violation",
        "extra",
    ),
    ("A: success false, error", 401, {"success": False, "error": "bad key"}, "bad key", None, None),
    ("A: success false, message", 401, {"success": False, "message": "bad key", "code": 7}, "bad key", "7", None),
    (
        "A: 429",
        429,
        {"error": {"message": "later", "code": "quota_window_exceeded"}},
        "later",
        "quota_window_exceeded",
        None,
    ),
    ("with 200", 200, {"success": False, "message": "no balance"}, "no balance", None, None),
    ("an error with 200", 200, {"error": {"message": "no balance"}}, "no balance", None, None),
    ("without a reason", 404, {}, "refused with 404, no reason given", None, None),
    ("not an object", 403, "<html>", "refused with 403, no reason given", None, None),
]


@pytest.mark.parametrize(
    ("status", "body", "message", "code", "field"), [pytest.param(*row[1:], id=row[0]) for row in REFUSALS]
)
def test_refusals(status: int, body: Any, message: str, code: str | None, field: str | None) -> None:
    """A: every form of a refusal gives its message, code and field."""
    with pytest.raises(SubmissionRefused) as caught:
        accept(status, body)
    assert (caught.value.args[0], caught.value.code, caught.value.field) == (message, code, field)


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, {"task_id": ID}), (302, {}), (200, {}), (200, []), (200, {"task_id": "a/b", "error": {"message": "x"}})],
)
def test_an_unclear_answer_is_unreadable(status: int, body: Any) -> None:
    """A 2xx without a usable id, and whatever is neither 2xx nor 4xx, leaves the end unknown."""
    with pytest.raises(Unreadable):
        accept(status, body)


def test_a_fetch_that_failed_is_unreadable() -> None:
    """Only a 2xx answer tells how a task stands."""
    with pytest.raises(Unreadable, match="404"):
        QINGBO.read_task(Response(status=404, body=b'{"error":{"code":"task_not_found"}}'), TASK, NOW)


@pytest.mark.parametrize("state", TaskState)
def test_a_sample_is_read_back(state: TaskState) -> None:
    """What `ringback trigger` sends says the state that was asked for, with results or an error that fit."""
    if state in (TaskState.PENDING, TaskState.EXPIRED):
        with pytest.raises(Unsupported, match=state):
            QINGBO.build_sample(ID, state, NOW)
        return
    told = QINGBO.read_callback(Callback(body=QINGBO.build_sample(ID, state, NOW).body, received_at=NOW))
    assert (told.status, told.provider_id) == (state, ID)
    assert bool(told.results) is (state is TaskState.COMPLETED)
    assert bool(told.error) is (state is TaskState.FAILED)

"""A provider described by a table, at work: callbacks, answers, requests, samples and its description."""

import tomllib
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.errors import InvalidSubmission, SubmissionRefused, Unauthentic, Unreadable, Unsupported
from ringback.model import Callback, Confirm, Form, Notice, Reading, Result, Task, TaskError, TaskState, Trust
from ringback.providers.custom import Custom, describe
from ringback.providers.custom_table import Common, read_custom
from ringback.providers.github import GitHub
from ringback.providers.provider import Request, Response
from ringback.providers.signatures import SCHEMES, Headers, Key

NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
URL = "https://cdn.acme.example/0.mp4"
BASE = "https://api.acme.example/v1"

RECEIVING = """
scheme = "hmac"
header = "X-Acme-Signature"
prefix = "sha256="
task_id = ["data.task.id", "id"]
status = ["data.task.state", "type"]
result_urls = ["data.outputs[*].url", "data.thumbnail"]
error = "data.error"
error_code = "data.error.kind"
event_id = ["header:X-Acme-Id", "event.id"]
event_type = "type"
account_endpoint = true
result_kind = "image"
result_life_hours = 1.5
retry_window_hours = 72
tolerance_seconds = 60
handshakes = ["challenge", "websub"]

[status_map]
Ready = "completed"
"generation.failed" = "failed"
"1" = "processing"
true = "completed"
"""

SENDING = """
scheme = "none"
task_id = "id"
status = "status"
result_urls = "output"
error = "fault.text"
error_code = "fault.code"
authorization = "header:X-Api-Key"

[submit]
path = "/models/{model}/run?callback={callback_url}&mode=async&size={resolution}"
headers = { Idempotency-Key = "{task_id}", X-Callback = "{callback_url}", X-Fixed = "fixed-value" }
answer_task_id = ["job.id", "id"]

[submit.body]
quality = "fixed-value"
webhook = "{callback_url}"
seconds = "{duration}"
reference = "job {task_id} of {duration} s"
parts = ["{aspect_ratio}", 1, "{action}"]
tries = 3
weight = 0.5
loud = true
[submit.body.input]
prompt = "{prompt}"
images = "{image_urls}"

[fetch]
path = "/models/{model}/jobs/{provider_id}?of={task_id}"
headers = { X-Job = "{provider_id}" }
status = "job.state"
"""


def custom(toml: str, **common: Any) -> Custom:
    """Read a table."""
    given = {"base_url": BASE} | common
    return read_custom("acme", tomllib.loads(toml), ("providers", "acme"), Common(**given), ())


RECEIVER, SENDER = custom(RECEIVING), custom(SENDING)


def callback(said: Any, **headers: str) -> Callback:
    """Make a callback."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Callback(body=said if type(said) is bytes else msgspec.json.encode(said), headers=named, received_at=NOW)


def test_its_facts() -> None:
    """What the table says of it is what the others ask it for."""
    assert (RECEIVER.name, RECEIVER.trust, RECEIVER.pushes, RECEIVER.documents) == (
        "acme",
        Trust.SIGNED,
        True,
        "ringback.toml",
    )
    assert (RECEIVER.submits, RECEIVER.fetches) == (False, False)
    assert (RECEIVER.account_endpoint, RECEIVER.open_endpoint) == (True, False)
    assert (RECEIVER.tolerance, RECEIVER.retry_window) == (timedelta(seconds=60), timedelta(hours=72))
    assert RECEIVER.handshakes == {"challenge", "websub"}
    assert RECEIVER.event_id == "header x-acme-id or event.id"
    assert RECEIVER.kept_headers == {"x-acme-id"}
    assert (SENDER.trust, SENDER.submits, SENDER.fetches, SENDER.kept_headers) == (
        Trust.TOKEN,
        True,
        True,
        frozenset(),
    )


def test_a_completed_task() -> None:
    """Every alternative of the result URLs counts; a kind that the ending does not tell is the table's."""
    said = {
        "type": "generation.done",
        "event": {"id": "evt-1"},
        "data": {
            "task": {"id": "t-1", "state": " READY "},
            "outputs": [{"url": URL}, {"url": "data:,"}, {}, {"url": "https://a.example/x"}],
            "thumbnail": "https://a.example/x",
            "error": {"message": "old"},
        },
    }
    expires = NOW + timedelta(hours=1.5)
    assert RECEIVER.read_callback(callback(said)) == Reading(
        status=TaskState.COMPLETED,
        provider_id="t-1",
        event_id="evt-1",
        results=(
            Result(kind="video", url=URL, expires_at=expires),
            Result(kind="image", url="https://a.example/x", expires_at=expires),
        ),
    )


STATES: list[tuple[Any, TaskState]] = [
    ("ready", TaskState.COMPLETED),
    ("succeeded", TaskState.COMPLETED),
    (1, TaskState.PROCESSING),
    ("1", TaskState.PROCESSING),
    (True, TaskState.COMPLETED),
    ("Generation.Failed", TaskState.FAILED),
]


@pytest.mark.parametrize(("word", "expected"), STATES)
def test_status_words(word: Any, expected: TaskState) -> None:
    """The table's words, in any case, as numbers and booleans too, stand above the usual ones."""
    told = RECEIVER.read_callback(callback({"id": 7, "type": "x", "data": {"task": {"state": word}}}))
    assert told == Reading(status=expected, provider_id="7")


ERRORS: list[tuple[Any, TaskError | None]] = [
    ({"message": "no", "kind": "nsfw"}, TaskError(message="no", code="nsfw")),
    ({"kind": 12}, TaskError(message="12", code="12")),
    ({"message": "no", "code": "own"}, TaskError(message="no", code="own")),
    ("[policy] no", TaskError(message="[policy] no", code="policy")),
    (None, None),
    ([1], None),
]


@pytest.mark.parametrize(("error", "expected"), ERRORS)
def test_errors(error: Any, expected: TaskError | None) -> None:
    """An error is a text or an object, and its code stands in it or elsewhere."""
    said = {"id": "t", "type": "generation.failed", "data": {"error": error}}
    told = RECEIVER.read_callback(callback(said))
    assert told == Reading(status=TaskState.FAILED, provider_id="t", error=expected)


def test_an_error_beside_its_code() -> None:
    """A text and its code at two places become one error."""
    told = SENDER.read_callback(callback({"id": "t", "status": "failed", "fault": {"text": "no", "code": 5}}))
    assert told == Reading(status=TaskState.FAILED, provider_id="t", error=TaskError(message="no", code="5"))


EVENT_IDS: list[tuple[dict[str, str], Any, str | None]] = [
    ({"x_acme_id": "h-1"}, "b-1", "h-1"),
    ({}, "b-1", "b-1"),
    ({}, 12, "12"),
    ({"x_acme_id": "not visible"}, None, None),
    ({}, "x" * 201, None),
    ({}, "two words", None),
    ({}, ["x"], None),
]


@pytest.mark.parametrize(("headers", "given", "expected"), EVENT_IDS)
def test_event_ids(headers: dict[str, str], given: Any, expected: str | None) -> None:
    """A header or a place in the body; one that would have to be cut is none."""
    told = RECEIVER.read_callback(callback({"id": "t", "type": "ready", "event": {"id": given}}, **headers))
    assert isinstance(told, Reading)
    assert told.event_id == expected


def test_notices() -> None:
    """Without a task id, but with an event's id or type, it is about something else."""
    assert RECEIVER.read_callback(callback({"type": "endpoint.test"})) == Notice(type="endpoint.test")
    assert RECEIVER.read_callback(callback({}, x_acme_id="e-1")) == Notice(event_id="e-1")
    only = custom('scheme = "bearer"\nevent_type = "kind"')
    assert only.read_callback(callback({"kind": "balance"})) == Notice(type="balance")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "expected a task id under data.task.id or id, got none"),
        ({"id": "t"}, "expected a status under data.task.state or type, got none"),
        ({"id": "t", "type": "generation.paused"}, "unknown status 'generation.paused'"),
        ({"id": "t", "type": 1.5}, "unknown status float"),
        ({"id": "../t", "type": "ready"}, "expected a task id of 1 to 200"),
        ({"id": ["t"], "type": "ready"}, "expected a task id of 1 to 200"),
        (b"<html>", "expected a JSON object"),
        (b"[]", "expected a JSON object"),
    ],
)
def test_what_is_not_understood(said: Any, words: str) -> None:
    """Where the id or the status is in doubt nothing is guessed."""
    with pytest.raises(Unreadable) as caught:
        RECEIVER.read_callback(callback(said))
    assert words in str(caught.value)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6) | st.just("ready")
KEYS = st.sampled_from(["data", "task", "id", "state", "type", "outputs", "url", "thumbnail", "error", "kind", "event"])
DOCUMENTS = st.dictionaries(
    KEYS,
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)),
)


@given(DOCUMENTS)
def test_whatever_comes_can_be_stored_or_is_unreadable(said: dict[str, Any]) -> None:
    """Any JSON object becomes a reading, a notice or our own error, and no text of it holds NUL."""
    told: Reading | Notice | None = None
    with suppress(Unreadable):
        told = RECEIVER.read_callback(callback(said))
    assert b"\\u0000" not in msgspec.json.encode(told)


def form(**fields: Any) -> Form:
    """Make a form that the template takes."""
    given: dict[str, Any] = {"model": "acme/one", "prompt": "a dog", "duration": 6} | fields
    return Form(**given)


def submitted(asked: Form, callback_url: str | None = "https://us.example/cb?a=1") -> Request:
    """Build a submission."""
    return SENDER.build_submission(Task(id="task_1", provider="acme", form=asked), callback_url)


def test_a_submission() -> None:
    """A placeholder alone keeps its type, one within a text becomes text, and a path is percent-encoded."""
    request = submitted(
        form(
            image_urls=("https://a.example/1.png",),
            resolution="720p",
            aspect_ratio="16:9",
            action="go",
            extra={"input": {"seed": 7}, "quality": "high"},
        )
    )
    assert request.method == "POST"
    encoded = "https%3A%2F%2Fus.example%2Fcb%3Fa%3D1"
    assert request.path == f"/models/acme%2Fone/run?callback={encoded}&mode=async&size=720p"
    assert request.headers == {
        "Content-Type": "application/json",
        "Idempotency-Key": "task_1",
        "X-Callback": "https://us.example/cb?a=1",
        "X-Fixed": "fixed-value",
    }
    assert msgspec.json.decode(request.body or b"") == {
        "quality": "high",
        "webhook": "https://us.example/cb?a=1",
        "seconds": 6,
        "reference": "job task_1 of 6 s",
        "parts": ["16:9", 1, "go"],
        "tries": 3,
        "weight": 0.5,
        "loud": True,
        "input": {"prompt": "a dog", "images": ["https://a.example/1.png"], "seed": 7},
    }


def test_what_is_not_set_is_left_out() -> None:
    """Keys, items, headers and parts of the query go with the value that they would have."""
    request = submitted(form(prompt=" "), None)
    assert request.path == "/models/acme%2Fone/run?mode=async"
    assert "X-Callback" not in request.headers
    assert msgspec.json.decode(request.body or b"") == {
        "quality": "fixed-value",
        "seconds": 6,
        "reference": "job task_1 of 6 s",
        "parts": [1],
        "tries": 3,
        "weight": 0.5,
        "loud": True,
        "input": {},
    }


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (
        {"duration": None},
        "duration",
        "duration is required: the template [providers.acme.submit] writes it into a text",
    ),
    ({"model": ""}, "model", "model is required: the template [providers.acme.submit] writes it into a text"),
    ({"model": ".."}, "path", "a dot or two cannot be sent as a part of the path"),
    ({"callback_events": ("completed",)}, "callback_events", "callback_events have no place in a template"),
    ({"extra": {"input": {"prompt": "x"}}}, "input.prompt", "input.prompt cannot be given as an extra"),
    ({"extra": {"input": 1}}, "input", "input cannot be given as an extra"),
    ({"extra": {"parts": []}}, "parts", "parts cannot be given as an extra"),
    ({"image_urls": ("data:,",)}, "image_urls", "image_urls entries must be public http(s) URLs"),
    ({"duration": "6"}, "duration", "duration must be an integer"),
    ({"prompt": "\ud800"}, "prompt", "prompt must be text"),
]


@pytest.mark.parametrize(("fields", "name", "words"), REFUSED)
def test_what_is_refused(fields: dict[str, Any], name: str, words: str) -> None:
    """What could not be sent, or would be dropped in silence, is refused before anything is spent."""
    with pytest.raises(InvalidSubmission) as caught:
        SENDER.validate(form(**fields))
    assert (caught.value.field, words in str(caught.value)) == (name, True)


def test_what_a_template_has_no_place_for_is_refused() -> None:
    """A field that the template does not name would be lost; without a body extras would be, too."""
    path = "/run?p={prompt}&c={callback_url}"
    plain = custom(f'scheme = "none"\ntask_id = "id"\nstatus = "s"\n[submit]\nmethod = "GET"\npath = "{path}"')
    task = Task(id="task_1", provider="acme", form=Form(model="", prompt="a b"))
    request = plain.build_submission(task, None)
    assert (request.method, request.path, request.body, request.headers) == ("GET", "/run?p=a%20b", None, {})
    for asked, words in (
        (Form(model="", duration=6), "duration has no place in the template [providers.acme.submit]"),
        (Form(model="m"), "model has no place"),
        (Form(model="", extra={"seed": 1}), "extra has no place: the template has no body"),
    ):
        with pytest.raises(InvalidSubmission) as caught:
            plain.validate(asked)
        assert words in str(caught.value)


def test_a_callback_url_that_a_text_needs() -> None:
    """Where the receiver has no public address the message says which setting is missing."""
    toml = 'scheme="none"\ntask_id="id"\nstatus="s"\n[submit]\npath="/r"\nbody={hook="to {callback_url}"}'
    task = Task(id="task_1", provider="acme", form=Form(model=""))
    assert custom(toml).build_submission(task, "https://us.example").body == b'{"hook":"to https://us.example"}'
    with pytest.raises(InvalidSubmission, match="set RINGBACK_PUBLIC_URL"):
        custom(toml).build_submission(task, None)


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        SENDER.build_submission(Task(id="task_1", provider="acme"), None)


def answer(status: int, said: Any) -> Response:
    """Make an answer."""
    return Response(status=status, body=said if type(said) is bytes else msgspec.json.encode(said))


@pytest.mark.parametrize("said", [{"job": {"id": "j-1"}, "status": "success"}, {"id": "j-1"}])
def test_the_answer_to_a_submission(said: Any) -> None:
    """Its id is read and its status is not: "success" there may only mean that the request was taken."""
    expected = Reading(status=TaskState.SUBMITTED, provider_id="j-1")
    assert SENDER.read_acceptance(answer(201, said), NOW) == expected


REFUSALS: list[tuple[int, Any, str, str | None]] = [
    (400, {"fault": {"text": "no credit", "code": 9}}, "no credit", "9"),
    (422, {"error": {"message": "bad", "code": "x"}}, "bad", "x"),
    (403, b"<html>", "refused with 403, no reason given", None),
    (200, {"error": "bad"}, "bad", None),
]


@pytest.mark.parametrize(("status", "said", "message", "code"), REFUSALS)
def test_a_refusal(status: int, said: Any, message: str, code: str | None) -> None:
    """Its reason is read where the table says, else at the usual places."""
    with pytest.raises(SubmissionRefused) as caught:
        SENDER.read_acceptance(answer(status, said), NOW)
    assert (caught.value.args[0], caught.value.code) == (message, code)


@pytest.mark.parametrize("said", [{}, {"job": {"id": " "}}, b"", {"fault": {"text": "ok"}}])
def test_an_answer_without_an_id_is_unreadable(said: Any) -> None:
    """With 2xx and no id the end is unknown: nothing says that it was not bought."""
    with pytest.raises(Unreadable):
        SENDER.read_acceptance(answer(200, said), NOW)


def test_a_fetch() -> None:
    """Its own status path is used, and the others are those of the callbacks; a missing id is the one asked about."""
    task = Task(id="task_1", provider="acme", provider_id="a:b", form=form())
    request = SENDER.build_fetch(task)
    assert (request.method, request.path) == ("GET", "/models/acme%2Fone/jobs/a%3Ab?of=task_1")
    assert request.headers == {"X-Job": "a:b"}
    said = {"job": {"state": "done"}, "output": {"video_url": URL}, "status": "ok"}
    result = Result(kind="video", url=URL, expires_at=NOW + timedelta(hours=24))
    told = SENDER.read_task(answer(200, said), task, NOW)
    assert told == Reading(status=TaskState.COMPLETED, provider_id="a:b", results=(result,))
    assert SENDER.read_task(answer(200, said | {"id": "other"}), task, NOW).provider_id == "other"
    with pytest.raises(Unreadable):
        SENDER.read_task(answer(404, said), task, NOW)


def test_a_fetch_that_cannot_be_built() -> None:
    """An unknown model, one that would climb out of the path, or such an id."""
    for asked, words in ((None, "model of task_1 is not known"), (form(model=".."), "cannot be fetched")):
        with pytest.raises(Unsupported, match=words):
            SENDER.build_fetch(Task(id="task_1", provider="acme", provider_id="t", form=asked))
    with pytest.raises(Unreadable):
        SENDER.build_fetch(Task(id="task_1", provider="acme", provider_id="..", form=form()))


def test_what_it_cannot_do() -> None:
    """Without the tables `submit` and `fetch` it only receives."""
    task = Task(id="task_1", provider="acme", provider_id="t", form=form())
    calls: list[Callable[[], object]] = [
        lambda: RECEIVER.validate(form()),
        lambda: RECEIVER.build_submission(task, None),
        lambda: RECEIVER.read_acceptance(answer(200, {}), NOW),
        lambda: RECEIVER.build_fetch(task),
        lambda: RECEIVER.read_task(answer(200, {}), task, NOW),
        lambda: RECEIVER.build_cancel(task),
    ]
    for call in calls:
        with pytest.raises(Unsupported, match=r"^acme: "):
            call()


@pytest.mark.parametrize(
    ("credentials", "api_key", "expected"),
    [
        ("bearer", "k", {"Authorization": "Bearer k"}),
        ("key", "a:b", {"Authorization": "Key a:b"}),
        ("basic", "user:word", {"Authorization": "Basic dXNlcjp3b3Jk"}),
        ("basic", "user", {"Authorization": "Basic dXNlcjo="}),
        ("header:X-Api-Key", "k", {"x-api-key": "k"}),
    ],
)
def test_authorization(credentials: str, api_key: str, expected: dict[str, str]) -> None:
    """The API key is sent as the table says; a user without a password is written with a colon, as Stripe wants it."""
    made = custom(f'scheme = "none"\ntask_id = "a"\nstatus = "b"\nauthorization = "{credentials}"')
    assert made.authorization(api_key, NOW) == expected


SAMPLES = {
    "receiver": RECEIVING,
    "sender": SENDING,
    "fields": """
        scheme = "fields-hmac"
        header = "x-signature"
        timestamp_header = "x-timestamp"
        field = ["info[1].ref", "id"]
        task_id = "info[0].id"
        status = "info[*].state"
        error = "info[0].why"
        error_code = "info[0].why.code"
    """,
    "standard": """
        scheme = "standard-webhooks"
        event_id = "header:webhook-id"
        task_id = "data.id"
        status = "type"
        event_type = "type"
    """,
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("status", [status for status in TaskState if status is not TaskState.PENDING])
def test_a_sample_is_read_back(name: str, status: TaskState) -> None:
    """What `ringback trigger` sends is authentic and means what was asked for."""
    made = custom(SAMPLES[name], confirm=Confirm.NEVER)
    sample = made.build_sample("t-1", status, NOW)
    headers = {key.lower(): value for key, value in sample.headers.items()}
    if made.scheme is not None:
        key = Key(made.scheme.key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
        signed = made.scheme.sign(sample.body, key.material, now=NOW, event_id="evt-1")
        assert not headers.keys() & signed.keys()
        headers |= signed
        arrived = Headers([(name.encode(), value.encode()) for name, value in headers.items()])
        made.scheme.verify(arrived, sample.body, [key], NOW, timedelta(seconds=1))
        with pytest.raises(Unauthentic):
            made.scheme.verify(arrived, sample.body.replace(b"t-1", b"t-2"), [key], NOW, timedelta(seconds=1))
    told = made.read_callback(Callback(body=sample.body, headers=tuple(headers.items()), received_at=NOW))
    assert isinstance(told, Reading)
    assert (told.status, told.provider_id) == (status, "t-1")
    assert bool(told.results) is (status is TaskState.COMPLETED and bool(made.places.result_urls))
    failed = status in (TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED)
    assert (told.error is not None) is (failed and bool(made.places.error))
    if failed and made.places.error:
        assert told.error == TaskError(message=f"a sample of a {status} task", code="sample")
    assert (told.event_id is not None) is bool(made.event_ids)


@pytest.mark.parametrize(
    ("toml", "status", "words"),
    [
        (
            'scheme = "none"\nevent_type = "type"',
            TaskState.COMPLETED,
            "no callback of its own speaks of a completed task",
        ),
        ('scheme = "none"\ntask_id = "a"\nstatus = "b"', TaskState.PENDING, "speaks of a pending task"),
        ('scheme = "none"\ntask_id = "a"\nstatus = "a.b"', TaskState.FAILED, "stand in one another's way"),
        ('scheme = "none"\ntask_id = "a.b"\nstatus = "a"', TaskState.FAILED, "stand in one another's way"),
        ('scheme = "none"\ntask_id = "a.b"\nstatus = "a[0]"', TaskState.FAILED, "stand in one another's way"),
        ('scheme = "none"\ntask_id = "a[51]"\nstatus = "b"', TaskState.FAILED, "a position of at most 50"),
    ],
)
def test_where_there_is_no_sample(toml: str, status: TaskState, words: str) -> None:
    """Paths that no document can satisfy at once, or that say nothing about tasks."""
    with pytest.raises(Unsupported, match=words):
        custom(toml).build_sample("t-1", status, NOW)


def test_its_description() -> None:
    """Everything that was understood is said back."""
    rows = dict(describe(RECEIVER))
    assert rows == {
        "scheme": "hmac",
        "options": "header x-acme-signature, algorithm sha256, encoding hex, prefix sha256=",
        "trust": "signed: the body is covered",
        "secret": "the secret as the provider shows it",
        "tolerance": "60 s",
        "callbacks": "a URL for each task, /callbacks/acme",
        "handshakes": "challenge, websub",
        "retry window": "72 h",
        "event id": "header x-acme-id, else event.id",
        "event type": "type",
        "task id": "data.task.id, else id",
        "status": "data.task.state, else type",
        "status words": rows["status words"],
        "result urls": "data.outputs[*].url and data.thumbnail",
        "results": "image, for 1.5 h",
        "error": "data.error",
        "error code": "data.error.kind",
        "submit": "no: it only receives",
        "fetch": "no: its tasks cannot be asked about",
    }
    assert rows["status words"].startswith("ready = completed, generation.failed = failed, 1 = processing, true = ")
    assert "; and the usual ones: queued, " in rows["status words"]


def test_the_description_of_requests_holds_no_fixed_value() -> None:
    """Placeholders are shown; what the table says literally may be a secret, so only its name is."""
    rows = dict(describe(SENDER))
    assert "fixed-value" not in str(rows)
    assert rows["scheme"] == "none: only the token in the URL of a task"
    path = "/models/{model}/run?callback={callback_url}&mode=…&size={resolution}"
    assert rows["submit"] == f"POST {BASE}{path}"
    assert rows["submit headers"] == "Idempotency-Key: {task_id}, X-Callback: {callback_url}, X-Fixed: …"
    assert rows["submit body"] == (
        "quality = …, webhook = {callback_url}, seconds = {duration}, reference = {task_id} {duration}, "
        "parts[0] = {aspect_ratio}, parts[1] = …, parts[2] = {action}, tries = …, weight = …, loud = …, "
        "input.prompt = {prompt}, input.images = {image_urls}"
    )
    assert rows["answer's task id"] == "job.id, else id"
    assert rows["fetch"] == f"GET {BASE}/models/{{model}}/jobs/{{provider_id}}?of={{task_id}}"
    assert rows["fetch headers"] == "X-Job: {provider_id}"
    assert rows["fetch reads"].startswith("task_id id, status job.state, result_urls output, error fault.text")
    assert rows["authorization"] == "x-api-key, which holds the API key"
    assert rows["status words"].startswith("the usual ones: queued, ")


def test_other_descriptions() -> None:
    """Each kind of endpoint and scheme has its words, and a provider of the catalogue has none."""
    fetch = '\n[fetch]\npath = "/t/{provider_id}?flag"'
    places = '\ntask_id = "a"\nstatus = "b"'
    rows = dict(describe(custom('scheme = "none"\naccount_endpoint = true' + places + fetch)))
    assert rows["callbacks"] == "a URL for each task, /callbacks/acme (open: what comes there is a hint, and fetched)"
    assert rows["fetch"] == f"GET {BASE}/t/{{provider_id}}?flag"
    assert rows["result urls"] == "none"
    assert rows["event id"] == "none: the task and its status tell callbacks apart"
    assert "fetch reads" not in rows
    polled = custom('scheme = "none"' + places + fetch + '\n[submit]\npath = "/t"\n[submit.body]\np = "{prompt}"')
    assert (polled.pushes, dict(describe(polled))["callbacks"]) == (False, "none: its tasks are polled")
    assert dict(describe(polled))["scheme"] == "none"
    keys = "".join(f'\n{name}_header = "x-{name}"' for name in ("id", "user", "timestamp", "signature"))
    jwks = custom('scheme = "ed25519-jwks"' + keys + places, jwks_url="https://k.example")
    assert dict(describe(jwks))["keys from"] == "https://k.example"
    assert dict(describe(custom('scheme = "bearer"\nevent_type = "type"')))["task id"] == (
        "none: every callback is a notice"
    )
    assert describe(GitHub()) == []
    assert len(SCHEMES) == 8

"""kie.ai, both directions; C = PROVIDERS C, K = docs.kie.ai, from whose samples the fixtures are."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringback.errors import InvalidSubmission, SubmissionRefused, Unauthentic, Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Task, TaskError, TaskState, Trust
from ringback.providers.kie import Kie
from ringback.providers.provider import Response
from ringback.providers.signatures import Headers, Key

KIE = Kie()
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
FIXTURES = Path(__file__).parent / "fixtures" / "kie"
HOOK = "https://us.example/callbacks/kie/task_1.mac"
GROK = "grok-imagine/image-to-video"
KEY = Key(KIE.scheme.key("the webhookHmacKey"))
MINUTES = timedelta(minutes=5)


def fixture(name: str) -> bytes:
    """Read a recorded body."""
    return (FIXTURES / f"{name}.json").read_bytes()


def push(body: bytes | dict[str, Any]) -> Reading:
    """Read a callback."""
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return KIE.read_callback(Callback(body=encoded, received_at=NOW))


def task(**fields: Any) -> Task:
    """Make a task with a form."""
    return Task(
        id="task_1", provider="kie", provider_id="t_1", form=Form(**{"model": GROK, "prompt": "a dog"} | fields)
    )


def sent(callback_url: str | None = HOOK, **fields: Any) -> Any:
    """Give the JSON that is sent for a form."""
    request = KIE.build_submission(task(**fields), callback_url)
    assert (request.method, request.path) == ("POST", "/jobs/createTask")
    assert request.headers == {"Content-Type": "application/json"}
    return msgspec.json.decode(request.body or b"")


def accept(status: int, body: Any) -> Reading:
    """Read an answer to a submission."""
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return KIE.read_acceptance(Response(status=status, body=encoded), NOW)


def fetched(body: Any) -> Reading:
    """Read an answer to a fetch."""
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return KIE.read_task(Response(status=200, body=encoded), task(), NOW)


DONE = [
    (
        "market_success",
        "e989621f54392584b05867f87b160672",
        [("video", "https://example.com/generated-content.mp4"), ("image", "https://example.com/still.jpg?x=1")],
    ),
    ("suno_complete", "2fac9f72", [("audio", "https://example.cn/one.mp3"), ("audio", "https://example.cn/two.mp3")]),
    ("runway_success", "ee603959-debb-48d1-98c4-a6d1c717eba6", [("video", "https://file.com/k/xxxxxxx.mp4")]),
    ("veo_success", "veo_task_abcdef123456", [("video", "http://example.com/video1.mp4")]),
    ("veo_details", "veo_task_abcdef123456", [("video", "http://example.com/video1.mp4")]),
    ("record_info", "task_12345678", [("image", "https://example.com/generated-content.jpg")]),
]


@pytest.mark.parametrize(("name", "provider_id", "results"), DONE)
def test_the_successes_of_every_family(name: str, provider_id: str, results: list[tuple[str, str]]) -> None:
    """C: three families, each with its own place for the id, the state and the URLs; the cover is no result."""
    for told in (push(fixture(name)), fetched(fixture(name))):
        assert (told.status, told.provider_id) == (TaskState.COMPLETED, provider_id)
        assert [(result.kind, result.url) for result in told.results] == results
        assert {result.expires_at for result in told.results} == {NOW + timedelta(hours=24)}


FAILED = [
    ("market_fail", "bd3a37c523149e4adf45a3ddb5faf1a8", TaskError(message="Internal server error", code="500")),
    ("suno_error", "2fac9f72", TaskError(message="Audio generation failed", code="501")),
    (
        "veo_refused",
        "veo_task_abcdef123456",
        TaskError(message="Your prompt was flagged by Website as violating content policies.", code="400"),
    ),
]


@pytest.mark.parametrize(("name", "provider_id", "error"), FAILED)
def test_the_failures_of_every_family(name: str, provider_id: str, error: TaskError) -> None:
    """C: failCode and failMsg, else code and msg, which come with HTTP 200."""
    assert push(fixture(name)) == Reading(status=TaskState.FAILED, provider_id=provider_id, error=error)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"callbackType": "text", "task_id": "a", "data": []}, TaskState.PROCESSING),
        ({"taskId": "a", "state": "waiting"}, TaskState.SUBMITTED),
        ({"taskId": "a", "state": "queuing"}, TaskState.SUBMITTED),
        ({"taskId": "a", "state": " Generating "}, TaskState.PROCESSING),
        ({"taskId": "a", "successFlag": 0}, TaskState.PROCESSING),
        ({"taskId": "a", "successFlag": 3, "errorCode": 7, "errorMessage": "x"}, TaskState.FAILED),
        ({"taskId": "a", "state": "success", "resultJson": "no JSON"}, TaskState.COMPLETED),
        ({"taskId": "a", "state": "success", "resultJson": {"resultUrls": [None, 7, "data:,"]}}, TaskState.COMPLETED),
    ],
)
def test_the_words_of_every_family(data: dict[str, Any], status: TaskState) -> None:
    """K: each word of the three families; a success whose results cannot be read is still one."""
    told = push({"code": 200, "msg": "", "data": data})
    assert (told.status, told.provider_id, told.results) == (status, "a", ())


def test_partial_results_are_a_step_on_the_way() -> None:
    """C: Suno's text and first are partial; the event of a step carries no results."""
    assert push(fixture("suno_first")) == Reading(status=TaskState.PROCESSING, provider_id="2fac9f72")


UNREADABLE: list[dict[str, Any]] = [
    {},
    {"code": 200, "data": {"state": "success"}},
    {"code": 200, "data": {"taskId": "../x", "state": "success"}},
    {"code": 200, "data": {"taskId": "a", "state": "done"}},
    {"code": 200, "data": {"taskId": "a", "state": ["success"]}},
    {"code": 200, "data": {"taskId": "a", "successFlag": True}},
    {"code": 200, "data": {"taskId": "a"}},
    {"data": {"taskId": "a", "video_url": "https://a.example/v.mp4"}},
    {"code": 500, "data": {"taskId": "a", "state": "success"}},
    {"code": 501, "data": {"task_id": "a", "callbackType": "complete"}},
]


@pytest.mark.parametrize("body", UNREADABLE)
def test_what_is_not_understood(body: dict[str, Any]) -> None:
    """Where the id or the state is in doubt, or the code contradicts it, nothing is guessed."""
    with pytest.raises(Unreadable):
        push(body)


def test_the_task_may_stand_at_the_top() -> None:
    """An id beside the wrapping is taken where the wrapping has none, as the signature does."""
    assert push({"code": 501, "msg": "x", "taskId": "a", "data": None}).provider_id == "a"


def test_its_signature_covers_the_task_id_alone() -> None:
    """C: base64 of HMAC-SHA256 over `taskId.timestamp`; another body about the same task passes, so: partial."""
    body = fixture("market_success")
    headers = KIE.scheme.sign(body, KEY.material, now=NOW, event_id="")
    given = Headers([(name.lower().encode(), value.encode()) for name, value in headers.items()])
    forged = body.replace(b'"success"', b'"fail"')
    assert KIE.verify(given, forged, (KEY,), NOW, MINUTES) is Trust.PARTIAL is KIE.trust
    with pytest.raises(Unauthentic):
        KIE.verify(given, fixture("market_fail"), (KEY,), NOW, MINUTES)
    with pytest.raises(Unauthentic):
        KIE.verify(Headers([]), body, (KEY,), NOW, MINUTES)


def test_what_is_signed_is_what_is_read() -> None:
    """A second id, in a place that the signature does not look at, never becomes the task."""
    body = {"code": 501, "data": {"taskId": "signed", "task_id": "other"}, "taskId": "other", "task_id": "other"}
    encoded = msgspec.json.encode(body)
    headers = KIE.scheme.sign(encoded, KEY.material, now=NOW, event_id="")
    again = KIE.scheme.sign(b'{"data":{"taskId":"signed"}}', KEY.material, now=NOW, event_id="")
    assert headers == again
    assert push(encoded).provider_id == "signed"


def test_without_a_secret_the_url_counts() -> None:
    """The signature is opt-in at kie.ai: without one set up, the token in our URL is the trust."""
    assert KIE.verify(Headers([]), b"", (), NOW, MINUTES) is Trust.TOKEN


SENT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("only what is set", {}, {"prompt": "a dog"}),
    ("no prompt", {"prompt": " "}, {}),
    (
        "Grok's names",
        {
            "image_urls": ("https://a.example/1.png",),
            "aspect_ratio": "16:9",
            "resolution": "480p",
            "duration": 6,
            "extra": {"mode": "normal"},
        },
        {
            "prompt": "a dog",
            "image_urls": ["https://a.example/1.png"],
            "aspect_ratio": "16:9",
            "resolution": "480p",
            "duration": "6",
            "mode": "normal",
        },
    ),
]


@pytest.mark.parametrize(("fields", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """K, createTask: model, callBackUrl and input; extras are parameters of the model."""
    assert sent(**fields) == {"model": GROK, "callBackUrl": HOOK, "input": expected}


def test_other_models_take_their_own_names() -> None:
    """A name that is wrong is taken in silence by kie.ai, so it is not guessed; as an extra it is the user's word."""
    extra = {"image_input": ["https://a.example/1.png"], "aspect_ratio": "16:9"}
    expected = {"model": "nano-banana-pro", "input": {"prompt": "a dog"} | extra}
    assert sent(None, model="nano-banana-pro", extra=extra) == expected


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"callback_events": ("completed",)}, "callback_events", "no filter of events"),
    ({"action": "generate"}, "action", "no actions"),
    ({"model": "nano-banana-pro", "image_urls": ("https://a.example/1.png",)}, "image_urls", "as an extra"),
    ({"model": "nano-banana-pro", "duration": 0}, "duration", "as an extra"),
    ({"extra": {"callBackUrl": "x"}}, "callBackUrl", "cannot be given"),
    ({"extra": {"duration": "6"}}, "duration", "cannot be given"),
    ({"model": ""}, "model", "required"),
]


@pytest.mark.parametrize(("fields", "field", "message"), REFUSED)
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """Before anything is sent, with kie.ai's own code for a bad request."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        sent(**fields)
    assert (caught.value.field, caught.value.code) == (field, "422")


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        KIE.build_submission(Task(id="task_1", provider="kie"), None)


def test_the_answer_to_a_submission() -> None:
    """K, createTask: data.taskId; it says nothing of a state."""
    told = accept(200, {"code": 200, "msg": "success", "data": {"taskId": "t_1", "recordId": "t_1"}})
    assert told == Reading(status=TaskState.SUBMITTED, provider_id="t_1")


def test_an_id_is_not_lost() -> None:
    """A code beside a task that was made does not lose it."""
    told = accept(200, {"code": 455, "msg": "x", "data": {"taskId": "t_1", "state": "waiting"}})
    assert told == Reading(status=TaskState.SUBMITTED, provider_id="t_1")


def test_a_refusal() -> None:
    """C: HTTP 200 with a code other than 200 is an error; a 4xx is one anyway, whatever its body."""
    said = {"code": 402, "msg": "Credits insufficient", "data": None}
    for status in (200, 402):
        with pytest.raises(SubmissionRefused) as caught:
            accept(status, said)
        assert (caught.value.code, caught.value.args[0]) == ("402", "Credits insufficient")
    with pytest.raises(SubmissionRefused, match="refused with 403"):
        accept(403, b"<html>")


@pytest.mark.parametrize(
    ("status", "body"), [(200, {"code": 500, "msg": "x", "data": None}), (200, b"<html>"), (502, {})]
)
def test_an_answer_in_doubt(status: int, body: Any) -> None:
    """Where a task may have been made, nothing is said, so that nothing is bought twice."""
    with pytest.raises(Unreadable):
        accept(status, body)


def test_the_fetch() -> None:
    """K, "Get Task Details"; an id cannot leave its place in the query."""
    request = KIE.build_fetch(task())
    assert (request.method, request.path) == ("GET", "/jobs/recordInfo?taskId=t_1")
    with pytest.raises(Unreadable):
        KIE.build_fetch(Task(id="task_1", provider="kie", provider_id="a&b"))


def test_an_error_about_the_question_is_no_failure() -> None:
    """C: code other than 200 in a poll is unreadable, unless the answer is about the task."""
    for body in ({"code": 401, "msg": "x"}, {"code": 500, "msg": "x", "data": {"taskId": "t_1"}}):
        with pytest.raises(Unreadable, match="got code"):
            fetched(body)
    assert fetched({"code": 501, "data": {"taskId": "t_1", "state": "fail"}}).status is TaskState.FAILED


@pytest.mark.parametrize("status", [TaskState.COMPLETED, TaskState.FAILED, TaskState.PROCESSING])
def test_the_sample_is_read_back(status: TaskState) -> None:
    """What `ringback trigger` sends is what the provider would, and can be signed."""
    sample = KIE.build_sample("t_1", status, NOW)
    told = push(sample.body)
    assert (told.status, told.provider_id) == (status, "t_1")
    assert bool(told.results) is (status is TaskState.COMPLETED)
    assert bool(told.error) is (status is TaskState.FAILED)
    assert KIE.scheme.sign(sample.body, KEY.material, now=NOW, event_id="")


def test_there_is_no_sample_of_what_it_never_says() -> None:
    """kie.ai has no word for cancelled."""
    with pytest.raises(Unsupported):
        KIE.build_sample("t_1", TaskState.CANCELLED, NOW)


@pytest.mark.parametrize(
    ("status", "body", "meant"),
    [
        (200, b'{"code": 422, "msg": "recordInfo is null"}', 422),
        (200, b'{"code": 401}', 401),
        (200, b'{"code": 501, "data": {"taskId": "t_1", "state": "fail"}}', 200),
        (200, b'{"code": 200, "data": {}}', 200),
        (200, b"<html>", 200),
        (503, b'{"code": 422}', 503),
    ],
)
def test_what_a_fetch_that_says_200_means(status: int, body: bytes, meant: int) -> None:
    """C: HTTP 200 with another `code` is an error; without a task, it is what HTTP would have said."""
    assert KIE.fetch_status(Response(status=status, body=body)) == meant

"""MiniMax, both directions; C = PROVIDERS C, M = platform.minimax.io, from whose samples the fixtures are."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringback.errors import InvalidSubmission, SubmissionRefused, Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Result, Task, TaskError, TaskState, Trust
from ringback.providers.handshakes import answer
from ringback.providers.minimax import MiniMax
from ringback.providers.provider import Request, Response
from ringback.providers.signatures import Headers

MINIMAX = MiniMax()
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
FIXTURES = Path(__file__).parent / "fixtures" / "minimax"
HOOK = "https://us.example/callbacks/minimax/task_1.mac"
ID = "115334141465231360"
FILE = "/v1/files/retrieve?file_id=205258526306433"
FIRST, LAST = "https://a.example/1.png", "https://a.example/2.png"


def fixture(name: str) -> bytes:
    """Read a recorded body."""
    return (FIXTURES / f"{name}.json").read_bytes()


def push(body: bytes | dict[str, Any]) -> Reading:
    """Read a callback."""
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return MINIMAX.read_callback(Callback(body=encoded, received_at=NOW))


def task(**fields: Any) -> Task:
    """Make a task with a form."""
    form = Form(**{"model": "MiniMax-Hailuo-2.3", "prompt": "a dog"} | fields)
    return Task(id="task_1", provider="minimax", provider_id=ID, form=form)


def response(body: bytes | dict[str, Any], status: int = 200) -> Response:
    """Make an answer."""
    return Response(status=status, body=body if isinstance(body, bytes) else msgspec.json.encode(body))


def polled(body: bytes | dict[str, Any]) -> Reading | Request:
    """Read an answer to a fetch."""
    return MINIMAX.read_task(response(body), task(), NOW)


def test_its_challenge_is_answered() -> None:
    """C: the first POST carries a challenge, which is echoed as JSON."""
    reply = answer(MINIMAX.handshakes, "POST", b"", Headers([]), fixture("challenge"))
    assert reply is not None
    assert (reply.body, reply.content_type) == (fixture("challenge").strip(), "application/json")
    assert answer(MINIMAX.handshakes, "POST", b"", Headers([]), fixture("callback_success")) is None


def test_a_success_says_where_to_ask_for_the_file() -> None:
    """C: v1 gives a file_id; the call that tells its URL needs the key, and does not expire as the URL would."""
    result = Result(kind="file", url="https://api.minimax.io" + FILE)
    expected = Reading(status=TaskState.COMPLETED, provider_id=ID, results=(result,))
    assert push(fixture("callback_success")) == expected


def test_a_failure() -> None:
    """C: base_resp holds the reason, with HTTP 200."""
    error = TaskError(message="generated video contains sensitive content", code="1027")
    assert push(fixture("callback_failed")) == Reading(status=TaskState.FAILED, provider_id=ID, error=error)


WORDS = [
    ("processing", TaskState.PROCESSING),
    ("Processing", TaskState.PROCESSING),
    ("Queueing", TaskState.SUBMITTED),
    ("Preparing", TaskState.SUBMITTED),
    ("Success", TaskState.COMPLETED),
    ("success", TaskState.COMPLETED),
    ("Fail", TaskState.FAILED),
    ("failed", TaskState.FAILED),
    ("cancelled", TaskState.CANCELLED),
    ("expired", TaskState.EXPIRED),
]


@pytest.mark.parametrize(("word", "status"), WORDS)
def test_the_words(word: str, status: TaskState) -> None:
    """C: the case varies; a final word without a file or a reason is still final."""
    assert push({"task_id": ID, "status": word}) == Reading(status=status, provider_id=ID)


def test_v2() -> None:
    """C: v2 wraps the task, and gives the URL itself or an error."""
    told = push(fixture("query_v2"))
    assert (told.status, told.provider_id) == (TaskState.COMPLETED, "424010985738629")
    url = Result(kind="video", url="https://cdn.example/h3.mp4", expires_at=NOW + timedelta(hours=9))
    assert told.results == (url,)
    told = push({"task": {"id": "1", "status": "failed", "error": {"code": "1026", "message": "sensitive"}}})
    assert told.error == TaskError(message="sensitive", code="1026")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"task_id": ID},
        {"task_id": ID, "status": "done"},
        {"task_id": ID, "status": 7},
        {"task_id": "", "status": "success"},
        {"challenge": "\n"},
    ],
)
def test_what_is_not_understood(body: dict[str, Any]) -> None:
    """Where the id or the state is in doubt nothing is guessed."""
    with pytest.raises(Unreadable):
        push(body)


@pytest.mark.parametrize("file_id", [None, "", True, "a/b", "..", {"a": 1}])
def test_a_file_that_cannot_be_asked_for(file_id: Any) -> None:
    """An id that could change the call is dropped, the success is not."""
    body = {"task_id": ID, "status": "Success", "file_id": file_id}
    assert push(body) == Reading(status=TaskState.COMPLETED, provider_id=ID) == polled(body)


def test_it_signs_nothing() -> None:
    """C: no signature, so the token in our URL is the trust."""
    assert MINIMAX.verify(Headers([]), b"", (), NOW, timedelta()) is Trust.TOKEN is MINIMAX.trust


SENT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("text", {}, {"prompt": "a dog"}),
    (
        "every field",
        {"resolution": "1080P", "duration": 6, "action": "generate", "extra": {"prompt_optimizer": False}},
        {"prompt": "a dog", "resolution": "1080P", "duration": 6, "prompt_optimizer": False},
    ),
    ("an image", {"image_urls": (FIRST,), "prompt": " "}, {"first_frame_image": FIRST}),
    (
        "two images",
        {"image_urls": (FIRST, LAST)},
        {"prompt": "a dog", "first_frame_image": FIRST, "last_frame_image": LAST},
    ),
]


@pytest.mark.parametrize(("fields", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """M: POST /v1/video_generation, with a duration that is a number."""
    request = MINIMAX.build_submission(task(**fields), HOOK)
    assert (request.method, request.path) == ("POST", "/v1/video_generation")
    assert msgspec.json.decode(request.body or b"") == {"model": "MiniMax-Hailuo-2.3", "callback_url": HOOK} | expected


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"callback_events": ("completed",)}, "callback_events", "no filter of events"),
    ({"model": "MiniMax-H3"}, "model", "API v2"),
    ({"aspect_ratio": "16:9"}, "aspect_ratio", "no aspect_ratio"),
    ({"action": "image2video"}, "action", "contradicts 0 image_urls"),
    ({"image_urls": (FIRST,) * 3}, "image_urls", "got 3"),
    ({"prompt": None}, "prompt", "required when image_urls is empty"),
    ({"extra": {"first_frame_image": "x"}}, "first_frame_image", "cannot be given"),
]


@pytest.mark.parametrize(("fields", "field", "message"), REFUSED)
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """Before anything is sent, with MiniMax's own code for bad parameters."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        MINIMAX.build_submission(task(**fields), HOOK)
    assert (caught.value.field, caught.value.code) == (field, "2013")


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        MINIMAX.build_submission(Task(id="task_1", provider="minimax"), None)


def test_the_answer_to_a_submission() -> None:
    """M: task_id and base_resp; it says nothing of a state."""
    body = {"task_id": ID, "base_resp": {"status_code": 0, "status_msg": "success"}}
    expected = Reading(status=TaskState.SUBMITTED, provider_id=ID)
    assert MINIMAX.read_acceptance(response(body), NOW) == expected
    assert MINIMAX.read_acceptance(response({"task_id": ID, "base_resp": {"status_code": 1}}), NOW) == expected


def test_a_refusal() -> None:
    """C: base_resp.status_code other than 0 with HTTP 200; v2's shape with a 4xx."""
    with pytest.raises(SubmissionRefused) as caught:
        MINIMAX.read_acceptance(response(fixture("refused")), NOW)
    assert (caught.value.code, caught.value.args[0]) == ("1008", "insufficient balance")
    body = {"type": "error", "error": {"type": "bad_request_error", "message": "invalid params (2013)"}}
    with pytest.raises(SubmissionRefused, match="invalid params"):
        MINIMAX.read_acceptance(response(body, 400), NOW)


@pytest.mark.parametrize(
    "body", [{"task_id": "", "base_resp": {"status_code": 1001}}, {"task_id": "", "base_resp": 7}, b"<html>"]
)
def test_an_answer_in_doubt(body: Any) -> None:
    """After a timeout of theirs a task may have been made: nothing is said, so that nothing is bought twice."""
    with pytest.raises(Unreadable):
        MINIMAX.read_acceptance(response(body), NOW)


def test_the_fetch() -> None:
    """M: v1 asks with a query, v2 with a path; an id cannot leave its place."""
    assert MINIMAX.build_fetch(task()).path == f"/v1/query/video_generation?task_id={ID}"
    assert MINIMAX.build_fetch(task(model="MiniMax-H3")).path == f"/v2/query/video_generation/{ID}"
    known = Task(id="task_1", provider="minimax", provider_id=ID)
    assert MINIMAX.build_fetch(known).path == f"/v1/query/video_generation?task_id={ID}"
    with pytest.raises(Unreadable):
        MINIMAX.build_fetch(Task(id="task_1", provider="minimax", provider_id="a&b"))


def test_a_success_is_fetched_in_two_parts() -> None:
    """M: the task names a file, and files/retrieve gives its download_url, which lives 9 hours."""
    assert polled(fixture("query_success")) == Request(method="GET", path=FILE)
    url = "https://public-cdn.example/output_aigc.mp4?Expires=1"
    result = Result(kind="video", url=url, expires_at=NOW + timedelta(hours=9))
    assert polled(fixture("file")) == Reading(status=TaskState.COMPLETED, provider_id=ID, results=(result,))


def test_v2_is_fetched_in_one_part() -> None:
    """C: content.url is there at once, even beside a file."""
    body = {"task": {"id": "1", "status": "succeeded", "file_id": 7, "content": {"url": "https://a.example/v"}}}
    for said in (fixture("query_v2"), msgspec.json.encode(body)):
        told = polled(said)
        assert isinstance(told, Reading)
        assert [result.kind for result in told.results] == ["video"]


@pytest.mark.parametrize(
    "body",
    [
        {"base_resp": {"status_code": 1004, "status_msg": "login fail"}},
        {"task_id": ID, "status": "", "base_resp": {"status_code": 1002}},
        {"file": {"file_id": 1}, "base_resp": {"status_code": 0}},
        {"file": {"download_url": "https://a.example/v"}, "base_resp": {"status_code": 1000}},
    ],
)
def test_an_error_about_the_question_is_no_failure(body: dict[str, Any]) -> None:
    """C: HTTP 200 with a status_code; a task that is not told about stays as it was."""
    with pytest.raises(Unreadable):
        polled(body)


@pytest.mark.parametrize("status", [TaskState.PROCESSING, TaskState.COMPLETED, TaskState.FAILED])
def test_the_sample_is_read_back(status: TaskState) -> None:
    """What `ringback trigger` sends is what the provider would."""
    told = push(MINIMAX.build_sample(ID, status, NOW).body)
    assert (told.status, told.provider_id) == (status, ID)
    assert bool(told.results) is (status is TaskState.COMPLETED)
    assert bool(told.error) is (status is TaskState.FAILED)


def test_there_is_no_sample_of_what_v1_never_says() -> None:
    """M: the callback of v1 has three words."""
    with pytest.raises(Unsupported):
        MINIMAX.build_sample(ID, TaskState.CANCELLED, NOW)


@pytest.mark.parametrize(
    ("answered", "status"),
    [
        (response({"base_resp": {"status_code": 1004}}), 401),
        (response({"base_resp": {"status_code": 1002}, "task_id": ID, "status": ""}), 429),
        (response({"base_resp": {"status_code": 2013}}), 400),
        (response({"base_resp": {"status_code": 1000}}), 200),
        (response({"task_id": ID, "status": "Fail", "base_resp": {"status_code": 1002}}), 200),
        (response(b"<html>"), 200),
        (response({}, 502), 502),
    ],
)
def test_what_a_fetch_that_says_200_means(answered: Response, status: int) -> None:
    """C: HTTP 200 with a status_code; without a task, it is what HTTP would have said."""
    assert MINIMAX.fetch_status(answered) == status

"""OpenAI's events and videos; fixtures name the pages (C = PROVIDERS C)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ringback.errors import Unreadable, Unsupported
from ringback.model import Form, Notice, Reading, Result, Task, TaskError, TaskState
from ringback.providers import Response
from ringback.providers.openai import OpenAI
from tests.providers.recorded import NOW, check_signed, read, recorded

OPENAI = OpenAI()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ID = "video_abc123"
CONTENT = f"https://api.openai.com/v1/videos/{ID}/content"
SENT = datetime(2025, 9, 27, 2, 51, 25, tzinfo=UTC)
TASK = Task(id="task_1", provider="openai", provider_id=ID)


def fetch(**fields: Any) -> Reading:
    """Read the answer to GET /videos/{id}."""
    body = msgspec.json.encode({"id": ID, "object": "video"} | fields)
    return OPENAI.read_task(Response(status=200, body=body), TASK, NOW)


def test_it_is_signed() -> None:
    """C: Standard Webhooks, at the project's endpoint."""
    assert OPENAI.account_endpoint
    check_signed(OPENAI, SECRET, OTHER, recorded("openai", "video_completed").body)


def test_a_completed_video() -> None:
    """C: the event is thin; where the video is downloaded follows from its id, for an hour at most."""
    told = read(OPENAI, recorded("openai", "video_completed").body, {"webhook-id": "wh_1"})
    result = Result(kind="video", url=CONTENT, expires_at=SENT + timedelta(hours=1))
    assert told == Reading(status=TaskState.COMPLETED, provider_id=ID, event_id="wh_1", results=(result,))


def test_a_failed_video() -> None:
    """The reason is there only if the event says one."""
    body = recorded("openai", "video_failed")
    told = read(OPENAI, body.body)
    assert told == Reading(status=TaskState.FAILED, provider_id="video_abc456")
    data = {"id": ID, "error": {"code": "moderation_blocked", "message": "blocked"}}
    told = read(OPENAI, msgspec.json.encode(body.json | {"data": data}))
    assert isinstance(told, Reading)
    assert told.error == TaskError(message="blocked", code="moderation_blocked")


@pytest.mark.parametrize(
    ("name", "kind"), [("response_completed", "response.completed"), ("batch_failed", "batch.failed")]
)
def test_other_events_are_notices(name: str, kind: str) -> None:
    """A response or a batch is not a task of ours, however its type ends."""
    told = read(OPENAI, recorded("openai", name).body, {"webhook-id": "wh_1"})
    assert told == Notice(event_id="wh_1", type=kind)


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    ({"data": {"id": ID}}, "expected the type"),
    ({"type": "video.completed"}, "task id"),
    ({"type": "video.completed", "data": {"id": "a/b"}}, "task id"),
]


@pytest.mark.parametrize(("body", "reason"), UNREADABLE)
def test_what_is_not_understood(body: dict[str, Any], reason: str) -> None:
    """Where the type or the id is in doubt nothing is guessed."""
    with pytest.raises(Unreadable, match=reason):
        read(OPENAI, msgspec.json.encode(body))


def test_a_fetched_video() -> None:
    """The API reference: status, progress in per cent, and when the assets expire."""
    assert fetch(status="queued", progress=0).status is TaskState.SUBMITTED
    running = fetch(status="in_progress", progress=45)
    assert (running.status, running.progress, running.results) == (TaskState.PROCESSING, 45, ())
    done = fetch(status="completed", progress=100, completed_at=1758941485, expires_at=1758948685)
    assert done.results == (Result(kind="video", url=CONTENT, expires_at=SENT + timedelta(hours=2)),)
    assert fetch(status="completed", completed_at=1758941485).results[0].expires_at == SENT + timedelta(hours=1)
    failed = fetch(status="failed", error={"code": "c", "message": "no"})
    assert (failed.status, failed.error) == (TaskState.FAILED, TaskError(message="no", code="c"))


def test_the_path_of_a_video() -> None:
    """GET /videos/{id}; an id cannot leave its place."""
    request = OPENAI.build_fetch(replace(TASK, provider_id="a:b"))
    assert (request.method, request.path) == ("GET", "/videos/a%3Ab")
    with pytest.raises(Unreadable):
        OPENAI.build_fetch(replace(TASK, provider_id=".."))


def test_it_does_not_submit() -> None:
    """C: the Videos API was to close on 2026-09-24, and webhooks are never set per request."""
    assert not OPENAI.submits
    assert OPENAI.fetches
    with pytest.raises(Unsupported, match="only receives"):
        OPENAI.validate(Form(model="sora-2"))


@pytest.mark.parametrize("state", TaskState)
def test_a_sample_is_read_back(state: TaskState) -> None:
    """What `ringback trigger` sends says the state that was asked for; there are events for two of them."""
    if state not in (TaskState.COMPLETED, TaskState.FAILED):
        with pytest.raises(Unsupported, match=state):
            OPENAI.build_sample(ID, state, NOW)
        return
    told = read(OPENAI, OPENAI.build_sample(ID, state, NOW).body)
    assert isinstance(told, Reading)
    assert (told.status, told.provider_id) == (state, ID)

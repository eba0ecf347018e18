"""What speaks Standard Webhooks without a file of its own; fixtures name the specification."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ringback.errors import Unreadable, Unsupported
from ringback.model import Form, Notice, Reading, Result, Task, TaskError, TaskState, Trust
from ringback.providers.standard import Standard
from tests.providers.recorded import NOW, check_signed, read, recorded, verify

STANDARD = Standard()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
SENT = datetime(2022, 11, 3, 20, 26, 10, 344522, tzinfo=UTC)
EXPIRES = SENT + timedelta(hours=24)


def push(**fields: Any) -> Reading | Notice:
    """Read a body of these fields."""
    return read(STANDARD, msgspec.json.encode(fields), {"webhook-id": "msg_1"})


def test_it_is_signed() -> None:
    """The account endpoint stands on the signature alone."""
    assert STANDARD.account_endpoint
    assert STANDARD.trust is Trust.SIGNED
    check_signed(STANDARD, SECRET, OTHER, recorded("standard", "completed").body)


def test_the_headers_of_svix_are_taken() -> None:
    """Svix's own names, of which the specification's are copies; the event id comes from there, too."""
    assert STANDARD.scheme is not None
    body = recorded("standard", "failed").body
    signed = STANDARD.scheme.sign(body, STANDARD.scheme.key(SECRET), now=NOW, event_id="msg_2")
    headers = {name.replace("webhook-", "svix-"): value for name, value in signed.items()}
    assert verify(STANDARD, SECRET, body, headers) is Trust.SIGNED
    assert read(STANDARD, body, headers).event_id == "msg_2"


def test_a_completed_task() -> None:
    """Ids, status, nested results and the time of the event, from which the life of the results is guessed."""
    told = read(STANDARD, recorded("standard", "completed").body, {"Webhook-Id": "msg_1"})
    assert told == Reading(
        status=TaskState.COMPLETED,
        provider_id="gen_1",
        event_id="msg_1",
        results=(
            Result(kind="video", url="https://files.example/gen_1.mp4", expires_at=EXPIRES),
            Result(kind="image", url="https://files.example/gen_1.jpg", expires_at=EXPIRES),
        ),
    )


def test_a_failed_task() -> None:
    """The ending of the type is its status where data says none."""
    told = read(STANDARD, recorded("standard", "failed").body)
    error = TaskError(message="refused by the filter", code="content_policy")
    assert told == Reading(status=TaskState.FAILED, provider_id="gen_2", error=error)


def test_the_event_on_the_page() -> None:
    """An id without a status in our words belongs to something else."""
    told = read(STANDARD, recorded("standard", "contact_created").body, {"webhook-id": "msg_1"})
    assert told == Notice(event_id="msg_1", type="contact.created")


OUTPUTS = [
    ("https://a.b/c.png", ["https://a.b/c.png"]),
    (["https://a.b/1", "https://a.b/2"], ["https://a.b/1", "https://a.b/2"]),
    ({"url": "https://a.b/1"}, ["https://a.b/1"]),
    ("a text", []),
    (None, []),
]


@pytest.mark.parametrize(("output", "urls"), OUTPUTS)
def test_the_results(output: Any, urls: list[str]) -> None:
    """A text, a list or an object of URLs."""
    told = push(type="task.completed", data={"id": "t-1", "output": output})
    assert isinstance(told, Reading)
    assert [result.url for result in told.results] == urls


STATES: list[tuple[dict[str, Any], TaskState]] = [
    ({"type": "task.completed", "data": {"task_id": "t-1"}}, TaskState.COMPLETED),
    ({"type": "completed", "data": {"id": "t-1"}}, TaskState.COMPLETED),
    ({"type": "task.updated", "data": {"id": "t-1", "status": "In_Progress"}}, TaskState.PROCESSING),
    ({"type": "task.failed", "data": {"id": "t-1", "status": "error"}}, TaskState.FAILED),
    ({"data": {"task_id": "t-1", "id": "evt", "status": "canceled"}}, TaskState.CANCELLED),
    ({"type": 7, "data": {"task_id": "t-1", "status": "starting"}}, TaskState.SUBMITTED),
]


@pytest.mark.parametrize(("body", "state"), STATES)
def test_where_the_status_stands(body: dict[str, Any], state: TaskState) -> None:
    """In `data.status`, or at the end of `type`; `data.task_id` wins over `data.id`."""
    told = push(**body)
    assert isinstance(told, Reading)
    assert (told.status, told.provider_id) == (state, "t-1")


NOTICES: list[dict[str, Any]] = [
    {"type": "a.test"},
    {"type": "a.test", "data": ["no object"]},
    {"type": "a.failed", "data": {}},
    {"type": "a.test", "data": {"id": "u-1", "status": "active"}},
    {"type": "a.test", "data": {"id": "u-1", "status": 200}},
]


@pytest.mark.parametrize("body", NOTICES)
def test_what_is_not_about_a_task(body: dict[str, Any]) -> None:
    """Other events of the same sender are kept as what they are."""
    assert push(**body) == Notice(event_id="msg_1", type=body["type"])


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    ({"test": 2432232314}, "got none of them"),
    ({"data": {"id": "t-1"}}, "got none of them"),
    ({"type": "a.test", "data": {"task_id": "t-1", "status": "resting"}}, "unknown status 'resting'"),
    ({"type": "a.test", "data": {"task_id": "t-1"}}, "there is no status: expected one of queued"),
    ({"type": "a.failed", "data": {"id": "t-1", "status": "done"}}, "says failed but data.status says completed"),
    ({"type": "a.failed", "data": {"task_id": ".."}}, "task id"),
]


@pytest.mark.parametrize(("body", "reason"), UNREADABLE)
def test_what_is_not_understood(body: dict[str, Any], reason: str) -> None:
    """Where the id or the status is in doubt nothing is guessed."""
    with pytest.raises(Unreadable, match=reason) as caught:
        push(**body)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("state", TaskState)
def test_a_sample_is_read_back(state: TaskState) -> None:
    """What `ringback trigger` sends says the state that was asked for."""
    if state is TaskState.PENDING:
        with pytest.raises(Unsupported, match="pending"):
            STANDARD.build_sample("t-1", state, NOW)
        return
    sample = STANDARD.build_sample("t-1", state, NOW)
    told = read(STANDARD, sample.body, sample.headers)
    assert isinstance(told, Reading)
    assert (told.status, told.provider_id) == (state, "t-1")
    assert (bool(told.results), bool(told.error)) == (state is TaskState.COMPLETED, state is TaskState.FAILED)


def test_it_only_receives() -> None:
    """Nothing is known of the sender's API."""
    assert not STANDARD.submits
    assert not STANDARD.fetches
    with pytest.raises(Unsupported, match="only receives"):
        STANDARD.validate(Form(model="m"))
    with pytest.raises(Unsupported, match="cannot be fetched"):
        STANDARD.build_fetch(Task(id="task_1", provider="standard", provider_id="t-1"))

"""AssemblyAI, both directions; C = PROVIDERS C, D = assemblyai.com/docs, from whose samples the fixtures are."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringback.errors import InvalidSubmission, SubmissionRefused, Unauthentic, Unreadable, Unsupported
from ringback.model import Callback, Form, Notice, Reading, Result, Task, TaskError, TaskState, Trust
from ringback.providers.assemblyai import AUTH_HEADER, AssemblyAI
from ringback.providers.provider import Response
from ringback.providers.signatures import Headers, Key

ASSEMBLYAI = AssemblyAI()
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
FIXTURES = Path(__file__).parent / "fixtures" / "assemblyai"
HOOK = "https://us.example/callbacks/assemblyai/task_1.mac"
ID = "5552493-16d8-42d8-8feb-c2a16b56f6e8"
AUDIO = "https://assembly.ai/wildfires.mp3"
TRANSCRIPT = Result(kind="transcript", url=f"https://api.assemblyai.com/v2/transcript/{ID}")


def push(body: bytes | dict[str, Any]) -> Reading | Notice:
    """Read a callback."""
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return ASSEMBLYAI.read_callback(Callback(body=encoded, received_at=NOW))


def task(**fields: Any) -> Task:
    """Make a task with a form."""
    form = Form(**{"model": "universal-3-pro", "extra": {"audio_url": AUDIO}} | fields)
    return Task(id="task_1", provider="assemblyai", provider_id=ID, form=form)


def fetched(body: dict[str, Any]) -> Reading:
    """Read an answer to a fetch."""
    return ASSEMBLYAI.read_task(Response(status=200, body=msgspec.json.encode(body)), task(), NOW)


PUSHES = [
    ("completed", Reading(status=TaskState.COMPLETED, provider_id=ID, results=(TRANSCRIPT,))),
    ("error", Reading(status=TaskState.FAILED, provider_id=ID)),
    ("redacted", Notice(type="redacted_audio_ready")),
]


@pytest.mark.parametrize(("name", "expected"), PUSHES)
def test_the_pushes(name: str, expected: Reading | Notice) -> None:
    """C: thin; the result is where the transcript is, the reason of a failure is there too."""
    assert push((FIXTURES / f"{name}.json").read_bytes()) == expected


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": ID, "status": "completed"},
        {"transcript_id": ID},
        {"transcript_id": ID, "status": "redacted_audio_ready"},
        {"transcript_id": "a/b", "status": "completed"},
    ],
)
def test_what_is_not_understood(body: dict[str, Any]) -> None:
    """Where the id or the state is in doubt nothing is guessed."""
    with pytest.raises(Unreadable):
        push(body)


def test_the_header_that_we_chose() -> None:
    """C: AssemblyAI adds the header that the submission named; with a secret set up here, it must be there."""
    assert ASSEMBLYAI.scheme.header == AUTH_HEADER
    key = Key(ASSEMBLYAI.scheme.key("a secret of ours"))
    given = Headers([(AUTH_HEADER.encode(), b"a secret of ours")])
    assert ASSEMBLYAI.verify(given, b"", (key,), NOW, timedelta()) is Trust.TOKEN
    for headers in (Headers([]), Headers([(AUTH_HEADER.encode(), b"another")])):
        with pytest.raises(Unauthentic):
            ASSEMBLYAI.verify(headers, b"", (key,), NOW, timedelta())
        assert ASSEMBLYAI.verify(headers, b"", (), NOW, timedelta()) is Trust.TOKEN


PAIR = {"audio_url": AUDIO, "webhook_auth_header_name": AUTH_HEADER.title(), "webhook_auth_header_value": "s"}
SENT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("the least", {}, {"audio_url": AUDIO}),
    ("a prompt", {"prompt": "names: Ringback"}, {"audio_url": AUDIO, "prompt": "names: Ringback"}),
    ("extras", {"extra": {"audio_url": AUDIO, "speaker_labels": True}}, {"audio_url": AUDIO, "speaker_labels": True}),
    ("the header", {"extra": PAIR}, PAIR),
]


@pytest.mark.parametrize(("fields", "expected"), [pytest.param(*row[1:], id=row[0]) for row in SENT])
def test_what_is_sent(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """D: POST /v2/transcript, with the recording and our webhook_url."""
    request = ASSEMBLYAI.build_submission(task(**fields), HOOK)
    assert (request.method, request.path) == ("POST", "/transcript")
    body = {"speech_models": ["universal-3-pro"], "webhook_url": HOOK} | expected
    assert msgspec.json.decode(request.body or b"") == body


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"callback_events": ("completed",)}, "callback_events", "no filter of events"),
    ({"extra": {}}, "audio_url", "as an extra"),
    ({"extra": {"audio_url": "file.mp3"}}, "audio_url", "as an extra"),
    ({"image_urls": (AUDIO,)}, "image_urls", "no image_urls"),
    ({"duration": 6}, "duration", "no duration"),
    ({"extra": {"audio_url": AUDIO, "webhook_url": "x"}}, "webhook_url", "cannot be given"),
    ({"extra": PAIR | {"webhook_auth_header_name": "x-other"}}, "webhook_auth_header_name", AUTH_HEADER),
    ({"extra": PAIR | {"webhook_auth_header_value": " "}}, "webhook_auth_header_value", "RINGBACK_ASSEMBLYAI_SECRET"),
    ({"extra": {"audio_url": AUDIO, "webhook_auth_header_value": "s"}}, "webhook_auth_header_name", AUTH_HEADER),
]


@pytest.mark.parametrize(("fields", "field", "message"), REFUSED)
def test_what_is_refused(fields: dict[str, Any], field: str, message: str) -> None:
    """Before anything is sent; a header that the receiver does not look at would protect nothing."""
    with pytest.raises(InvalidSubmission, match=message) as caught:
        ASSEMBLYAI.build_submission(task(**fields), HOOK)
    assert caught.value.field == field


def test_a_task_without_a_form_is_refused() -> None:
    """A task that a callback made known cannot be submitted."""
    with pytest.raises(InvalidSubmission, match="no form"):
        ASSEMBLYAI.build_submission(Task(id="task_1", provider="assemblyai"), None)


def test_the_key_is_sent_as_it_is() -> None:
    """D: Authorization holds the key, without a scheme."""
    assert ASSEMBLYAI.authorization("k", NOW) == {"Authorization": "k"}


def test_the_answer_to_a_submission() -> None:
    """D: a transcript, queued or processing; an error is a text."""
    body = msgspec.json.encode({"id": ID, "status": "queued", "audio_url": AUDIO, "error": None})
    told = ASSEMBLYAI.read_acceptance(Response(status=200, body=body), NOW)
    assert told == Reading(status=TaskState.SUBMITTED, provider_id=ID)
    refusal = Response(status=400, body=b'{"error":"audio_url should start with http"}')
    with pytest.raises(SubmissionRefused, match="audio_url should start with http"):
        ASSEMBLYAI.read_acceptance(refusal, NOW)


def test_the_fetched_transcript() -> None:
    """D, "Transcript Status": four states, and the error as a text."""
    request = ASSEMBLYAI.build_fetch(task())
    assert (request.method, request.path) == ("GET", f"/transcript/{ID}")
    assert fetched({"id": ID, "status": "completed", "text": "hello"}).results == (TRANSCRIPT,)
    assert fetched({"id": ID, "status": "processing", "error": "x"}) == Reading(
        status=TaskState.PROCESSING, provider_id=ID
    )
    told = fetched({"id": ID, "status": "error", "error": "Download error"})
    assert (told.status, told.error) == (TaskState.FAILED, TaskError(message="Download error"))


@pytest.mark.parametrize("status", [TaskState.COMPLETED, TaskState.FAILED])
def test_the_sample_is_read_back(status: TaskState) -> None:
    """What `ringback trigger` sends is what the provider would."""
    told = push(ASSEMBLYAI.build_sample(ID, status, NOW).body)
    assert isinstance(told, Reading)
    assert (told.status, told.provider_id) == (status, ID)


def test_there_is_no_sample_of_what_it_never_says() -> None:
    """Only final states are pushed."""
    with pytest.raises(Unsupported):
        ASSEMBLYAI.build_sample(ID, TaskState.PROCESSING, NOW)

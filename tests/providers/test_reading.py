"""Whatever a stranger sends becomes a reading that can be stored, or one of our own errors."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringback.errors import SubmissionRefused, Unreadable, Unsupported
from ringback.model import Callback, Notice, Reading, Result, Task, TaskError, TaskState
from ringback.providers import CATALOGUE, Provider, Request, Response, reading

NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
REAPI = CATALOGUE["reapi"]
ASKED = Task(id="task_1", provider="any", provider_id="t-1")
Reader = Callable[[int, bytes], Reading | Notice | Request]


def readers(provider: Provider) -> list[Reader]:
    """Give all three roads by which a provider's text comes in."""
    return [
        lambda _, body: provider.read_callback(Callback(body=body, received_at=NOW)),
        lambda status, body: provider.read_task(Response(status=status, body=body), ASKED, NOW),
        lambda status, body: provider.read_acceptance(Response(status=status, body=body), NOW),
    ]


READERS = [reader for provider in CATALOGUE.values() for reader in readers(provider)]

# fmt: off
KEYS = st.sampled_from([
    "id", "task_id", "status", "event", "data", "task", "result", "output", "videos", "images", "url", "video_url",
    "video_urls", "last_frame_url", "error", "message", "code", "param", "request_id", "success", "progress", "cost",
    "expires_at", "completed_at", "type", "outputs", "detail", "timestamp", "created_at", "action",
])
# fmt: on
WORDS = st.sampled_from([*reading.STATUS_WORDS, "task.completed", "https://a.b/c", "[x] y", "45%", "a\0b", "..", "t-1"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | WORDS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS | st.text(), inner), max_leaves=30)
TASKS = st.fixed_dictionaries(
    {"task_id": st.just("t-1"), "status": WORDS},
    optional=dict.fromkeys(
        ("id", "event", "data", "result", "output", "error", "progress", "cost", "completed_at"), JSON
    ),
)
STATUSES = st.sampled_from([200, 201, 204, 302, 400, 429, 500])


# Where a result is asked for at the provider's own API, under our key: such an address has no end of its own.
LASTING = tuple(
    CATALOGUE[name].base_url + path for name, path in (("assemblyai", "/transcript/"), ("minimax", "/v1/files/"))
)


def has_sound_expiry(result: Result) -> bool:
    """Tell whether a result says when its URL ends, in a time that a ledger can hold; or has a lasting address."""
    if result.expires_at is None:
        return result.url.startswith(LASTING)
    return reading.EARLIEST <= result.expires_at < reading.LATEST


def limited_texts(told: Reading | Notice | Request) -> list[tuple[str, int]]:
    """Check the numbers and times of what was read against what a ledger can hold; give its texts with their limits."""
    if isinstance(told, Request):
        return [(told.path, reading.MAX_URL)]
    texts = [(told.event_id or "", reading.MAX_HEADER)]
    if isinstance(told, Notice):
        return [*texts, (told.type or "", reading.MAX_CODE)]
    assert told.provider_id is None or reading.TASK_ID.fullmatch(told.provider_id)
    assert told.progress is None or 0 <= told.progress <= 100
    assert told.charged_microdollars is None or 0 <= told.charged_microdollars <= 2**63 - 1
    assert len(told.results) <= reading.MAX_RESULTS
    assert all(has_sound_expiry(result) for result in told.results)
    texts += [(result.url, reading.MAX_URL) for result in told.results]
    if told.error:
        texts += [(told.error.message, reading.MAX_MESSAGE), (told.error.code or "", reading.MAX_CODE)]
    return texts


def assert_survives(status: int, body: bytes) -> None:
    """Give a body to every reader, and look at every text that comes out."""
    for read in READERS:
        try:
            texts = limited_texts(read(status, body))
        except (Unreadable, Unsupported) as error:
            texts = [(str(error), 300)]
        except SubmissionRefused as refused:
            texts = [(refused.args[0], reading.MAX_MESSAGE)]
            texts += [(name or "", reading.MAX_CODE) for name in (refused.code, refused.field)]
        assert all(len(text) <= limit and "\0" not in text and text.encode() for text, limit in texts if text)


@given(STATUSES, st.binary())
def test_arbitrary_bytes(status: int, body: bytes) -> None:
    """No bytes get past the readers as anything else."""
    assert_survives(status, body)


@example(200, {"task_id": "t-1", "id": "t-1", "status": "completed"})
@example(200, {"task_id": "t-1", "status": "Success", "file_id": "1"})
@given(STATUSES, JSON | TASKS)
def test_arbitrary_json(status: int, value: Any) -> None:
    """No JSON does either, with the providers' own names in unlikely places."""
    assert_survives(status, msgspec.json.encode(value))


TASK = b'{"task_id":"t-1","id":"t-1","status":"failed",%s}'
HOSTILE = [
    ("10,000 levels", b"[" * 10_000 + b"]" * 10_000),
    ("10,000 levels in a field", TASK % (b'"error":' + b'{"error":' * 10_000 + b"1" + b"}" * 10_000)),
    ("5,000 digits", TASK % (b'"cost":' + b"9" * 5_000)),
    ("31 digits", TASK % (b'"cost":' + b"9" * 31 + b',"error":{"code":' + b"9" * 31 + b"}")),
    ("a huge float", TASK % b'"cost":1e999'),
    ("NaN", TASK % b'"cost":NaN'),
    ("a lone surrogate", TASK % rb'"error":"\ud800 and more text to follow"'),
    ("a lone low surrogate", TASK % rb'"error":"\udc00 and more text to follow"'),
    ("a surrogate in bytes", TASK % b'"error":"\xed\xa0\x80"'),
    ("overlong UTF-8", TASK % b'"error":"\xc0\x80"'),
    ("a NUL", TASK % rb'"error":{"message":"\u0000","code":"\u0000"}'),
    (
        "a huge message",
        TASK % (b'"error":{"message":"' + b"m" * 900_000 + b'","code":"' + b"c" * 900 + b'","request_id":"r"}'),
    ),
    ("nothing", b""),
    ("not an object", b"[]"),
]


@pytest.mark.parametrize("body", [pytest.param(row[1], id=row[0]) for row in HOSTILE])
def test_hostile_bodies(body: bytes) -> None:
    """Nesting, huge numbers, bad text and huge strings end as ours."""
    assert_survives(200, body)


def test_only_the_first_hundred_results_are_kept() -> None:
    """A flood of URLs is cut."""
    urls = [f"https://a.b/{number}" for number in range(250)]
    body = msgspec.json.encode({"id": "t-1", "status": "completed", "output": {"video_urls": urls}})
    told = REAPI.read_task(Response(status=200, body=body), ASKED, NOW)
    assert isinstance(told, Reading)
    assert [result.url for result in told.results] == urls[:100]


MOMENTS = [
    (1775285160, datetime(2026, 4, 4, 6, 46, tzinfo=UTC)),
    (1775285160040, datetime(2026, 4, 4, 6, 46, tzinfo=UTC)),
    ("2026-04-04T08:46:00+02:00", datetime(2026, 4, 4, 6, 46, tzinfo=UTC)),
    ("2026-04-04T06:46:00", datetime(2026, 4, 4, 6, 46, tzinfo=UTC)),
    (946684799, None),
    (946684800, datetime(2000, 1, 1, tzinfo=UTC)),
    (4102444800, None),
    (-1, None),
    (10**31, None),
    (True, None),
    (1775285160.5, None),
    (None, None),
    ("soon", None),
    ("1" * 41, None),
    ("0001-01-01T00:00:00+23:59", None),
    ("9999-12-31T23:59:59-23:59", None),
]


@pytest.mark.parametrize(("value", "expected"), MOMENTS)
def test_moments(value: Any, expected: datetime | None) -> None:
    """PROVIDERS A: seconds, milliseconds or ISO 8601; nothing outside 2000–2100."""
    assert reading.moment_of(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (100, 100), ("45%", 45), (" 7 ", 7), ("100 %", 100)])
def test_progress(value: Any, expected: int) -> None:
    """PROVIDERS A: an int or "45%"."""
    assert reading.progress(value) == expected


@pytest.mark.parametrize("value", ["", "%", "101%", -1, 101, True, 45.0, "٤", "²", "4" * 5000, "-1", [], None])
def test_progress_that_is_not_known(value: Any) -> None:
    """PROVIDERS A: "" is no progress; nor is anything outside 0–100."""
    assert reading.progress(value) is None


ERRORS: list[tuple[Any, TaskError | None]] = [
    ({"message": "no", "code": "task_failed"}, TaskError(message="no", code="task_failed")),
    (
        {"message": "[upstream_bad_request] no"},
        TaskError(message="[upstream_bad_request] no", code="upstream_bad_request"),
    ),
    ({"message": "[a] no", "code": "b"}, TaskError(message="[a] no", code="b")),
    ({"message": "[not a code] no"}, TaskError(message="[not a code] no")),
    ("no", TaskError(message="no")),
    ({"code": 7}, TaskError(message="7", code="7")),
    ({"code": True, "message": ["no"]}, None),
    ({"request_id": "r"}, None),
    ({}, None),
    ("", None),
    (None, None),
    (7, None),
]


@pytest.mark.parametrize(("value", "expected"), ERRORS)
def test_errors(value: Any, expected: TaskError | None) -> None:
    """PROVIDERS A: {message, code} or text; a code in brackets stays in the message and fills a missing one."""
    assert reading.task_error(value) == expected


HEADERS: list[tuple[str, list[tuple[str, str]], str | None]] = [
    ("the first name", [("webhook-id", "a"), ("svix-id", "b")], "a"),
    ("its alias", [("svix-id", "b")], "b"),
    ("no other header", [("x-webhook-id", "a")], None),
    ("spaces around", [("webhook-id", " a\t")], "a"),
    ("spaces inside", [("webhook-id", "a b")], None),
    ("nothing", [("webhook-id", "")], None),
    ("twice", [("webhook-id", "a"), ("webhook-id", "a")], None),
    ("no alias stands in for a bad one", [("webhook-id", "é"), ("svix-id", "b")], None),
    ("200 characters", [("webhook-id", "a" * 200)], "a" * 200),
    ("201 characters", [("webhook-id", "a" * 201)], None),
    ("a control character", [("webhook-id", "a\x7f")], None),
    ("a line break at the end", [("webhook-id", "a\n")], None),
]


@pytest.mark.parametrize(("headers", "expected"), [pytest.param(*row[1:], id=row[0]) for row in HEADERS])
def test_headers(headers: list[tuple[str, str]], expected: str | None) -> None:
    """An id is taken whole and visible, from the header that was verified, or not at all."""
    callback = Callback(body=b"", headers=tuple(headers), received_at=NOW)
    assert reading.header(callback, "webhook-id", "svix-id") == expected


MEDIA: list[tuple[str, Any, list[tuple[str, str]]]] = [
    ("a text", "https://a.b/c.mp4", [("video", "https://a.b/c.mp4")]),
    ("a query after the ending", "https://a.b/c.PNG?x=1.mp3#y.mp4", [("image", "https://a.b/c.PNG?x=1.mp3#y.mp4")]),
    ("a list", ["https://a.b/c.wav", 7, None, "no URL"], [("audio", "https://a.b/c.wav")]),
    ("no ending", "https://a.b.mp4/c", [("file", "https://a.b.mp4/c")]),
    ("the key tells", {"video_url": "https://a.b/c", "seed": 7}, [("video", "https://a.b/c")]),
    ("the nearest key tells", {"Images": [{"url": "https://a.b/1"}]}, [("image", "https://a.b/1")]),
    ("the ending wins", {"video": {"thumbnail": "https://a.b/c.jpg"}}, [("image", "https://a.b/c.jpg")]),
    ("prose is no URL", "https://a.b/c is where it is", []),
    ("too deep", [[[[[["https://a.b/c"]]]]]], []),
    ("deep in objects", {"a": {"a": {"a": {"a": {"a": {"a": "https://a.b/c"}}}}}}, []),
]


@pytest.mark.parametrize(("output", "expected"), [pytest.param(*row[1:], id=row[0]) for row in MEDIA])
def test_media(output: Any, expected: list[tuple[str, str]]) -> None:
    """URLs are found in whatever a model gives back, with the kind that ending or key tells."""
    assert [(found.kind, found.url) for found in reading.results(reading.media(output), NOW)] == expected


def test_an_estimate_never_lies_in_the_future() -> None:
    """A completion that a strange clock puts ahead of ours counts as now."""
    hour = timedelta(hours=1)
    assert reading.estimate("2026-04-04T11:00:00Z", NOW, hour) == NOW
    assert reading.estimate("2026-04-04T13:00:00Z", NOW, hour) == NOW + hour
    assert reading.estimate(None, NOW, hour) == NOW + hour


@pytest.mark.parametrize("status", TaskState)
def test_a_reading_holds_what_fits_its_status(status: TaskState) -> None:
    """Results belong to what completed, an error to what ended otherwise."""
    result = Result(kind="file", url="https://a.b/c", expires_at=NOW)
    told = reading.conclude(status, "t-1", event_id="e", found=(result,), error="no", done="45%")
    ended_badly = status in (TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED)
    assert (told.status, told.provider_id, told.event_id, told.progress) == (status, "t-1", "e", 45)
    assert told.results == ((result,) if status is TaskState.COMPLETED else ())
    assert told.error == (TaskError(message="no") if ended_badly else None)


REFUSALS = [
    ({"error": {"message": "no", "code": "c", "param": "f"}}, ("no", "c", "f")),
    ({"error": "no"}, ("no", None, None)),
    ({"code": 400, "message": "no"}, ("no", "400", None)),
    ({"title": "Invalid", "detail": "no", "status": 422}, ("no", None, None)),
    ({"detail": [{"msg": "no"}]}, ("no", None, None)),
    ({"success": False}, ("refused with 422, no reason given", None, None)),
]


@pytest.mark.parametrize(("body", "expected"), REFUSALS)
def test_refusals(body: dict[str, Any], expected: tuple[str, str | None, str | None]) -> None:
    """Every place in which a reason was seen is looked at."""
    refused = reading.refusal("any", 422, body)
    assert (refused.args[0], refused.code, refused.field) == expected

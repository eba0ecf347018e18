"""The short way to read a usual push, held to the same answers as the long one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.errors import Unreadable
from ringback.model import Callback, Reading, TaskState
from ringback.providers import reading
from ringback.providers.qingbo import Qingbo, _unwrap
from ringback.providers.qingbo_usual import charged, read_usual

NOW = datetime(2026, 4, 4, 12, 0, tzinfo=UTC)
LIFE = timedelta(hours=24)
USUAL: dict[str, Any] = {
    "task_id": "task-wave1775285160b950328499",
    "status": "completed",
    "progress": 100,
    "cost": 22313,
    "completed_at": 1775285195,
    "result": {"videos": [{"url": ["https://cdn.example.com/0.mp4"], "expires_at": 1775371595}]},
}

NUMBERS = st.none() | st.integers(-5, 150) | st.integers(10**9, 2 * 10**18) | st.just(2**63)
URLS = st.sampled_from(["https://a.example/1.mp4", "http://b/2", "ftp://c/3", "", "data:x", "https://d/\u0007"])
MEDIA = st.fixed_dictionaries(
    {"url": URLS | st.lists(URLS, max_size=3) | st.none()}, optional={"expires_at": NUMBERS | st.just("2026-04-05")}
)
RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "videos": st.lists(MEDIA, max_size=3),
        "images": st.lists(MEDIA, max_size=2),
        "audios": st.lists(MEDIA, max_size=2) | st.just("none"),
        "video_url": URLS,
    },
)
PUSHES = st.fixed_dictionaries(
    {
        "task_id": st.sampled_from(["task-1", "..", "a/b", "x" * 201]) | st.none(),
        "status": st.sampled_from(["completed", "COMPLETED", "succeeded", "failed", "processing", ""]),
        "result": RESULTS | st.none(),
    },
    optional={
        "id": st.sampled_from(["other", 5]),
        "progress": NUMBERS | st.sampled_from(["45%", ""]),
        "cost": NUMBERS | st.just("12"),
        "completed_at": NUMBERS | st.just("2026-04-04T11:00:00Z"),
        "event": st.sampled_from(["task.completed", "task.failed", "other"]),
        "data": st.sampled_from([{}, {"status": "failed"}, None]),
        "error": st.just({"message": "m"}),
    },
)


def the_long_way(body: bytes) -> Reading | None:
    """Read as if there were no short way."""
    try:
        return Qingbo()._read(_unwrap(reading.document(body)), NOW)
    except Unreadable:
        return None


@given(PUSHES)
def test_both_ways_agree(push: dict[str, Any]) -> None:
    """Whatever the short way reads, the long way reads the same; and together they miss nothing."""
    body = msgspec.json.encode(push)
    short = read_usual(body, NOW, LIFE)
    assert short is None or short == the_long_way(body)


def test_the_usual_push_takes_the_short_way() -> None:
    """The shape of the current pages is read without detours, every field of it."""
    body = msgspec.json.encode(USUAL)
    short = read_usual(body, NOW, LIFE)
    assert short is not None
    assert short == the_long_way(body) == Qingbo().read_callback(Callback(body=body, received_at=NOW))
    assert (short.status, short.progress, short.charged_microdollars) == (TaskState.COMPLETED, 100, 44626)
    assert [result.url for result in short.results] == ["https://cdn.example.com/0.mp4"]


@pytest.mark.parametrize(
    "change",
    [{"event": "task.completed"}, {"task_id": ".."}, {"status": "succeeded"}, {"result": {"video_url": "https://a/b"}}],
)
def test_all_else_takes_the_long_way(change: dict[str, Any]) -> None:
    """What is not of the usual shape is left to the reader of all shapes."""
    assert read_usual(msgspec.json.encode(USUAL | change), NOW, LIFE) is None


def test_nonsense_takes_the_long_way() -> None:
    """Text that is no JSON at all, or nested beyond reason, is left to the reader that says what is wrong."""
    assert read_usual(b"{", NOW, LIFE) is None
    assert read_usual(b'{"x":' + b"[" * 10_000, NOW, LIFE) is None


def test_images_and_audios_are_read_too() -> None:
    """Every kind of result is kept, under its kind."""
    made = {kind: [{"url": f"https://cdn.example.com/{kind}"}] for kind in ("videos", "images", "audios")}
    short = read_usual(msgspec.json.encode(USUAL | {"result": made}), NOW, LIFE)
    assert short is not None
    assert [result.kind for result in short.results] == ["video", "image", "audio"]


@pytest.mark.parametrize(
    ("cost", "micro"), [(0, 0), (22313, 44626), (-1, None), ("5", None), (None, None), (2**63, None)]
)
def test_charged(cost: object, micro: int | None) -> None:
    """Quota becomes micro-dollars; what cannot be an amount is nothing."""
    assert charged(cost) == micro

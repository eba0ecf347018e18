"""PURE. The push that comes ten thousand times: a completed qingbo task at top level, read straight into fields.

`qingbo` reads every shape that was ever shown, step by step; this reads only the one of the current pages, and says
None for anything else. A property test holds both to the same answer. Called by `qingbo` before it looks closer.
"""

from datetime import datetime, timedelta
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ringback.model import Reading, Result, TaskState
from ringback.providers import reading
from ringback.providers.reading import EARLIEST_SECONDS, LATEST_SECONDS

MICRODOLLARS_PER_QUOTA = 2  # PROVIDERS A: 500000 quota = 1 USD


class _Media(Struct):
    url: str | list[str]
    expires_at: int | None = None


class _Made(Struct):
    videos: list[_Media] = []
    images: list[_Media] = []
    audios: list[_Media] = []
    video_url: Raw | UnsetType = UNSET


class _Push(Struct):
    task_id: str
    status: Literal["completed"]
    result: _Made
    progress: int | None = None
    cost: int | None = None
    completed_at: int | None = None
    event: Raw | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Push).decode


def read_usual(body: bytes, now: datetime, life: timedelta) -> Reading | None:
    """Read a push of the usual shape; None for every other, right or wrong."""
    try:
        push = _decode(body)
    except (ValueError, RecursionError):
        return None
    if push.event is not UNSET or push.result.video_url is not UNSET or not reading.TASK_ID.fullmatch(push.task_id):
        return None
    return Reading(
        status=TaskState.COMPLETED,
        provider_id=push.task_id,
        results=_results(push.result, push.completed_at, now, life),
        progress=push.progress if push.progress is not None and 0 <= push.progress <= 100 else None,
        charged_microdollars=charged(push.cost),
    )


def _results(made: _Made, completed_at: int | None, now: datetime, life: timedelta) -> tuple[Result, ...]:
    found = _found("video", made.videos)
    if made.images or made.audios:
        found += _found("image", made.images) + _found("audio", made.audios)
    for _, _, expires_at in found:
        if not expires_at or not EARLIEST_SECONDS <= expires_at < LATEST_SECONDS:
            return reading.results(found, min(reading.moment_of(completed_at) or now, now) + life)
    return reading.results(found, now)


def _found(kind: str, entries: list[_Media]) -> list[tuple[str, str, int | None]]:
    return [
        (kind, url, entry.expires_at)
        for entry in entries
        for url in (entry.url if isinstance(entry.url, list) else (entry.url,))
    ]


def charged(cost: object) -> int | None:
    """Turn the quota of a final answer into micro-dollars; 0 when it was refunded (PROVIDERS A)."""
    if type(cost) is int and 0 <= cost <= reading.MAX_INTEGER // MICRODOLLARS_PER_QUOTA:
        return cost * MICRODOLLARS_PER_QUOTA
    return None

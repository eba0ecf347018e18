"""PURE. Reading strangers' JSON: whatever comes in, out comes a value that can be stored, or one of our own errors.

Shared by the provider files, which know the names of the fields; this file knows the shapes and the limits. Where a
value is only useful (progress, an expiry, a result) a bad one is dropped; where it decides what happens to a task
(its id, its status) a bad one is `Unreadable`. Never holds a provider's wire format.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from ringback.errors import SubmissionRefused, Unreadable
from ringback.model import Callback, Reading, Result, TaskError, TaskState
from ringback.providers.provider import Response

# PROVIDERS A ("also accepts …") and the synonyms below C: every word seen for a state, in lower case.
STATUS_WORDS = {
    "queued": TaskState.SUBMITTED,
    "processing": TaskState.PROCESSING,
    "running": TaskState.PROCESSING,
    "completed": TaskState.COMPLETED,
    "succeeded": TaskState.COMPLETED,
    "succeed": TaskState.COMPLETED,
    "success": TaskState.COMPLETED,
    "done": TaskState.COMPLETED,
    "failed": TaskState.FAILED,
    "failure": TaskState.FAILED,
    "error": TaskState.FAILED,
    "cancelled": TaskState.CANCELLED,
    "canceled": TaskState.CANCELLED,
    "expired": TaskState.EXPIRED,
    "timeout": TaskState.EXPIRED,
}

# The endings of files by the kind of result; what a URL does not tell is a "file".
ENDINGS = {
    "video": frozenset({"mp4", "m4v", "mov", "webm", "mkv", "avi"}),
    "image": frozenset({"png", "jpg", "jpeg", "webp", "gif", "avif", "bmp", "tif", "tiff", "svg", "heic"}),
    "audio": frozenset({"mp3", "wav", "ogg", "oga", "opus", "flac", "aac", "m4a"}),
}

MAX_RESULTS = 100
MAX_DEPTH = 5  # of lists and objects around result URLs
MAX_URL = 8_192
MAX_MESSAGE = 2_000
MAX_CODE = 200
MAX_HEADER = 200
MAX_FAULTS = 10
MAX_INTEGER = 2**63 - 1
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
EARLIEST_SECONDS, LATEST_SECONDS = int(EARLIEST.timestamp()), int(LATEST.timestamp())
MILLISECONDS_FROM = 100_000_000_000  # as seconds this is the year 5138, as milliseconds 1973

TASK_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._:~-]{1,200}")
VISIBLE = re.compile(r"[!-~]+")
HTTP_URL = re.compile(r"https?://[^\s/?#\\]", re.IGNORECASE)
BRACKETED_CODE = re.compile(r"\[([A-Za-z0-9_.:-]{1,200})\]")

_decode = msgspec.json.Decoder().decode


def document(body: bytes) -> dict[str, Any]:
    """Decode a JSON object; its strings are valid Unicode without surrogates, its floats finite."""
    try:
        value = _decode(body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors, bad UTF-8 and huge numbers included
        raise Unreadable("expected a JSON object, got text that is not valid JSON in UTF-8") from None
    if type(value) is not dict:
        raise Unreadable(f"expected a JSON object, got {shape(value)}")
    return value


def answer(response: Response) -> dict[str, Any]:
    """Decode the JSON object of a 2xx answer."""
    if not 200 <= response.status < 300:
        raise Unreadable(f"expected a 2xx answer about a task, got {response.status}")
    return document(response.body)


def header(callback: Callback, *names: str) -> str | None:
    """Give a header that came with a callback: of these lower-case names (aliases), the first that came decides.

    None where none came, or it came twice, or is not 1 to 200 visible ASCII characters: an event id that was cut or
    repeated would be somebody else's. The order of names is that of `Headers.find`, so that what is read was verified.
    """
    for name in names:
        values = [value for found, value in callback.headers if found == name]
        if values:
            value = values[0].strip(" \t") if len(values) == 1 else ""
            return value if len(value) <= MAX_HEADER and VISIBLE.fullmatch(value) else None
    return None


def shape(value: Any) -> str:
    """Name what came instead of what was expected, in few characters."""
    return repr(value[:40]) if isinstance(value, str) else "nothing" if value is None else type(value).__name__


def identify(task: dict[str, Any], keys: tuple[str, ...]) -> str:
    """Find the provider's task id under the first of these keys that says anything."""
    value = next((found for key in keys if (found := task.get(key)) is not None), None)
    if type(value) is str and TASK_ID.fullmatch(value):
        return value
    raise Unreadable(f"expected a task id of 1 to 200 of A-Z a-z 0-9 . _ : ~ -, got {shape(value)}")


def path_id(provider_id: str | None) -> str:
    """Write the provider's task id for use in a path; one that could climb out of it is refused."""
    return quote(identify({"id": provider_id}, ("id",)), safe="")


def state(value: Any, words: Mapping[str, TaskState] = STATUS_WORDS) -> TaskState:
    """Translate a status word, in any case; `words` are in lower case."""
    if type(value) is str and (known := words.get(value.strip().lower())):
        return known
    found = "there is no status" if value is None else f"unknown status {shape(value)}"
    raise Unreadable(f"{found}: expected one of {', '.join(words)}")


def text(value: Any, limit: int) -> str | None:
    """Keep a text for people: cut to the limit, NUL (which PostgreSQL cannot store) replaced, empty as None."""
    return value.strip()[:limit].replace("\0", "\ufffd") or None if type(value) is str else None


def code(value: Any) -> str | None:
    """Keep a code, or any short name: a text, or a whole number as text."""
    if type(value) is int and -MAX_INTEGER <= value <= MAX_INTEGER:
        return str(value)
    return text(value, MAX_CODE)


def is_web_url(value: Any) -> bool:
    """Tell whether a value is an http(s) URL with a host and nothing unprintable in it."""
    return type(value) is str and HTTP_URL.match(value) is not None and value.isprintable()


def moment_of(value: Any) -> datetime | None:
    """Read a time: seconds or milliseconds since 1970, told apart by their size, or ISO 8601.

    None outside 2000–2100. PROVIDERS A: `created_at` comes in either unit, and in ISO 8601 in older pages.
    """
    if type(value) is int:
        seconds = value if value < MILLISECONDS_FROM else value // 1000
        return datetime.fromtimestamp(seconds, UTC) if EARLIEST_SECONDS <= seconds < LATEST_SECONDS else None
    if type(value) is not str or len(value) > 40:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found.astimezone(UTC) if EARLIEST <= found < LATEST else None


def progress(value: Any) -> int | None:
    """Read 45, "45" or "45%" as 45 (PROVIDERS A); None for all else, and outside 0–100."""
    if type(value) is str:
        digits = value.removesuffix("%").strip()
        value = int(digits) if len(digits) <= 3 and digits.isascii() and digits.isdigit() else None
    return value if type(value) is int and 0 <= value <= 100 else None


def kind_of(url: str) -> str | None:
    """Tell video, image or audio from the ending of a URL's path; None where it does not say."""
    ending = url.partition("?")[0].partition("#")[0].rpartition("/")[2].rpartition(".")[2].lower()
    return next((kind for kind, endings in ENDINGS.items() if ending in endings), None)


def media(value: Any, hint: str = "file", depth: int = MAX_DEPTH) -> Iterator[tuple[str, Any, Any]]:
    """Walk a text, a list or an object of URLs for `results`; a key such as `video_url` tells the kind, too."""
    if type(value) is str and " " not in value:
        yield kind_of(value) or hint, value, None
    elif type(value) is list and depth:
        for item in value:
            yield from media(item, hint, depth - 1)
    elif type(value) is dict and depth:
        for key, item in value.items():
            told = next((kind for kind in ENDINGS if key.lower().startswith(kind)), hint)
            yield from media(item, told, depth - 1)


def results(found: Iterable[tuple[str, Any, Any]], estimate: datetime) -> tuple[Result, ...]:
    """Keep the usable ones of (kind, url, expires_at), each URL once; `estimate` stands in for a missing expiry."""
    kept: dict[str, Result] = {}
    for kind, url, expires_at in found:
        if is_web_url(url) and len(url) <= MAX_URL and url not in kept:
            kept[url] = Result(kind=kind, url=url, expires_at=moment_of(expires_at) or estimate)
            if len(kept) == MAX_RESULTS:
                break
    return tuple(kept.values())


def estimate(completed_at: Any, now: datetime, life: timedelta) -> datetime:
    """Say until when results work where nothing else does: `life` from completion, or from `now` at the latest."""
    return min(moment_of(completed_at) or now, now) + life


def conclude(
    status: TaskState,
    provider_id: str,
    *,
    event_id: str | None = None,
    found: tuple[Result, ...] = (),
    error: Any = None,
    done: Any = None,
) -> Reading:
    """Make a reading with what fits its status: results where it completed, an error where it ended otherwise."""
    ended_badly = status in (TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED)
    return Reading(
        status=status,
        provider_id=provider_id,
        event_id=event_id,
        results=found if status is TaskState.COMPLETED else (),
        error=task_error(error) if ended_badly else None,
        progress=progress(done),
    )


def task_error(value: Any) -> TaskError | None:
    """Read an error given as {message, code, request_id} or as a text; a "[code]" at its start counts as its code."""
    given = value if type(value) is dict else {"message": value}
    reference = code(given.get("request_id"))
    suffix = f" (request_id {reference})" if reference else ""
    found, message = code(given.get("code")), text(given.get("message"), MAX_MESSAGE - len(suffix))
    if found is None and message and (bracketed := BRACKETED_CODE.match(message)):
        found = bracketed[1]
    message = message or found
    return TaskError(message=message + suffix, code=found) if message else None


def detail(value: Any) -> str | None:
    """Read the `detail` of a FastAPI service (fal, Luma): a text, or a list of faults as {loc, msg}."""
    if type(value) is not list:
        return text(value, MAX_MESSAGE)
    faults = [_fault(item) for item in value[:MAX_FAULTS] if type(item) is dict]
    return text("; ".join(fault for fault in faults if fault), MAX_MESSAGE)


def refusal(provider: str, status: int, answered: dict[str, Any]) -> SubmissionRefused:
    """Give the error for an answer that declines a submission.

    {error: {…}}, {error: text}, {message: text}, or {detail: text} as Replicate and fal have it.
    """
    given = answered.get("error")
    error = (
        task_error(given)
        or task_error(answered)
        or task_error(detail(answered.get("detail")))
        or TaskError(message=f"refused with {status}, no reason given")
    )
    field = code(given.get("param")) if type(given) is dict else None
    return SubmissionRefused(error.message, provider=provider, code=error.code, field=field)


def acceptance(
    provider: str,
    response: Response,
    keys: tuple[str, ...],
    find: Callable[[dict[str, Any]], dict[str, Any]],
    read: Callable[[dict[str, Any]], Reading],
) -> Reading:
    """Read the answer to a submission; `find` gets the task out of its wrapping, `read` reads it.

    Once an id is there nothing may lose it, so a status that cannot be read counts as submitted.
    """
    if 400 <= response.status < 500:
        raise refusal(provider, response.status, document_or_nothing(response.body))
    answered = answer(response)
    task = find(answered)
    if all(task.get(key) is None for key in keys) and (answered.get("success") is False or answered.get("error")):
        raise refusal(provider, response.status, answered)
    provider_id = identify(task, keys)
    try:
        return read(task)
    except Unreadable:
        return Reading(status=TaskState.SUBMITTED, provider_id=provider_id)


def _fault(fault: dict[str, Any]) -> str | None:
    """Write one fault as "body.prompt: field required"."""
    message, places = text(fault.get("msg"), MAX_MESSAGE), fault.get("loc")
    known = [code(place) for place in places[:10]] if type(places) is list else []
    where = ".".join(place[:60] for place in known if place)
    return f"{where}: {message}" if where and message else message


def document_or_nothing(body: bytes) -> dict[str, Any]:
    """Decode the body of a refusal, which may be a proxy's HTML page: that says nothing."""
    try:
        return document(body)
    except Unreadable:
        return {}

"""PURE. Explains a custom provider back to people, row by row, without a secret or a fixed value of a request.

Called by `custom.describe`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ringback.model import Trust
from ringback.providers import reading
from ringback.providers.signatures import Scheme
from ringback.providers.table import dotted
from ringback.providers.templates import Text, UrlPath

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ringback.providers.custom import Custom
    from ringback.providers.paths import Path

HOUR_SECONDS = 3_600
FIXED = "…"  # stands for what the table says literally: it may be a secret

CREDENTIALS = {
    "bearer": "Authorization: Bearer, and the API key",
    "key": "Authorization: Key, and the API key",
    "basic": "Authorization: Basic; the API key is user:password, or a user alone",
}
TRUST = {
    Trust.SIGNED: "signed: the body is covered",
    Trust.TOKEN: "token: the body is not covered",
    Trust.PARTIAL: "partial: a part of the body is covered, so callbacks are hints",
    Trust.NONE: "none",
}


def describe_custom(provider: "Custom") -> list[tuple[str, str]]:
    """Give (name, value) for each thing that was understood."""
    rows = [*_authenticity(provider), *_reading(provider), *_requests(provider)]
    return [(name, value) for name, value in rows if value]


def _authenticity(provider: "Custom") -> Iterator[tuple[str, str]]:
    scheme = provider.scheme
    if scheme is None:
        yield "scheme", "none: only the token in the URL of a task" if provider.pushes else "none"
    else:
        yield "scheme", scheme.name
        yield "options", _options(scheme)
        yield "trust", TRUST[scheme.trust]
        yield "secret", scheme.secret_form
        yield "keys from", provider.jwks_url or ""
    if provider.tolerance is not None:
        yield "tolerance", f"{provider.tolerance.total_seconds():g} s"
    yield "callbacks", _endpoints(provider)
    yield "handshakes", ", ".join(sorted(provider.handshakes))
    if provider.retry_window is not None:
        yield "retry window", _hours(provider.retry_window.total_seconds())


def _options(scheme: Scheme) -> str:
    """Write the options of a scheme; none of them is secret."""
    values = {option.name: getattr(scheme, option.name) for option in fields(scheme)}  # type: ignore[arg-type]
    told = {name: " or ".join(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in told.items() if value not in (None, ""))


def _endpoints(provider: "Custom") -> str:
    if not provider.pushes:
        return "none: its tasks are polled"
    endpoints = ["a URL for each task"]
    if provider.open_endpoint:
        endpoints.append(f"/callbacks/{provider.name} (open: what comes there is a hint, and fetched)")
    elif provider.account_endpoint:
        endpoints.append(f"/callbacks/{provider.name}")
    return ", ".join(endpoints)


def _reading(provider: "Custom") -> Iterator[tuple[str, str]]:
    places = provider.places
    yield "event id", _either(provider.event_ids) or "none: the task and its status tell callbacks apart"
    yield "event type", _either(provider.event_types)
    if not places.task_id:
        yield "task id", "none: every callback is a notice"
        return
    yield "task id", _either(places.task_id)
    yield "status", _either(places.status)
    own = ", ".join(f"{word} = {state}" for word, state in provider.own_words.items())
    usual = ", ".join(word for word in reading.STATUS_WORDS if word not in provider.own_words)
    yield "status words", f"{own}; and the usual ones: {usual}" if own else f"the usual ones: {usual}"
    yield "result urls", " and ".join(map(str, places.result_urls)) or "none"
    if places.result_urls:
        yield "results", f"{provider.result_kind}, for {_hours(provider.result_life.total_seconds())}"
    yield "error", _either(places.error)
    yield "error code", _either(places.error_code)


def _requests(provider: "Custom") -> Iterator[tuple[str, str]]:
    submission, fetch = provider.submission, provider.fetch
    if submission is None:
        yield "submit", "no: it only receives"
    else:
        yield "submit", f"{submission.method} {provider.base_url}{_shown_path(submission.path)}"
        yield "submit headers", _shown_headers(submission.headers)
        yield "submit body", ", ".join(_shown_body(submission.body))
        yield "answer's task id", _either(submission.answer_task_id)
    if fetch is None:
        yield "fetch", "no: its tasks cannot be asked about"
    else:
        yield "fetch", f"GET {provider.base_url}{_shown_path(fetch.path)}"
        yield "fetch headers", _shown_headers(fetch.headers)
        if fetch.places != provider.places:
            yield "fetch reads", _shown_places(fetch.places)
    if submission or fetch:
        name = provider.credentials.removeprefix("header:")
        yield "authorization", CREDENTIALS.get(provider.credentials, f"{name}, which holds the API key")


def _shown_places(places: Any) -> str:
    told = ((place.name, getattr(places, place.name)) for place in fields(places))
    return ", ".join(f"{name} {_either(paths)}" for name, paths in told if paths)


def _either(places: "Iterable[Path | str]") -> str:
    return ", else ".join(f"header {place}" if isinstance(place, str) else str(place) for place in places)


def _hours(seconds: float) -> str:
    return f"{seconds / HOUR_SECONDS:g} h"


def _shown_path(path: UrlPath) -> str:
    query = [_shown_item(text) for text in path.query]
    return str(path.path) + ("?" + "&".join(query) if query else "")


def _shown_item(text: Text) -> str:
    name, equals, _ = text.parts[0].partition("=")
    return name + equals + (_shown_text(text) if equals else "")


def _shown_headers(headers: Mapping[str, Text]) -> str:
    return ", ".join(f"{name}: {_shown_text(text)}" for name, text in headers.items())


def _shown_text(text: Text) -> str:
    """Show the placeholders of a text, and nothing of what stands around them."""
    return " ".join(f"{{{name}}}" for name in text.names) or FIXED


def _shown_body(node: Any, keys: tuple[str | int, ...] = ()) -> Iterator[str]:
    if type(node) is dict or type(node) is list:
        for key, item in node.items() if type(node) is dict else enumerate(node):
            yield from _shown_body(item, (*keys, key))
    else:
        yield f"{dotted(keys)} = {_shown_text(node) if isinstance(node, Text) else FIXED}"

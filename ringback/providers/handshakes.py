"""PURE. The challenges by which some senders see whether an endpoint is ours, before or among their callbacks.

Answered only where the provider's configuration says so, and only with what the sender itself sent: text that is
short and printable, never as HTML. An answer proves nothing about the sender and stores nothing. What is malformed is
no challenge. Called by `receiver.web`.
"""

import re
from collections.abc import Callable, Mapping, Set
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from ringback.errors import Unauthentic
from ringback.providers.signatures.scheme import Headers

MAX_TEXT = 1_000  # characters of a challenge
MAX_BODY = 16_384  # bytes; a challenge of MAX_TEXT characters fits however it is escaped
MAX_QUERY = 8_192
MAX_FIELDS = 32

# PROVIDERS C: MiniMax sends `challenge` alone; Slack names it so.
SLACK_TYPE = "url_verification"
# A body about a task is a callback, whatever else it holds: it shall be stored, not echoed.
TASK_MEMBERS = frozenset({"task_id", "taskId", "task", "data", "status"})
MODES = ("subscribe", "unsubscribe")
ANY = "*"
ORIGIN = re.compile(rb"\*|(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*")
RATE = re.compile(rb"\*|[1-9][0-9]{0,8}")
# An echo is never to be taken for a page, whatever a browser thinks that it looks like.
NOT_A_PAGE = (("X-Content-Type-Options", "nosniff"),)

_decode = msgspec.json.Decoder().decode


class Handshake(StrEnum):
    """The kinds of challenge."""

    CHALLENGE = "challenge"  # POST of JSON with `challenge`, echoed as JSON (MiniMax, Slack's shape)
    WEBSUB = "websub"  # GET with hub.mode and hub.challenge, echoed as text
    CLOUDEVENTS = "cloudevents"  # OPTIONS with WebHook-Request-Origin, answered with WebHook-Allowed-Origin


class Reply(NamedTuple):
    """What to answer to a challenge, with 200."""

    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


def answer(kinds: Set[Handshake], method: str, query: bytes, headers: Headers, body: bytes) -> Reply | None:
    """Answer a challenge of one of these kinds; None where the request is none, or is malformed. Never raises."""
    found = BY_METHOD.get(method)
    if found is None or found[0] not in kinds:
        return None
    return found[1](query, headers, body)


def _challenge(query: bytes, headers: Headers, body: bytes) -> Reply | None:  # noqa: ARG001 -- one shape for all
    """Echo `challenge` as JSON: platform.minimax.io, "video-generation-s2v", and Slack's url_verification."""
    if len(body) > MAX_BODY:
        return None
    try:
        said = _decode(body)
    except (ValueError, RecursionError):
        return None
    if type(said) is not dict or not TASK_MEMBERS.isdisjoint(said) or said.get("type", SLACK_TYPE) != SLACK_TYPE:
        return None
    challenge = said.get("challenge")
    if not _is_echoable(challenge):
        return None
    return Reply(msgspec.json.encode({"challenge": challenge}), "application/json", NOT_A_PAGE)


def _websub(query: bytes, headers: Headers, body: bytes) -> Reply | None:  # noqa: ARG001 -- one shape for all
    """Echo `hub.challenge` as text: W3C WebSub, section 5.3."""
    fields = _fields(query)
    challenge = _only(fields, "hub.challenge")
    if _only(fields, "hub.mode") not in MODES or not _only(fields, "hub.topic") or not _is_echoable(challenge):
        return None
    return Reply(str(challenge).encode(), "text/plain; charset=utf-8", NOT_A_PAGE)


def _cloudevents(query: bytes, headers: Headers, body: bytes) -> Reply | None:  # noqa: ARG001 -- one shape for all
    """Allow the origin that asks, at the rate that it asks for: CloudEvents, "HTTP 1.1 Web Hooks", section 4."""
    try:
        origin, rate = headers.find(b"webhook-request-origin"), headers.find(b"webhook-request-rate")
    except Unauthentic:  # it came twice
        return None
    rate = ANY.encode() if rate is None else rate
    if origin is None or not ORIGIN.fullmatch(origin) or not RATE.fullmatch(rate):
        return None
    allowed = (("WebHook-Allowed-Origin", origin.decode()), ("WebHook-Allowed-Rate", rate.decode()), ("Allow", "POST"))
    return Reply(b"", "text/plain; charset=utf-8", allowed + NOT_A_PAGE)


BY_METHOD: Mapping[str, tuple[Handshake, Callable[[bytes, Headers, bytes], Reply | None]]] = {
    "POST": (Handshake.CHALLENGE, _challenge),
    "GET": (Handshake.WEBSUB, _websub),
    "OPTIONS": (Handshake.CLOUDEVENTS, _cloudevents),
}


def _is_echoable(challenge: Any) -> bool:
    """Tell whether this is text of 1 to MAX_TEXT printable characters."""
    return type(challenge) is str and 0 < len(challenge) <= MAX_TEXT and challenge.isprintable()


def _fields(query: bytes) -> Mapping[str, list[str]]:
    """Decode a query; nothing where it is too long or not percent-encoded UTF-8."""
    if len(query) > MAX_QUERY:
        return {}
    try:
        return parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:  # what cannot be decoded, and too many fields
        return {}


def _only(fields: Mapping[str, list[str]], name: str) -> str | None:
    """Give the value of a field; None where it is missing, or there more than once."""
    values = fields.get(name, [])
    return values[0] if len(values) == 1 else None

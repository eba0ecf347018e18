"""PURE. The challenges by which some senders see whether an endpoint is ours, before or among their callbacks.

Answered only where the provider's configuration says so. Called by `receiver.web`.
"""

from collections.abc import Set
from enum import StrEnum
from typing import NamedTuple

from ringback.providers.signatures.scheme import Headers


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
    """Answer a challenge of one of these kinds; None where the request is none, or is malformed."""
    return None

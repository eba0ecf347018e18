"""How every answer looks. The one place where a reason or an exception becomes a status code.

Providers read little more than the status: exactly 200 once the callback is stored, 503 for our own trouble (they try
again), 4xx only for what will never be right (they give up). Bodies are tiny and tell a stranger nothing.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Send

from ringback.errors import LedgerError, NotFound
from ringback.model import Receipt
from ringback.providers.handshakes import Reply

RETRY_AFTER_SECONDS = "5"
LINGER_SECONDS = 1.0
LINGER_BYTES = 8 << 20
JSON = (b"content-type", b"application/json")


class Reason(StrEnum):
    """Why a callback was turned away: the words of log, ledger and metrics."""

    METHOD = "method"
    UNKNOWN_PROVIDER = "unknown_provider"
    PATH = "path"
    NO_SECRET = "no_secret"  # noqa: S105 -- a word for a missing secret
    TOKEN = "token"  # noqa: S105 -- a word for a wrong token
    LENGTH = "length"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    UNAUTHENTIC = "unauthentic"
    NO_KEY = "no_key"  # the provider signs, and no secret that is still valid is configured
    KEYS = "keys"  # the provider's public keys are being fetched
    UNAVAILABLE = "unavailable"
    REJECTED = "rejected"


class Refused(Exception):
    """A callback that is turned away. `detail` is for our log, never for the sender; `pending`: more body comes.

    A connection that is closed while the body comes shows the sender a reset, and not the answer.
    """

    def __init__(
        self, reason: Reason, detail: str | None = None, *, flaw: str | None = None, pending: bool = False
    ) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.flaw = flaw
        self.detail = detail
        self.pending = pending

    @property
    def word(self) -> str:
        """The word for log, ledger and metrics."""
        return f"{self.reason.value}.{self.flaw}" if self.flaw else self.reason.value


class Answer(NamedTuple):
    """A prepared answer."""

    status: int
    error: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


_RETRY = ((b"retry-after", RETRY_AFTER_SECONDS.encode()),)
_CLOSE = ((b"connection", b"close"),)

ANSWERS: Mapping[Reason, Answer] = {
    Reason.METHOD: Answer(405, "method_not_allowed", ((b"allow", b"POST"),)),
    Reason.UNKNOWN_PROVIDER: Answer(404, "not_found"),
    Reason.PATH: Answer(404, "not_found"),
    Reason.NO_SECRET: Answer(503, "unavailable", _RETRY),
    Reason.TOKEN: Answer(401, "unauthorised"),
    Reason.LENGTH: Answer(400, "bad_request", _CLOSE),
    Reason.TOO_LARGE: Answer(413, "too_large", _CLOSE),
    Reason.BUSY: Answer(503, "unavailable", _RETRY + _CLOSE),
    Reason.OVERLOADED: Answer(503, "unavailable", _RETRY),
    Reason.TIMEOUT: Answer(408, "timeout", _CLOSE),
    Reason.UNAUTHENTIC: Answer(401, "unauthorised"),
    Reason.NO_KEY: Answer(503, "unavailable", _RETRY),
    Reason.KEYS: Answer(503, "unavailable", _RETRY),
    Reason.UNAVAILABLE: Answer(503, "unavailable", _RETRY),
    Reason.REJECTED: Answer(400, "bad_request"),
}


def acceptance(receipt: Receipt) -> bytes:
    """Write the body of a 200: it is stored, new or not."""
    event = b"null" if receipt.event_id is None else b'"%s"' % receipt.event_id.encode()
    duplicate = b"true" if receipt.duplicate else b"false"
    return b'{"received":true,"event":%s,"duplicate":%s}' % (event, duplicate)


async def accept(send: Send, receipt: Receipt) -> None:
    """Answer 200."""
    body = acceptance(receipt)
    headers = [JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def greet(send: Send, reply: Reply) -> None:
    """Answer a challenge."""
    headers = [(b"content-type", reply.content_type.encode()), (b"content-length", b"%d" % len(reply.body))]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def refusal(refused: Refused) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Write the answer that a reason demands: status, headers without the length, body."""
    answer = ANSWERS[refused.reason]
    return answer.status, [JSON, *answer.headers], b'{"received":false,"error":"%s"}' % answer.error.encode()


async def refuse(receive: Receive, send: Send, refused: Refused) -> None:
    """Answer as the reason demands."""
    status, headers, body = refusal(refused)
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": refused.pending})
    if refused.pending:
        await _linger(receive)
        await send({"type": "http.response.body", "body": b""})


async def _linger(receive: Receive) -> None:
    """Take in what the sender still sends, for a while: closed earlier, it would see a reset instead of the answer."""
    left = LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Give an answer for people and programs, as JSON."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


def exception_handlers() -> dict[Any, Any]:
    """Tell Starlette how each exception is answered."""
    return {
        HTTPException: _http,
        NotFound: _not_found,
        LedgerError: _ledger,
        Exception: answer_bug,
    }


async def _http(_: Request, error: HTTPException) -> Response:
    return json_response({"error": error.detail}, error.status_code, error.headers)


async def _not_found(_: Request, error: NotFound) -> Response:
    return json_response({"error": str(error)}, 404)


async def _ledger(_: Request, error: LedgerError) -> Response:
    return json_response({"error": str(error)}, 503, {"Retry-After": RETRY_AFTER_SECONDS})


async def answer_bug(_: Request, error: Exception) -> Response:  # noqa: ARG001 -- its text may hold what was sent
    """Answer 500 without saying more."""
    return json_response({"error": "internal error"}, 500)

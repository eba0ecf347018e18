"""What both providers' endpoints share: reading a request, checking its key, and refusing.

A refusal is an exception that carries its status; each provider turns it into its own envelope in one place.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response

MAX_REQUEST_BYTES = 1024 * 1024

Endpoint = Callable[[Request], Awaitable[Response]]


class Refusal(Exception):
    """A request refused; `code` is the provider's own, None for whatever it uses with that status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | int | None = None,
        param: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> dict[str, str]:
        """The response headers that belong to the refusal."""
        return {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}


def answering(endpoint: Endpoint, envelope: Callable[[Refusal], Response]) -> Endpoint:
    """Wrap an endpoint so that its refusals leave in the provider's envelope."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refusal as refusal:
            return envelope(refusal)

    return answer


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


def bearer_token(request: Request) -> str | None:
    """Return the Bearer token, "" if the header is of another scheme, None if there is no header."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def same_key(given: str, expected: str) -> bool:
    """Compare two keys in constant time, whatever characters came."""
    return hmac.compare_digest(given.encode(), expected.encode())


def is_http_url(value: object) -> bool:
    """Tell whether something is an http(s) URL with a host; both parsers must agree that it is one."""
    if not isinstance(value, str):
        return False
    try:
        parts, sendable = urlsplit(value), httpx.URL(value)
    except (ValueError, httpx.InvalidURL):
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and bool(sendable.host)


async def read_object(request: Request) -> dict[str, Any]:
    """Read a JSON object, or refuse with 400 (413 where it is too large)."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REQUEST_BYTES:
            raise Refusal(413, f"the request body exceeds {MAX_REQUEST_BYTES} bytes")
    try:
        value = msgspec.json.decode(bytes(body))
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Refusal(400, "the request body is not valid JSON") from None
    if not isinstance(value, dict):
        raise Refusal(400, "the request body must be a JSON object")
    return value

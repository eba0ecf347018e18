"""The header lines of a request, read once: a provider sends the same ones again and again.

What was read is remembered by the very bytes that came, so two requests share it only where all of their lines are
equal; nothing in it is ever changed. Called by `direct`, and by `callbacks` for whatever came through uvicorn.
"""

from collections.abc import Iterable
from functools import lru_cache

from ringback.providers.signatures import Headers

REMEMBERED = 512  # some 1 MB
SHORT = 1_024  # bytes; a longer block holds a signature, and never comes again
# What says how a message is framed, or what becomes of its connection: uvicorn's business.
FRAMING = frozenset(
    {b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer", b"connection", b"keep-alive", b"proxy-connection"}
)

Kept = tuple[tuple[str, str], ...]


class Head:
    """The headers of a request, and what follows from them.

    `kept` is filled by `callbacks`: what each provider's callbacks keep of them. `length` is what the body must have;
    None where the framing is not plain beyond doubt.
    """

    __slots__ = ("headers", "kept", "length")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], length: bytes | None = None) -> None:
        self.headers = Headers(headers)
        self.kept: dict[str, Kept] = {}
        self.length = length


def read_head(block: bytes) -> Head:
    """Read header lines that are known to be plain: `name: value`, each with its CRLF."""
    return _remembered(block) if len(block) <= SHORT else _read(block)


def _read(block: bytes) -> Head:
    headers = [
        (name.lower(), value.strip(b" "))
        for name, _, value in (line.partition(b":") for line in block.split(b"\r\n")[:-1])
    ]
    return Head(headers, _plain_length(headers))


_remembered = lru_cache(maxsize=REMEMBERED)(_read)


def _plain_length(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """Give Content-Length where it says all about the framing."""
    length = None
    for name, value in headers:
        if name == b"content-length":
            if length is not None:
                return None
            length = value
        elif name in FRAMING and not (name == b"connection" and value.lower() == b"keep-alive"):
            return None
    return length

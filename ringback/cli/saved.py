"""A request that somebody saved to files, in the forms in which tools write one.

Headers as `Name: value` lines, as `curl -v` prints them (`> Name: value` between other lines), or as a whole HTTP
request with its request line, and perhaps its body. Bytes stay bytes: one changed byte is another signature.
"""

import re
from dataclasses import dataclass

from ringback.providers.signatures import Headers

REQUEST_LINE = re.compile(rb"[A-Z]{3,10} (\S+)( HTTP/[0-9.]+)?")
STATUS_LINE = re.compile(rb"HTTP/[0-9.]+ [0-9]{3}\b")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
CURL_NOISE = (b"* ", b"< ", b"{ ", b"} ")
BLANK_LINE = re.compile(rb"\r?\n\r?\n")


class NoRequest(ValueError):
    """The text is not a saved request; says which line is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What a file of headers holds."""

    headers: Headers
    target: str | None = None  # path and query of a request line
    body: bytes | None = None  # what follows the blank line of a whole request


def read_saved(text: bytes) -> Saved:
    """Read a saved request.

    Raises:
        NoRequest: a line is neither a header nor one of a known form; names it by its number.
    """
    if re.search(rb"^> ", text, re.MULTILINE):
        sent = [(number, line[2:]) for number, line in _lines(text) if line.startswith(b"> ") and line[2:].strip()]
        return _read_lines(sent, None)
    head, body = text, None
    if REQUEST_LINE.fullmatch(text.partition(b"\n")[0].rstrip(b"\r")) and (blank := BLANK_LINE.search(text)):
        head, body = text[: blank.start()], text[blank.end() :]
    told = [(number, line) for number, line in _lines(head) if not line.startswith(CURL_NOISE)]
    return _read_lines(told, body or None)


def _lines(text: bytes) -> list[tuple[int, bytes]]:
    """Give the lines that are not empty, numbered from 1."""
    numbered = enumerate((line.rstrip(b"\r") for line in text.split(b"\n")), start=1)
    return [(number, line) for number, line in numbered if line.strip()]


def _read_lines(lines: list[tuple[int, bytes]], body: bytes | None) -> Saved:
    target, headers = None, []
    for number, line in lines:
        if found := HEADER.fullmatch(line):
            headers.append((found[1].lower(), found[2]))
        elif (request := REQUEST_LINE.fullmatch(line)) and target is None and not headers:
            target = request[1].decode("latin-1")
        elif STATUS_LINE.match(line):
            raise NoRequest(f"line {number} begins an answer; the headers of the request are needed")
        elif not line.startswith(b":"):  # HTTP/2 writes :method, :path and the like
            raise NoRequest(f"line {number} is no header; expected `Name: value`")
    if not headers:
        raise NoRequest("there is no header in it; expected lines such as `Name: value`")
    return Saved(headers=Headers(headers), target=target, body=body)

"""Logging set up once per process: one event a line, readable on a terminal, JSON elsewhere, no secret in any of it.

Lines go to standard error; standard output is for data. What uvicorn and other libraries log goes the same way.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TextIO, cast

import msgspec
import structlog

# The ids of the attempt that runs: one variable, since to bind each of them costs more than all else of an attempt.
ATTEMPT: ContextVar[Mapping[str, Any]] = ContextVar("ringback_attempt")
# Without what stands before it in a URL: there slashes may be escaped in many ways.
MAC = re.compile(r"(task_[0-9A-Za-z_]{1,64})\.[0-9A-Za-z_-]{32}(?![0-9A-Za-z_-])")
HIDDEN = "<secret>"
NO_IDS: Mapping[str, Any] = MappingProxyType({})
QUIET = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "aiosqlite": logging.WARNING,
    "asyncio": logging.WARNING,
}


def merge_attempt(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the attempt that runs: a processor for whoever sets structlog up without `configure`."""
    for name, value in ATTEMPT.get(NO_IDS).items():
        fields.setdefault(name, value)
    return fields


def mask(text: str) -> str:
    """Hide the token of every callback URL in a text, however its slashes are escaped: `…task_….<mac>`."""
    return MAC.sub(r"\1.<mac>", text)


def _guises(secret: str) -> set[str]:
    """Give a secret as it may stand in a line: as it is, or as Python and JSON write it, one inside the other too."""
    guises = {secret}
    for _ in range(2):
        guises |= {guise for text in guises for guise in _written(text)}
    return guises


def _written(text: str) -> tuple[str, ...]:
    quoted = repr(text + '"')[1:-2]  # beside the other kind of quotes, its own are escaped
    plain = (repr(text)[1:-1], ascii(text)[1:-1], repr(text.encode(errors="replace"))[2:-1])
    return quoted, *plain, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]


class Redactor:
    """Hides known secrets and the tokens of callback URLs in a finished line, tracebacks included."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first, so that a secret that contains another one leaves nothing behind.
        guises = {guise for secret in secrets if len(secret) >= 4 for guise in _guises(secret)}
        self._secrets = sorted(guises, key=len, reverse=True)

    def __call__(self, line: str) -> str:
        """Give the line without secrets."""
        for secret in self._secrets:
            if secret in line:
                line = line.replace(secret, HIDDEN)
        return mask(line)


class _Renderer:
    """The last processor: fields to one redacted line."""

    def __init__(self, as_json: bool, colour: bool, redact: Redactor) -> None:
        self._as_json = as_json
        self._redact = redact
        self._console = structlog.dev.ConsoleRenderer(
            colors=colour, exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
        )
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def __call__(self, logger: Any, method: str, fields: MutableMapping[str, Any]) -> str:
        fields.pop("_record", None)
        fields.pop("_from_structlog", None)
        if not self._as_json:
            told = {name: value for name, value in fields.items() if value is not None}  # people need no `reason=None`
            return self._redact(str(self._console(logger, method, told)))
        return self._redact(self._json(structlog.processors.format_exc_info(logger, method, fields)))

    def _json(self, fields: MutableMapping[str, Any]) -> str:
        try:
            return self._encoder.encode(fields).decode()
        except Exception:  # a lone surrogate, a huge number: a log line must not break what it tells of
            return self._encoder.encode({str(key): ascii(value) for key, value in fields.items()}).decode()


class _Sturdy:
    """A stream that is full, or that nobody reads any more: lines are lost, what they tell of goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, if that is possible."""
        with suppress(OSError, ValueError):  # the second: it was closed
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure(
    *, level: str = "info", style: str | None = None, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Set up logging for this process. `style` is "console" or "json"; None takes console on a terminal."""
    stream = stream or sys.stderr
    terminal = stream.isatty()
    renderer = _Renderer(
        as_json=style == "json" or (style is None and not terminal), colour=terminal, redact=Redactor(secrets)
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        merge_attempt,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Sturdy(stream))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[renderer]))
    logging.basicConfig(handlers=[handler], level=number, force=True)
    for name, quiet in QUIET.items():
        logging.getLogger(name).setLevel(max(number, quiet))

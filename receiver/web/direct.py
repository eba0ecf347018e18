"""Answers the usual callback without a coroutine: one that arrives whole, for `ringback serve` and `up`.

uvicorn's protocol parses a request piece by piece, starts a task for it, and has the answer written through two
messages: most of what a callback costs. Here a request that is a plain, complete POST of a callback in one piece is
handed over as it is, together with all others that the same turn of the event loop brought, and its answer is written
in one piece when the ledger has committed. Everything else, whatever is only a little unusual, is left to uvicorn: no
request is ever half read here, so nothing can be read in two ways. Behaviour is the same, and the tests run on both.

It leans on a few names of uvicorn that are not documented (`cycle`, `server_state`), so it is used here alone, and the
tests fail if a new version changes them.
"""

import asyncio
import re
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from receiver.web import answers
from receiver.web.answers import Refused
from receiver.web.app import Receiver
from receiver.web.callbacks import PREFIX
from receiver.web.heads import read_head
from ringback.model import Receipt

# A path that needs no decoding, and headers of visible ASCII without any freedom of form.
WHOLE = re.compile(
    rb"POST (%b[A-Za-z0-9._~/-]+) HTTP/1\.1\r\n((?:[A-Za-z0-9_-]+: ?[!-~][ -~]*\r\n){1,64})\r\n" % PREFIX.encode()
)
MOST_BYTES = 65_536

Headers = list[tuple[bytes, bytes]]


class DirectProtocol(HttpToolsProtocol):
    """One connection."""

    _keep_alive_seconds: float | None = None  # None: uvicorn's

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        app: Any = self.app
        plain = not self.root_path and self.limit_concurrency is None
        self._callbacks = app.callbacks if plain and isinstance(app, Receiver) else None
        self._exchange: _Exchange | None = None  # what was handed over and is not answered yet
        self._early = bytearray()  # what came meanwhile
        self._parsing = False  # uvicorn's parser is inside of a message
        self._closing = False
        self._quiet_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Hand a whole callback over; leave everything else to uvicorn."""
        if self._exchange is not None:  # sent ahead: answers have to come in order
            self._early += data
            if len(self._early) > MOST_BYTES:
                self.flow.pause_reading()
        elif self.flow.write_paused or not (self._is_between() and self._hand_over(data)):
            super().data_received(data)  # which waits for who does not take the answers in

    def on_message_begin(self) -> None:
        """Note that what comes next belongs to uvicorn."""
        self._parsing = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Note that a new message may begin."""
        self._parsing = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin the silence anew, which uvicorn counts for itself."""
        self._quiet_since = self.loop.time()
        super().on_response_complete()

    def shutdown(self) -> None:
        """Close after the answer that is due, if one is."""
        if self._exchange is not None:
            self._closing = True
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; what was handed over is stored all the same."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def _is_between(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return not self._parsing and (cycle is None or cycle.response_complete)

    def _hand_over(self, data: bytes) -> bool:
        """Tell whether it was a whole callback."""
        found = WHOLE.match(data)
        if found is None or self._callbacks is None:
            return False
        head, end = read_head(found[2]), found.end()
        if head.length is None or head.length != b"%d" % (len(data) - end):
            return False
        self._unset_keepalive_if_required()
        self._exchange = _Exchange(self, data)
        self._callbacks.take_soon(found[1].decode("ascii"), head, data[end:], self._exchange)
        return True

    def decline(self, data: bytes) -> None:
        """Have uvicorn read it after all."""
        self._exchange = None
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._closing:
            super().shutdown()
        self._go_on()

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Write an answer in one piece."""
        self._exchange = None
        if self.transport.is_closing():
            return
        close = self._closing or (b"connection", b"close") in headers
        lines = [b"%b: %b\r\n" % header for header in headers]
        if self._closing:
            lines.append(b"connection: close\r\n")
        self._write(STATUS_LINES[status], b"".join(lines), body)
        self.server_state.total_requests += 1
        if close:
            self.transport.close()
            return
        self._wait_quietly()
        self._go_on()

    def accept(self, body: bytes) -> None:
        """Write the usual answer."""
        if self._closing or self.transport.is_closing():
            self.answer(200, JSON, body)
            return
        self._exchange = None
        self._write(STATUS_LINES[200], JSON_LINE, body)
        self.server_state.total_requests += 1
        self._wait_quietly()
        if self._early:
            self._go_on()

    def _write(self, status: bytes, lines: bytes, body: bytes) -> None:
        usual = _usual_lines(self.server_state.default_headers)
        self.transport.write(b"%b%b%bcontent-length: %d\r\n\r\n%b" % (status, usual, lines, len(body), body))

    def _go_on(self) -> None:
        """Take up what was sent ahead."""
        if self._early:
            data, self._early = bytes(self._early), bytearray()
            self.flow.resume_reading()
            self.data_received(data)

    def _wait_quietly(self) -> None:
        """Close a connection that stays silent; one timer for all its requests, since each costs as much as a parse."""
        self._quiet_since = self.loop.time()
        if self._timer is None:
            self._timer = self.loop.call_later(self._keep_alive_seconds or self.timeout_keep_alive, self._look)

    def _look(self) -> None:
        patience = self._keep_alive_seconds or self.timeout_keep_alive
        left = self._quiet_since + patience - self.loop.time()
        if self._exchange is not None or not self._is_between():
            left = patience
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        else:
            self.transport.close()


class _Exchange:
    """One request that was handed over, and where its answer goes."""

    __slots__ = ("_data", "_protocol")

    def __init__(self, protocol: DirectProtocol, data: bytes) -> None:
        self._protocol = protocol
        self._data = data

    def decline(self) -> None:
        """Have it served in the ordinary way."""
        self._protocol.decline(self._data)

    def refuse(self, refused: Refused) -> None:
        """Answer that it is turned away."""
        self._protocol.answer(*answers.refusal(refused))

    def accept(self, receipt: Receipt) -> None:
        """Answer that it is stored."""
        self._protocol.accept(answers.acceptance(receipt))


class _Usual:
    """The lines that every answer begins with: uvicorn renews their list every second, for the date."""

    headers: Headers | None = None
    lines = b""


def _usual_lines(headers: Headers) -> bytes:
    if _Usual.headers is not headers:
        _Usual.headers, _Usual.lines = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
    return _Usual.lines


JSON: Headers = [answers.JSON]
JSON_LINE = b"%b: %b\r\n" % answers.JSON
STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}

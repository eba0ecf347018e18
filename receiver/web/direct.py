"""Answers the usual callback without a coroutine: one that arrived whole, for `ringback serve` and `up`.

uvicorn's protocol starts a task per request, which reads the body from it, waits, and writes the answer back through it
in two messages: half of what a callback costs. Here a callback whose body came with its headers is handed over as it
is, together with all others that the same turn of the event loop brought, and its answer is written when the ledger
has committed. Whatever is not usual (a body in parts, a refusal, another path) takes uvicorn's own way; behaviour is
the same, and the tests run on both.

It leans on private names of uvicorn (`_start_asgi_task`, the fields of a cycle), so it is used here alone, and a test
fails if a new version changes them.
"""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from receiver.web import answers
from receiver.web.answers import Refused
from receiver.web.app import Receiver
from receiver.web.callbacks import PREFIX
from ringback.model import Receipt

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"


class DirectProtocol(HttpToolsProtocol):
    """One connection."""

    _held: tuple[RequestResponseCycle, Any] | None = None  # a callback whose body is not whole yet

    def data_received(self, data: bytes) -> None:
        """Parse; what is not whole by now goes uvicorn's way."""
        super().data_received(data)
        if self._held is not None:
            held, self._held = self._held, None
            super()._start_asgi_task(*held)

    def on_message_complete(self) -> None:
        """Hand over a callback that is whole."""
        super().on_message_complete()
        if self._held is not None and self._held[0] is self.cycle:
            (cycle, app), self._held = self._held, None
            app.callbacks.take_soon(cast("Scope", cycle.scope), bytes(cycle.body), _Exchange(self, cycle, app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Hold a callback back until its body is there."""
        unread = cycle is self.cycle and cycle.more_body and not cycle.waiting_for_100_continue
        if unread and isinstance(app, Receiver) and cycle.scope["path"].startswith(PREFIX):
            self._held = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def start(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Have a request answered in uvicorn's way, by this application."""
        super()._start_asgi_task(cycle, app)


class _Exchange:
    """One request that was handed over, and where its answer goes."""

    __slots__ = ("_app", "_cycle", "_protocol")

    def __init__(self, protocol: DirectProtocol, cycle: RequestResponseCycle, app: Any) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._app = app

    def decline(self) -> None:
        """Have it served in the ordinary way."""
        self._protocol.start(self._cycle, self._app)

    def refuse(self, refused: Refused) -> None:
        """Answer that it is turned away."""
        self._protocol.start(self._cycle, _refusing(refused))

    def accept(self, receipt: Receipt) -> None:
        """Answer that it is stored, in one write."""
        cycle, protocol = self._cycle, self._protocol
        if cycle.disconnected:
            return
        body = answers.acceptance(receipt)
        parts = [HEAD % len(body)]
        for name, value in cycle.default_headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        parts.append(body)
        cycle.response_started = cycle.response_complete = True
        protocol.transport.write(b"".join(parts))
        if not cycle.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()


def _refusing(refused: Refused) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await answers.refuse(receive, send, refused)

    return app

"""Reads one callback body within its limits: size, total time, and room in memory for all bodies together.

Every check that needs no body comes before the first byte of it is asked for; so `Expect: 100-continue` is answered
with the refusal itself.
"""

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive

from receiver.web.answers import Reason, Refused
from receiver.web.state import State
from ringback.providers.signatures import Headers

LENGTH_DIGITS = 18  # of a Content-Length; more are above every limit


class Room:
    """The memory that one body takes, given back at the end of the `with` block."""

    __slots__ = ("_held", "_state", "patience")

    def __init__(self, state: State) -> None:
        self._state = state
        self._held = 0
        self.patience = state.patience

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state.inflight_bytes -= self._held

    def need(self, size: int) -> None:
        """Hold at least this many bytes."""
        more = size - self._held
        if more <= 0:
            return
        if not self._state.has_room(size, self._held):
            raise Refused(Reason.BUSY, pending=True)
        self._held = size
        self._state.inflight_bytes += more


def declared_length(headers: Headers, limit: int) -> int:
    """Read Content-Length; 0 where there is none (chunked)."""
    text = headers.get(b"content-length")
    if text is None:
        return 0
    if not text.isdigit():
        raise Refused(Reason.LENGTH)
    digits = text.lstrip(b"0") or b"0"
    if len(digits) > LENGTH_DIGITS or int(digits) > limit:
        raise Refused(Reason.TOO_LARGE, pending=True)
    return int(digits)


class Reading:
    """One body on its way, for as long as it is read."""

    __slots__ = ("late", "task")

    def __init__(self) -> None:
        self.task = asyncio.current_task()  # None once it is over
        self.late = False

    def is_over(self) -> bool:
        """Tell whether it has been read, or given up."""
        return self.task is None

    def give_up(self) -> None:
        """End it: its time is up."""
        if self.task is not None:
            self.late = True
            self.task.cancel()


async def read_body(receive: Receive, room: Room, limit: int, timeout_seconds: float) -> bytes:
    """Read the whole body, in no more than this time."""
    reading = Reading()
    task = reading.task
    room.patience.add(reading, timeout_seconds)
    try:
        return await _read(receive, room, limit)
    except asyncio.CancelledError:
        if reading.late and task is not None and task.uncancel() == 0:  # by us alone, not by somebody outside
            # It may still be sending, and a connection closed on unread bytes is reset, the answer with it.
            raise Refused(Reason.TIMEOUT, pending=True) from None
        raise
    finally:
        reading.task = None


async def _read(receive: Receive, room: Room, limit: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(Reason.DISCONNECTED)
        part = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if size > limit:
            raise Refused(Reason.TOO_LARGE, pending=more)
        room.need(size)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)

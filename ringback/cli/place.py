"""What a serving process knows of the parent that started it beside others; see `crew`."""

import asyncio
import os
from contextlib import suppress

import structlog

READY = b"+"  # from a process to its parent
STOP = b"."  # from the parent; where it is gone, there is nothing to read


class Place:
    """The place of one process among its like.

    Args:
        seat: its number, from 0; the process that comes after it gets the same.
        lifeline: the pipe that can be read when the process shall end.
        status: the pipe that tells the parent of its beginning.
    """

    def __init__(self, seat: int, lifeline: int, status: int) -> None:
        self.seat = seat
        self._lifeline = lifeline
        self._status = status

    def tell_started(self) -> None:
        """Tell the parent that requests are taken from now on."""
        with suppress(OSError):  # it is gone, which the lifeline tells as well
            os.write(self._status, READY)
        os.close(self._status)

    async def watch(self, stop: asyncio.Event) -> None:
        """Wait until the parent stops or is gone: a part of the process, whose end is the end of all."""
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._lifeline, gone.set)
        waits = [asyncio.create_task(event.wait()) for event in (gone, stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._lifeline)
            for wait in waits:
                wait.cancel()
        if gone.is_set() and os.read(self._lifeline, 1) != STOP:
            structlog.get_logger("ringback").warning("process.orphaned", pid=os.getpid(), consequence="it stops")

"""A ledger with a scribe, as the tests of the courier use it."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ringback.ledger import Query, courier
from ringback.ledger.sqlite import SqliteLedger
from ringback.model import Receipt

from .builders import COMPLETED, fact

PATIENCE_SECONDS = 60.0
SECRET = b"a-secret-behind-urls-that-is-long-enough"


async def until(what: Callable[[], Any]) -> Any:
    """Let the loop turn until something is there, and give it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (seen := what()):  # noqa: ASYNC110 -- what is waited for sets no event of ours
            await asyncio.sleep(0.005)
    return seen


class Office:
    """A ledger and the scribe that writes for it."""

    def __init__(self, ledger: Any) -> None:
        self.ledger: SqliteLedger = ledger

    @property
    def courier(self) -> courier.Courier:
        """The receiver's end."""
        assert self.ledger._courier is not None
        return self.ledger._courier

    @property
    def pid(self) -> int:
        """The scribe's number; 0 while none is ready."""
        return self.courier._line.pid if self.courier._line is not None else 0

    @property
    def lists(self) -> int:
        """How many lists are under way."""
        return len(self.courier._lists)

    async def ready(self) -> int:
        """Wait for a scribe."""
        return int(await until(lambda: self.pid))

    async def lost(self, pid: int) -> None:
        """Wait until this scribe is none any more."""
        await until(lambda: self.pid != pid)

    def signal(self, number: int) -> None:
        """Send a signal to the scribe."""
        os.kill(self.pid, number)

    def begin(self, number: int, **more: Any) -> "asyncio.Future[Receipt]":
        """Have something stored, and do not wait for it."""
        return self.ledger.record(fact(COMPLETED, f"task_{number}", None, **more))

    async def stored(self) -> int:
        """Count what is stored."""
        return len(await self.ledger.events(Query(limit=20_000)))


def is_there(pid: int) -> bool:
    """Tell whether a process exists."""
    return pid > 0 and Path(f"/proc/{pid}").exists()


def outcomes(futures: "list[asyncio.Future[Receipt]]") -> set[Any]:
    """Tell how they ended."""
    return {type(one.exception()) if one.exception() else one.result().verdict for one in futures}

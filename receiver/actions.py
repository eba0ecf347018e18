"""What a handler can do through its event beyond reading it: do a step once, and submit a follow-up task.

Knows neither the ledger nor the submitter: `worker` hands in how a step is recorded, and the composition root how a
task is submitted. Called by `receiver.event` alone.
"""

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ringback.errors import AttemptLost, HandlersError, LedgerUnavailable
from ringback.ledger import Work
from ringback.model import Attempt, Task
from ringback.retry import Policy

NAME = re.compile(r"[A-Za-z0-9._:-]{1,100}")
MAX_KEY = 200
OURS = ("key", "parent")  # of what `Submitter.submit` takes
# With patience: what the block did would be done again if it were not written down.
RECORDING = Policy(attempts=6, base_seconds=0.2, factor=2.0, cap_seconds=5.0)

Finish = Callable[[Attempt, str], Awaitable[bool]]  # records an attempt's step; False: it no longer is the current one
Submit = Callable[..., Awaitable[Task]]  # takes what `Submitter.submit` takes


class Actions:
    """What the handler of one attempt can do. Made in the worker's event loop, and bound to it."""

    def __init__(
        self, work: Work, finish: Finish, submit: Submit | None, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._work = work
        self._finish = finish
        self._submit = submit
        self._done = set(work.steps)
        self._begun: set[str] = set()
        self._loop = loop or asyncio.get_running_loop()

    def once(self, name: str) -> AbstractAsyncContextManager[bool]:
        """Give the block of one step."""
        self._check("event.once", name)
        return self._once(name)

    def submit(self, name: str, provider: str, request: Mapping[str, Any]) -> Awaitable[Task]:
        """Submit a follow-up task, at most once under this name."""
        self._check("event.submit", name)
        if self._submit is None:
            raise HandlersError(
                "event.submit: this worker was made without a way to submit; `ringback up`, `work` and `tick` give it "
                "one, in code it is Worker(…, submit=submitter.submit)"
            )
        if given := [word for word in OURS if word in request]:
            raise HandlersError(f"event.submit makes {given[0]} by itself; leave {given[0]}= out")
        task = self._work.task
        return self._submit(provider, key=self._key(name), parent=task.id if task else None, **request)

    @asynccontextmanager
    async def _once(self, name: str) -> AsyncIterator[bool]:
        if name in self._begun:
            raise HandlersError(f"step {name!r} was begun already and has not ended; give each step a name of its own")
        if name in self._done:
            yield False
            return
        self._begun.add(name)
        try:
            yield True
            await self._record(name)
        finally:
            self._begun.discard(name)

    async def _record(self, name: str) -> None:
        if not await self._patiently(name):
            raise AttemptLost(
                f"step {name!r} was done, but could not be recorded: attempt {self._work.attempt.id} was given up, "
                "since its time was over or its worker fell silent. Another attempt will do, or has done, the step too"
            )
        self._done.add(name)

    async def _patiently(self, name: str) -> bool:
        for attempt in range(1, RECORDING.attempts):
            try:
                return await self._finish(self._work.attempt, name)
            except LedgerUnavailable:
                pause = RECORDING.delay(attempt, random.random())  # noqa: S311 -- spreads the herd
                await asyncio.sleep(pause.total_seconds())
        return await self._finish(self._work.attempt, name)

    def _key(self, name: str) -> str:
        """Make the key of a follow-up task: readable where that is unambiguous and not too long."""
        event_id, handler = self._work.event.id, self._work.delivery.handler
        key = f"event:{event_id}:{handler}:{name}"
        if ":" not in handler and len(key) <= MAX_KEY and key.isprintable():
            return key
        digest = hashlib.sha256(f"{handler}\n{name}".encode(errors="backslashreplace")).hexdigest()
        return f"event:{event_id}:{digest}"

    def _check(self, what: str, name: object) -> None:
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise HandlersError(f"{what} needs an `async def` handler; this one runs on a thread of its own")
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise HandlersError(f"{what}: a name is 1 to 100 of A-Z a-z 0-9 . _ : -, got {name!r}")

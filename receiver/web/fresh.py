"""A value that costs something to get, fetched at most once in a while and by one caller for all.

Behind readiness, the summary for /metrics and the opening of the ledger: however many ask, the ledger is asked once.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Fresh(Generic[T]):
    """Gives what `fetch` last gave, or calls it where that is older than `seconds`. `fetch` returns its errors."""

    def __init__(self, seconds: float, fetch: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._seconds = seconds
        self._fetch = fetch
        self._task: asyncio.Task[T] | None = None
        self._fetched_at = 0.0

    async def get(self) -> T:
        """Give the value. A caller that is cancelled does not take the others with it."""
        if self._task is None or self._task.cancelled() or self._is_stale(self._task):
            self._task = asyncio.create_task(self._run())
        return await asyncio.shield(self._task)

    def _is_stale(self, task: asyncio.Task[T]) -> bool:
        return task.done() and time.monotonic() - self._fetched_at >= self._seconds

    async def _run(self) -> T:
        value = await self._fetch()
        self._fetched_at = time.monotonic()
        return value

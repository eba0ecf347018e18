"""What is pushed for one task, and in which order: the truth, and the faults around it.

It composes parcels for the courier; the studio calls it when a task's state changes.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace

import httpx

from ringback.sandbox.book import Book, SandboxTask, State
from ringback.sandbox.config import SandboxConfig
from ringback.sandbox.push import Courier, Parcel
from ringback.sandbox.qingbo_shape import push_body

_FLIPPED = {State.COMPLETED: State.FAILED, State.FAILED: State.COMPLETED, State.CANCELLED: State.COMPLETED}


class Campaign:
    """Pushes a task's states to its callback URL."""

    def __init__(self, config: SandboxConfig, book: Book, courier: Courier) -> None:
        self._config, self._book, self._courier = config, book, courier

    def announcement(self, task: SandboxTask) -> Coroutine[None, None, object] | None:
        """Return the push of a state on the way, fixed as it is now; None if nobody subscribed to it."""
        url = _target(task)
        return None if url is None else self._courier.deliver(task, Parcel.of(url, push_body(task), "progress"))

    async def conclude(self, task: SandboxTask) -> None:
        """Push the terminal state, with the faults before, in and after it."""
        url = _target(task)
        if url is None:
            return
        await self._lie(task, url)
        if "lost_push" in task.faults:
            task.happened["lost_push"] += 1
            return
        if "late_push" in task.faults:
            task.happened["late_push"] += 1
            await asyncio.sleep(self._config.late_push_seconds)
        await self._tell(task, url)
        if "late_processing" in task.faults:
            task.happened["late_processing"] += 1
            await self._courier.deliver(task, Parcel.of(url, push_body(task, State.PROCESSING), "late_processing"))

    async def _lie(self, task: SandboxTask, url: str) -> None:
        if "forged_push" in task.faults:
            task.happened["forged_push"] += 1
            wrong = with_wrong_token(url)
            await self._courier.send(task, Parcel.of(wrong, push_body(task), "forged"))
            await self._courier.send(task, Parcel.of(wrong, push_body(task, _FLIPPED[task.state]), "forged"))
        if "wrong_task" in task.faults:
            task.happened["wrong_task"] += 1
            body = push_body(task, task_id=self._another_id(task))
            await self._courier.send(task, Parcel.of(url, body, "wrong_task"))

    async def _tell(self, task: SandboxTask, url: str) -> None:
        parcel = Parcel.of(url, push_body(task))
        if "oversized_push" in task.faults:
            task.happened["oversized_push"] += 1
            padding = "x" * self._config.oversized_push_bytes
            parcel = Parcel.of(url, push_body(task) | {"padding": padding}, "oversized")
        if "slow_push" in task.faults:
            task.happened["slow_push"] += 1
            parcel = replace(parcel, trickle_seconds=self._config.slow_push_seconds)
        if "duplicate_push" in task.faults:
            await self._repeat(task, parcel)
        else:
            await self._courier.deliver(task, parcel)

    async def _repeat(self, task: SandboxTask, parcel: Parcel) -> None:
        """Send the first three copies at the same time, the rest one by one."""
        task.happened["duplicate_push"] += 1
        copy = replace(parcel, kind="duplicate")
        extra = self._config.duplicate_pushes - 1
        together = [self._courier.send(task, copy) for _ in range(min(extra, 2))]
        await asyncio.gather(self._courier.deliver(task, parcel), *together)
        for _ in range(extra - len(together)):
            await self._courier.send(task, copy)

    def _another_id(self, task: SandboxTask) -> str:
        """Name an existing task or, every other time and where there is none, an invented one."""
        others = [other.id for other in self._book.tasks("qingbo") if other is not task]
        return others[-1] if others and task.number % 2 else f"{task.id[:-1]}{(int(task.id[-1]) + 1) % 10}"


def with_wrong_token(url: str) -> str:
    """Alter the last four characters of a URL's path, staying in the alphabet of tokens."""
    parts = httpx.URL(url)
    path = parts.path.rstrip("/")
    altered = "".join("B" if character == "A" else "A" for character in path[-4:])
    return str(parts.copy_with(path=path[:-4] + altered if path else "/forged"))


def _target(task: SandboxTask) -> str | None:
    """Return where to push the task's present state, None if nobody asked for it."""
    return task.order.callback_url if task.state in task.order.callback_events else None

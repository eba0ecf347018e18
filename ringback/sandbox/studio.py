"""Where tasks live: accepted, worked on for a while, ended, pushed; and how all of it stops.

The providers' endpoints call it. Each task has one background coroutine for its life and one per announced state,
so the work in the background is bounded by `max_tasks`; `close` cancels all of it.
"""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime

import structlog

from ringback.sandbox.book import Book, Order, SandboxTask, State
from ringback.sandbox.campaign import Campaign
from ringback.sandbox.chance import chance
from ringback.sandbox.config import SandboxConfig
from ringback.sandbox.gate import Gate
from ringback.sandbox.push import Courier

_log = structlog.get_logger(__name__)


class Studio:
    """The stand-in for whatever makes the videos."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.book = Book()
        self.gate = Gate(config, self.book)
        self._courier = Courier(config)
        self._campaign = Campaign(config, self.book, self._courier)
        self._background: set[asyncio.Task[object]] = set()
        self._lives: dict[str, asyncio.Task[object]] = {}
        self._closing = asyncio.Event()

    def accepted_before(self, provider: str, key: str | None) -> SandboxTask | None:
        """Return the task that this Idempotency-Key already bought."""
        return self.book.find_by_key(provider, key, datetime.now(UTC))

    def accept(self, order: Order) -> SandboxTask:
        """Charge for a task and start its life, or refuse it."""
        faults = self.gate.admit(order)
        now = datetime.now(UTC)
        number = self.book.next_number(order.provider)
        task = SandboxTask(
            number=number,
            id=_new_id(order.provider, now, self.config.seed, number),
            order=order,
            faults=faults,
            created_at=now,
            state=State.QUEUED if order.provider == "qingbo" else State.PROCESSING,
        )
        self.book.add(task)
        self._lives[task.id] = self._start(self._live(task))
        _log.info("sandbox.task.accepted", provider=order.provider, task=task.id, faults=sorted(faults))
        return task

    async def before_answer(self, task: SandboxTask, wait_seconds: float = 0) -> bool:
        """Hold a submit response back as the faults or the client wish; return whether the client's wait was served."""
        if "early_push" in task.faults and task.order.callback_url is not None:
            await asyncio.wait({self._lives[task.id]}, timeout=self.config.push_timeout_seconds)
            task.happened["early_push"] += 1
        if "submit_timeout" in task.faults:
            task.happened["submit_timeout"] += 1
            await self._pause(self._closing.wait(), self.config.hang_seconds)
        if wait_seconds:
            await self._pause(task.ended.wait(), wait_seconds)
        return wait_seconds > 0

    def cancel(self, task: SandboxTask) -> None:
        """End a queued task and push that."""
        self._lives.pop(task.id).cancel()
        self._end(task, State.CANCELLED)
        self._start(self._campaign.conclude(task))

    def hurry(self) -> None:
        """Let go of held-back responses, so that a server may stop without waiting for them."""
        self._closing.set()

    async def idle(self) -> None:
        """Wait until every accepted task has ended and all its pushes are done."""
        while self._background:
            await asyncio.wait(set(self._background))

    async def close(self) -> None:
        """Stop everything that runs in the background."""
        self.hurry()
        running = list(self._background)
        for work in running:
            work.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._courier.close()

    async def _live(self, task: SandboxTask) -> None:
        early = "early_push" in task.faults and task.order.callback_url is not None
        if not early:
            await self._work(task)
        failed = "failed" in task.faults
        task.happened["failed"] += failed
        self._end(task, State.FAILED if failed else State.COMPLETED)
        await self._campaign.conclude(task)
        self._lives.pop(task.id, None)

    async def _work(self, task: SandboxTask) -> None:
        delay = chance(self.config.seed, "delay", task.order.provider, task.number).uniform(*self.config.delay_seconds)
        queued = delay * self.config.queued_share
        if task.state is State.QUEUED:
            self._announce(task)
            await asyncio.sleep(queued)
            task.state = State.PROCESSING
            self._announce(task)
            delay -= queued
        await asyncio.sleep(delay)

    def _announce(self, task: SandboxTask) -> None:
        # Not awaited by the task's life: a receiver that is down must not stop the work.
        if (push := self._campaign.announcement(task)) is not None:
            self._start(push)

    def _end(self, task: SandboxTask, state: State) -> None:
        self.book.end(task, state, datetime.now(UTC))
        _log.info("sandbox.task.ended", provider=task.order.provider, task=task.id, state=state.value)

    def _start(self, work: Coroutine[None, None, object]) -> asyncio.Task[object]:
        running = asyncio.create_task(work)
        self._background.add(running)
        running.add_done_callback(self._background.discard)
        return running

    async def _pause(self, event: Coroutine[None, None, object], timeout_seconds: float) -> None:
        """Wait for something, no longer than so, and not while the sandbox closes."""
        wishes = {asyncio.ensure_future(event), asyncio.ensure_future(self._closing.wait())}
        try:
            await asyncio.wait(wishes, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wish in wishes:
                wish.cancel()


def _new_id(provider: str, now: datetime, seed: int, number: int) -> str:
    """Make an id of the provider's form; it holds the time, so a restarted sandbox never repeats one."""
    milliseconds = int(now.timestamp() * 1000)
    dice = chance(seed, "id", provider, number, milliseconds)
    if provider == "qingbo":
        return f"task-wave{milliseconds}{dice.choice('abcdefghijklmnopqrstuvwxyz')}{dice.randrange(10**9):09d}"
    return f"task_{milliseconds:012x}{dice.getrandbits(80):020x}"

"""The process that runs due deliveries: settle, fan out, claim and run, turn after turn; and drain when told to stop.

Never runs a handler itself (`attempt`) and never decides what its end means (`settler`, by `lifecycle`). Called by the
command for `up`, `work` and `tick`. Everything is bounded: attempts at once by RINGBACK_CONCURRENCY, what one turn
fans out or stores by BATCH, and ended attempts that wait for the database by both.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from receiver.actions import Actions, Submit
from receiver.attempt import Ended, Running, log_fields
from receiver.handlers import Event, Handler, Handlers
from receiver.presence import Presence
from receiver.settler import BATCH, Settler
from receiver.threads import DaemonPool
from ringback.errors import LedgerUnavailable
from ringback.ledger import STORE_RESULTS, Keyless, Ledger, Process, Turn, Work, runs_alone
from ringback.model import Attempt
from ringback.patience import Patience
from ringback.retry import Policy
from ringback.settings import Settings

IDLE_SECONDS = 30.0  # the slow poll behind every wake-up
OVERDUE_SECONDS = 1.0  # the poll while something is due that cannot be begun yet
BACKOFF = Policy(base_seconds=0.1, factor=2.0, cap_seconds=3.0, jitter=0.5)

log = structlog.get_logger()


class Worker:
    """Runs the deliveries of these handlers. One instance serves one call of `run` or `run_once` at a time.

    Args:
        settings: for concurrency, timeouts, heartbeat and grace time.
        ledger: where the deliveries are.
        handlers: whose deliveries to run.
        clock: gives the time, aware and in UTC.
        name: how the worker's id begins; by default host and process id.
        submit: what `event.submit` calls, as `Submitter.submit`; without it handlers cannot submit.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        handlers: Handlers,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        name: str | None = None,
        submit: Submit | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._handlers = handlers
        self._clock = clock
        self._submit = submit
        self._presence = Presence(settings, ledger, handlers, clock, name)
        self._settler = Settler(clock)
        self._pool = DaemonPool(settings.concurrency)
        self._running: dict[str, Running] = {}  # by attempt
        self._storing: set[str] = set()  # those of them that keep results: our own, and slow
        self._alone: str | None = None  # an attempt beside which nothing may run
        self._patience = Patience[tuple[Running, Handler]](lambda late: late[0].over, self._time_out)
        self._keys: Mapping[str, str] = {}  # by delivery, of those that were keyless
        self._next_due_at: datetime | None = None  # as the last claim told
        self._stragglers: set[asyncio.Future[Any]] = set()
        self._wake = asyncio.Event()
        self._state: Any = None
        self._failures = 0  # of the ledger, in a row

    @property
    def process(self) -> Process:
        """This worker, as the ledger knows it."""
        return self._presence.process

    @property
    def stragglers(self) -> int:
        """How many handlers go on after they were given up; a process with some must not wait for them at its exit."""
        return len(self._stragglers)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; then wait for running handlers for RINGBACK_GRACE_SECONDS and release the rest."""
        stopping = self._background(stop.wait())
        try:
            async with self._session() as chores:
                while not any(task.done() for task in (stopping, *chores)):
                    if not await self._turn():
                        await self._idle()
        finally:
            stopping.cancel()

    async def run_once(self, time_limit_seconds: float) -> int:
        """Run all that is due, start nothing after the limit, then stop as `run` does; gives how many attempts ended.

        Retries that are due later are left for the next time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + time_limit_seconds
        before = self._settler.ended
        async with self._session() as chores:
            while loop.time() < deadline and not any(task.done() for task in chores):
                if await self._turn():
                    continue
                if not (self._running or self._settler or self._failures):
                    break
                await self._woken(min(deadline - loop.time(), self._pause_seconds()))
        return self._settler.ended - before

    @asynccontextmanager
    async def _session(self) -> AsyncIterator["tuple[asyncio.Task[Any], ...]"]:
        """Hold what a working worker holds: the user's lifespan and two chores. At the end drain and leave."""
        self._loop = asyncio.get_running_loop()  # asked for once: each time costs a system call
        async with self._lifespan() as self._state:
            log.info("worker.started", worker=self.process.id, handlers=len(self._handlers))
            chores = (self._background(self._presence.keep()), self._background(self._watch()))
            try:
                yield chores
            finally:
                log.info("worker.stopping", worker=self.process.id, running=len(self._running))
                await self._drain()
                broken = [task for task in chores if task.done()]
                for task in chores:
                    task.cancel()
                await asyncio.wait(chores)  # a beat after the good-bye would bring us back
                if not self._settler:  # else the ledger is out of reach: the others will find us silent
                    await self._try(self._presence.leave)
                self._pool.close()
                log.info("worker.stopped", worker=self.process.id, unsettled=len(self._settler))
            for task in broken:
                task.result()  # a worker that cannot say that it lives must not go on: raises why

    def _lifespan(self) -> AbstractAsyncContextManager[Any]:
        return self._handlers.lifespan(self._handlers) if self._handlers.lifespan else nullcontext()

    def _background(self, chore: Any) -> "asyncio.Task[Any]":
        task = asyncio.create_task(chore)
        task.add_done_callback(lambda _: self._wake.set())
        return task

    async def _watch(self) -> None:
        """Wake up when anybody has written."""
        seen = 0
        while True:
            try:
                count = await self._ledger.changed(seen, IDLE_SECONDS)
            except LedgerUnavailable as error:
                self._note_failure(error)
                await asyncio.sleep(self._pause_seconds())
                continue
            if count != seen:
                seen = count
                self._wake.set()

    async def _turn(self) -> bool:
        """Settle, fan out, claim and start, once; tells whether another turn may find more right away."""
        try:
            if not self._presence.announced:
                await self._presence.announce()
            return await self._take()
        except LedgerUnavailable as error:
            self._note_failure(error)
            return False

    async def _take(self) -> bool:
        """Store what ended, fan out, claim what can start now, and start it."""
        settled = self._settler.batch()
        free = self._free_slots(len(settled))
        if not (free or settled):
            return False
        turned = await self._ledger.turn(
            Turn(
                process=self.process,
                now=self._clock(),
                settled=settled,
                keys=self._keys,
                shares={handler.name: handler.share(free) for handler in self._handlers},
                limit=free,
                fan_out=free,
                # Stragglers do not count: one that never ends would keep a lapsed delivery waiting for ever.
                idle=len(self._running) == len(self._storing),
            )
        )
        self._note_success()
        self._settler.stored(turned.settled)
        self._next_due_at = turned.next_due_at
        for work in turned.works:
            self._begin(work)
        self._keys = {keyless.delivery.id: self._key(keyless) for keyless in turned.keyless}
        return bool(self._settler or (turned.more and self._free_slots()))

    def _key(self, keyless: Keyless) -> str:
        """Ask the user's function for a key; one that has none, or whose function fails, shares it with nobody."""
        handler = self._handlers[keyless.delivery.handler]
        with suppress(BaseException):  # its attempt asks again, and fails with what it raised
            if (key := handler.key_of(Event.of(keyless, self._state))) is not None:
                return key
        return keyless.delivery.id

    def _begin(self, work: Work) -> None:
        handler = self._handlers[work.delivery.handler]
        event = Event.of(work, self._state, Actions(work, self._finish, self._submit, self._loop))
        fields = log_fields(event, handler.name)
        log.debug("delivery.started", **fields)
        end = partial(self._end, work, handler, fields)
        running = Running(handler, event, fields, self._pool, end, self._loop)
        self._running[work.attempt.id] = running
        self._patience.add((running, handler), self._timeout_seconds(handler), self._loop)
        if handler.name == STORE_RESULTS:
            self._storing.add(work.attempt.id)
        if runs_alone(handler.name, work.delivery.lapses):
            self._alone = work.attempt.id

    def _timeout_seconds(self, handler: Handler) -> float:
        return handler.timeout_seconds or self._settings.handler_timeout_seconds

    def _time_out(self, late: tuple[Running, Handler]) -> None:
        running, handler = late
        running.time_out(self._timeout_seconds(handler))

    def _end(self, work: Work, handler: Handler, fields: dict[str, Any], ended: Ended) -> None:
        del self._running[work.attempt.id]
        self._storing.discard(work.attempt.id)
        self._settler.add(work, handler.policy, ended, fields)
        if ended.straggler is not None:
            log.warning("handler.unresponsive", **fields)
            self._stragglers.add(ended.straggler)
            ended.straggler.add_done_callback(self._free_straggler)
        self._wake.set()

    def _free_slots(self, storing: int = 0) -> int:
        """Tell how many attempts can begin, if so many ends are stored before."""
        if self._alone in self._running:
            return 0
        # A straggler keeps its slot until it ends at last, or a hanging handler would take more and more of them.
        taken = len(self._running) + len(self._stragglers)
        return max(0, min(self._settings.concurrency - taken, BATCH + storing - len(self._settler)))

    def _finish(self, attempt: Attempt, step: str) -> Awaitable[bool]:
        return self._ledger.finish_step(attempt, step, self._clock())

    def _free_straggler(self, straggler: "asyncio.Future[Any]") -> None:
        self._stragglers.discard(straggler)
        self._wake.set()

    async def _idle(self) -> None:
        """Wait until there may be something to do: a write, an attempt's end, the next due time, or the stop."""
        can_begin = not self._failures and self._free_slots() > 0
        await self._woken(self._until(self._next_due_at) if can_begin else self._pause_seconds())

    def _until(self, due_at: datetime | None) -> float:
        if due_at is None:
            return IDLE_SECONDS
        seconds = (due_at - self._clock()).total_seconds()
        return min(seconds, IDLE_SECONDS) if seconds > 0 else OVERDUE_SECONDS

    async def _woken(self, timeout_seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _drain(self) -> None:
        """Wait for what is running, release what outlasts the grace time, and store how all of it ended."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.grace_seconds
        while self._running and (left := deadline - loop.time()) > 0:
            await self._woken(min(left, self._pause_seconds()))
            await self._try(self._flush)
        for running in list(self._running.values()):
            running.release()
        while self._running:  # each tells its end within a second, whatever its handler does
            await self._woken(self._pause_seconds())
        while not await self._try(self._flush) and (left := deadline - loop.time()) > 0:
            await self._woken(min(left, self._pause_seconds()))

    async def _flush(self) -> None:
        """Store all ends that wait, and claim nothing."""
        while settled := self._settler.batch():
            turned = await self._ledger.turn(Turn(process=self.process, now=self._clock(), settled=settled))
            self._settler.stored(turned.settled)

    async def _try(self, call: Callable[[], Awaitable[None]]) -> bool:
        try:
            await call()
        except LedgerUnavailable as error:
            self._note_failure(error)
            return False
        return True

    def _note_failure(self, error: LedgerUnavailable) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning("ledger.unavailable", worker=self.process.id, error=str(error))

    def _note_success(self) -> None:
        if self._failures:
            log.info("ledger.available", worker=self.process.id, failures=self._failures)
        self._failures = 0

    def _pause_seconds(self) -> float:
        if not self._failures:
            return IDLE_SECONDS
        return BACKOFF.delay(self._failures, random.random()).total_seconds()  # noqa: S311 -- spreads the herd

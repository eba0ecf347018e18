"""What a ledger does alike on every engine: each method hands the shared functions to a writer or a reader.

An engine's own part is how batches are committed, how reads are made, and how it learns what other processes wrote.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar, overload

from ringback.errors import BudgetExceeded, LedgerUnavailable
from ringback.ledger.actions import Action, Done, Query
from ringback.ledger.awaited import Awaited
from ringback.ledger.budgets import Budget
from ringback.ledger.costs import Costs, Differing, Recount, Spending
from ringback.ledger.courier import Courier
from ringback.ledger.expectations import Expected, Learn, Learned, Pushes
from ringback.ledger.protocol import Owed, Sent, Story, Summary, Waiter
from ringback.ledger.reporting import Ask
from ringback.ledger.results import CountResults, KeptResult, ListResults
from ringback.ledger.retention import Prune, Pruned
from ringback.ledger.sqlite import (
    costs,
    expectations,
    intake,
    keys,
    operations,
    reports,
    results,
    retention,
    settling,
    steps,
    summaries,
    tasks,
)
from ringback.ledger.sqlite import turn as turns
from ringback.ledger.sqlite.writer import Writer
from ringback.ledger.turns import NO_HANDLERS, Process, Registration, Turn, Turned
from ringback.ledger.wire import Order
from ringback.model import Arrival, Attempt, Delivery, Event, Receipt, Task

Answer = TypeVar("Answer")

REPORTS: Mapping[type, Callable[[sqlite3.Connection, Any], Any]] = {
    Awaited: reports.awaited,
    Expected: expectations.expected,
    Pushes: expectations.pushes,
    Costs: costs.costs,
    Spending: costs.spending,
    Recount: costs.recount,
    Differing: costs.differing,
    ListResults: results.listed,
    CountResults: results.counted,
}


class Methods:
    """See `protocol.Ledger` for what each method promises."""

    _writer: Writer

    def __init__(self, dedup: timedelta) -> None:
        self._generation = 1  # counts commits, ours and others'
        self._news = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._dedup = dedup
        self._till = costs.Till()
        self._courier: Courier | None = None
        self._closed = False

    async def _read(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call a function with a connection that cannot write."""
        raise NotImplementedError

    async def _watch(self) -> None:
        """Tell of what other processes commit, until cancelled."""
        raise NotImplementedError

    async def _stop_watching(self) -> None:
        self._closed = True
        self._tell()  # whoever waits for a change shall learn of it
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._courier is not None:
            await self._courier.close()

    def employ(self, order: Order) -> None:
        """Have arrivals written by a process of its own from now on, as soon as it is there."""

        def rescue(waiter: Waiter, arrival: Arrival) -> None:
            self._writer.put(self._record, arrival, waiter)

        self._courier = Courier(order, rescue, self._tell)

    def record(self, arrival: Arrival, *, timeout_seconds: float | None = None) -> "asyncio.Future[Receipt]":
        """Store one arrival."""
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._put(future, arrival, timeout_seconds)
        return future

    def record_for(self, waiter: Waiter, arrival: Arrival, *, timeout_seconds: float) -> None:
        """Store one arrival, and tell the waiter."""
        self._put(waiter, arrival, timeout_seconds)

    def _put(self, waiter: Waiter, arrival: Arrival, timeout_seconds: float | None) -> None:
        if self._courier is None or not self._courier.put(waiter, arrival, timeout_seconds):
            self._writer.put(self._record, arrival, waiter, timeout_seconds)

    def _record(self, db: sqlite3.Connection, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        return intake.record(db, arrivals, self._dedup)

    async def reject(self, counts: Mapping[tuple[str, str], int], now: datetime) -> None:
        """Add to the counts of rejected requests."""
        await self._writer.submit(intake.reject, (counts, now))

    async def add_task(self, task: Task, budget: Budget | None = None) -> tuple[Task, bool]:
        """Store a new pending task."""
        if budget is None or self._till.serves(task.created_at):
            with contextlib.suppress(BudgetExceeded):  # something may have been given back since the count
                return await self._added(task, budget)
        self._till.counted = await self._read(costs.count_alone, task.created_at)
        return await self._added(task, budget)

    async def _added(self, task: Task, budget: Budget | None) -> tuple[Task, bool]:
        added: tuple[Task, bool] = await self._writer.submit(self._add, (task, budget))
        return added

    def _add(self, db: sqlite3.Connection, wishes: Sequence[costs.Wish]) -> Sequence[tuple[Task, bool] | Exception]:
        return tasks.add(db, wishes, self._till)

    async def claim_send(self, task: Task, now: datetime, resend_at: datetime | None) -> bool:
        """Claim the right to send."""
        won: bool = await self._writer.submit(tasks.claim_sends, (task, now, resend_at))
        return won

    async def save_send(self, sent: Sent) -> Task:
        """Store how a sending ended."""
        task: Task = await self._writer.submit(self._save_sends, sent)
        return task

    def _save_sends(self, db: sqlite3.Connection, sent: Sequence[Sent]) -> Sequence[Task | Exception]:
        return tasks.save_sends(db, sent, self._record)

    async def due_sends(self, providers: Sequence[str], now: datetime, limit: int) -> Sequence[Task]:
        """List pending tasks whose time to be (re)sent has come."""
        return await self._read(tasks.due_sends, providers, now, limit)

    async def claim_fetches(self, provider: str, now: datetime, lease_until: datetime, limit: int) -> Sequence[Task]:
        """Take due tasks to ask about."""
        if not await self._read(tasks.has_due_fetches, provider, now):
            return []  # the usual case, without the write lock
        taken: Sequence[Task] = await self._writer.submit(tasks.claim_fetches, (provider, now, lease_until, limit))
        return taken

    async def plan_fetches(self, plan: Mapping[str, datetime | None]) -> None:
        """Set when to ask next."""
        await self._writer.submit(tasks.plan_fetches, plan)

    async def beat(
        self,
        process: Process,
        now: datetime,
        dead_before: datetime,
        handlers: Mapping[str, Registration] = NO_HANDLERS,
        *,
        leaving: bool = False,
    ) -> Sequence[Delivery]:
        """Tell that the process lives, and take from silent workers what they hold."""
        beat = (process, now, dead_before, handlers, leaving)
        lapsed: Sequence[Delivery] = await self._writer.submit(settling.beat, beat)
        return lapsed

    async def turn(self, turn: Turn) -> Turned:
        """Take a worker's turn."""
        turned: Turned = await self._writer.submit(turns.take, turn)
        return turned

    async def finish_step(self, attempt: Attempt, name: str, now: datetime) -> bool:
        """Record that a step is done, behind the fence."""
        recorded: bool = await self._writer.submit(steps.finish, (attempt, name, now))
        return recorded

    async def keep_result(self, kept: KeptResult) -> bool:
        """Record that a result is stored."""
        known: bool = await self._writer.submit(results.keep, kept)
        return known

    async def tasks(self, query: Query) -> Sequence[Task]:
        """List tasks."""
        return await self._read(reports.tasks, query)

    async def story(self, reference: str) -> Story:
        """Tell all about one task."""
        return await self._read(reports.story, reference)

    async def events(self, query: Query) -> Sequence[Event]:
        """List events."""
        return await self._read(reports.events, query)

    async def deliveries(self, query: Query) -> Sequence[Owed]:
        """List deliveries, with their attempts."""
        return await self._read(reports.deliveries, query)

    @overload
    async def act(self, action: Action) -> Done: ...

    @overload
    async def act(self, action: Prune) -> Pruned: ...

    @overload
    async def act(self, action: Learn) -> Learned: ...

    async def act(self, action: Action | Prune | Learn) -> Done | Pruned | Learned:
        """Do one step of what an operator asks for."""
        if isinstance(action, Prune):
            return await self._prune(action)
        if isinstance(action, Learn):
            return await self._learn(action)
        found = await self._read(operations.look, action)  # which may take long: not where callbacks wait
        if action.dry_run or not found.meant:
            return found.done
        done: Done = await self._writer.submit(operations.do, (action, found))
        return done

    async def _prune(self, wish: Prune) -> Pruned:
        found = await self._read(retention.look, wish)
        if wish.dry_run or not found.seqs:
            return found.pruned
        taken: Pruned = await self._writer.submit(retention.take, (wish, found))
        return replace(taken, waiting=found.pruned.waiting)

    async def _learn(self, wish: Learn) -> Learned:
        found = await self._read(expectations.look, wish)
        if found.expectations:
            await self._writer.submit(expectations.learn, found)
        return found

    async def report(self, ask: Ask) -> Any:
        """Tell what is asked about many records at once."""
        return await self._read(REPORTS[type(ask)], ask)

    async def summary(self, now: datetime) -> Summary:
        """Count everything."""
        return await self._read(summaries.summary, now)

    async def processes(self, now: datetime) -> Sequence[Process]:
        """List the workers and pollers that were seen within the last minute."""
        return await self._read(reports.processes, now)

    async def enlist_keys(self, fingerprints: Sequence[str], now: datetime) -> None:
        """Remember the secrets behind our URLs."""
        await self._writer.submit(keys.enlist, (fingerprints, now))

    async def changed(self, seen: int, timeout_seconds: float) -> int:
        """Wait until the count of writes differs from `seen`, or until the timeout; gives the count."""
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="ringback-watch")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self._generation == seen:
                    await self._news.wait()
        return self._generation

    def _tell(self) -> None:
        self._generation += 1
        self._news.set()
        self._news = asyncio.Event()

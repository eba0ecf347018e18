"""What a ledger does, cut by who calls it. SQLite implements it today; one conformance suite runs on every engine.

Every write is atomic and durable before it returns. Every method raises `LedgerUnavailable` when the database cannot
be used right now, and nothing was changed then. Times are arguments: a ledger never reads a clock.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, overload

from ringback.ledger.actions import Action, Done, Query
from ringback.ledger.awaited import Awaited
from ringback.ledger.budgets import Budget
from ringback.ledger.costs import Cost, Costs, Counted, Differing, Recount, Spending, Spent
from ringback.ledger.expectations import Expectation, Expected, Learn, Learned, Pushed, Pushes
from ringback.ledger.reporting import Ask
from ringback.ledger.results import CountResults, KeptResult, ListResults, ResultCounts, ResultRow
from ringback.ledger.retention import Prune, Pruned
from ringback.ledger.turns import NO_HANDLERS, Process, Registration, Turn, Turned
from ringback.model import (
    Arrival,
    Attempt,
    Callback,
    Delivery,
    DeliveryState,
    Event,
    EventType,
    Outcome,
    Reading,
    Receipt,
    Task,
    TaskState,
    Trust,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneStep:
    """A part of a handler's work that was recorded as done, never to be done again for this event."""

    name: str
    attempt: str  # the id of the attempt that did it
    done_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How a sending that was claimed at `sent_at` ended.

    Accepted: `reading` is set. Resendable: `resend_at` is set, and `release` tells whether the claim is given up
    (nothing was bought). Unknown end: neither.
    """

    task_id: str
    sent_at: datetime
    now: datetime
    note: str
    reading: Reading | None = None
    callback: Callback | None = None  # the answer, verbatim: the event's body where it is final
    fetch_at: datetime | None = None  # with `reading`: when to ask first
    resend_at: datetime | None = None
    release: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCallback:
    """A request that was kept beside the events: conflicting, unrecognised, or a hint."""

    verdict: str
    reason: str
    trust: Trust
    task_id: str | None
    event_id: str | None
    callback: Callback


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A delivery as shown to people: with its event's type and task, and its attempts."""

    delivery: Delivery
    event_type: EventType
    provider: str
    task_id: str | None
    attempts: tuple[Attempt, ...] = ()
    steps: tuple[DoneStep, ...] = ()  # of this event and handler, in any run
    replayed_as: str | None = None  # the latest run of the same event and handler, where this one is not it


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that the ledger knows about one task."""

    task: Task
    events: tuple[Event, ...]
    callbacks: tuple[KeptCallback, ...]
    deliveries: tuple[Owed, ...]
    children: tuple[Task, ...] = ()  # submitted by handlers of its events


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What one handler has before it."""

    pending: int = 0
    running: int = 0
    discarded: int = 0  # whose latest run was discarded
    oldest_due_at: datetime | None = None  # of the pending ones

    def lag_seconds(self, now: datetime) -> float:
        """Tell how long the oldest due delivery has waited; 0 while none is due."""
        return 0.0 if self.oldest_due_at is None else max(0.0, (now - self.oldest_due_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts over the whole ledger, for `demo`, `doctor`, `status` and `/metrics`."""

    tasks: Mapping[TaskState, int] = field(default_factory=dict)
    tasks_by_provider: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[EventType, int] = field(default_factory=dict)
    callbacks: int = 0  # authentic requests, new and duplicate
    duplicates: int = 0
    conflicts: int = 0
    hints: int = 0
    unrecognised: int = 0
    recovered: int = 0  # tasks that were sent with a callback URL and settled by polling
    settled_by_poll: int = 0
    deliveries: Mapping[DeliveryState, int] = field(default_factory=dict)
    discarded: int = 0  # deliveries whose latest run was discarded
    attempts: Mapping[Outcome, int] = field(default_factory=dict)
    waiting_events: int = 0  # not fanned out yet
    oldest_due_at: datetime | None = None  # of the pending deliveries
    queues: Mapping[str, Queue] = field(default_factory=dict)  # by handler, where there is anything
    rejections: Mapping[tuple[str, str], int] = field(default_factory=dict)  # by provider and reason
    new_rejections: Mapping[tuple[str, str], int] = field(default_factory=dict)  # those of today and yesterday (UTC)
    unknown_sends: int = 0  # sent, without an answer, and not resendable
    url_keys: tuple[str, ...] = ()  # fingerprints of the known secrets, newest first
    handlers: Mapping[str, datetime] = field(default_factory=dict)  # last seen
    orphaned: Mapping[str, int] = field(default_factory=dict)  # pending deliveries of handlers not seen for a day
    processes: tuple[Process, ...] = ()  # seen within the last minute
    # Whose counts are partly estimates, since there is too much of it: tasks, events, callbacks, deliveries, attempts.
    # What is open, waits or runs is never estimated, nor what is of a seldom kind.
    estimated: frozenset[str] = frozenset()


class Waiter(Protocol):
    """Who waits for a receipt: a future, or something that costs less. Told once, within the event loop."""

    def done(self) -> bool:
        """Tell whether it waits no more."""

    def set_result(self, receipt: Receipt, /) -> None:
        """Take the receipt."""

    def set_exception(self, error: Exception, /) -> None:
        """Learn why there is none; both never raise."""


class IntakeLedger(Protocol):
    """What the one door in needs."""

    def record(self, arrival: Arrival, *, timeout_seconds: float | None = None) -> "asyncio.Future[Receipt]":
        """Store one arrival: the event, the task's advance, or the reason why there is none. Grouped with others.

        After the timeout, give or take a quarter of a second, it raises LedgerUnavailable; the writing goes on.
        """

    def record_for(self, waiter: Waiter, arrival: Arrival, *, timeout_seconds: float) -> None:
        """Do the same for the hot path, which has neither a coroutine nor a future to spare; tells the waiter."""

    async def reject(self, counts: Mapping[tuple[str, str], int], now: datetime) -> None:
        """Add to the counts of rejected requests, by provider and reason.

        Writes in any case: without counts it tells whether writing works. Raises LedgerUnavailable with what is wrong.
        """


class SubmitterLedger(Protocol):
    """What a submission needs."""

    async def add_task(self, task: Task, budget: Budget | None = None) -> tuple[Task, bool]:
        """Store a new pending task, claimed where it says so; give back the stored one and whether it is new.

        The budget is held in the same transaction: however many add tasks at once, together they do not overspend it.

        Raises:
            KeyConflict: its key belongs to a task with another request.
            BudgetExceeded: it is new, and would cost more than is left, or its price is not known.
        """

    async def claim_send(self, task: Task, now: datetime, resend_at: datetime | None) -> bool:
        """Claim the right to send: sets `sent_at` if it still is what `task` shows.

        `resend_at` is when the claim may be taken over (the provider honours our idempotency key); None: never.
        """

    async def save_send(self, sent: Sent) -> Task:
        """Store how a sending ended: saves the provider's id, never lowers a state, adopts what overtook the answer."""


class PollerLedger(Protocol):
    """What the poller needs."""

    async def due_sends(self, providers: Sequence[str], now: datetime, limit: int) -> Sequence[Task]:
        """List pending tasks of these providers whose `resend_at` has come, oldest first."""

    async def claim_fetches(self, provider: str, now: datetime, lease_until: datetime, limit: int) -> Sequence[Task]:
        """Take due tasks of one provider to ask about, most overdue first; none is given twice before the lease ends.

        Tasks that are due but have no provider id are given too: only their deadline can be checked.
        """

    async def plan_fetches(self, plan: Mapping[str, datetime | None]) -> None:
        """Set when to ask next, by task id; a task made due earlier meanwhile stays so, a settled one stays unasked."""


class WorkerLedger(Protocol):
    """What a worker needs."""

    async def beat(
        self,
        process: Process,
        now: datetime,
        dead_before: datetime,
        handlers: Mapping[str, Registration] = NO_HANDLERS,
        *,
        leaving: bool = False,
    ) -> Sequence[Delivery]:
        """Tell that the process lives (or leaves) and which handlers it has code for; take from silent workers.

        Silent is who was not seen since `dead_before`, nor within its own `silence`.

        Gives the deliveries that lapsed, as they stand now: pending again, or discarded. `beat_from_thread` does the
        same for a worker whose event loop may be blocked.
        """

    async def turn(self, turn: Turn) -> Turned:
        """Store how attempts ended, fan out new events, and claim due deliveries of these handlers, oldest due first.

        One transaction. A delivery that lapsed before is taken alone, and only for a worker that is `idle`; until then
        nothing that is due later is taken either.
        """

    async def finish_step(self, attempt: Attempt, name: str, now: datetime) -> bool:
        """Record that a step is done; False, and nothing recorded, where the attempt no longer is the current one."""

    async def keep_result(self, kept: KeptResult) -> bool:
        """Record that a result is stored, whoever stored it; False, and nothing recorded, where its event is gone."""


class OperatorLedger(Protocol):
    """What people ask, by the command and the API."""

    async def tasks(self, query: Query) -> Sequence[Task]:
        """List tasks."""

    async def story(self, reference: str) -> Story:
        """Tell all about one task, by our id, the user's key, or the provider's id.

        Raises:
            NotFound: no such task.
        """

    async def events(self, query: Query) -> Sequence[Event]:
        """List events."""

    async def deliveries(self, query: Query) -> Sequence[Owed]:
        """List deliveries, with their attempts."""

    @overload
    async def act(self, action: Action) -> Done: ...

    @overload
    async def act(self, action: Prune) -> Pruned: ...

    @overload
    async def act(self, action: Learn) -> Learned: ...

    async def act(self, action: Action | Prune | Learn) -> Done | Pruned | Learned:
        """Do one step of what an operator asks for; the same again, `after` what it gave as `next`, goes on.

        A step is small, so that callbacks never wait for it. A dry run is one step, and writes nothing.

        Raises:
            NotFound: a record that was named does not exist; then nothing was done.
        """

    @overload
    async def report(self, ask: Expected) -> tuple[Expectation, ...]: ...

    @overload
    async def report(self, ask: Pushes) -> tuple[Pushed, ...]: ...

    @overload
    async def report(self, ask: Costs) -> Sequence[Cost]: ...

    @overload
    async def report(self, ask: Spending) -> Spent: ...

    @overload
    async def report(self, ask: Recount) -> Counted: ...

    @overload
    async def report(self, ask: Differing) -> Sequence[Task]: ...

    @overload
    async def report(self, ask: ListResults) -> tuple[ResultRow, ...]: ...

    @overload
    async def report(self, ask: CountResults) -> ResultCounts: ...

    @overload
    async def report(self, ask: Awaited) -> Mapping[str, int]: ...

    async def report(self, ask: Ask) -> Any:
        """Tell what is asked about many records at once: each kind of ask has an answer of its own. Read-only."""

    async def summary(self, now: datetime) -> Summary:
        """Count everything."""

    async def processes(self, now: datetime) -> Sequence[Process]:
        """List the workers and pollers that were seen within the last minute; cheap."""


class Ledger(IntakeLedger, SubmitterLedger, PollerLedger, WorkerLedger, OperatorLedger, Protocol):
    """The durable record, whole."""

    async def enlist_keys(self, fingerprints: Sequence[str], now: datetime) -> None:
        """Remember the secrets behind our URLs, newest first.

        Raises:
            LedgerMismatch: the newest secret that the ledger knows is not among them.
        """

    async def changed(self, seen: int, timeout_seconds: float) -> int:
        """Wait until the count of writes, by anybody, differs from `seen`, or until the timeout; gives the count.

        Begin with 0 and hand back what it gave: then a write between looking and waiting is never missed.
        """

    async def close(self) -> None:
        """Finish what was begun, then let go of the database."""

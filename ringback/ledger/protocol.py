"""What a ledger does, cut by who calls it. SQLite implements it today; one conformance suite runs on every engine.

Every write is atomic and durable before it returns. Every method raises `LedgerUnavailable` when the database cannot
be used right now, and nothing was changed then. Times are arguments: a ledger never reads a clock.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

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
class Process:
    """A worker or poller, as it makes itself known."""

    id: str
    role: str  # "worker" or "poller"
    host: str
    pid: int
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What a handler listens for. `*` stands for any text; nothing else is special."""

    event: str = "*"
    provider: str = "*"
    model: str = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A claimed delivery with all that its handler gets to see."""

    delivery: Delivery
    attempt: Attempt
    event: Event
    task: Task | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How an attempt ended and what follows; applied only where the attempt still is the delivery's current one."""

    attempt_id: str
    delivery_id: str
    outcome: Outcome
    state: DeliveryState
    due_at: datetime | None  # set only while pending
    counted: bool
    finished_at: datetime
    error: str | None = None
    traceback: str | None = None


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
    replayed_as: str | None = None  # the latest run of the same event and handler, where this one is not it


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that the ledger knows about one task."""

    task: Task
    events: tuple[Event, ...]
    callbacks: tuple[KeptCallback, ...]
    deliveries: tuple[Owed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which records to list, newest first. None means any; `ids` are those of what is listed.

    `text` is a part of a delivery's reason; `latest` leaves out deliveries that were replayed later.
    """

    provider: str | None = None
    state: str | None = None  # a task's or a delivery's
    type: str | None = None  # an event's
    task_id: str | None = None
    event_id: str | None = None
    handler: str | None = None
    ids: tuple[str, ...] | None = None
    text: str | None = None
    latest: bool = False
    limit: int = 50


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
    rejections: Mapping[tuple[str, str], int] = field(default_factory=dict)  # by provider and reason
    new_rejections: Mapping[tuple[str, str], int] = field(default_factory=dict)  # those of today and yesterday (UTC)
    unknown_sends: int = 0  # sent, without an answer, and not resendable
    open_by_url_key: Mapping[str, int] = field(default_factory=dict)  # open tasks per secret
    url_keys: tuple[str, ...] = ()  # fingerprints of the known secrets, newest first
    handlers: Mapping[str, datetime] = field(default_factory=dict)  # last seen
    orphaned: Mapping[str, int] = field(default_factory=dict)  # pending deliveries of handlers not seen for a day
    processes: tuple[Process, ...] = ()  # seen within the last minute


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
        """Add to the counts of rejected requests, by provider and reason."""

    async def probe(self, now: datetime) -> None:
        """Write one row, to know that writing works. Raises LedgerUnavailable with what is wrong."""


class SubmitterLedger(Protocol):
    """What a submission needs."""

    async def add_task(self, task: Task) -> tuple[Task, bool]:
        """Store a new pending task; give back the stored one and whether it is new.

        Raises:
            KeyConflict: its key belongs to a task with another request.
        """

    async def claim_send(self, task: Task, now: datetime, resend_at: datetime | None) -> bool:
        """Claim the right to send: sets `sent_at` if it still is what `task` shows.

        `resend_at` is when the claim may be taken over (the provider honours our idempotency key); None: never.
        """

    async def save_send(self, sent: Sent) -> Task:
        """Store how a sending ended: saves the provider's id, never lowers a state, adopts what overtook the answer."""


class PollerLedger(Protocol):
    """What the poller needs."""

    async def due_sends(self, now: datetime, limit: int) -> Sequence[Task]:
        """List pending tasks whose `resend_at` has come, oldest first."""

    async def claim_fetches(self, provider: str, now: datetime, lease_until: datetime, limit: int) -> Sequence[Task]:
        """Take due tasks of one provider to ask about, most overdue first; none is given twice before the lease ends.

        Tasks that are due but have no provider id are given too: only their deadline can be checked.
        """

    async def plan_fetches(self, plan: Mapping[str, datetime | None]) -> None:
        """Set when to ask next, by task id; a task made due earlier meanwhile stays so, a settled one stays unasked."""


class WorkerLedger(Protocol):
    """What a worker needs."""

    async def beat(self, process: Process, now: datetime, dead_before: datetime, *, leaving: bool = False) -> int:
        """Tell that the process lives (or leaves), and hand back what silent workers held; gives how many."""

    async def register_handlers(self, handlers: Mapping[str, Sequence[Pattern]], now: datetime) -> None:
        """Upsert the handlers that this process has code for."""

    async def fan_out(self, now: datetime, limit: int) -> int:
        """Write the deliveries of events not yet fanned out; gives how many events were."""

    async def claim_deliveries(
        self, process: Process, handlers: Mapping[str, int], now: datetime, limit: int
    ) -> Sequence[Work]:
        """Take due deliveries of these handlers (name: how many at most), no more than `limit`, oldest due first."""

    async def settle_deliveries(self, settled: Sequence[Settled]) -> Sequence[bool]:
        """Close attempts and move their deliveries; False for each whose attempt no longer was the current one."""

    async def next_due(self) -> datetime | None:
        """Give when the next pending delivery is due or held event is released; None when nothing waits."""


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

    async def replay(self, delivery_ids: Sequence[str], by: str, now: datetime) -> Sequence[Delivery]:
        """Make a new run of each settled delivery; those still pending or running are left alone.

        Raises:
            NotFound: one of them does not exist; then nothing was done.
        """

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

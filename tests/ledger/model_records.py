"""What the model of a ledger holds: mutable records in lists and dictionaries, and the look-ups that it all needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ringback.ledger import Registration, any_fits
from ringback.ledger.retention import Level
from ringback.model import DeliveryState, EventType, Origin, Outcome, Source, Standing, TaskState

PENDING, RUNNING = DeliveryState.PENDING, DeliveryState.RUNNING


@dataclass(eq=False, slots=True, kw_only=True)
class MTask:
    """A task."""

    id: str
    provider_id: str | None = None
    origin: Origin = Origin.SUBMISSION
    state: TaskState = TaskState.PENDING
    settled_by: Source | None = None
    settled_at: datetime | None = None
    sent_at: datetime | None = None
    accepted: bool = False
    callbacks: int = 0
    pruned: Level = Level.WHOLE


@dataclass(eq=False, slots=True, kw_only=True)
class MEvent:
    """An event; where it is about a task, `status` is set."""

    id: str = ""  # as the ledger says
    task: MTask | None
    type: EventType
    status: TaskState | None = None
    source: Source = Source.CALLBACK
    keys: set[object]
    standing: Standing = Standing.ACCEPTED
    received_at: datetime
    last_seen_at: datetime
    duplicates: int = 0
    hold_until: datetime | None = None
    fanned_out: bool = False
    pruned: Level = Level.WHOLE
    steps: dict[str, set[str]] = field(default_factory=dict)  # by handler

    def waits(self, now: datetime) -> bool:
        """Tell whether it is to be fanned out."""
        held = self.hold_until is not None and self.hold_until > now
        return self.standing is Standing.ACCEPTED and not self.fanned_out and not held


@dataclass(eq=False, slots=True, kw_only=True)
class MDelivery:
    """A delivery."""

    id: str = ""  # as the ledger says
    event: MEvent
    handler: str
    run: int = 1
    state: DeliveryState = PENDING
    due_at: datetime
    attempts: int = 0
    lapses: int = 0
    attempt: str | None = None
    worker: str | None = None
    key: str | None = None
    outcomes: list[Outcome] = field(default_factory=list)  # of its ended attempts
    settled_at: datetime | None = None

    @property
    def open(self) -> bool:
        """Tell whether it is still to end."""
        return self.state in (PENDING, RUNNING)

    def end(
        self, state: DeliveryState, due_at: datetime | None, counted: bool, outcome: Outcome, now: datetime
    ) -> None:
        """Close the attempt that runs."""
        self.state, self.worker, self.attempts = state, None, self.attempts - (not counted)
        self.due_at = due_at or self.due_at
        self.settled_at = None if self.open else now
        self.outcomes.append(outcome)


@dataclass(eq=False, slots=True, kw_only=True)
class MHandler:
    """A handler, as it was registered."""

    registration: Registration
    since: datetime | None  # as at first
    looks_back: bool

    def wants(self, event: MEvent) -> bool:
        """Tell whether it listens for such an event."""
        return any_fits(self.registration.patterns, event.type, "qingbo", None)


@dataclass(eq=False, slots=True, kw_only=True)
class MKept:
    """A request kept beside the events."""

    task_id: str | None
    event: MEvent | None
    received_at: datetime
    has_body: bool


class Records:
    """All of them."""

    def __init__(self, changing: frozenset[str] = frozenset()) -> None:
        self.changing = changing  # handlers that workers do not agree on: who may go first depends on whom one asks
        self.tasks: dict[str, MTask] = {}
        self.events: list[MEvent] = []  # as they came
        self.deliveries: list[MDelivery] = []
        self.kept: list[MKept] = []
        self.handlers: dict[str, MHandler] = {}
        self.seen_at: dict[str, datetime] = {}  # of processes
        self.starts: dict[str, list[datetime]] = {}  # by handler

    def by_provider_id(self, provider_id: str | None) -> MTask | None:
        """Find the task that has the provider's id."""
        return next((t for t in self.tasks.values() if provider_id and t.provider_id == provider_id), None)

    def by_key(self, *keys: object) -> MEvent | None:
        """Find the event that has one of these keys."""
        return next((event for event in self.events if event.keys & set(keys)), None)

    def is_current(self, attempt: str) -> MDelivery | None:
        """Give the delivery whose current attempt this is."""
        return next((d for d in self.deliveries if d.state is RUNNING and d.attempt == attempt), None)

    def is_past(self, event: MEvent) -> bool:
        """Tell whether a handler may still be owed an event that was fanned out before."""
        return event.fanned_out and event.standing is Standing.ACCEPTED and event.pruned < Level.KEYS_ONLY

    def of(self, event: MEvent, handler: str) -> list[MDelivery]:
        """List the runs of one event and handler."""
        return [delivery for delivery in self.deliveries if delivery.event is event and delivery.handler == handler]

    def drop(self, events: Sequence[MEvent], *, keys_stay: bool = False) -> None:
        """Take events away with what is owed of them, or only the latter."""
        if not keys_stay:
            self.events = [event for event in self.events if event not in events]
        self.deliveries = [delivery for delivery in self.deliveries if delivery.event not in events]

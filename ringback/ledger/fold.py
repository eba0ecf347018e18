"""PURE. Folds a batch of arrivals into what must be written: new tasks, advances, events, sightings, kept requests.

Every engine calls it inside its write transaction, with what it knows about the tasks and keys concerned; so the rules
of deduplication exist once, and a batch is made safe before SQL sees it: copies collapsed, facts applied per task in
arrival order by `lifecycle.advance`. It never reads a clock or a database.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from msgspec import Struct

from ringback import lifecycle
from ringback.ledger.identity import event_key, fact_key, received_key, unrecognised_key
from ringback.ledger.task_row import SECOND, TaskRow, advance, make_due, note_charge, note_progress
from ringback.model import (
    EVENT_OF_STATE,
    Arrival,
    EventType,
    Kind,
    Origin,
    Reading,
    Receipt,
    Source,
    Standing,
    TaskState,
    Trust,
    Verdict,
    id_moment,
    microseconds,
    new_id,
)

KEPT_PER_TASK = 100  # stored requests a task, then a counter
HOLD = 30 * SECOND  # how long an unknown task's event waits to be adopted
FIRST_FETCH = 300 * SECOND  # for tasks that are known from their callbacks only
REPEATABLE = (Trust.NONE, Trust.PARTIAL)  # who has seen one such request, or none, can send others like it


class EventRow(Struct, array_like=True, kw_only=True):
    """An event, known or new; of a known one only the keys and what decides about copies are filled."""

    id: str
    type: EventType
    task_id: str | None
    standing: Standing
    event_key: str | None
    fact_key: str | None
    conflict: str | None = None
    hold_until: int | None = None
    arrival: Arrival | None = None  # set on new ones


@dataclass(slots=True, kw_only=True)
class Sighting:
    """Further requests that said what an event already says."""

    event_id: str
    count: int = 0
    last_seen_at: int
    newest: Arrival | None = None  # set where the event keeps the newest body


@dataclass(slots=True, kw_only=True)
class Kept:
    """A request to keep beside the events."""

    arrival: Arrival
    task_id: str | None
    event_id: str | None
    verdict: Verdict
    reason: str
    with_body: bool


@dataclass(slots=True, kw_only=True)
class Batch:
    """What must be written, and the receipts in the order of the arrivals."""

    tasks: list[TaskRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    sightings: dict[str, Sighting] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)


def _introduces(arrival: Arrival) -> bool:
    """Tell whether it may make a task or the provider's id known: a fact, or a hint whose id is not a stranger's."""
    if arrival.kind is not Kind.HINT:
        return arrival.kind is Kind.FACT
    return arrival.trust is not Trust.NONE and arrival.reading is not None and arrival.reading.provider_id is not None


class Fold:
    """One batch in the making: `resolve` the arrivals, let it `know` their events, then `run`."""

    def __init__(
        self, tasks: Iterable[TaskRow], waiting: frozenset[str], dedup: timedelta, strays: Mapping[str, int]
    ) -> None:
        self._tasks = {task.id: task for task in tasks}
        self._by_provider_id = {(t.provider, t.provider_id): t for t in self._tasks.values() if t.provider_id}
        self._waiting = waiting  # providers with a pending task, which may turn out to be an unknown one
        self._dedup = dedup
        self._strays = dict(strays)  # requests kept for tasks that URLs name and nobody knows
        self._events: dict[str, EventRow] = {}
        self.batch = Batch()

    def resolve(self, arrivals: Iterable[Arrival]) -> list[tuple[Arrival, TaskRow | None, str | None]]:
        """Find or make each arrival's task; the third item says why a fact cannot be taken as one."""
        return [(arrival, *self._resolve(arrival)) for arrival in arrivals]

    def know(self, events: Iterable[EventRow]) -> None:
        """Add events that the ledger holds, by both keys."""
        for event in events:
            for key in (event.event_key, event.fact_key):
                if key is not None:
                    self._events[key] = event

    def run(self, resolved: Iterable[tuple[Arrival, TaskRow | None, str | None]]) -> Batch:
        """Apply the arrivals in order."""
        for arrival, task, problem in resolved:
            if task is not None and arrival.source is Source.CALLBACK:
                task.callbacks += 1
                task.changed = True
            self.batch.receipts.append(self._apply(arrival, task, problem))
        self.batch.tasks = [t for t in self._tasks.values() if t.changed or t.was is None]
        return self.batch

    def _resolve(self, arrival: Arrival) -> tuple[TaskRow | None, str | None]:
        reading = arrival.reading
        theirs = reading.provider_id if reading else None
        named = self._by_provider_id.get((arrival.provider, theirs)) if theirs else None
        if arrival.task_id is None:
            return self._resolve_account(arrival, named)
        task = self._tasks.get(arrival.task_id)
        if task is None:
            return self._resolve_unknown(arrival, named)
        if reading is None or reading.provider_id is None or not _introduces(arrival):
            return task, None
        if task.provider_id is None and named is None:
            self._learn(task, reading.provider_id, microseconds(arrival.callback.received_at))
        # The URL fixes the task: the id in the body is only compared.
        return task, None if task.provider_id == reading.provider_id else "task_mismatch"

    def _resolve_account(self, arrival: Arrival, named: TaskRow | None) -> tuple[TaskRow | None, str | None]:
        if named is not None or not _introduces(arrival):
            return named, None
        if arrival.reading is None or arrival.reading.provider_id is None:
            return None, "no_task_id"
        return self._make(new_id("task", arrival.callback.received_at), arrival), None

    def _resolve_unknown(self, arrival: Arrival, named: TaskRow | None) -> tuple[TaskRow | None, str | None]:
        if not _introduces(arrival) or arrival.task_id is None:
            return None, None
        if named is not None and arrival.source is not Source.CALLBACK:
            return named, None  # a submission has adopted the task while we asked about it
        made = id_moment(arrival.task_id)
        if made is not None and made < arrival.callback.received_at - self._dedup:
            return None, "task_too_old"  # its key row may be pruned: this could be a very late copy
        if named is not None:
            return None, "task_mismatch"
        return self._make(arrival.task_id, arrival), None

    def _make(self, task_id: str, arrival: Arrival) -> TaskRow:
        now = microseconds(arrival.callback.received_at)
        task = TaskRow(
            seq=None,
            id=task_id,
            provider=arrival.provider,
            provider_id=None,
            origin=Origin.CALLBACK,
            state=TaskState.PENDING,
            was=None,
            settled_by=None,
            settled_event=None,
            settled_at=None,
            progress=None,
            charged_microdollars=None,
            fetch_at=now + FIRST_FETCH,
            fetched_at=None,
            callbacks=0,
            kept=self._strays.get(task_id, 0),
            created_at=now,
        )
        self._tasks[task_id] = task
        if arrival.reading is not None and arrival.reading.provider_id is not None:
            self._learn(task, arrival.reading.provider_id, now)
        return task

    def _learn(self, task: TaskRow, provider_id: str, now: int) -> None:
        """Save the provider's id that a callback brought before the submission's answer did."""
        task.provider_id = provider_id
        task.changed = task.learnt = True
        unasked = task.fetch_at is None or task.fetch_at > now + FIRST_FETCH
        if unasked and not lifecycle.is_terminal(task.state):
            task.fetch_at = now + FIRST_FETCH
        self._by_provider_id[task.provider, provider_id] = task

    def _apply(self, arrival: Arrival, task: TaskRow | None, problem: str | None) -> Receipt:
        if arrival.kind is Kind.HINT:
            return self._hint(arrival, task)
        if arrival.kind is Kind.UNRECOGNISED or problem is not None:
            if task is not None and problem in (None, "task_mismatch"):  # an authentic word that we cannot follow: ask
                make_due(task, microseconds(arrival.callback.received_at))
            return self._unrecognised(arrival, task, problem)
        if arrival.kind is Kind.RECEIVED:
            return self._received(arrival, task)
        assert task is not None  # noqa: S101 -- resolve() gives every fact a task or a problem
        assert arrival.reading is not None  # noqa: S101 -- a fact has a reading by construction
        return self._fact(arrival, arrival.reading, task)

    def _hint(self, arrival: Arrival, task: TaskRow | None) -> Receipt:
        if task is None and arrival.task_id is None and arrival.trust in REPEATABLE:
            return _receipt(Verdict.COUNTED, None, None)  # it can make nothing due, and a stranger could fill the disk
        if task is not None:
            make_due(task, microseconds(arrival.callback.received_at))
        return self._keep(arrival, task, None, Verdict.HINT, arrival.reason or "hint", with_body=True)

    def _unrecognised(self, arrival: Arrival, task: TaskRow | None, problem: str | None) -> Receipt:
        key = unrecognised_key(arrival)
        if (known := self._events.get(key)) is not None:
            return self._seen(arrival, task, known)
        if not self._has_room(arrival, task):
            return _receipt(Verdict.COUNTED, task, None)
        event = self._new_event(arrival, task, EventType.CALLBACK_UNRECOGNISED, key, None)
        event.conflict = problem
        reason = problem or arrival.reason or "unrecognised"
        self._keep(arrival, task, event.id, Verdict.UNRECOGNISED, reason, with_body=False)
        return _receipt(Verdict.UNRECOGNISED, task, event.id)

    def _received(self, arrival: Arrival, task: TaskRow | None) -> Receipt:
        key = received_key(arrival)
        if (known := self._events.get(key)) is not None:
            return self._seen(arrival, task, known)
        ours = arrival.source is Source.RINGBACK
        kind = EventType.RECEIVER_PUSH_MISSING if ours else EventType.CALLBACK_RECEIVED
        event = self._new_event(arrival, task, kind, key, None)
        return _receipt(Verdict.NEW, task, event.id)

    def _fact(self, arrival: Arrival, reading: Reading, task: TaskRow) -> Receipt:
        by_event = event_key(arrival, task.id)
        by_fact = fact_key(task.id, reading.status, arrival.source)
        same_id = self._events.get(by_event) if by_event else None
        if same_id is not None and same_id.fact_key != by_fact:
            return self._keep(arrival, task, same_id.id, Verdict.CONFLICT, "event_id_reused", with_body=True)
        if (known := self._events.get(by_fact)) is not None:
            note_progress(task, reading)
            note_charge(task, reading)
            return self._seen(arrival, task, known)
        step = lifecycle.advance(task.state, task.settled_by, reading.status, arrival.source)
        event = self._new_event(arrival, task, EVENT_OF_STATE[reading.status], by_event, by_fact)
        event.standing = step.standing
        if task.origin is Origin.CALLBACK and task.provider in self._waiting:
            event.hold_until = microseconds(arrival.callback.received_at) + HOLD
        if step.standing is Standing.ACCEPTED:
            advance(task, reading, step, event.id, microseconds(arrival.callback.received_at))
        else:
            note_charge(task, reading)
        return _receipt(VERDICT_OF_STANDING[step.standing], task, event.id)

    def _seen(self, arrival: Arrival, task: TaskRow | None, known: EventRow) -> Receipt:
        receipt = _receipt(Verdict.DUPLICATE, task, known.id)
        if arrival.source is not Source.CALLBACK:
            return receipt  # our own questions are not redeliveries
        now = microseconds(arrival.callback.received_at)
        seen = self.batch.sightings.setdefault(known.id, Sighting(event_id=known.id, last_seen_at=now))
        seen.count += 1
        seen.last_seen_at = max(seen.last_seen_at, now)
        if known.type is EventType.TASK_PROGRESSED:
            seen.newest = arrival
        return receipt

    def _new_event(
        self, arrival: Arrival, task: TaskRow | None, kind: EventType, by_event: str | None, by_fact: str | None
    ) -> EventRow:
        event = EventRow(
            id=new_id("evt", arrival.callback.received_at),
            type=kind,
            task_id=task.id if task else None,
            standing=Standing.ACCEPTED,
            event_key=by_event,
            fact_key=by_fact,
            arrival=arrival,
        )
        self.know([event])
        self.batch.events.append(event)
        return event

    def _keep(
        self,
        arrival: Arrival,
        task: TaskRow | None,
        event_id: str | None,
        verdict: Verdict,
        reason: str,
        *,
        with_body: bool,
    ) -> Receipt:
        if not self._has_room(arrival, task):
            return _receipt(Verdict.COUNTED, task, None)
        holder = self._holder(arrival, task)
        if holder is not None:
            holder.kept += 1
            holder.changed = True
        elif arrival.task_id is not None:
            self._strays[arrival.task_id] = self._strays.get(arrival.task_id, 0) + 1
        self.batch.kept.append(
            Kept(
                arrival=arrival,
                task_id=task.id if task else arrival.task_id,
                event_id=event_id,
                verdict=verdict,
                reason=reason,
                with_body=with_body,
            )
        )
        return _receipt(verdict, task, None)

    def _holder(self, arrival: Arrival, task: TaskRow | None) -> TaskRow | None:
        """Give the task that counts what is kept: a later arrival of this batch may have made it known."""
        return task or self._tasks.get(arrival.task_id or "")

    def _has_room(self, arrival: Arrival, task: TaskRow | None) -> bool:
        """Tell whether one more request may be kept; who has a URL of a task that nobody knows is bounded, too."""
        holder = self._holder(arrival, task)
        return (holder.kept if holder else self._strays.get(arrival.task_id or "", 0)) < KEPT_PER_TASK


VERDICT_OF_STANDING = {
    Standing.ACCEPTED: Verdict.NEW,
    Standing.LATE: Verdict.LATE,
    Standing.CONTRADICTED: Verdict.CONTRADICTED,
}


def _receipt(verdict: Verdict, task: TaskRow | None, event_id: str | None) -> Receipt:
    return Receipt(
        verdict=verdict, event_id=event_id, task_id=task.id if task else None, state=task.state if task else None
    )

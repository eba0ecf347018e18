"""How tasks and facts come into the model: sendings, arrivals, and the adoption of what overtook an answer."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from ringback import lifecycle
from ringback.ledger import Sent
from ringback.ledger.retention import Level
from ringback.model import (
    EVENT_OF_STATE,
    Arrival,
    EventType,
    Kind,
    Origin,
    Reading,
    Source,
    Standing,
    TaskState,
    Trust,
    Verdict,
    id_moment,
)

from .model_records import MEvent, MKept, MTask, Records

DEDUP, HOLD = timedelta(days=90), timedelta(seconds=30)

VERDICTS = {
    Standing.ACCEPTED: Verdict.NEW,
    Standing.LATE: Verdict.LATE,
    Standing.CONTRADICTED: Verdict.CONTRADICTED,
}

FactKey = tuple[str, TaskState, bool]  # the task, what is said of it, and whether only we say so


class Rejected(Exception):
    """The ledger must refuse this."""


class Intake(Records):
    """The part of the model that takes in."""

    def add(self, task_id: str) -> None:
        """Store a new task."""
        self.tasks[task_id] = MTask(id=task_id)

    def claim_send(self, task_id: str, sent_at: datetime | None, now: datetime) -> bool:
        """Claim to send where that still is what the claimer saw."""
        task = self.tasks[task_id]
        won = task.sent_at == sent_at and task.state is TaskState.PENDING and not task.accepted
        task.sent_at = now if won else task.sent_at
        return won

    def save_send(self, sent: Sent) -> MEvent | None:
        """Store the end of a sending; gives the event where the answer is final and new."""
        task, said = self.tasks[sent.task_id], sent.reading
        if said is None:
            if sent.release and task.sent_at == sent.sent_at:
                task.sent_at = None
            return None
        if said.provider_id is not None:
            self._make_way(task, said.provider_id)
            task.provider_id, task.accepted = said.provider_id, True
            status = TaskState.SUBMITTED if lifecycle.is_terminal(said.status) else said.status
            if lifecycle.RANK[task.state] < lifecycle.RANK[status]:
                task.state = status
        else:
            task.accepted = False
        if not lifecycle.is_terminal(said.status):
            return None
        return self._fact(task, said, Source.SUBMISSION, Trust.SIGNED, sent.now, frozenset())[1]

    def arrive(self, arrival: Arrival, new_task_id: str | None) -> tuple[Verdict, MTask | None, MEvent | None]:
        """Take what comes; gives the verdict, the task, and the event that was made or is known."""
        # An event is held back while a task waits for its answer that may turn out to be the same.
        open_sends = frozenset(t for t in self.tasks.values() if t.state is TaskState.PENDING)
        task, problem = self._resolve(arrival, new_task_id)
        pushed, now = arrival.source is Source.CALLBACK, arrival.callback.received_at
        if task is not None and pushed:
            task.callbacks, task.pruned = task.callbacks + 1, Level.WHOLE
        if arrival.kind is Kind.HINT:
            self._keep(arrival, task, None)
            return Verdict.HINT, task, None
        if arrival.kind is Kind.FACT and problem is None:
            assert task is not None
            assert arrival.reading is not None
            said = self._fact(task, arrival.reading, arrival.source, arrival.trust, now, open_sends)
            if said[0] is Verdict.CONFLICT:
                self._keep(arrival, task, said[1])
                return Verdict.CONFLICT, task, None
            return said[0], task, said[1]
        key = ("body", arrival.task_id, arrival.callback.body)
        if (known := self.by_key(key)) is not None:
            self._see(known, pushed, now)
            return Verdict.DUPLICATE, task, known
        received = arrival.kind is Kind.RECEIVED
        kind = EventType.CALLBACK_RECEIVED if received else EventType.CALLBACK_UNRECOGNISED
        event = MEvent(task=task, type=kind, keys={key}, received_at=now, last_seen_at=now)
        self.events.append(event)
        if not received:
            self._keep(arrival, task, event)
        return Verdict.NEW if received else Verdict.UNRECOGNISED, task, event

    def _keep(self, arrival: Arrival, task: MTask | None, event: MEvent | None) -> None:
        task_id = task.id if task else arrival.task_id
        has_body = arrival.kind is Kind.HINT or (event is not None and event.status is not None)
        at = arrival.callback.received_at
        self.kept.append(MKept(task_id=task_id, event=event, received_at=at, has_body=has_body))

    def _resolve(self, arrival: Arrival, new_task_id: str | None) -> tuple[MTask | None, str | None]:
        """Find or make the task: its own URL fixes it, at an account's endpoint the provider's id does."""
        theirs = arrival.reading.provider_id if arrival.reading else None
        introduces = arrival.kind is Kind.FACT
        named, url = self.by_provider_id(theirs), arrival.task_id
        if url is None:
            if named or not introduces:
                return named, None
            return (self._make(new_task_id, theirs), None) if theirs else (None, "no_task_id")
        if (task := self.tasks.get(url)) is not None:
            if theirs and introduces and not named and task.provider_id is None:
                task.provider_id = theirs
            return task, "task_mismatch" if theirs and introduces and task.provider_id != theirs else None
        if not introduces:
            return None, None
        if named and arrival.source is not Source.CALLBACK:
            return named, None
        made = id_moment(url)
        if named or (made is not None and made < arrival.callback.received_at - DEDUP):
            return None, "a mismatch, or too old"
        return self._make(url, theirs), None

    def _make(self, task_id: str | None, provider_id: str | None) -> MTask:
        assert task_id is not None
        assert task_id not in self.tasks
        self.tasks[task_id] = MTask(id=task_id, provider_id=provider_id, origin=Origin.CALLBACK)
        return self.tasks[task_id]

    def _see(self, event: MEvent, pushed: bool, now: datetime) -> None:
        if pushed:
            event.duplicates += 1
            event.last_seen_at = max(event.last_seen_at, now)

    def _fact(
        self, task: MTask, said: Reading, source: Source, trust: Trust, now: datetime, open_sends: Iterable[MTask]
    ) -> tuple[Verdict, MEvent]:
        """Apply a fact: one event for it, however often and by whomever it is said."""
        fact: FactKey = (task.id, said.status, source is Source.RINGBACK)
        keys: set[object] = {fact}
        if said.event_id is not None and source is Source.CALLBACK:
            by_id = ("id", "qingbo" if trust is Trust.SIGNED else task.id, said.event_id)
            keys.add(by_id)
            if (other := self.by_key(by_id)) is not None and fact not in other.keys:
                return Verdict.CONFLICT, other
        if (known := self.by_key(fact)) is not None:
            self._see(known, source is Source.CALLBACK, now)
            return Verdict.DUPLICATE, known
        step = lifecycle.advance(task.state, task.settled_by, said.status, source)
        assert lifecycle.RANK[step.state] >= lifecycle.RANK[task.state]
        waits = task.origin is Origin.CALLBACK and any(t.origin is Origin.SUBMISSION for t in open_sends)
        event = MEvent(
            task=task, type=EVENT_OF_STATE[said.status], status=said.status, source=source, keys=keys,
            standing=step.standing, received_at=now, last_seen_at=now, hold_until=now + HOLD if waits else None,
        )  # fmt: skip
        self.events.append(event)
        if step.standing is Standing.ACCEPTED:
            task.state = step.state
            task.pruned = Level.WHOLE
            if lifecycle.is_terminal(step.state):
                task.settled_by, task.settled_at = step.settled_by, now
        return VERDICTS[step.standing], event

    def _make_way(self, task: MTask, provider_id: str) -> None:
        """Let the accepted task have its id: from one that only heard of it, or by adopting an unknown one."""
        other = self.by_provider_id(provider_id)
        if other is None or other is task:
            return
        if other.origin is Origin.SUBMISSION and other.accepted:
            raise Rejected
        other.provider_id = None
        if other.origin is Origin.CALLBACK:
            self._adopt(task, other)

    def _adopt(self, task: MTask, other: MTask) -> None:
        for event in [event for event in self.events if event.task is other]:
            self._move(event, task, other)
        for kept in self.kept:
            kept.task_id = task.id if kept.task_id == other.id else kept.task_id
        ours = task.settled_by is Source.RINGBACK and other.settled_by not in (None, Source.RINGBACK)
        if ours or (task.settled_at is None and lifecycle.RANK[other.state] > lifecycle.RANK[task.state]):
            task.state, task.settled_by, task.settled_at = other.state, other.settled_by, other.settled_at
        task.callbacks += other.callbacks
        del self.tasks[other.id]

    def _move(self, event: MEvent, task: MTask, other: MTask) -> None:
        if event.status is not None:
            presumed = event.source is Source.RINGBACK
            if (held := self.by_key((task.id, event.status, presumed))) is not None:  # one fact, one event
                held.duplicates += event.duplicates + (event.source is Source.CALLBACK)
                held.last_seen_at = max(held.last_seen_at, event.last_seen_at)
                self.drop([event])
                return
            by_id = {("id", task.id, k[2]) for k in event.keys if isinstance(k, tuple) and k[:2] == ("id", other.id)}
            scoped = {key for key in event.keys if isinstance(key, tuple) and key[:1] == ("id",) and key[1] != other.id}
            event.keys = {(task.id, event.status, presumed)} | scoped | {k for k in by_id if self.by_key(k) is None}
            on_the_way = presumed or not lifecycle.is_terminal(event.status)
            settled = task.settled_by is not None and (task.settled_by is not Source.RINGBACK or on_the_way)
            if settled and event.standing is Standing.ACCEPTED:
                event.standing = Standing.LATE if on_the_way else Standing.CONTRADICTED
            for delivery in self.deliveries:
                if delivery.event is event and delivery.key == other.id:
                    delivery.key = task.id
        event.task, event.hold_until = task, None

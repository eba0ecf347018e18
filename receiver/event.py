"""`Event`: the view that a handler receives. Made by `worker` of what the ledger gave it; changes nothing anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Self

import msgspec

from ringback.ledger import Work
from ringback.model import EventType, Result, Source, Task, TaskError, TaskState, Trust

_UNREAD: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Event:
    """What a handler receives: one fact, the task it is about, and which try this is."""

    id: str
    type: EventType
    provider: str
    status: TaskState | None
    task: Task | None  # as it stood when this attempt was claimed
    results: tuple[Result, ...]
    error: TaskError | None
    raw: bytes  # the payload, byte for byte
    headers: Mapping[str, str]  # names in lower case
    trust: Trust
    source: Source
    received_at: datetime
    delivery_id: str
    run: int  # 1, then one more for each replay
    attempt: int  # from 1, within this run
    key: str  # for idempotency: the same over retries and replays of this event for this handler
    state: Any  # what the lifespan yielded
    _payload: Any = field(default=_UNREAD, init=False, compare=False)

    @classmethod
    def of(cls, work: Work, state: Any) -> Self:
        """Make the view of a claimed delivery."""
        event, delivery = work.event, work.delivery
        return cls(
            id=event.id,
            type=event.type,
            provider=event.provider,
            status=event.status,
            task=work.task,
            results=event.results,
            error=event.error,
            raw=event.body,
            headers=MappingProxyType({name.lower(): value for name, value in event.headers}),
            trust=event.trust,
            source=event.source,
            received_at=event.received_at,
            delivery_id=delivery.id,
            run=delivery.run,
            attempt=work.attempt.number,
            key=f"{event.id}:{delivery.handler}",
            state=state,
        )

    @property
    def payload(self) -> Any:
        """The payload as decoded JSON; None when it is not JSON. Decoded when first asked for."""
        if self._payload is _UNREAD:
            object.__setattr__(self, "_payload", _decode(self.raw))
        return self._payload

    def __repr__(self) -> str:
        """Show ids only: a payload, an error text or a result URL does not belong in a log line."""
        task = self.task.id if self.task else None
        return (
            f"Event(id={self.id!r}, type={self.type.value!r}, provider={self.provider!r}, task={task!r}, "
            f"delivery_id={self.delivery_id!r}, run={self.run}, attempt={self.attempt})"
        )


def _decode(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None

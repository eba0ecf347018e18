"""`Event`: the view that a handler receives, and what it can do. Made by `worker` of what the ledger gave it.

It changes nothing by itself: what a handler does through it is in `actions`.
"""

from collections.abc import Awaitable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import MappingProxyType
from typing import Any, Self

import msgspec
from msgspec import Struct, structs

from receiver.actions import Actions
from ringback.errors import HandlersError
from ringback.ledger import Keyless, Work
from ringback.model import EventType, Result, Source, Task, TaskError, TaskState, Trust

_UNREAD: Any = object()
NONE: Mapping[str, str] = MappingProxyType({})


class Event(Struct, frozen=True, kw_only=True, eq=False):
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
    _payload: Any = _UNREAD
    _actions: Actions | None = None

    @classmethod
    def of(cls, work: Work | Keyless, state: Any, actions: Actions | None = None) -> Self:
        """Make the view of a delivery: of a claimed one, or of one whose key is asked for."""
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
            headers=MappingProxyType({name.lower(): value for name, value in event.headers}) if event.headers else NONE,
            trust=event.trust,
            source=event.source,
            received_at=event.received_at,
            delivery_id=delivery.id,
            run=delivery.run,
            attempt=work.attempt.number if isinstance(work, Work) else delivery.attempts + 1,
            key=f"{event.id}:{delivery.handler}",
            state=state,
            _actions=actions,
        )

    @property
    def payload(self) -> Any:
        """The payload as decoded JSON; None when it is not JSON. Decoded when first asked for."""
        if self._payload is _UNREAD:
            structs.force_setattr(self, "_payload", _decode(self.raw))
        return self._payload

    def once(self, name: str) -> AbstractAsyncContextManager[bool]:
        """Do a step at least once, and never again once it was recorded: `async with event.once("charge") as first:`.

        `first` is False where an earlier attempt or run has recorded it. The step is recorded, on its own, when the
        block ends without raising. For `async def` handlers.

        Raises:
            HandlersError: the name is not 1 to 100 of A-Z a-z 0-9 . _ : -, or the handler runs on a thread.
            AttemptLost: on leaving the block: this attempt was given up meanwhile, and the step is not recorded.
            LedgerUnavailable: on leaving the block: it could not be recorded.
        """
        return self._can_act().once(name)

    def submit(self, *, name: str, provider: str, **request: Any) -> Awaitable[Task]:
        """Submit a follow-up task, whose parent is this event's: `await event.submit(name="upscale", provider=…)`.

        Its key is made of the event, the handler and the name: calling it again, in another attempt or run too, gives
        the same task. For `async def` handlers.

        Args:
            name: 1 to 100 of A-Z a-z 0-9 . _ : -, one for each follow-up task of this event.
            provider: who shall do it.
            request: all else that `Submitter.submit` takes, and raises.

        Raises:
            HandlersError: the name cannot be used, the handler runs on a thread, or this worker cannot submit.
            KeyConflict: the name was used for another request.
        """
        return self._can_act().submit(name, provider, request)

    def _can_act(self) -> Actions:
        if self._actions is None:
            raise HandlersError("this event was not handed over by a worker, so nothing can be done through it")
        return self._actions

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

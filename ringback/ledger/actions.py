"""What people ask of a ledger: which records they mean, and what is to be done with those. Values only.

`protocol.OperatorLedger` takes them: the lists a `Query`, `act` one of the actions. A new kind of action is a new class
here, a name in `Action`, and what each engine does with it; the protocol does not grow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ringback.model import DeliveryState, EventType, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which records to list, newest first. None means any; `ids` are those of what is listed.

    `text` is a part of a delivery's reason, `before` is later than its creation; `latest` leaves out deliveries that
    were replayed later. With `since`, tasks of a time are listed by that time: created from then on, and before
    `before`, or at that moment with an id below `below`, which is how one page follows on another.
    """

    provider: str | None = None
    state: str | None = None  # a task's or a delivery's
    type: str | None = None  # an event's
    task_id: str | None = None
    event_id: str | None = None
    handler: str | None = None
    ids: tuple[str, ...] | None = None
    text: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    below: str = ""
    latest: bool = False
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDeliveries:
    """What actions on deliveries have in common.

    With `ids` in the query, one that does not exist stops the whole; else its `limit` is the size of one step, and
    `after` is where the last step ended (`Done.next`).
    """

    query: Query
    by: str  # who asks
    now: datetime
    reason: str | None = None  # why
    dry_run: bool = False
    after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay(OnDeliveries):
    """Make a new run of each settled delivery, never a reset one; without `ids` only of the latest runs."""

    fresh: bool = False  # the steps that were recorded are forgotten, so that they are done again


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(OnDeliveries):
    """End pending deliveries as cancelled: nobody wants them any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard(OnDeliveries):
    """End pending deliveries as discarded: they are given up, as after a last attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayEvents:
    """Owe one handler the events of a time once more, or for the first time; only those that its patterns fit.

    Events of which it has a delivery still pending or running are left alone.
    """

    handler: str
    since: datetime
    until: datetime  # not included; not later than now, or it might never end
    status: TaskState | None = None
    provider: str | None = None
    type: EventType | None = None
    by: str
    now: datetime
    reason: str | None = None
    fresh: bool = False  # the steps that the handler has recorded for these events are forgotten
    dry_run: bool = False
    limit: int = 500  # events looked at in one step
    after: int | None = None


Action = Replay | Cancel | Discard | ReplayEvents


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an action did; in a dry run what it would do, all steps together."""

    count: int = 0
    skipped: Mapping[DeliveryState, int] = field(default_factory=dict)  # meant, but left alone in these states
    ids: tuple[str, ...] = ()  # the deliveries made or ended; in a dry run the first records that are meant
    next: int | None = None  # not None: there is more; ask again with this as `after`

"""The records of the ledger and the words they use. Start reading here.

Frozen, slotted, keyword-only values: no I/O, no rules (those are in `lifecycle`), no provider's own words (those end
in `providers`). They are msgspec structs, which are six times as fast to make as dataclasses. Every time is an aware
UTC datetime, every amount of money an integer of micro-dollars.
"""

import os
import random
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from msgspec import Struct

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TaskState(StrEnum):
    """Where a task stands. `lifecycle` says which state may follow which."""

    PENDING = "pending"
    SUBMITTED = "submitted"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class EventType(StrEnum):
    """What kind of fact an event is."""

    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_CANCELLED = "task.cancelled"
    TASK_EXPIRED = "task.expired"
    TASK_PROGRESSED = "task.progressed"
    CALLBACK_RECEIVED = "callback.received"
    CALLBACK_UNRECOGNISED = "callback.unrecognised"
    RECEIVER_PUSH_MISSING = "receiver.push_missing"


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LAPSED = "lapsed"  # its worker died or fell silent
    RELEASED = "released"  # handed back by a worker that was stopping: does not count
    SNOOZED = "snoozed"  # its handler put it off: does not count
    DISCARDED = "discarded"  # its handler gave it up for good


class Trust(StrEnum):
    """How a callback was verified."""

    SIGNED = "signed"  # the provider's signature covers the body
    TOKEN = "token"  # noqa: S105 -- a secret in our URL, not a secret itself
    PARTIAL = "partial"  # a signature that does not cover the body
    NONE = "none"


class Confirm(StrEnum):
    """Whether a provider's callbacks are only hints, each confirmed by a fetch."""

    ALWAYS = "always"
    NEVER = "never"


class Source(StrEnum):
    """Who said a fact."""

    CALLBACK = "callback"
    POLL = "poll"
    SUBMISSION = "submission"  # the provider's answer to our submission
    RINGBACK = "ringback"  # we presumed it; the provider's word replaces it


class Origin(StrEnum):
    """Who made a task known to us."""

    SUBMISSION = "submission"
    CALLBACK = "callback"


class Standing(StrEnum):
    """What an event counts for. Only accepted events are handed to handlers."""

    ACCEPTED = "accepted"
    LATE = "late"  # a step on the way, told after the task had settled
    CONTRADICTED = "contradicted"  # a second final word that differs from the first


class Verdict(StrEnum):
    """What became of one arrival at the ledger."""

    NEW = "new"
    DUPLICATE = "duplicate"
    LATE = "late"
    CONTRADICTED = "contradicted"
    CONFLICT = "conflict"  # a known event id with a different fact
    UNRECOGNISED = "unrecognised"
    HINT = "hint"
    COUNTED = "counted"  # past the limit of stored requests for one task: only counted


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a completed task produced."""

    kind: str  # "video", "image", "audio", or "file" where nothing tells
    url: str
    expires_at: datetime | None = None
    stored_url: str | None = None  # where `store_results` has put it; what follows is set with it
    size: int | None = None  # bytes
    sha256: str | None = None  # hex


class TaskError(Struct, frozen=True, kw_only=True):
    """Why a task failed, in the provider's words."""

    message: str
    code: str | None = None


class Form(Struct, frozen=True, kw_only=True):
    """What a user asks for, the same for every provider; `extra` passes through in the provider's own names."""

    model: str
    action: str | None = None
    prompt: str | None = None
    image_urls: tuple[str, ...] = ()
    aspect_ratio: str | None = None
    resolution: str | None = None
    duration: int | None = None
    callback_events: tuple[str, ...] | None = None
    extra: dict[str, Any] = {}


class Task(Struct, frozen=True, kw_only=True):
    """One piece of work asked of a provider."""

    id: str
    provider: str
    provider_id: str | None = None
    origin: Origin = Origin.SUBMISSION
    state: TaskState = TaskState.PENDING
    settled_by: Source | None = None
    settled_event: str | None = None
    form: Form | None = None
    key: str | None = None
    request_hash: str | None = None
    metadata: dict[str, Any] = {}
    url_key: str | None = None  # fingerprint of the secret behind its callback URL; None when none was sent
    parent_id: str | None = None  # the task whose event had a handler submit this one
    created_at: datetime = EPOCH
    sent_at: datetime | None = None
    sends: int = 0
    resend_at: datetime | None = None  # when the poller may (re)send it; None when it must not
    send_note: str | None = None  # how the last sending ended, for people
    accepted_at: datetime | None = None
    settled_at: datetime | None = None
    progress: int | None = None
    fetch_at: datetime | None = None  # when the poller asks about it next
    fetched_at: datetime | None = None
    fetches: int = 0
    callbacks: int = 0  # authentic requests that came for it
    price_microdollars: int | None = None  # expected
    charged_microdollars: int | None = None  # as the provider says


class Callback(Struct, frozen=True, kw_only=True):
    """One HTTP request from a provider, verbatim, with the headers that matter."""

    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    received_at: datetime


class Event(Struct, frozen=True, kw_only=True):
    """The deduplicated fact that a callback or a poll carried."""

    id: str
    type: EventType
    provider: str
    task_id: str | None
    status: TaskState | None
    source: Source
    trust: Trust
    standing: Standing = Standing.ACCEPTED
    conflict: str | None = None  # why it is marked, e.g. "task_mismatch"
    provider_event_id: str | None = None
    results: tuple[Result, ...] = ()
    error: TaskError | None = None
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    received_at: datetime
    last_seen_at: datetime
    duplicates: int = 0
    fanned_out_at: datetime | None = None


class Delivery(Struct, frozen=True, kw_only=True):
    """One event owed to one handler, per run."""

    id: str
    event_id: str
    handler: str
    run: int = 1
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    lapses: int = 0
    attempt: str | None = None  # the current attempt: the fence
    worker: str | None = None
    due_at: datetime
    created_at: datetime
    settled_at: datetime | None = None
    reason: str | None = None  # why it was discarded or cancelled, or its last error
    replayed_by: str | None = None
    replay_reason: str | None = None


class Attempt(Struct, frozen=True, kw_only=True):
    """One run of a delivery; closed once."""

    id: str
    delivery_id: str
    number: int
    worker: str
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    error: str | None = None
    traceback: str | None = None


class Reading(Struct, frozen=True, kw_only=True):
    """What a provider's text says about one task, in our words."""

    status: TaskState
    provider_id: str | None = None
    event_id: str | None = None  # the provider's own, where it is stable over its retries
    results: tuple[Result, ...] = ()
    error: TaskError | None = None
    progress: int | None = None
    charged_microdollars: int | None = None


class Notice(Struct, frozen=True, kw_only=True):
    """What an authentic text says that is not about a task: a test, a balance, another kind of event."""

    event_id: str | None = None  # the provider's own, where it is stable over its retries
    type: str | None = None  # in the provider's words, for people


class Kind(StrEnum):
    """What sort of arrival comes to the ledger."""

    FACT = "fact"
    RECEIVED = "received"  # authentic, understood, not about a task; or what Ringback itself has noticed
    UNRECOGNISED = "unrecognised"  # authentic, not understood
    HINT = "hint"  # not trusted enough, or not readable: only makes its task due for a fetch


class Arrival(Struct, frozen=True, kw_only=True):
    """One thing that comes to the ledger, pushed, polled or presumed. `task_id` is ours, from the URL or the poll."""

    kind: Kind
    provider: str
    source: Source
    trust: Trust
    callback: Callback
    task_id: str | None = None
    reading: Reading | None = None
    notice: Notice | None = None
    reason: str | None = None  # why it is a hint, or was not recognised


class Receipt(Struct, frozen=True, kw_only=True):
    """What became of an arrival."""

    verdict: Verdict
    event_id: str | None = None
    task_id: str | None = None
    state: TaskState | None = None  # the task's, afterwards

    @property
    def duplicate(self) -> bool:
        """Tell whether the fact was known already."""
        return self.verdict is Verdict.DUPLICATE


EVENT_OF_STATE = {
    TaskState.SUBMITTED: EventType.TASK_PROGRESSED,
    TaskState.PROCESSING: EventType.TASK_PROGRESSED,
    TaskState.COMPLETED: EventType.TASK_COMPLETED,
    TaskState.FAILED: EventType.TASK_FAILED,
    TaskState.CANCELLED: EventType.TASK_CANCELLED,
    TaskState.EXPIRED: EventType.TASK_EXPIRED,
}


def microseconds(moment: datetime) -> int:
    """Give a moment as the ledger stores it: whole microseconds since 1970, UTC."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(value: int) -> datetime:
    """Give back the moment that `microseconds` stored."""
    return EPOCH + timedelta(0, 0, value)  # by place: named, it takes twice as long


def new_id(prefix: str, now: datetime) -> str:
    """Make a time-ordered id: the prefix, 12 hex digits of milliseconds, 18 of chance."""
    return f"{prefix}_{microseconds(now) // 1000:012x}{_chance.getrandbits(72):018x}"


# Ids must be unique, not secret: a generator seeded by the system, and anew in every child of a fork, is enough, and
# spares a system call each.
_chance = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_chance.seed)


def id_moment(identifier: str) -> datetime | None:
    """Read the time out of an id that `new_id` made; None for any other text."""
    _, _, digits = identifier.rpartition("_")
    if len(digits) != 30 or not all(c in "0123456789abcdef" for c in digits):
        return None
    try:
        return moment(int(digits[:12], 16) * 1000)
    except OverflowError:  # after the year 9999: digits that are no time of ours
        return None

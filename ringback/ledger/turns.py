"""PURE. What a worker and a ledger tell each other in one turn: how attempts ended, what may begin, what begins.

A turn is one transaction: it stores ended attempts, fans out new events and claims what can start now. Made by
`receiver.worker`, taken by `protocol.WorkerLedger.turn`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from msgspec import Struct

from ringback.ledger.patterns import Pattern
from ringback.model import Attempt, Delivery, DeliveryState, Event, Outcome, Task
from ringback.retry import Policy


class Registration(Struct, frozen=True, kw_only=True):
    """A handler that a worker has code for."""

    patterns: Sequence[Pattern]
    attempts: int = Policy().attempts  # a delivery gets so many that count
    since: datetime | None = None  # when it is registered for the first time: it is owed past events, from here on


BEATS_UNTIL_DEAD = 6
NO_HANDLERS: Mapping[str, Registration] = MappingProxyType({})


class Process(Struct, frozen=True, kw_only=True):
    """A worker or poller, as it makes itself known."""

    id: str
    role: str  # "worker" or "poller"
    host: str
    pid: int
    started_at: datetime
    silence: timedelta = timedelta()  # it may be silent for so long, even where others count on more frequent beats


def silence_of(heartbeat_seconds: float) -> timedelta:
    """Tell how long a process that beats so often may be silent until it counts as dead."""
    return timedelta(seconds=BEATS_UNTIL_DEAD * heartbeat_seconds)


class Rate(Struct, frozen=True, kw_only=True):
    """At most `count` attempts of a handler begin within any `period`, in all workers together."""

    count: int
    period: timedelta


class Share(Struct, frozen=True, kw_only=True):
    """How much of one handler may begin."""

    room: int  # in this worker, now
    concurrency: int | None = None  # at once, in all workers together; None: any
    rate: Rate | None = None  # None: any
    keyed: bool = False  # of one key, which the worker tells (`Turn.keys`), one at a time
    ordered: bool = False  # of one task, one at a time and in the order of its states
    stored: bool = False  # not before the results of its event are stored, or storing them was given up
    soonest: bool = False  # of what is due, first those whose results' URLs end soonest

    @property
    def limited(self) -> bool:
        """Tell whether there is more to look at than the room."""
        serial = self.keyed or self.ordered
        return serial or self.stored or self.soonest or self.concurrency is not None or self.rate is not None


class Work(Struct, frozen=True, kw_only=True):
    """A claimed delivery with all that its handler gets to see."""

    delivery: Delivery
    attempt: Attempt
    event: Event
    task: Task | None
    steps: frozenset[str] = frozenset()  # names of those that earlier attempts and runs have done


class Keyless(Struct, frozen=True, kw_only=True):
    """A due delivery of a keyed handler, of which the ledger does not know the key yet."""

    delivery: Delivery
    event: Event
    task: Task | None


class Settled(Struct, frozen=True, kw_only=True):
    """How an attempt ended and what follows; applied only where it still is the delivery's current one."""

    attempt: Attempt  # as it began
    outcome: Outcome
    state: DeliveryState
    due_at: datetime | None  # set only while pending
    counted: bool
    finished_at: datetime
    error: str | None = None
    traceback: str | None = None


class Turn(Struct, frozen=True, kw_only=True):
    """What a worker tells and asks. Without `limit` it only tells."""

    process: Process
    now: datetime
    settled: Sequence[Settled] = ()
    keys: Mapping[str, str] = {}  # by delivery, of those that were keyless
    shares: Mapping[str, Share] = {}  # by handler, of those that the worker has code for
    limit: int = 0  # how many may begin in all
    fan_out: int = 0  # how many events to fan out
    # Nothing runs in the worker, but for what stores results: a delivery that lapsed before, and runs alone, may begin.
    idle: bool = True


class Turned(Struct, frozen=True, kw_only=True):
    """What a ledger answers."""

    settled: Sequence[bool] = ()  # False where the attempt no longer was its delivery's current one
    works: Sequence[Work] = ()
    keyless: Sequence[Keyless] = ()
    fanned_out: int = 0  # how many events were
    more: bool = False  # another turn may find more right away
    next_due_at: datetime | None = None  # where nothing begins: when the next delivery is due or held event is released

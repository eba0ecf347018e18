"""PURE. What is kept for how long: how much of a record goes, given when it was last heard of.

A task settles, is kept whole, then without its raw bodies, then by its keys alone, so that a late redelivery is still
known, and then not at all. Called by every engine that prunes, and by whoever makes a `Prune` of the settings.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import IntEnum
from typing import NamedTuple, Self

from ringback.model import TaskState, microseconds
from ringback.providers import Provider

STEP = 200  # records looked at in one step
REJECTIONS_KEPT = timedelta(days=90)


class Level(IntEnum):
    """How much of a record is gone; the numbers are those in the column `pruned`."""

    WHOLE = 0
    WITHOUT_BODIES = 1
    KEYS_ONLY = 2
    GONE = 3


class Place(NamedTuple):
    """Where the walk through the ledger has come to: which of its parts, and behind which record."""

    part: int = 0
    moment: int = -(1 << 62)
    seq: int = 0


START = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Take away what has settled and was last heard of before these times. None: nothing for that reason.

    `rest_before` is about all that is not a key, `keys_before` about the keys; `longer` are the providers that may
    repeat a callback for longer. With `states` only tasks in these states, and nothing that has no task. One step
    looks at STEP records; `after` is where the last one ended (`Pruned.next`).
    """

    now: datetime
    bodies_before: datetime | None
    rest_before: datetime | None
    keys_before: datetime
    longer: Mapping[str, datetime] = field(default_factory=dict)
    states: frozenset[TaskState] | None = None
    dry_run: bool = False
    after: Place = START

    def level(self, provider: str, heard_at: int) -> Level:
        """Tell how much of a settled record goes that was last heard of then; in microseconds."""
        if self.rest_before is not None and heard_at < microseconds(self.rest_before):
            keys = microseconds(self.longer.get(provider, self.keys_before))
            return Level.GONE if heard_at < keys else Level.KEYS_ONLY
        if self.bodies_before is not None and heard_at < microseconds(self.bodies_before):
            return Level.WITHOUT_BODIES
        return Level.WHOLE

    def reach(self, level: Level) -> int | None:
        """Give before when a record of this level must have settled to lose anything; None: none does."""
        if level is Level.KEYS_ONLY:
            return min(microseconds(self.rest_before), microseconds(self.keys_before)) if self.rest_before else None
        times = [self.rest_before, self.bodies_before if level is Level.WHOLE else None]
        return max((microseconds(time) for time in times if time is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a step took away; in a dry run what it would take."""

    bodies: int = 0  # tasks and other events that lost their raw bodies
    emptied: int = 0  # tasks and other events of which only the keys are left
    removed: int = 0  # tasks and other events that are gone
    requests: int = 0  # kept for tasks that nobody knows
    rejections: int = 0  # counts of a day
    waiting: int = 0  # old enough, but something of them is not settled: left alone
    next: Place | None = None  # not None: there is more

    def __add__(self, other: "Pruned") -> "Pruned":
        """Add what a later step did."""
        counts = {knob.name: getattr(self, knob.name) + getattr(other, knob.name) for knob in fields(self)[:-1]}
        return Pruned(**counts, next=other.next)

    @property
    def changed(self) -> int:
        """Count the records that lost anything."""
        return self.bodies + self.emptied + self.removed + self.requests + self.rejections


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """For how long things are kept; None: for ever, or for `bodies` as long as the rest."""

    rest: timedelta | None = None
    bodies: timedelta | None = None
    keys: timedelta = timedelta(days=90)
    longer: Mapping[str, timedelta] = field(default_factory=dict)

    @classmethod
    def of(
        cls, rest: timedelta | None, bodies: timedelta | None, keys: timedelta, providers: Iterable[Provider]
    ) -> Self:
        """Take in how long each provider may send a callback again."""
        windows = {provider.name: provider.retry_window for provider in providers if provider.retry_window is not None}
        return cls(rest=rest, bodies=bodies, keys=keys, longer={name: w for name, w in windows.items() if w > keys})

    @property
    def forgets(self) -> bool:
        """Tell whether anything ever goes."""
        return self.rest is not None or self.bodies is not None

    def at(self, now: datetime, *, states: Iterable[TaskState] = (), dry_run: bool = False) -> Prune:
        """Say what that means now."""
        return Prune(
            now=now,
            bodies_before=None if self.bodies is None else now - self.bodies,
            rest_before=None if self.rest is None else now - self.rest,
            keys_before=now - self.keys,
            longer={name: now - window for name, window in self.longer.items()},
            states=frozenset(states) or None,
            dry_run=dry_run,
        )

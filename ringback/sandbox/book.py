"""The sandbox's own books: its tasks, what they cost, what was pushed and which faults happened.

In memory, for one run. It keeps facts and does no I/O; the studio changes it, the control endpoints read it.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

IDEMPOTENCY_WINDOW = timedelta(hours=24)


class State(StrEnum):
    """A task's states, in qingbo's words; reAPI shows the first two as `processing`."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class Outcome(StrEnum):
    """How one attempt to push ended."""

    ACCEPTED = "accepted"  # any 2xx
    REFUSED = "refused"  # any other status, a redirect included
    UNREACHED = "unreached"  # no answer: timeout, reset, refused connection
    BLOCKED = "blocked"  # not sent: neither loopback nor allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for, once validated."""

    provider: str
    model: str
    prompt: str
    duration_seconds: int
    price_micro_usd: int
    origin: str
    """The sandbox's address as the submitter knows it, with a trailing slash."""
    action: str = "generate"
    callback_url: str | None = None
    callback_events: frozenset[State] = TERMINAL
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One attempt to push, as sent; `target` is masked."""

    kind: str
    target: str
    outcome: Outcome
    status_code: int | None
    error: str | None
    at: datetime


@dataclass(slots=True, kw_only=True, eq=False)
class SandboxTask:
    """One accepted task and everything that happened to it."""

    number: int
    """Counts from 0 per provider; the wire's variations rotate by it."""
    id: str
    order: Order
    faults: frozenset[str]
    created_at: datetime
    state: State
    ended_at: datetime | None = None
    refunded_micro_usd: int = 0
    fetches: int = 0
    pushes: list[Push] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def charged_micro_usd(self) -> int:
        """What was taken at acceptance, before any refund."""
        return self.order.price_micro_usd


class Book:
    """Every task of this run, and the sums over them."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], SandboxTask] = {}
        self._by_key: dict[tuple[str, str], SandboxTask] = {}
        self._numbers: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Faults that hit a request before it became a task."""

    def __len__(self) -> int:
        return len(self._tasks)

    def next_number(self, provider: str) -> int:
        """Return the number that the provider's next task will have."""
        return self._numbers[provider]

    def add(self, task: SandboxTask) -> None:
        """Enter an accepted task, and so charge for it."""
        order = task.order
        self._tasks[order.provider, task.id] = task
        self._numbers[order.provider] += 1
        if order.idempotency_key is not None:
            self._by_key[order.provider, order.idempotency_key] = task

    def find(self, provider: str, task_id: str) -> SandboxTask | None:
        """Return the provider's task of that id."""
        return self._tasks.get((provider, task_id))

    def find_by_key(self, provider: str, key: str | None, now: datetime) -> SandboxTask | None:
        """Return the task accepted under an Idempotency-Key in the last 24 hours."""
        task = self._by_key.get((provider, key)) if key is not None else None
        return task if task is not None and now - task.created_at < IDEMPOTENCY_WINDOW else None

    def tasks(self, provider: str | None = None) -> list[SandboxTask]:
        """Return all tasks, or one provider's, oldest first."""
        return [task for task in self._tasks.values() if provider in (None, task.order.provider)]

    def spent_micro_usd(self, provider: str) -> int:
        """Return what an account has paid, refunds taken off."""
        return sum(task.charged_micro_usd - task.refunded_micro_usd for task in self.tasks(provider))

    def end(self, task: SandboxTask, state: State, now: datetime) -> None:
        """Move a task to a terminal state; whatever did not complete is refunded."""
        task.state, task.ended_at = state, now
        if state is not State.COMPLETED:
            task.refunded_micro_usd = task.charged_micro_usd
        task.ended.set()

    def fault_counts(self) -> dict[str, int]:
        """Return how often each fault really happened."""
        return dict(sum((task.happened for task in self._tasks.values()), start=Counter(self.refused)))

    def push_counts(self) -> dict[str, dict[str, int]]:
        """Return the pushes by outcome, by kind and outcome, and by status code."""
        pushes = [push for task in self._tasks.values() for push in task.pushes]
        return {
            "by_outcome": _count(push.outcome for push in pushes),
            "by_kind": _count(f"{push.kind}:{push.outcome}" for push in pushes),
            "by_status": _count(str(push.status_code) for push in pushes if push.status_code is not None),
        }


def _count(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(str(word) for word in words).items()))

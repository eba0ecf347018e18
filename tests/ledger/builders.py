"""Short ways to say what the ledger is given: tasks, arrivals, workers. Times count in seconds from NOW."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ringback.ledger import Ledger, Pattern, Process, Registration, Sent, Settled, Share, Turn, Turned, Work
from ringback.model import (
    Arrival,
    Callback,
    DeliveryState,
    Kind,
    Outcome,
    Reading,
    Result,
    Source,
    Task,
    TaskState,
    Trust,
)

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
COMPLETED, FAILED, PROCESSING = TaskState.COMPLETED, TaskState.FAILED, TaskState.PROCESSING
ANY = (Pattern(),)
IN_READING = {"event_id", "progress", "error", "charged_microdollars"}


def at(seconds: float) -> datetime:
    """Give the moment so many seconds after NOW."""
    return NOW + timedelta(seconds=seconds)


def new_task(task_id: str = "task_a", **more: Any) -> Task:
    """Make a task that is about to be stored."""
    defaults: dict[str, Any] = {"provider": "qingbo", "created_at": NOW}
    return Task(id=task_id, **defaults | more)


def reading(status: TaskState, provider_id: str | None = None, **more: Any) -> Reading:
    """Make what a provider says, with a result where it has completed."""
    results = (Result(kind="video", url="https://cdn.example/v.mp4"),) if status is COMPLETED else ()
    return Reading(**{"status": status, "provider_id": provider_id, "results": results} | more)


def fact(
    status: TaskState,
    task_id: str | None = "task_a",
    provider_id: str | None = "p-a",
    *,
    seconds: float = 0,
    body: bytes | None = None,
    **more: Any,
) -> Arrival:
    """Make an arrival that says how a task stands; by default a push to the task's own URL."""
    said = reading(status, provider_id, **{key: more.pop(key) for key in IN_READING & more.keys()})
    defaults = {"kind": Kind.FACT, "provider": "qingbo", "source": Source.CALLBACK, "trust": Trust.TOKEN}
    content = status.value.encode() if body is None else body
    callback = Callback(body=content, headers=(("x-try", "1"),), received_at=at(seconds))
    return Arrival(**defaults | {"callback": callback, "task_id": task_id, "reading": said} | more)


def other(
    kind: Kind, task_id: str | None = "task_a", *, body: bytes = b"?", seconds: float = 0, **more: Any
) -> Arrival:
    """Make an arrival that says nothing about how a task stands."""
    defaults = {"provider": "qingbo", "source": Source.CALLBACK, "trust": Trust.TOKEN, "reason": "because"}
    return Arrival(kind=kind, task_id=task_id, callback=Callback(body=body, received_at=at(seconds)), **defaults | more)


def sent(task_id: str = "task_a", *, sent_at: float = 0, seconds: float = 1, **more: Any) -> Sent:
    """Say how a sending ended."""
    return Sent(task_id=task_id, sent_at=at(sent_at), now=at(seconds), **{"note": "answered"} | more)


async def claimed(ledger: Ledger, task_id: str = "task_a", **more: Any) -> Task:
    """Store a task and claim to send it at NOW."""
    task, _ = await ledger.add_task(new_task(task_id, **more))
    assert await ledger.claim_send(task, NOW, None)
    return task


async def submitted(ledger: Ledger, task_id: str = "task_a", provider_id: str = "p-a", **more: Any) -> Task:
    """Store a task that the provider has accepted."""
    await claimed(ledger, task_id, **more)
    return await ledger.save_send(sent(task_id, reading=reading(TaskState.SUBMITTED, provider_id)))


def worker(name: str = "w1", role: str = "worker") -> Process:
    """Name a process."""
    return Process(id=name, role=role, host="here", pid=1, started_at=NOW)


def registered(patterns: Mapping[str, Sequence[Pattern]], attempts: int = 11) -> dict[str, Registration]:
    """Say what a worker's handlers listen for."""
    return {name: Registration(patterns=found, attempts=attempts) for name, found in patterns.items()}


async def working(ledger: Ledger, *names: str, patterns: Sequence[Pattern] = ANY, process: str = "w1") -> Process:
    """Let a worker make itself and its handlers known."""
    await ledger.beat(worker(process), NOW, LONG_AGO, registered(dict.fromkeys(names or ("h",), patterns)))
    return worker(process)


async def owed(ledger: Ledger, count: int = 1, handler: str = "h") -> Process:
    """Have so many events fanned out to one handler of one worker, due one second after another."""
    process = await working(ledger, handler)
    for number in range(count):
        task_id = f"task_{number}"
        await ledger.record(fact(COMPLETED, task_id, f"p-{number}"))
        assert await fan_out(ledger, at(number), 10) == 1
    return process


async def fan_out(ledger: Ledger, now: datetime, limit: int) -> int:
    """Write the deliveries of so many events, and begin none."""
    return (await ledger.turn(Turn(process=worker(), now=now, fan_out=limit))).fanned_out


async def claims(
    ledger: Ledger, process: Process, rooms: Mapping[str, int], now: datetime, limit: int, *, idle: bool = True
) -> Turned:
    """Claim deliveries of these handlers, so many of each and in all, without a fan-out."""
    shares = {name: Share(room=room) for name, room in rooms.items()}
    return await ledger.turn(Turn(process=process, now=now, shares=shares, limit=limit, idle=idle))


async def settle(ledger: Ledger, settled: Sequence[Settled]) -> list[bool]:
    """Store how attempts ended."""
    return list((await ledger.turn(Turn(process=worker(), now=NOW, settled=settled))).settled)


async def claim(ledger: Ledger, handler: str = "h", seconds: float = 100, process: str = "w1") -> Sequence[Work]:
    """Claim all that one handler is owed."""
    return list((await claims(ledger, worker(process), {handler: 100}, at(seconds), 100)).works)


async def next_due(ledger: Ledger, handler: str = "h") -> datetime | None:
    """Ask a claim that gets nothing when there will be something."""
    claimed = await claims(ledger, worker(), {handler: 1}, LONG_AGO, 1)
    assert not claimed.works
    return claimed.next_due_at


def ended(work: Work, outcome: Outcome, state: DeliveryState, *, seconds: float = 101, **more: Any) -> Settled:
    """Say how an attempt ended."""
    due = at(seconds) if state is DeliveryState.PENDING else None
    defaults = {"due_at": due, "counted": outcome is not Outcome.RELEASED, "finished_at": at(seconds)}
    return Settled(attempt=work.attempt, outcome=outcome, state=state, **defaults | more)


class SelfClosing(sqlite3.Connection):
    """A connection that a test may simply drop; Python 3.13 warns of one that nobody closed.

    The collector may find it in any thread, for example in a later test's ledger: closing is allowed in all of them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"check_same_thread": False})

    def __del__(self) -> None:
        self.close()

"""How the receiver's tests make facts, and look at what became of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from receiver import Event
from receiver.attempt import Ended, Running, log_fields
from receiver.handlers import Handler
from receiver.threads import DaemonPool
from ringback.ledger import Ledger, Owed, Query
from ringback.model import (
    Arrival,
    Callback,
    DeliveryState,
    EventType,
    Form,
    Kind,
    Reading,
    Result,
    Source,
    Task,
    TaskError,
    TaskState,
    Trust,
    new_id,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VIDEO = Result(kind="video", url="https://cdn.example/v.mp4?sig=topsecret", expires_at=NOW)


async def ring(
    ledger: Ledger,
    status: TaskState = TaskState.COMPLETED,
    *,
    provider: str = "qingbo",
    model: str = "grok-video",
    body: bytes = b'{"status": "done"}',
    result: Result = VIDEO,
) -> str:
    """Submit a task and take a callback about it; gives the event's id."""
    task = Task(id=new_id("task", NOW), provider=provider, form=Form(model=model), created_at=NOW)
    await ledger.add_task(task)
    error = TaskError(message="refused", code="7") if status is TaskState.FAILED else None
    receipt = await ledger.record(
        Arrival(
            kind=Kind.FACT,
            provider=provider,
            source=Source.CALLBACK,
            trust=Trust.TOKEN,
            task_id=task.id,
            callback=Callback(body=body, headers=(("Content-Type", "application/json"),), received_at=NOW),
            reading=Reading(status=status, provider_id=f"p{task.id[-20:]}", results=(result,), error=error),
        )
    )
    assert receipt.event_id is not None
    return receipt.event_id


async def owed(ledger: Ledger, **query: Any) -> list[Owed]:
    """List deliveries, oldest first."""
    return list(reversed(await ledger.deliveries(Query(limit=1000, **query))))


async def states(ledger: Ledger, **query: Any) -> list[DeliveryState]:
    """Give the states of deliveries."""
    return [item.delivery.state for item in await owed(ledger, **query)]


async def until(ledger: Ledger, condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition on the ledger, looking whenever it has been written."""
    seen = await ledger.changed(0, 0)
    while not await condition():
        now_seen = await ledger.changed(seen, 10)
        assert now_seen != seen, "nothing was written for 10 s"
        seen = now_seen


def view(**changes: Any) -> Event:
    """Make the view of some event, without a ledger."""
    values: dict[str, Any] = {
        "id": "evt_1",
        "type": EventType.TASK_COMPLETED,
        "provider": "qingbo",
        "status": TaskState.COMPLETED,
        "task": Task(id="task_1", provider="qingbo"),
        "results": (VIDEO,),
        "error": None,
        "raw": b'{"secret": "hush"}',
        "headers": {},
        "trust": Trust.TOKEN,
        "source": Source.CALLBACK,
        "received_at": NOW,
        "delivery_id": "dlv_1",
        "run": 1,
        "attempt": 1,
        "key": "evt_1:h",
        "state": None,
    }
    return Event(**(values | changes))


async def attempted(handler: Handler, pool: DaemonPool, timeout_seconds: float = 5.0) -> Ended:
    """Run one attempt to its end, as a worker does."""
    event, end = view(), asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    running = Running(handler, event, log_fields(event, handler.name), pool, end.set_result, loop)
    await asyncio.sleep(0)  # it begins
    await asyncio.wait({end}, timeout=timeout_seconds)
    running.time_out(timeout_seconds)
    ended: Ended = await end
    return ended


class Said(structlog.testing.LogCapture):
    """Log lines that can be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def __call__(self, logger: WrappedLogger, method_name: str, event_dict: EventDict) -> Any:
        """Keep a line."""
        self._news.set()
        return super().__call__(logger, method_name, event_dict)

    async def says(self, name: str) -> None:
        """Wait until a line of this name has been written."""
        async with asyncio.timeout(20):
            while name not in [line["event"] for line in self.entries]:
                self._news.clear()
                await self._news.wait()


@contextmanager
def listening() -> Iterator[Said]:
    """Listen to the log, from the loop's own thread."""
    said, before = Said(), structlog.get_config()["processors"]
    structlog.configure(processors=[said])
    yield said
    structlog.configure(processors=before)

"""A worker's hand: takes turns for one handler that has keys, or an order, or neither; and what it is given to do."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ringback.ledger import Ledger, Query, Settled, Share, Turn, Turned, Work
from ringback.model import DeliveryState, Outcome, TaskState

from .builders import (
    COMPLETED,
    at,
    ended,
    fact,
    fan_out,
    worker,
    working,
)

SUCCEEDED, PENDING, DISCARDED = DeliveryState.SUCCEEDED, DeliveryState.PENDING, DeliveryState.DISCARDED
KEYED, ORDERED, PLAIN = Share(room=999, keyed=True), Share(room=999, ordered=True), Share(room=999)
Key = Callable[[Work], str]
FINAL = frozenset({DeliveryState.SUCCEEDED, DeliveryState.DISCARDED, DeliveryState.CANCELLED})


def body(work: Any) -> str:
    """Give an event's body, which these tests take for its key."""
    return bytes(work.event.body).decode()


@dataclass
class Hand:
    """A worker with one handler: it answers for keys as soon as it is asked, as a real one does."""

    ledger: Ledger
    share: Share = KEYED
    key: Callable[[Any], str] = body
    name: str = "w1"
    keys: Mapping[str, str] = field(default_factory=dict)

    async def turn(self, seconds: float, *, limit: int = 999, settled: Sequence[Settled] = (), **more: Any) -> Turned:
        """Take one turn."""
        turn = Turn(
            process=worker(self.name), now=at(seconds), shares={"h": self.share}, limit=limit, keys=self.keys,
            settled=settled, **more,
        )  # fmt: skip
        turned = await self.ledger.turn(turn)
        self.keys = {keyless.delivery.id: self.key(keyless) for keyless in turned.keyless}
        return turned

    async def begin(self, seconds: float = 100, *, limit: int = 999, **more: Any) -> list[Work]:
        """Take turns for as long as there may be more; gives what begins."""
        works: list[Work] = []
        for _ in range(100):
            turned = await self.turn(seconds, limit=limit - len(works), **more)
            works += turned.works
            if not turned.more or len(works) == limit:
                return works
        raise AssertionError("a hundred turns, and still more to do")

    async def end(self, *works: Work, state: DeliveryState = SUCCEEDED, **more: Any) -> None:
        """Store how these ended, and take nothing new."""
        outcome = Outcome.SUCCEEDED if state is SUCCEEDED else Outcome.FAILED
        settled = [ended(work, outcome, state, **more) for work in works]
        assert all((await self.turn(0, limit=0, settled=settled)).settled)


async def owed(ledger: Ledger, *bodies: str, begin: int = 0) -> None:
    """Have events with these bodies owed to the handler, due one second after another."""
    await working(ledger)
    for number, text in enumerate(bodies, start=begin):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}", body=text.encode()))
        assert await fan_out(ledger, at(number), 1) == 1


async def told(ledger: Ledger, *statuses: TaskState, task: str = "task_a") -> None:
    """Have these facts of one task owed to the handler, due one second after another."""
    await working(ledger)
    for number, status in enumerate(statuses):
        await ledger.record(fact(status, task, f"p-{task[5:]}"))
        await fan_out(ledger, at(number), 1)


async def states(ledger: Ledger) -> Counter[DeliveryState]:
    """Count deliveries by state."""
    return Counter(item.delivery.state for item in await ledger.deliveries(Query(limit=9999)))


def statuses(works: Sequence[Work]) -> list[TaskState | None]:
    """Give what the events of these say."""
    return [work.event.status for work in works]

"""Lists and stories where some events are whole and others emptied: in the order in which they came."""

from typing import Any

import pytest

from ringback.ledger import Ledger, Pruned, Query
from ringback.model import EventType, TaskState

from .builders import COMPLETED, FAILED, fact
from .test_retention import DAY, handled, pruned

COUNT = 8
EMPTIED = frozenset({1, 2, 5, 6})  # their place in the order; the last news of the others is 20 days younger


def status(number: int) -> TaskState:
    """Say how a task ends: half of them as is usual, whole ones and emptied ones of each."""
    return FAILED if number % 4 < 2 else COMPLETED


def provider(number: int) -> str:
    """Name a task's provider."""
    return "qingbo" if number % 3 else "reapi"


QUERIES: list[dict[str, Any]] = [
    {},
    {"provider": "qingbo"},
    {"type": EventType.TASK_COMPLETED},
    {"type": EventType.TASK_FAILED},
    {"type": EventType.TASK_FAILED, "provider": "qingbo"},
    {"type": EventType.TASK_CANCELLED},
]


@pytest.fixture
async def order(ledger: Ledger) -> list[str]:
    """Have events come, empty some of them; gives their ids, newest first."""
    found = []
    for number in range(COUNT):
        seconds = 0 if number in EMPTIED else 20 * DAY
        arrival = fact(status(number), f"task_{number}", f"p-{number}", provider=provider(number), seconds=seconds)
        found.append((await ledger.record(arrival)).event_id or "")
    await handled(ledger)
    assert await pruned(ledger, 31) == Pruned(emptied=len(EMPTIED), bodies=COUNT - len(EMPTIED))
    return found[::-1]


@pytest.mark.parametrize("query", QUERIES, ids=str)
async def test_a_list_is_newest_first_whatever_was_emptied(
    ledger: Ledger, order: list[str], query: dict[str, Any]
) -> None:
    """Emptied events stand among the whole ones where they always stood, however short the list is."""

    async def listed(**more: Any) -> list[str]:
        return [event.id for event in await ledger.events(Query(**query, **more))]

    kinds = {TaskState.COMPLETED: EventType.TASK_COMPLETED, TaskState.FAILED: EventType.TASK_FAILED}
    wanted = [
        event_id
        for number, event_id in zip(reversed(range(COUNT)), order, strict=True)
        if query.get("provider", provider(number)) == provider(number)
        and query.get("type", kinds[status(number)]) == kinds[status(number)]
    ]
    for limit in range(COUNT + 2):
        assert await listed(limit=limit) == wanted[:limit]
        assert await listed(limit=limit, ids=tuple(sorted(order))) == wanted[:limit]


async def test_news_of_an_emptied_task_comes_after_what_was_emptied(ledger: Ledger, order: list[str]) -> None:
    """A story is told from its beginning, a list of the same task from its end."""
    receipt = await ledger.record(fact(COMPLETED, "task_1", "p-1", seconds=32 * DAY))
    told = [order[COUNT - 1 - 1], receipt.event_id]
    assert [event.id for event in (await ledger.story("task_1")).events] == told
    assert [event.id for event in await ledger.events(Query(task_id="task_1"))] == told[::-1]
    assert [event.id for event in await ledger.events(Query(task_id="task_1", limit=1))] == told[1:]

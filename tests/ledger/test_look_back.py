"""Past events for a handler that is new: from when it says on, each once, beside what comes meanwhile."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from ringback.ledger import Ledger, Pattern, Prune, Query, Registration, Share, Turn, Turned
from ringback.model import DeliveryState, Outcome, TaskState

from .builders import (
    ANY,
    COMPLETED,
    FAILED,
    LONG_AGO,
    NOW,
    PROCESSING,
    at,
    claim,
    ended,
    fact,
    fan_out,
    settle,
    worker,
    working,
)


async def register(
    ledger: Ledger, since: datetime | None, *, patterns: Sequence[Pattern] = ANY, name: str = "new"
) -> None:
    """Let a worker make one handler known."""
    found = {name: Registration(patterns=patterns, since=since)}
    await ledger.beat(worker("w2"), at(1000), LONG_AGO, found)


async def told(ledger: Ledger, *moments: float, status: TaskState = COMPLETED) -> None:
    """Have facts come in at these times, one of each task, and be fanned out."""
    for number in moments:
        await ledger.record(fact(status, f"task_{number}", f"p-{number}", seconds=number))
    await fan_out(ledger, NOW, 9999)


async def turn(ledger: Ledger, seconds: float = 2000) -> Turned:
    """Take a turn that begins nothing, since it has no code."""
    return await ledger.turn(Turn(process=worker(), now=at(seconds), fan_out=100))


async def looked_back(ledger: Ledger) -> int:
    """Take turns until there is nothing more to do; gives how many there were."""
    for count in range(1, 100):
        if not (await turn(ledger)).more:
            return count
    raise AssertionError("it never ends")


async def tasks(ledger: Ledger, name: str = "new") -> list[str | None]:
    """Tell which tasks' events a handler is owed, oldest delivery first."""
    return [item.task_id for item in reversed(await ledger.deliveries(Query(handler=name, limit=9999)))]


async def test_a_new_handler_is_owed_what_came_since(ledger: Ledger) -> None:
    """It gets events received from then on, which its patterns fit, due now and oldest first; nobody else gets any."""
    await working(ledger)
    await told(ledger, 10, 20, 30)
    await told(ledger, 40, status=FAILED)
    await register(ledger, at(20), patterns=[Pattern(event="task.completed")])
    assert (await turn(ledger)).more
    assert not (await turn(ledger)).more
    assert await tasks(ledger) == ["task_20", "task_30"]
    assert {item.delivery.due_at for item in await ledger.deliveries(Query(handler="new"))} == {at(2000)}
    assert len(await tasks(ledger, "h")) == 4


async def test_only_a_new_handler_looks_back(ledger: Ledger) -> None:
    """One that was registered before is owed nothing again, whatever it says now; without `since` none is."""
    await working(ledger)
    await told(ledger, 10)
    await register(ledger, None)
    await register(ledger, at(0))
    await register(ledger, at(0), name="other")
    await looked_back(ledger)
    await register(ledger, LONG_AGO, name="other")
    assert await looked_back(ledger) == 1
    assert (await tasks(ledger), await tasks(ledger, "other")) == ([], ["task_10"])


async def test_what_comes_meanwhile_comes_once(ledger: Ledger) -> None:
    """Events that wait for their fan-out, or are fanned out before the looking back is done, are not owed twice."""
    await working(ledger)
    await told(ledger, 10)
    await ledger.record(fact(COMPLETED, "task_20", "p-20", seconds=20))
    await register(ledger, at(0))
    await ledger.record(fact(COMPLETED, "task_30", "p-30", seconds=30))
    await looked_back(ledger)
    assert sorted(map(str, await tasks(ledger))) == ["task_10", "task_20", "task_30"]


async def test_many_past_events_come_piece_by_piece(ledger: Ledger) -> None:
    """No turn looks at all of them; between two of them others write, and a restart goes on where it was."""
    await working(ledger)
    await told(ledger, *range(1200))
    await register(ledger, at(100))
    await turn(ledger)
    first = len(await tasks(ledger))
    assert 0 < first < 1100
    await register(ledger, at(0))  # as a restarted worker does
    assert await looked_back(ledger) == 3
    found = await tasks(ledger)
    assert (len(found), len(set(found)), found[0], found[-1]) == (1100, 1100, "task_100", "task_1199")


@pytest.mark.parametrize(
    ("since", "count"), [(datetime(1960, 1, 1, tzinfo=UTC), 2), (datetime(1, 1, 1, tzinfo=UTC), 2), (at(9_999), 0)]
)
async def test_far_away_times(ledger: Ledger, since: datetime, count: int) -> None:
    """All there is came since a time before computers, and nothing since one that is still to come."""
    await working(ledger)
    await told(ledger, 10, 20)
    await register(ledger, since)
    await looked_back(ledger)
    assert len(await tasks(ledger)) == count


async def test_what_is_nobodys_business_stays_so(ledger: Ledger) -> None:
    """Late and contradicted words are handed to nobody, and what was pruned to its keys cannot be."""
    await working(ledger)
    await told(ledger, 10, 20)
    for status in (PROCESSING, FAILED):
        await ledger.record(fact(status, "task_20", "p-20", seconds=30))
    (work, _) = await claim(ledger)
    await settle(ledger, [ended(work, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED)])
    await ledger.act(Prune(now=at(999), bodies_before=None, rest_before=at(998), keys_before=LONG_AGO))
    await register(ledger, at(0))
    await looked_back(ledger)
    assert await tasks(ledger) == ["task_20"]


async def test_past_events_begin_as_others_do(ledger: Ledger) -> None:
    """They are claimed by whoever has the handler's code, within its limits."""
    await working(ledger)
    await told(ledger, 10, 20, 30)
    await register(ledger, at(0))
    await looked_back(ledger)
    shares = {"new": Share(room=9, concurrency=2)}
    works = (await ledger.turn(Turn(process=worker(), now=at(2001), shares=shares, limit=9))).works
    assert [work.event.task_id for work in works] == ["task_10", "task_20"]

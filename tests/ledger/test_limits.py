"""How many attempts of a handler begin: concurrency and rate, over all workers, and what waits hides nothing else."""

import asyncio
import random
from bisect import bisect_left
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from ringback.ledger import Ledger, Pattern, Rate, Share, Turn, Turned, Work
from ringback.model import DeliveryState, Outcome

from .builders import COMPLETED, LONG_AGO, NOW, at, ended, fact, fan_out, owed, registered, settle, worker, working
from .conftest import Engine

SUCCEEDED, PENDING = DeliveryState.SUCCEEDED, DeliveryState.PENDING
SECOND = timedelta(seconds=1)
TWO_A_MINUTE = Rate(count=2, period=timedelta(minutes=1))


async def take(
    ledger: Ledger,
    shares: Mapping[str, Share],
    seconds: float = 100,
    *,
    limit: int = 100,
    name: str = "w1",
    **more: Any,
) -> Turned:
    """Take a worker's turn."""
    return await ledger.turn(Turn(process=worker(name), now=at(seconds), shares=shares, limit=limit, **more))


async def begun(ledger: Ledger, shares: Mapping[str, Share], seconds: float = 100, **more: Any) -> list[Work]:
    """Take a worker's turn; gives what begins."""
    return list((await take(ledger, shares, seconds, **more)).works)


def is_a_minute_after(found: datetime | None, begun: float) -> bool:
    """Tell whether a moment is a minute after that one: never earlier, at most a thousandth of the minute later."""
    return found is not None and timedelta(0) <= found - at(begun + 60) <= timedelta(seconds=0.06)


async def succeed(ledger: Ledger, *works: Work) -> None:
    """Let these succeed."""
    assert all(await settle(ledger, [ended(work, Outcome.SUCCEEDED, SUCCEEDED) for work in works]))


async def test_concurrency_holds_over_all_workers(engine: Engine) -> None:
    """Workers that claim together begin no more of a handler than it allows; each end makes room for another one."""
    ledgers = [await engine.open(), await engine.open()]
    await owed(ledgers[0], 12)
    share = {"h": Share(room=9, concurrency=3)}
    running: list[Work] = []
    for _ in range(3):
        turns = [begun(ledgers[n % 2], share, name=f"w{n}") for n in range(6)]
        running += [work for works in await asyncio.gather(*turns) for work in works]
        assert len(running) == 3
        await succeed(ledgers[0], running.pop(0))
        (another,) = await begun(ledgers[1], share)
        running.append(another)
        await succeed(ledgers[1], *running)
        running = []
    assert await begun(ledgers[0], share) == []


async def test_a_handler_without_room_hides_no_other(ledger: Ledger) -> None:
    """What is due to a handler that may not begin is passed over, however old; a rate says when it may."""
    await working(ledger, "full", "spent", "free")
    for number in range(30):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}"))
    await fan_out(ledger, NOW, 100)
    full, spent = Share(room=5, concurrency=1), Share(room=5, rate=Rate(count=1, period=timedelta(hours=1)))
    shares = {"full": full, "spent": spent, "free": Share(room=5)}
    first = await begun(ledger, shares, limit=2)
    assert {work.delivery.handler for work in first} <= {"full", "spent", "free"}
    for _ in range(6):
        works = await begun(ledger, shares, limit=5)
        await succeed(ledger, *[work for work in works if work.delivery.handler == "free"])
    last = await take(ledger, shares, limit=5)
    assert (list(last.works), last.more) == ([], False)
    assert last.next_due_at is not None
    assert 0 <= (last.next_due_at - at(100)).total_seconds() - 3600 <= 3.6
    assert (await take(ledger, {"full": full}, limit=5)).next_due_at is None


async def test_what_a_silent_worker_holds_takes_its_place_until_it_lapses(ledger: Ledger) -> None:
    """Its handler may be running still; when it counts as dead, there is room again."""
    await owed(ledger, 2)
    share = {"h": Share(room=9, concurrency=1)}
    (held,) = await begun(ledger, share, 100, name="w2")
    assert await begun(ledger, share, 110) == []
    assert len(await ledger.beat(worker("w1"), at(200), at(150))) == 1
    (other,) = await begun(ledger, share, 201)
    assert other.delivery.id != held.delivery.id  # which was due later by now, and has to be alone
    await succeed(ledger, other)
    (again,) = await begun(ledger, share, 202)
    assert (again.delivery.id, again.delivery.lapses) == (held.delivery.id, 1)


async def test_rate_tells_when_the_next_may_begin(ledger: Ledger) -> None:
    """No more begin within the period; the turn that is refused says when to come again, not earlier, not later."""
    await owed(ledger, 5)
    share = {"h": Share(room=9, rate=TWO_A_MINUTE)}
    first = await take(ledger, share, 100, limit=1)
    assert (len(first.works), first.more) == (1, True)
    assert len(await begun(ledger, share, 130)) == 1
    refused = await take(ledger, share, 140)
    assert refused == Turned(next_due_at=refused.next_due_at)
    assert is_a_minute_after(refused.next_due_at, 100)
    assert await begun(ledger, share, 159.999) == []
    assert len(await begun(ledger, share, 160.06)) == 1
    assert is_a_minute_after((await take(ledger, share, 161)).next_due_at, 130)
    assert len(await begun(ledger, share, 300)) == 2
    assert (await take(ledger, share, 301, limit=0)).next_due_at is None


async def test_what_counts_is_when_attempts_begin(ledger: Ledger) -> None:
    """An attempt that has ended, failed or been handed back has begun all the same."""
    await owed(ledger, 1)
    share = {"h": Share(room=9, rate=TWO_A_MINUTE)}
    for seconds in (100, 101):
        (work,) = await begun(ledger, share, seconds)
        await settle(ledger, [ended(work, Outcome.RELEASED, PENDING, seconds=seconds)])
    assert await begun(ledger, share, 102) == []
    assert len(await begun(ledger, share, 160.06)) == 1


def most_within(moments: list[datetime], period: timedelta) -> int:
    """Tell how many begin within the busiest period."""
    moments = sorted(moments)
    return max(index - bisect_left(moments, moment - period + timedelta.resolution) + 1
               for index, moment in enumerate(moments))  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
async def test_no_period_sees_more_than_the_rate(engine: Engine, seed: int) -> None:
    """Whenever workers ask, in whatever order their turns come and though clocks differ, no window holds too many."""
    chance = random.Random(seed)
    ledgers = [await engine.open(), await engine.open()]
    await owed(ledgers[0], 60)
    rate = Rate(count=chance.choice([1, 3, 7]), period=SECOND * chance.choice([1, 60]))
    moments: list[datetime] = []
    seconds = 100.0
    for turn in range(60):
        seconds += chance.expovariate(1) * rate.period.total_seconds() / 4
        late = seconds - chance.choice([0, 0, chance.random() * min(5, rate.period.total_seconds())])
        works = await begun(ledgers[turn % 2], {"h": Share(room=9, rate=rate)}, late, limit=chance.randint(1, 9))
        moments += [work.attempt.started_at for work in works]
    assert len(moments) > 5
    assert most_within(moments, rate.period) <= rate.count


async def test_a_clock_that_was_wrong_holds_nothing_up(ledger: Ledger) -> None:
    """What began under a clock that was years ahead does not count once the clock is right again."""
    await owed(ledger, 6)
    share = {"h": Share(room=9, rate=TWO_A_MINUTE)}
    assert len(await begun(ledger, share, 300_000_000)) == 2
    assert len(await begun(ledger, share, 100)) == 2
    assert is_a_minute_after((await take(ledger, share, 101)).next_due_at, 100)


async def test_a_new_event_starts_at_once_only_where_nothing_limits_it(ledger: Ledger) -> None:
    """In the turn of its fan-out a delivery begins unless its handler has a limit; then the next turn looks."""
    limits = {
        "concurrency": Share(room=9, concurrency=9),
        "rate": Share(room=9, rate=TWO_A_MINUTE),
        "ordered": Share(room=9, ordered=True),
        "plain": Share(room=9),
    }
    await working(ledger, *limits, "elsewhere")
    await ledger.record(fact(COMPLETED))
    first = await take(ledger, limits, fan_out=9)
    assert ([work.delivery.handler for work in first.works], first.more) == (["plain"], True)
    assert {work.delivery.handler for work in await begun(ledger, limits)} == limits.keys() - {"plain"}


async def test_a_new_event_never_overtakes_what_is_due(ledger: Ledger) -> None:
    """Where there is room for one, it goes to what waits; what is fanned out beside it waits in its turn."""
    await owed(ledger, 2)
    await ledger.record(fact(COMPLETED, "task_new", "p-new"))
    share = {"h": Share(room=1)}
    order = []
    for seconds in (100, 101, 102):
        (work,) = await begun(ledger, share, seconds, limit=1, fan_out=1)
        order.append(work.event.task_id)
        await succeed(ledger, work)
    assert order == ["task_0", "task_1", "task_new"]


async def test_nothing_new_begins_beside_what_must_be_alone(ledger: Ledger) -> None:
    """A delivery that has lapsed is begun alone, and while it waits for that nothing that is due later begins."""
    await owed(ledger, 1)
    await begun(ledger, {"h": Share(room=9)}, 100)
    await ledger.beat(worker("w2"), at(200), at(150))
    await ledger.record(fact(COMPLETED, "task_new", "p-new"))
    waiting = await take(ledger, {"h": Share(room=9)}, 201, idle=False, fan_out=9)
    assert (list(waiting.works), waiting.fanned_out, waiting.next_due_at) == ([], 1, at(200))
    (alone,) = await begun(ledger, {"h": Share(room=9)}, 202)
    assert alone.delivery.lapses == 1


@pytest.mark.parametrize("limit", [Share(room=9, rate=TWO_A_MINUTE), Share(room=9, concurrency=1)])
async def test_a_lapsed_delivery_without_room_holds_nobody_up(ledger: Ledger, limit: Share) -> None:
    """While its handler's limit keeps it waiting, others begin; as soon as there is room they wait for it."""
    patterns = {"h": [Pattern(provider="qingbo")], "g": [Pattern(provider="reapi")]}
    await ledger.beat(worker(), NOW, LONG_AGO, registered(patterns))
    for number, provider in enumerate(["qingbo", "qingbo", "reapi", "reapi"]):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}", provider=provider))
        await fan_out(ledger, at((0, 1, 160, 161)[number]), 1)
    await begun(ledger, {"h": limit}, 140, limit=1, name="dead")
    await ledger.beat(worker("w2"), at(150), at(149))
    (other,) = await begun(ledger, {"h": limit}, 151, limit=1)
    shares = {"h": limit, "g": Share(room=9)}
    assert [work.event.task_id for work in await begun(ledger, shares, 170, limit=1, idle=False)] == ["task_2"]
    await succeed(ledger, other)
    assert await begun(ledger, shares, 300, idle=False) == []
    assert [work.event.task_id for work in await begun(ledger, shares, 301)] == ["task_0"]

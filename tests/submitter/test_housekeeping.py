"""The poller's process takes away what was kept long enough, at a pace, and whatever goes wrong stays there."""

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from ringback.errors import LedgerUnavailable
from ringback.ledger import OperatorLedger, Prune, Pruned, Query
from ringback.ledger.retention import START, Place
from ringback.model import TaskState
from ringback.settings import Settings
from submitter import housekeeping
from submitter.housekeeping import Housekeeper, keep_of, prune
from tests.ledger.builders import fan_out

from .submitter_rig import START as BEGIN
from .submitter_rig import Rig


class Steps:
    """A ledger of which so many steps are to be pruned; it may refuse some first."""

    def __init__(self, count: int, *troubles: Exception) -> None:
        self.count = count
        self.troubles = list(troubles)
        self.asked: list[Place] = []
        self.done = asyncio.Event()  # a second round has begun, so that the first is over
        self.rounds = 0

    async def act(self, wish: Prune) -> Pruned:
        """Do one step."""
        self.asked.append(wish.after)
        await asyncio.sleep(0.01)
        if self.troubles:
            raise self.troubles.pop(0)
        self.rounds += wish.after == START
        if self.rounds == 2:
            self.done.set()
        part = wish.after.part + 1
        return Pruned(removed=1, waiting=1, next=Place(part) if part < self.count else None)


def as_ledger(steps: Steps) -> OperatorLedger:
    """Take it as the ledger that it stands in for."""
    return cast(OperatorLedger, steps)


def keeping(**days: int) -> Settings:
    """Make settings that keep things for so many days."""
    return Settings(**cast(dict[str, Any], days))


def test_settings() -> None:
    """0 means for ever; the keys are kept for as long as the provider may send again, at least."""
    assert not keep_of(keeping()).forgets
    keep = keep_of(keeping(retention_days=30, dedup_days=2))
    assert (keep.rest, keep.bodies, keep.keys) == (timedelta(days=30), None, timedelta(days=2))
    assert keep.longer == {"github": timedelta(days=3), "openai": timedelta(days=3)}
    assert keep_of(keeping(body_days=1)).forgets


async def test_step_after_step() -> None:
    """It goes on where the last step ended, adds up, and rests as long as a step took."""
    steps = Steps(5)
    begun = asyncio.get_running_loop().time()
    total = await prune(as_ledger(steps), keep_of(keeping(body_days=1)).at(BEGIN))
    assert total == Pruned(removed=5, waiting=5)
    assert [place.part for place in steps.asked] == [0, 1, 2, 3, 4]
    assert asyncio.get_running_loop().time() - begun >= 0.1


async def test_time_limit() -> None:
    """When the time is over, no step is begun, and it is told where the walk stopped."""
    steps, wish = Steps(1000), keep_of(keeping(body_days=1)).at(BEGIN)
    total = await prune(as_ledger(steps), wish, time_limit_seconds=0.05)
    assert 0 < total.removed < 10
    assert total.next == Place(total.removed)
    assert await prune(as_ledger(steps), wish, time_limit_seconds=0) == Pruned(next=START)


async def test_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong, expected or not, is logged and tried again."""
    monkeypatch.setattr(housekeeping, "INTERVAL_SECONDS", 0.01)
    steps = Steps(1, LedgerUnavailable("the disk is full"), ValueError("odd"))
    with capture_logs() as logs:
        running = asyncio.create_task(Housekeeper(keeping(body_days=1), as_ledger(steps), lambda: BEGIN).run())
        await asyncio.wait_for(steps.done.wait(), 10)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    told = [(line["event"], line.get("reason")) for line in logs[:3]]
    assert told == [
        ("ledger.not_pruned", "the disk is full"),
        ("ledger.not_pruned", "ValueError('odd')"),
        ("ledger.pruned", None),
    ]
    assert (logs[2]["removed"], logs[2]["waiting"], "next" in logs[2]) == (1, 1, False)


async def test_off() -> None:
    """Where everything is kept for ever, nothing is asked of the ledger."""
    steps = Steps(1)
    await Housekeeper(keeping(), as_ledger(steps), lambda: BEGIN).run()
    await Housekeeper(keeping(), as_ledger(steps), lambda: BEGIN).once()
    assert steps.asked == []


async def filled(rig: Rig) -> None:
    """Let a task settle that was kept long enough."""
    await rig.push("task_old", "p-old", TaskState.COMPLETED)
    await fan_out(rig.ledger, rig.clock(), 10)
    rig.clock.advance(days=2)


async def test_the_poller_prunes(tmp_path: Path) -> None:
    """A poller does so when it starts."""
    async with Rig(tmp_path, retention_days=1, dedup_days=1) as rig, asyncio.timeout(20):
        await filled(rig)
        stop, seen = asyncio.Event(), 0
        running = asyncio.create_task(rig.poller.run(stop))
        while await rig.ledger.tasks(Query()):
            seen = await rig.ledger.changed(seen, 5)
        stop.set()
        await running


async def test_a_poller_that_runs_once_prunes(tmp_path: Path) -> None:
    """It does so before it ends, if there is time left."""
    async with Rig(tmp_path, retention_days=1, dedup_days=1) as rig:
        await filled(rig)
        with capture_logs() as logs:
            assert await rig.poller.run_once(0) == 0
            assert len(await rig.ledger.tasks(Query())) == 1
            assert await rig.poller.run_once(10) == 0
        assert await rig.ledger.tasks(Query()) == []
        assert [line["removed"] for line in logs if line["event"] == "ledger.pruned"] == [1]

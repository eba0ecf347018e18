"""`kill -9` of the receiver at random moments under load: what was answered with 200 is stored, once, and handled."""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from typing import Any

import pytest

from tests.acceptance import noting
from tests.acceptance.load import Load, check_stored
from tests.acceptance.processes import Process, Site, wait_until

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("RINGBACK_TEST_KILLS", "12"))
SEED = 20260701


def test_kill_9_of_the_receiver_under_load(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Every 200 is in the ledger, every fact is one event, every event is handled, however often the receiver dies."""
    chance = random.Random(SEED)
    site.handlers(noting.EVENTS)
    receiver = site.serve()
    site.work()
    load = Load(site.port, chance, connections=32, pause_seconds=0.005)
    restarts = asyncio.run(_torture(site, receiver, load, chance))
    assert load.statuses.keys() == {200}
    events = check_stored(load.facts, site.database)
    handled = _handled(site, events)
    doubles = sum(handled.values()) - len(handled)
    with capsys.disabled():
        print(
            f"\nkill -9 of the receiver: seed {SEED}, {KILLS} kills, {load.statuses.total()} answers, "
            f"{sum(fact.unanswered for fact in load.facts)} unanswered, {len(events)} events, {len(handled)} handled, "
            f"{doubles} double runs, slowest restart {max(restarts, default=0):.2f} s",
            file=sys.stderr,
        )


async def _torture(site: Site, receiver: Process, load: Load, chance: random.Random) -> list[float]:
    """Kill and restart under load; gives how long each restart took."""
    restarts = []
    sending = asyncio.create_task(load.run())
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        assert not sending.done()
        receiver.popen.send_signal(signal.SIGKILL)
        began = time.monotonic()
        receiver = await asyncio.to_thread(_restart, site, receiver, chance.random())
        restarts.append(time.monotonic() - began)
    load.stop()
    await asyncio.wait_for(sending, 20)
    return restarts


def _restart(site: Site, receiver: Process, dice: float) -> Process:
    """Start the next receiver on the same database; one in ten is killed while it starts, at some moment."""
    receiver.popen.wait()
    if dice < 0.1:
        starting = site.start("serve")
        time.sleep(dice * 6)
        starting.kill()
    return site.serve()


def _handled(site: Site, events: dict[str, dict[str, Any]]) -> Counter[str]:
    """Wait until the worker has handled every event, and give how often each."""
    wait_until("every event handled", lambda: set(site.lines("handled")) >= events.keys(), 60)
    handled = Counter(site.lines("handled"))
    assert handled.keys() == events.keys()
    return handled

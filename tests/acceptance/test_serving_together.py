"""Several receivers on one socket, killed and stopped at random moments under load: what got a 200 is stored, once."""

import asyncio
import os
import random
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.load import Load, check_stored, stored_events
from tests.acceptance.processes import Process, Site, wait_until
from tests.acceptance.pushes import body_of, post_together

pytestmark = pytest.mark.slow

WORKERS = 3
KILLS = min(int(os.environ.get("RINGBACK_TEST_KILLS", "8")), 25)  # more within a minute, and the parent gives up
SEED = 20261121


def test_kills_under_load(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever dies, the others serve on, every 200 is in the ledger, and every fact is one event."""
    chance = random.Random(SEED)
    parent = serve(site)
    load = Load(site.port, chance, connections=32, pause_seconds=0.005)
    asyncio.run(_torture(parent, load, chance))
    assert parent.stop() == 0
    assert load.statuses.keys() == {200}
    events = check_stored(load.facts, site.database)
    with capsys.disabled():
        print(
            f"\n{WORKERS} receivers on one socket: seed {SEED}, {KILLS} killed or stopped, {load.statuses.total()} "
            f"answers, {sum(fact.unanswered for fact in load.facts)} unanswered, {len(events)} events",
            file=sys.stderr,
        )


def test_one_push_to_several(site: Site) -> None:
    """The same push, sent 24 times at once, is one event, and one answer alone says that it is new."""
    parent = serve(site)
    for number in range(10):
        push = (f"task_same_{number}", body_of(f"p-{number}"))
        answers = post_together(site.port, [push] * 24)
        assert len({answer.event for answer in answers}) == 1
        assert sum(not answer.duplicate for answer in answers) == 1
    assert parent.stop() == 0
    assert sorted(event["duplicates"] for event in stored_events(site.database).values()) == [23] * 10


def serve(site: Site) -> Process:
    """Start the receivers and wait until all listen."""
    parent = site.start("serve", "--workers", str(WORKERS))
    parent.wait_for("receiver.listening")
    return parent


def children(parent: Process) -> list[int]:
    """Give the processes that serve."""
    path = Path(f"/proc/{parent.popen.pid}/task/{parent.popen.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


async def _torture(parent: Process, load: Load, chance: random.Random) -> None:
    """Kill one after the other under load, or ask it to stop; its seat is taken again each time."""
    sending = asyncio.create_task(load.run())
    for number in range(1, KILLS + 1):
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        assert not sending.done()
        os.kill(chance.choice(children(parent)), chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
        await asyncio.to_thread(wait_until, "a new one", partial(_has_renewed, parent, number))
    load.stop()
    await asyncio.wait_for(sending, 20)


def _has_renewed(parent: Process, times: int) -> bool:
    return sum(1 for _ in parent.events("receiver.renewed")) == times

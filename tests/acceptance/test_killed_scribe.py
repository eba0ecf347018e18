"""`kill -9` of the scribe under load, and of its receiver: what got a 200 is stored, once, and no process is left."""

import asyncio
import http.client
import os
import random
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.load import Load, check_stored, stored_events
from tests.acceptance.processes import Process, Site, wait_until
from tests.acceptance.pushes import begin, body_of, get, path_of, post, read_answer

pytestmark = pytest.mark.slow

KILLS = min(int(os.environ.get("RINGBACK_TEST_KILLS", "3")), 8)  # the pauses before the next one grow to 30 s
SEED = 20261122


@pytest.fixture
def own(site: Site) -> Iterator[Site]:
    """A site whose receivers have a scribe on any number of cores, and none of which is left at the end."""
    site.set(scribe="always")
    yield site
    for process in site.processes:
        process.kill()
    wait_until("no scribe left", lambda: not scribes_in(site))


def scribes_in(site: Site) -> list[int]:
    """Find all scribes that work in the site's folder, whoever is their parent now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"ringback.ledger.scribe" in command and (process / "cwd").readlink() == site.folder:
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def scribe_of(receiver: Process, *, but: int = 0) -> int:
    """Wait until a receiver has a scribe that is ready, other than this one, and give its number."""

    def look() -> int:
        pids = [int(line["pid"]) for line in receiver.events("scribe.ready")]
        return pids[-1] if pids and pids[-1] != but else 0

    return int(wait_until("a scribe", look, 90))


def test_kills_of_the_scribe_under_load(own: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Every 200 is stored, every fact is one event; the receiver answers on, and has a new scribe each time."""
    chance = random.Random(SEED)
    own.set(log_level="debug")
    receiver = own.serve()
    load = Load(own.port, chance, connections=32, pause_seconds=0.005)
    asyncio.run(_torture(receiver, load, chance))
    assert receiver.is_alive()
    assert receiver.stop() == 0
    assert scribes_in(own) == []
    assert load.statuses.keys() <= {200, 503}
    lost = [line["ended"] for line in receiver.events("scribe.lost")]
    assert lost == ["SIGKILL"] * KILLS
    events = check_stored(load.facts, own.database)
    with capsys.disabled():
        print(
            f"\nkill -9 of the scribe: seed {SEED}, {KILLS} kills, {load.statuses.total()} answers, "
            f"{load.statuses[503]} of them 503, {len(events)} events",
            file=sys.stderr,
        )


async def _torture(receiver: Process, load: Load, chance: random.Random) -> None:
    """Kill one scribe after the other under load; each is replaced, and meanwhile there are answers."""
    sending = asyncio.create_task(load.run())
    pid = 0
    for _ in range(KILLS):
        pid = await asyncio.to_thread(scribe_of, receiver, but=pid)
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(
            wait_until, "answers without a scribe", partial(_has_more, load, load.statuses[200] + 50)
        )
        assert not sending.done()
    await asyncio.to_thread(scribe_of, receiver, but=pid)
    load.stop()
    await asyncio.wait_for(sending, 60)


def _has_more(load: Load, answers: int) -> bool:
    return load.statuses[200] > answers


def test_kill_9_of_the_receiver(own: Site) -> None:
    """The scribe stores what it was given, ends, and leaves the lock to the next receiver."""
    own.set(log_level="debug")
    receiver = own.serve()
    pid = scribe_of(receiver)
    os.kill(pid, signal.SIGSTOP)
    waiting = [begin(own.port, path_of(f"task_given_{number}"), body_of(f"p-{number}")) for number in range(2)]
    for _ in range(3):
        assert get(own.port, "/healthz").status == 200  # whatever came before has been given to the scribe
    receiver.kill()
    assert scribes_in(own) == [pid]
    os.kill(pid, signal.SIGCONT)
    wait_until("the scribe gone", lambda: not scribes_in(own))
    for connection in waiting:
        with pytest.raises((OSError, http.client.HTTPException)):
            read_answer(connection)
    assert {event["task_id"] for event in stored_events(own.database).values()} == {"task_given_0", "task_given_1"}
    again = own.serve()
    assert post(own.port, "task_given_0", body_of("p-0")).duplicate
    assert again.stop() == 0


def test_signals_to_the_whole_group(own: Site) -> None:
    """Ctrl-C reaches the scribe, too, which heeds it not: what is under way is answered, and all end in order."""
    own.set(log_level="debug")
    for number in (signal.SIGINT, signal.SIGTERM):
        receiver = own.serve()
        pid = scribe_of(receiver)
        os.kill(pid, signal.SIGSTOP)
        waiting = begin(own.port, path_of(f"task_{number}"), body_of(f"p-{number}"))
        assert get(own.port, "/healthz").status == 200
        os.killpg(receiver.popen.pid, number)
        receiver.wait_for("process.stopping")
        os.kill(pid, signal.SIGCONT)
        assert not read_answer(waiting).duplicate
        assert receiver.popen.wait(30) == 0
        assert list(receiver.events("scribe.lost")) == []
        assert scribes_in(own) == []


def test_scribe_as_it_is_set(own: Site) -> None:
    """`never` has the receiver write itself; nothing else changes."""
    receiver = own.start("serve", scribe="never")
    receiver.wait_for("receiver.listening")
    assert not post(own.port, "task_a", body_of("p-a")).duplicate
    assert scribes_in(own) == []
    assert receiver.stop() == 0

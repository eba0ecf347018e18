"""The receiver's end, with real scribes that are killed, stopped, told nonsense, or cannot be started at all."""

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ringback.errors import LedgerRejected, LedgerUnavailable
from ringback.ledger import Query, courier, open_ledger
from ringback.ledger.gathering import LISTS
from ringback.model import Receipt, Verdict
from ringback.settings import Settings

from .builders import COMPLETED, FAILED, fact
from .conftest import Engine
from .offices import PATIENCE_SECONDS, SECRET, Office, is_there, outcomes, until
from .test_sqlite_writer import POISON


async def test_writes_apart(engine: Engine) -> None:
    """On each engine: arrivals are stored by the scribe, receipts come back, and who waits for changes is told."""
    ledger = await open_ledger(engine.settings, create=True, apart=True)
    engine.opened.append(ledger)
    office = Office(ledger)
    first = await ledger.record(fact(COMPLETED))  # which the receiver writes itself: no scribe is ready yet
    await office.ready()
    seen = await ledger.changed(0, 0)
    arrivals = [fact(COMPLETED), fact(COMPLETED, "task_b", "p-b")]
    futures = [ledger.record(arrival, timeout_seconds=10) for arrival in arrivals]
    await asyncio.sleep(0)
    assert (office.lists, len(office.ledger._writer._waiting)) == (1, 0)
    receipts = await asyncio.gather(*futures)
    assert [receipt.verdict for receipt in receipts] == [Verdict.DUPLICATE, Verdict.NEW]
    assert receipts[0].event_id == first.event_id
    assert await ledger.changed(seen, 10) != seen
    assert await office.stored() == 2


async def test_nothing_secret_is_shown(office: Office) -> None:
    """What it must know is neither an argument nor in the environment."""
    process = Path(f"/proc/{office.pid}")
    shown = [await asyncio.to_thread((process / name).read_bytes) for name in ("cmdline", "environ")]
    assert b"ringback.ledger.scribe" in shown[0]
    assert SECRET not in b"".join(shown)


@pytest.mark.parametrize("name", POISON)
async def test_poison_harms_only_its_own_caller(office: Office, name: str) -> None:
    """What cannot be stored, or not even be sent, is rejected; its neighbours are stored."""
    for arrivals in ([POISON[name]()], [fact(COMPLETED), POISON[name](), fact(FAILED)]):
        receipts = await asyncio.gather(*map(office.ledger.record, arrivals), return_exceptions=True)
        told = [type(receipt) for receipt in receipts]
        assert told == [Receipt] * (len(arrivals) // 2) + [LedgerRejected] + [Receipt] * (len(arrivals) // 2)
    assert await office.stored() == 2


async def test_a_bug_keeps_only_its_own_arrival(office: Office) -> None:
    """What cannot be sent, though no value of it is to blame, comes again; its neighbours are stored."""
    odd = fact(COMPLETED, "task_odd", reason=object())
    arrivals = [fact(COMPLETED), odd, fact(COMPLETED, "task_b", "p-b")]
    told = await asyncio.gather(*map(office.ledger.record, arrivals), return_exceptions=True)
    assert [type(answer) for answer in told] == [Receipt, LedgerUnavailable, Receipt]
    assert await office.stored() == 2


async def test_large_bodies_are_sent_in_several_lists(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies of the largest size go a few at a time, and arrive whole; so do more arrivals than a list holds."""
    bodies = [bytes([number]) * (1 << 20) for number in range(12)]
    sizes: list[int] = []
    take = office.courier._take

    def noted() -> Any:
        waiters, content = take()
        sizes.append(len(content))
        return waiters, content

    monkeypatch.setattr(office.courier, "_take", noted)
    await asyncio.gather(*[office.begin(number, body=body) for number, body in enumerate(bodies)])
    assert {event.body for event in await office.ledger.events(Query(limit=20))} == set(bodies)
    assert len(sizes) == 3
    assert max(sizes) < courier.LIST_BYTES + (1 << 20)
    sizes.clear()
    await asyncio.gather(*[office.begin(number) for number in range(courier.LIST_BOUND + 1)])
    assert len(sizes) == 2


async def test_killed_scribe(office: Office) -> None:
    """What was under way may be stored, and is told so; what waited is written without a scribe; a new one comes."""
    pid = office.pid
    office.signal(signal.SIGSTOP)
    under_way = [office.begin(0)]
    await asyncio.sleep(0)
    under_way += [office.begin(number) for number in (1, 2)]
    await until(lambda: office.lists == LISTS)
    waiting = [office.begin(number) for number in range(3, 50)]
    with capture_logs() as logs:
        office.signal(signal.SIGKILL)
        await asyncio.wait([*under_way, *waiting], timeout=PATIENCE_SECONDS)
        assert outcomes(under_way) == {LedgerUnavailable}
        assert "may be stored" in str(under_way[0].exception())
        assert outcomes(waiting) == {Verdict.NEW}
        assert await office.ready() != pid
    assert [line["ended"] for line in logs if line["event"] == "scribe.lost"] == ["SIGKILL"]
    assert not is_there(pid)
    futures = [office.begin(number) for number in range(50)]
    await asyncio.wait(futures)
    assert outcomes(futures) <= {Verdict.NEW, Verdict.DUPLICATE}
    assert await office.stored() == 50


@pytest.mark.slow
async def test_scribe_that_is_killed_again_and_again(office: Office) -> None:
    """Whenever it dies, everybody is told, and who was told of an event finds it."""
    told: list[asyncio.Future[Receipt]] = []
    for round_ in range(4):
        pid = await office.ready()
        for number in range(100):
            told.append(office.begin(100 * round_ + number))
            if number == 20 * round_:
                os.kill(pid, signal.SIGKILL)
            if number % 10 == 0:
                await asyncio.sleep(0)
        await asyncio.wait(told, timeout=PATIENCE_SECONDS)
        await office.lost(pid)
    assert outcomes(told) <= {Verdict.NEW, LedgerUnavailable}
    receipts = {one.result().event_id for one in told if not one.exception()}
    assert receipts <= {event.id for event in await office.ledger.events(Query(limit=1_000))}


@pytest.mark.slow
async def test_scribe_that_hangs_is_replaced(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers no more is killed; who waits is told, in time or then, and it goes on with the next one."""
    monkeypatch.setattr(courier, "LOOK_SECONDS", 0.1)
    pid = office.pid
    with capture_logs() as logs:
        office.signal(signal.SIGSTOP)
        hurried, patient = office.ledger.record(fact(COMPLETED), timeout_seconds=0.05), office.begin(1)
        await asyncio.wait([hurried, patient], timeout=PATIENCE_SECONDS)
        assert outcomes([hurried, patient]) == {LedgerUnavailable}
        await office.lost(pid)
        monkeypatch.setattr(courier, "LOOK_SECONDS", 4.0)  # for the next one to start
        assert await until(lambda: office.pid not in (0, pid))
    assert [line["pid"] for line in logs if line["event"] == "scribe.silent"] == [pid]
    assert (await office.begin(1)).verdict in (Verdict.NEW, Verdict.DUPLICATE)


async def test_idle_scribe_is_left_alone(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of whom nothing is wanted owes no answer."""
    monkeypatch.setattr(courier, "LOOK_SECONDS", 0.001)
    pid = office.pid
    for number in range(3):
        await office.begin(number)
        await asyncio.sleep(0.05)
    assert office.pid == pid


async def test_what_waits_is_bounded(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the scribe stands still, more than some arrivals, or bytes, are turned away at once."""
    monkeypatch.setattr(courier, "BOUND", 5)
    monkeypatch.setattr(courier, "BOUND_BYTES", 1_000)
    office.signal(signal.SIGSTOP)
    under_way = [office.begin(0)]
    await asyncio.sleep(0)
    under_way.append(office.begin(1))
    await until(lambda: office.lists == LISTS)
    taken = [office.begin(number) for number in range(2, 7)]
    with pytest.raises(LedgerUnavailable, match="too many"):
        await office.begin(7)
    monkeypatch.setattr(courier, "BOUND", 50)
    taken.append(office.begin(8, body=b"x" * 1_000))
    with pytest.raises(LedgerUnavailable, match="too many"):
        await office.begin(9)
    office.signal(signal.SIGCONT)
    await asyncio.wait([*under_way, *taken], timeout=PATIENCE_SECONDS)
    assert outcomes([*under_way, *taken]) == {Verdict.NEW}
    assert (await office.begin(10)).verdict is Verdict.NEW
    assert office.courier._waiting_bytes == 0


async def test_heeds_no_signal(office: Office) -> None:
    """Ctrl-C and SIGTERM go to the whole group; they are the receiver's business, from the scribe's first moment."""
    office.signal(signal.SIGKILL)
    await until(lambda: not office.pid)
    process, end = courier._started()
    for number in courier.HELD_BACK:
        process.send_signal(number)
    end.close()
    assert await asyncio.to_thread(process.wait, PATIENCE_SECONDS) == 0
    pid = await office.ready()
    for number in courier.HELD_BACK:
        office.signal(number)
    assert (await office.begin(1)).verdict is Verdict.NEW
    assert office.pid == pid
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()).isdisjoint(courier.HELD_BACK)


def program(folder: Path, text: str) -> str:
    """Write a program that stands in for Python."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    "text", [None, "exit 7", "kill -9 $$", "printf '\\1\\0\\0\\0\\300' >&0; cat >/dev/null", "printf '\\9' >&0"]
)
async def test_scribe_that_cannot_be_had(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    """Gone, or ended, killed, talking nonsense before it is ready: the receiver writes itself, and tries again."""
    python = sys.executable
    monkeypatch.setattr(sys, "executable", program(tmp_path, text) if text is not None else str(tmp_path / "gone"))
    with capture_logs() as logs:
        office = Office(await open_ledger(settings, create=True, apart=True))
        await until(lambda: sum(line["event"] == "scribe.lost" for line in logs) >= 3)
        assert (await office.begin(1)).verdict is Verdict.NEW
    monkeypatch.setattr(sys, "executable", python)
    await office.ready()
    assert (await office.begin(2)).verdict is Verdict.NEW
    await office.ledger.close()


async def test_answer_that_fits_no_list(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers what nobody asked, or to another list, is let go; nobody waits for it."""
    ready_then_three_receipts = (
        r"printf '\0\0\0\0' >&0; grep -aqm1 asked; printf '\7\0\0\0\223\223\300\300\300\200\302' >&0"
    )
    monkeypatch.setattr(sys, "executable", program(tmp_path, f"{ready_then_three_receipts}; exec cat >/dev/null"))
    office = Office(await open_ledger(settings, create=True, apart=True))
    await office.ready()
    with capture_logs() as logs:
        told = office.ledger.record(fact(COMPLETED, body=b"asked\n"))
        with pytest.raises(LedgerUnavailable, match="may be stored"):
            await told
    assert "scribe.not_understood" in [line["event"] for line in logs]
    await office.ledger.close()


async def test_working_directory_is_no_place_to_import_from(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file there that is named like a module of ours or of Python's does no harm."""
    for name in ("json", "struct", "ringback", "secrets"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    office = Office(await open_ledger(settings, create=True, apart=True))
    await office.ready()
    await office.ledger.close()


def test_failed_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be made no descriptor is lost."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError, match="nowhere"):
            courier._started()
    assert len(os.listdir("/proc/self/fd")) == before

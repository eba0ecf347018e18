"""The writer: one poisonous item, cancelled callers, closing, loops that end, and a lock that somebody else holds."""

import asyncio
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ringback.errors import LedgerError, LedgerRejected, LedgerUnavailable
from ringback.ledger import Query
from ringback.ledger.sqlite import SqliteLedger, commits
from ringback.ledger.sqlite.lock import FileLock
from ringback.ledger.sqlite.thread import in_thread
from ringback.ledger.sqlite.writer import QUEUE_BOUND
from ringback.model import Receipt, Verdict

from .builders import COMPLETED, FAILED, NOW, PROCESSING, fact, new_task


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    """An empty SQLite ledger."""
    opened = await SqliteLedger.open(tmp_path / "ledger.db", create=True)
    yield opened
    await opened.close()


@contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """Hold the write lock as another process would: a lock belongs to the opened file, not to the process."""
    handle = os.open(path, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def nested(depth: int) -> dict[str, Any]:
    """Nest dictionaries."""
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"in": value}
    return value


POISON = {
    "surrogate": lambda: fact(COMPLETED, "task_bad", "p-bad", event_id="\ud800"),
    "nul": lambda: fact(COMPLETED, "task_bad", "p-bad", event_id="a\0b"),
    "nul after a backslash": lambda: fact(COMPLETED, "task_bad", "p-bad", event_id="a\\\0b"),
    "progress": lambda: fact(PROCESSING, "task_bad", "p-bad", progress=101),
    "31 digits": lambda: fact(PROCESSING, "task_bad", "p-bad", progress=10**30),
}


@pytest.mark.parametrize("name", POISON)
async def test_poison_harms_only_its_own_caller(ledger: SqliteLedger, name: str) -> None:
    """What cannot be stored is rejected; its neighbours in the batch are stored, in order."""
    arrivals = [fact(COMPLETED), POISON[name](), fact(FAILED), fact(COMPLETED, "task_b", "p-b")]
    receipts = await asyncio.gather(*map(ledger.record, arrivals), return_exceptions=True)
    verdicts = [receipt.verdict for receipt in receipts if isinstance(receipt, Receipt)]
    assert verdicts == [Verdict.NEW, Verdict.CONTRADICTED, Verdict.NEW]
    assert isinstance(receipts[1], LedgerRejected)
    assert {task.id for task in await ledger.tasks(Query())} == {"task_a", "task_b"}


async def test_backslashes_are_no_nul(ledger: SqliteLedger) -> None:
    """The six characters of an escaped NUL are ordinary text; a NUL in the user's own JSON is theirs to keep."""
    text = "\\u0000 \\\\u0000"
    await ledger.record(fact(COMPLETED, event_id=text))
    assert (await ledger.events(Query()))[0].provider_event_id == text
    added, _ = await ledger.add_task(new_task("task_b", key=text, metadata={"nul": "\0"}))
    assert (added.key, added.metadata) == (text, {"nul": "\0"})


@pytest.mark.parametrize("poison", [{"key": "a\0b"}, {"metadata": nested(10_000)}, {"price_microdollars": 2**70}])
async def test_poisonous_task_is_rejected(ledger: SqliteLedger, poison: dict[str, Any]) -> None:
    """A submission that cannot be stored is told so, and the one beside it is stored."""
    tasks = [new_task("task_bad", **poison), new_task("task_good")]
    bad, good = await asyncio.gather(*map(ledger.add_task, tasks), return_exceptions=True)
    assert isinstance(bad, LedgerRejected)
    assert good == (tasks[1], True)


async def test_same_id_twice_is_rejected(ledger: SqliteLedger) -> None:
    """An id that is taken cannot be stored again."""
    await ledger.add_task(new_task())
    with pytest.raises(LedgerRejected):
        await ledger.add_task(new_task())


async def test_schema_changed_underneath_is_trouble_not_refusal(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Where a table is missing all of a sudden callers are told to come again, and other statements go on."""
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("DROP TABLE rejections")
    calls = [ledger.reject({("qingbo", "mac"): 1}, NOW), ledger.record(fact(COMPLETED))]
    refused, stored = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, LedgerUnavailable)
    assert isinstance(stored, Receipt)
    with pytest.raises(LedgerError, match="cannot be read"):
        await ledger.summary(NOW)
    other.close()


@pytest.mark.slow
async def test_close_does_not_wait_for_ever(tmp_path: Path) -> None:
    """Where the lock cannot be had the ledger closes without it; what was acknowledged is in the file."""
    ledger = await SqliteLedger.open(tmp_path / "ledger.db", create=True)
    await ledger.record(fact(COMPLETED))
    with held_elsewhere(tmp_path / "ledger.db.lock"):
        async with asyncio.timeout(10):
            await ledger.close()
    again = await SqliteLedger.open(tmp_path / "ledger.db", create=False)
    assert len(await again.events(Query())) == 1
    await again.close()


async def test_cancelled_caller_is_written_all_the_same(ledger: SqliteLedger) -> None:
    """Who waits may give up; the writer does not."""
    first = asyncio.ensure_future(ledger.record(fact(COMPLETED)))
    await asyncio.sleep(0)
    first.cancel()
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.DUPLICATE
    assert first.cancelled()


async def test_close_finishes_what_was_begun(tmp_path: Path) -> None:
    """Requests that wait are written before the ledger closes; later ones are refused; the WAL is put away."""
    path = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(path, create=True)
    waiting = [asyncio.ensure_future(ledger.record(fact(COMPLETED, f"task_{n}", None))) for n in range(2_500)]
    await asyncio.sleep(0)
    await ledger.close()
    assert all(task.result().verdict is Verdict.NEW for task in waiting)
    await ledger.close()
    for call in (ledger.record(fact(COMPLETED)), ledger.tasks(Query())):
        with pytest.raises(LedgerUnavailable, match="closed"):
            await call
    assert not path.with_name("ledger.db-wal").exists()
    again = await SqliteLedger.open(path, create=False)
    assert len(await again.events(Query(limit=5_000))) == 2_500
    await again.close()


async def test_as_soon_as_nothing_waits_what_is_worth_it_is_put_into_the_database(
    ledger: SqliteLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint need not wait until there is a real pause."""
    monkeypatch.setattr(commits, "CALM_SECONDS", float("inf"))
    monkeypatch.setattr(commits, "CHECKPOINT_IDLE_SECONDS", 3600.0)
    path = tmp_path / "ledger.db"
    before = path.stat().st_size
    for number in range(commits.CALM_REQUESTS // commits.BATCH_COST):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}"))
    async with asyncio.timeout(30):
        while path.stat().st_size == before:  # noqa: ASYNC110 -- it tells nobody
            await asyncio.sleep(0.005)


async def test_queue_is_bounded(ledger: SqliteLedger) -> None:
    """More requests than the queue holds are turned away at once."""
    calls = [ledger.reject({("qingbo", "mac"): 1}, NOW) for _ in range(QUEUE_BOUND + 1)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[-1], LedgerUnavailable)
    assert results[:-1] == [None] * QUEUE_BOUND
    assert (await ledger.summary(NOW)).rejections == {("qingbo", "mac"): QUEUE_BOUND}


def test_loop_that_ends_can_still_write_and_close(tmp_path: Path) -> None:
    """A loop cancels the writer before it closes its generators; what those write and close last is not lost."""

    async def keeper(ledger: SqliteLedger) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await ledger.reject({("qingbo", "mac"): 1}, NOW)
            await ledger.close()

    async def use() -> AsyncIterator[None]:
        held = keeper(await SqliteLedger.open(tmp_path / "ledger.db", create=True))
        await anext(held)
        return held

    async def count() -> int:
        ledger = await SqliteLedger.open(tmp_path / "ledger.db", create=False)
        counts = (await ledger.summary(NOW)).rejections
        await ledger.close()
        return sum(counts.values())

    left = asyncio.run(use())
    assert asyncio.run(count()) == 1
    del left


def test_two_loops_share_one_file(tmp_path: Path) -> None:
    """Ledgers in loops of different threads write one file, and every request is answered."""
    path = tmp_path / "ledger.db"
    verdicts: list[Verdict] = []

    async def write() -> None:
        ledger = await SqliteLedger.open(path, create=True)
        for n in range(20):
            receipts = await asyncio.gather(*[ledger.record(fact(COMPLETED, f"task_{n}_{m}", None)) for m in range(5)])
            verdicts.extend(receipt.verdict for receipt in receipts)
        await ledger.close()

    threads = [threading.Thread(target=asyncio.run, args=(write(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == [Verdict.DUPLICATE] * 100 + [Verdict.NEW] * 100


@pytest.mark.slow
async def test_lock_held_too_long_is_told_and_heals(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Locked for over 2 s: all are told so, later ones sooner, no threads pile up, readers go on, and it heals."""
    with held_elsewhere(tmp_path / "ledger.db.lock"):
        for least, most in ((1.9, 2.6), (0.1, 0.8)):
            begun = time.monotonic()
            calls = [ledger.record(fact(COMPLETED)), ledger.reject({}, NOW), ledger.record(fact(FAILED))]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {LedgerUnavailable}
            assert least < time.monotonic() - begun < most
            assert "another process" in str(results[0])
        assert await ledger.tasks(Query()) == []
        assert sum(thread.name == "ringback-lock" for thread in threading.enumerate()) == 1
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.NEW
    assert (await ledger.record(fact(FAILED))).verdict is Verdict.CONTRADICTED


async def test_lock_held_shortly_is_waited_for(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Locked for a moment: the request waits and is written."""
    with held_elsewhere(tmp_path / "ledger.db.lock"):
        waiting = asyncio.ensure_future(ledger.record(fact(COMPLETED)))
        assert (await asyncio.wait([waiting], timeout=0.1))[0] == set()
    assert (await waiting).verdict is Verdict.NEW


def test_lock_excludes_threads_of_one_process(tmp_path: Path) -> None:
    """A second thread neither gets the lock nor unlocks it for the first; nor does it leave anything behind."""
    lock = FileLock(tmp_path / "some.lock")
    with lock.held():
        refused: list[Exception] = []

        def intrude() -> None:
            try:
                with lock.held(0.05):
                    pass
            except LedgerUnavailable as error:
                refused.append(error)

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
        assert "this process itself" in str(refused[0])
    with lock.held():
        pass
    lock.close()


def test_abandoned_wait_lets_go(tmp_path: Path) -> None:
    """A wait that nobody takes over lets go of the lock once it gets it; one whose file is gone ends in time."""
    path = tmp_path / "some.lock"
    lock, other = FileLock(path), FileLock(path)
    with held_elsewhere(path):
        for _ in range(2):
            with pytest.raises(LedgerUnavailable), lock.held(0.05):
                pass
    with other.held(1):
        pass
    with held_elsewhere(path):
        path.unlink()
        with pytest.raises(LedgerUnavailable), other.held(1):
            pass
    lock.close()
    with pytest.raises(LedgerUnavailable, match="cannot be locked"), lock.held(1):
        pass
    other.close()


async def test_functions_run_in_the_connections_thread(ledger: SqliteLedger) -> None:
    """The driver still runs any function in its own thread, and hands back results and errors; see thread.py."""
    connection = ledger._reader.connection

    def where(db: sqlite3.Connection, *, fail: bool = False) -> int:
        assert db.in_transaction is False
        if fail:
            raise LookupError
        return threading.get_ident()

    assert await in_thread(connection, where) == await in_thread(connection, where) != threading.get_ident()
    with pytest.raises(LookupError):
        await in_thread(connection, where, fail=True)

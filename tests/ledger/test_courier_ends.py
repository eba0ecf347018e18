"""How a courier ends: in order, too early, too late, and with a loop that ends before it."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from ringback.errors import LedgerUnavailable
from ringback.ledger import Query, courier, open_ledger
from ringback.model import Receipt, Verdict
from ringback.settings import Settings

from .offices import PATIENCE_SECONDS, Office, is_there, outcomes, until


async def test_close_finishes_what_was_begun(office: Office) -> None:
    """What was taken is written by the scribe before it goes; later arrivals are refused; twice is as once."""
    pid = office.pid
    waiting = [office.begin(number) for number in range(2_500)]
    await asyncio.sleep(0)
    waiting += [office.begin(number) for number in range(2_500, 3_000)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(office.ledger.close(), office.courier.close())
        await office.ledger.close()
    assert outcomes(waiting) == {Verdict.NEW}
    assert not is_there(pid)
    with pytest.raises(LedgerUnavailable, match="closed"):
        await office.begin(9_999)


async def test_close_while_arrivals_come(office: Office) -> None:
    """Whoever comes while it closes is told, one way or the other, and what was acknowledged is in the file."""
    told: list[asyncio.Future[Receipt]] = []

    async def come() -> None:
        while not (told and told[-1].done() and told[-1].exception()):
            told.append(office.begin(len(told)))
            await asyncio.sleep(0)

    coming = asyncio.create_task(come())
    await until(lambda: len(told) > 50)
    await office.ledger.close()
    await coming
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.wait(told)
    assert outcomes(told) == {Verdict.NEW, LedgerUnavailable}


async def test_close_before_it_is_ready(settings: Settings) -> None:
    """One that is not ready was given nothing, and nobody waits for it."""
    office = Office(await open_ledger(settings, create=True, apart=True))
    assert office.pid == 0
    await office.ledger.close()
    again = Office(await open_ledger(settings, create=True, apart=True))
    await asyncio.sleep(0.05)  # somewhere in its start
    assert (await again.begin(1)).verdict is Verdict.NEW
    async with asyncio.timeout(PATIENCE_SECONDS):
        await again.ledger.close()


async def test_close_does_not_wait_for_ever(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scribe that stands still is killed in the end, and who waits for it is told."""
    monkeypatch.setattr(courier, "END_SECONDS", 0.1)
    pid = office.pid
    office.signal(signal.SIGSTOP)
    told = office.begin(1)
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await office.ledger.close()
    with pytest.raises(LedgerUnavailable, match="may be stored"):
        await told
    assert not is_there(pid)


def test_loop_that_ends_can_still_write_and_close(settings: Settings) -> None:
    """A loop cancels all its tasks before what it holds is closed: nothing hangs, and no process is left."""
    pids: list[int] = []

    async def keeper(office: Office) -> AsyncIterator[None]:
        try:
            yield
        finally:
            assert (await office.begin(2)).verdict is Verdict.NEW
            await office.ledger.close()

    async def use() -> AsyncIterator[None]:
        office = Office(await open_ledger(settings, create=True, apart=True))
        held = keeper(office)
        await anext(held)
        pids.append(await office.ready())
        office.signal(signal.SIGSTOP)
        office.begin(1)
        await asyncio.sleep(0)
        office.signal(signal.SIGCONT)
        return held

    async def count() -> int:
        ledger = await open_ledger(settings)
        events = await ledger.events(Query())
        await ledger.close()
        return len(events)

    left = asyncio.run(use())
    assert not is_there(pids[0])
    assert asyncio.run(count()) == 2  # the scribe has stored what it was given, though nobody was told
    del left

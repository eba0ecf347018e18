"""The outcomes that a handler may choose, by raising or returning them."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from receiver import Discard, Event, Handlers, Retry, Snooze
from receiver.attempt import Ended
from receiver.threads import DaemonPool
from ringback.model import Outcome

from .receiver_case import attempted

MONTH = 86_400 * 30


@pytest.fixture
async def pool() -> AsyncIterator[DaemonPool]:
    """One thread."""
    made = DaemonPool(1)
    yield made
    made.close()


async def run(function: Callable[[Event], Any], pool: DaemonPool) -> Ended:
    """Run a function as the only handler."""
    handlers = Handlers()
    handlers.on("*", name="h")(function)
    return await attempted(handlers["h"], pool)


def four_ways(choice: Exception) -> list[Callable[[Event], Any]]:
    """Make handlers that raise or return it, on the loop and on a thread."""

    async def raises(_event: Event) -> None:
        raise choice

    async def returns(_event: Event) -> Exception:
        return choice

    def plainly_raises(_event: Event) -> None:
        raise choice

    def plainly_returns(_event: Event) -> Exception:
        return choice

    return [raises, returns, plainly_raises, plainly_returns]


async def test_snooze(pool: DaemonPool) -> None:
    """A snooze is no failure: it has a time and no traceback."""
    for handler in four_ways(Snooze(90)):
        ended = await run(handler, pool)
        assert ended == Ended(outcome=Outcome.SNOOZED, error="snoozed for 90 s", after=timedelta(seconds=90))


async def test_discard(pool: DaemonPool) -> None:
    """A discard has its reason, bounded and storable, and no traceback."""
    for handler in four_ways(Discard("gone\0" + "x" * 900)):
        ended = await run(handler, pool)
        assert ended == Ended(outcome=Outcome.DISCARDED, error="gone\\0" + "x" * 495)


async def test_retry(pool: DaemonPool) -> None:
    """A retry is a failure with a time; its traceback is kept where it was raised."""
    for handler in four_ways(Retry(after=0.5)):
        ended = await run(handler, pool)
        assert (ended.outcome, ended.error) == (Outcome.FAILED, "Retry: again after 0.5 s")
        assert ended.after == timedelta(seconds=0.5)
    assert "in raises" in ((await run(four_ways(Retry(after=1))[0], pool)).traceback or "")
    assert (await run(four_ways(Retry(after=1))[1], pool)).traceback is None


async def test_what_is_behind_a_retry(pool: DaemonPool) -> None:
    """The error that led to a retry is what is told of it, unless it was suppressed."""

    async def caused(_event: Event) -> None:
        raise Retry(after=1) from ValueError("429")

    async def within(_event: Event) -> None:
        try:
            raise ValueError("429")
        except ValueError:
            raise Retry(after=1)  # noqa: B904 -- what is tried here

    async def suppressed(_event: Event) -> None:
        try:
            raise ValueError("429")
        except ValueError:
            raise Retry(after=1) from None

    told = [await run(handler, pool) for handler in (caused, within, suppressed)]
    assert [ended.error for ended in told] == ["ValueError: 429", "ValueError: 429", "Retry: again after 1 s"]
    assert ["ValueError: 429" in (ended.traceback or "") for ended in told] == [True, True, False]


@pytest.mark.parametrize("seconds", [-1, MONTH + 1, float("nan"), float("inf"), 10**400])
def test_times_out_of_range(seconds: float) -> None:
    """A time is 0 to 30 days."""
    with pytest.raises(ValueError, match="expected 0 to 2592000 seconds"):
        Snooze(seconds)
    with pytest.raises(ValueError, match=r"Retry\(after=…\)"):
        Retry(after=seconds)
    assert (Snooze(MONTH).seconds, Retry(after=0).seconds) == (MONTH, 0)


@pytest.mark.parametrize("seconds", ["60", None, True, timedelta(seconds=1)])
def test_times_that_are_no_numbers(seconds: Any) -> None:
    """A time is a number of seconds."""
    with pytest.raises(TypeError, match="expected a number of seconds"):
        Snooze(seconds)


async def test_wrong_argument_is_a_failure(pool: DaemonPool) -> None:
    """A handler that chooses an outcome wrongly has failed, with the reason."""
    with pytest.raises(TypeError, match="expected a text, got int"):
        Discard(3)  # type: ignore[arg-type]

    async def wrong(_event: Event) -> None:
        raise Snooze(-1)

    ended = await run(wrong, pool)
    assert (ended.outcome, (ended.error or "")[:10]) == (Outcome.FAILED, "ValueError")

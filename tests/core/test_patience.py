"""One timer for all who wait."""

import asyncio
import time

from ringback.patience import LOOK_SECONDS, Patience


async def test_who_waits_too_long_is_given_up() -> None:
    """The time of each is its own, and one that waits no more is left alone."""
    loop = asyncio.get_running_loop()
    given_up: asyncio.Queue[str] = asyncio.Queue()
    over = {"done"}
    patience = Patience[str](over.__contains__, given_up.put_nowait)
    for name, seconds in (("done", 0.0), ("late", LOOK_SECONDS * 3), ("soon", 0.01)):
        patience.add(name, seconds, loop)
    begun = loop.time()
    assert [await given_up.get(), await given_up.get()] == ["soon", "late"]
    assert loop.time() - begun >= LOOK_SECONDS * 3
    await asyncio.sleep(LOOK_SECONDS * 1.5)
    assert given_up.empty()
    patience.add("again", 0.0)
    assert await given_up.get() == "again"


async def test_an_answer_that_came_while_the_loop_was_blocked_counts() -> None:
    """Who was answered in time is not given up because something kept the loop from telling it."""
    loop = asyncio.get_running_loop()
    given_up: list[asyncio.Future[int]] = []
    patience = Patience[asyncio.Future[int]](asyncio.Future.done, given_up.append)
    waiter: asyncio.Future[int] = loop.create_future()
    patience.add(waiter, LOOK_SECONDS / 2)

    def answer_and_block() -> None:
        loop.call_soon_threadsafe(waiter.set_result, 7)
        time.sleep(LOOK_SECONDS * 3)

    loop.call_later(LOOK_SECONDS / 4, answer_and_block)
    assert await waiter == 7
    await asyncio.sleep(LOOK_SECONDS * 1.5)
    assert given_up == []

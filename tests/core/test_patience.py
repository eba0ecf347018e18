"""One timer for all who wait."""

import asyncio
import time
import weakref

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


class _Waiter:
    """Somebody who waits until he is told."""

    def __init__(self) -> None:
        self.is_told = False


async def test_who_waits_no_more_is_let_go_by_who_comes() -> None:
    """A crowd that was answered is not kept until the timer looks: those who come free it, two by each."""
    patience = Patience[_Waiter](lambda waiter: waiter.is_told, lambda _: None)
    crowd = [_Waiter() for _ in range(40)]
    for waiter in crowd:
        patience.add(waiter, 60.0)
        waiter.is_told = True
    kept = weakref.WeakSet(crowd)
    del waiter, crowd
    assert len(kept) <= 1
    first = _Waiter()  # who still waits holds up those behind him, until the timer looks
    behind = [_Waiter() for _ in range(5)]
    for each in (first, *behind):
        patience.add(each, 60.0)
    for each in behind:
        each.is_told = True
    kept = weakref.WeakSet(behind)
    del each, behind
    assert len(kept) == 5
    first.is_told = True
    for _ in range(3):
        patience.add(first, 60.0)
    assert not kept

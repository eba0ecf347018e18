"""The built-in handler and its neighbours: no result keeps the others from being stored, no download the handlers."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from receiver import Event, Handlers
from ringback.ledger import STORE_RESULTS, KeptResult, Process, Share, Turn
from ringback.model import DeliveryState
from ringback.results.keeper import Wanted
from tests.outbound.site import Asked, Items, head, serving, whole

from .stand import film, standing, url_of
from .test_storing import of, work


async def test_a_result_that_takes_all_the_time_leaves_some_for_the_others(tmp_path: Path) -> None:
    """A server that never ends counts as a failure, and the next attempt begins with another result."""
    async with standing(tmp_path, results_timeout_seconds=60) as stand, serving(film) as site:

        def reply(asked: Asked) -> Items:
            if asked.target != "/slow.mp4":
                return film(asked)
            stand.now[0] += timedelta(seconds=61)
            return whole(b"busy", 503)

        site.reply = reply
        await stand.completed(url_of(site, "/slow.mp4"), url_of(site, "/good.mp4"))
        await work(stand.worker())
        (owed,) = await of(stand.ledger)
        assert [(attempt.outcome, stand.files()) for attempt in owed.attempts] == [("failed", [])]
        stand.now[0] = owed.delivery.due_at
        await work(stand.worker())
        assert [asked.target for asked in site.asked] == ["/slow.mp4", "/good.mp4", "/slow.mp4"]
        assert len(stand.files()) == 1


@pytest.mark.parametrize("lapsed", [STORE_RESULTS, "bill"])
async def test_storing_keeps_nobody_waiting_after_a_crash(tmp_path: Path, lapsed: str) -> None:
    """What lapsed runs alone in its worker, but storing takes long: it is neither waited for, nor alone itself."""
    handlers, billed, begun, finish = Handlers(), asyncio.Queue[str](), asyncio.Event(), asyncio.Event()

    @handlers.on("task.completed", name="bill")
    async def bill(event: Event) -> None:
        billed.put_nowait(event.id)

    async with standing(tmp_path) as stand, serving(film) as site:
        keeper = stand.keeper()
        keep = keeper.keep

        async def slow(wanted: Wanted) -> KeptResult:
            begun.set()
            await finish.wait()
            return await keep(wanted)

        keeper.keep = slow  # type: ignore[method-assign]
        stand.keeper = lambda refresh=None: keeper  # type: ignore[method-assign] # noqa: ARG005
        worker, stop = stand.worker(handlers), asyncio.Event()
        await stand.worker(handlers).run_once(5)  # all are known
        first = await stand.completed(url_of(site))
        doomed = Process(id="doomed", role="worker", host="h", pid=1, started_at=stand.now[0])
        await stand.ledger.beat(doomed, stand.now[0], stand.now[0])
        shares = {lapsed: Share(room=1, soonest=True)}
        for _ in range(2):  # one to fan out, one to claim
            await stand.ledger.turn(Turn(process=doomed, now=stand.now[0], shares=shares, limit=1, fan_out=9))
        (owed,) = await of(stand.ledger, lapsed)
        assert (owed.delivery.event_id, owed.delivery.worker) == (first.event_id, "doomed")
        stand.now[0] += timedelta(minutes=5)
        running = asyncio.create_task(worker.run(stop))
        async with asyncio.timeout(20):
            await begun.wait()
            further = await stand.completed(url_of(site))
            assert {await billed.get(), await billed.get()} == {first.event_id, further.event_id}
            finish.set()
            stop.set()
            await running
        assert {owed.delivery.lapses for owed in await of(stand.ledger, lapsed)} == {0, 1}


async def test_nothing_untried_is_given_up(tmp_path: Path) -> None:
    """Where one is lost for good before the time was up, those that were not reached are tried all the same."""
    async with standing(tmp_path, results_timeout_seconds=60) as stand, serving(film) as site:

        def reply(asked: Asked) -> Items:
            if asked.target == "/lost.mp4":
                stand.now[0] += timedelta(seconds=61)
                return [head(302, {"location": "ftp://media.local/", "content-length": 0})]
            return film(asked)

        site.reply = reply
        await stand.completed(url_of(site, "/lost.mp4"), url_of(site, "/good.mp4"))
        await work(stand.worker())
        (owed,) = await of(stand.ledger)
        assert owed.delivery.state is DeliveryState.PENDING
        stand.now[0] = owed.delivery.due_at
        await work(stand.worker())
        (owed,) = await of(stand.ledger)
        assert (owed.delivery.state, len(stand.files())) == (DeliveryState.DISCARDED, 1)

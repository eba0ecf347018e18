"""The built-in handler, run by a worker: order, limits, retries, giving up, and those who wait for it."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver import Event, Handlers
from receiver.storing import PATIENCE, Failure, Storing
from receiver.worker import Worker
from ringback.errors import DownloadExpired, DownloadInterrupted, DownloadRefused, HandlersError, StorageError
from ringback.ledger import STORE_RESULTS, CountResults, KeptResult, Ledger, Owed, Query
from ringback.model import DeliveryState, Result
from ringback.results.spool import Piece
from ringback.results.watch import Watch
from tests.ledger.builders import NOW
from tests.outbound.site import VIDEO, Asked, Items, serving, whole
from tests.receiver.receiver_case import listening, view

from .stand import film, fresh, standing, url_of


async def of(ledger: Ledger, handler: str = STORE_RESULTS) -> list[Owed]:
    """List the deliveries of a handler, oldest first."""
    return list(reversed(await ledger.deliveries(Query(handler=handler, limit=100))))


async def work(worker: Worker) -> int:
    """Run what is due."""
    return await worker.run_once(20)


async def test_a_completed_task_has_its_results_stored(tmp_path: Path) -> None:
    """All of them, by one delivery, under their places."""
    async with standing(tmp_path) as stand, serving(film) as site:
        wanted = await stand.completed(url_of(site, "/a.mp4"), url_of(site, "/b.webm"))
        await work(stand.worker())
        assert stand.files() == [f"{wanted.task.id}/0.mp4", f"{wanted.task.id}/1.mp4"]
        (owed,) = await of(stand.ledger)
        assert (owed.delivery.state, owed.delivery.attempts) == (DeliveryState.SUCCEEDED, 1)


async def test_the_soonest_to_expire_come_first(tmp_path: Path) -> None:
    """Whatever was completed first: the URL that ends first is fetched first, and one at a time where so set."""
    async with standing(tmp_path, results_concurrency=1) as stand, serving(film) as site:
        for hours in (5, 2, 9, 1):
            await stand.completed(url_of(site, f"/{hours}.mp4"), life=timedelta(hours=hours))
        await work(stand.worker())
        assert [asked.target for asked in site.asked] == ["/1.mp4", "/2.mp4", "/5.mp4", "/9.mp4"]


async def test_no_more_at_once_than_set(tmp_path: Path) -> None:
    """RINGBACK_RESULTS_CONCURRENCY holds for all results."""
    running: list[int] = []
    now = 0

    async with standing(tmp_path, results_concurrency=2) as stand, serving(film) as site:
        for number in range(6):
            await stand.completed(url_of(site, f"/{number}.mp4"))
        keeper = stand.keeper()
        keep = keeper.keep

        async def counted(wanted: Any) -> Any:
            nonlocal now
            now += 1
            running.append(now)
            try:
                return await keep(wanted)
            finally:
                now -= 1

        keeper.keep = counted  # type: ignore[method-assign]
        stand.keeper = lambda refresh=None: keeper  # type: ignore[method-assign] # noqa: ARG005
        await work(stand.worker())
        assert len(running) == 6
        assert max(running) == 2


async def test_a_handler_that_waits_sees_what_is_stored(tmp_path: Path) -> None:
    """With `stored=True` it runs when storing has ended, without an attempt before; others do not wait."""
    seen: list[str | None] = []
    order: list[str] = []
    handlers = Handlers()

    @handlers.on("task.completed", stored=True, name="publish")
    async def publish(event: Event) -> None:
        seen.append(event.results[0].stored_url)
        order.append("publish")

    @handlers.on("task.completed", name="at-once")
    async def at_once(event: Event) -> None:
        order.append("at-once" if event.results[0].stored_url is None else "late")

    async with standing(tmp_path) as stand, serving(film) as site:
        wanted = await stand.completed(url_of(site))
        await work(stand.worker(handlers))
        assert order == ["at-once", "publish"]
        assert seen == [f"file://{stand.folder}/{wanted.task.id}/0.mp4"]
        (owed,) = await of(stand.ledger, "publish")
        assert [attempt.number for attempt in owed.attempts] == [1]


async def test_a_handler_that_waits_runs_anyway_when_storing_is_given_up(tmp_path: Path) -> None:
    """What cannot be stored must not keep the rest of the work from being done."""
    seen: list[str | None] = []
    handlers = Handlers()

    @handlers.on("task.completed", stored=True, name="publish")
    async def publish(event: Event) -> None:
        seen.append(event.results[0].stored_url)

    async with standing(tmp_path, allow="") as stand, serving(film) as site:
        await stand.completed(url_of(site))
        await work(stand.worker(handlers))
        assert seen == [None]
        (owed,) = await of(stand.ledger)
        assert owed.delivery.state is DeliveryState.DISCARDED
        assert "not a public address" in (owed.delivery.reason or "")
        assert site.connections == 0


async def test_a_handler_that_waits_does_not_wait_for_nobody(tmp_path: Path) -> None:
    """Where storing was never on, or every URL has ended, it runs at once."""
    seen: list[str] = []
    handlers = Handlers()

    @handlers.on("task.completed", stored=True, name="publish")
    async def publish(event: Event) -> None:
        seen.append(event.id)

    async with standing(tmp_path) as stand, serving(film) as site:
        await stand.completed(url_of(site))
        worker = Worker(stand.settings, stand.ledger, handlers, clock=lambda: stand.now[0])
        await work(worker)
        assert len(seen) == 1
        await work(stand.worker())  # which makes storing known
        await stand.completed(url_of(site), life=timedelta(hours=2))
        await work(worker)
        assert len(seen) == 1
        stand.now[0] += timedelta(hours=3)
        await work(worker)
        assert len(seen) == 2


async def test_what_may_work_later_is_tried_again_well_before_the_end(tmp_path: Path) -> None:
    """A broken server counts as an attempt; the next comes within a quarter of what is left."""

    def reply(asked: Asked) -> Items:
        return film(asked) if len(site.asked) > 1 else whole(b"busy", 503)

    async with standing(tmp_path) as stand, serving(reply) as site:
        await stand.completed(url_of(site), life=timedelta(minutes=2))
        await work(stand.worker())
        (owed,) = await of(stand.ledger)
        assert owed.delivery.state is DeliveryState.PENDING
        assert "answered 503" in (owed.delivery.reason or "")
        stand.now[0] = owed.delivery.due_at
        await work(stand.worker())
        (owed,) = await of(stand.ledger)
        assert (owed.delivery.state, owed.delivery.attempts) == (DeliveryState.SUCCEEDED, 2)


async def test_an_expired_url_is_tried_until_its_end_and_then_given_up(tmp_path: Path) -> None:
    """Within its life it may yet work; past it, with no fresh one, the delivery is discarded and says why."""
    async with standing(tmp_path) as stand, serving(whole(b"no", 404)) as site:
        wanted = await stand.completed(url_of(site), life=timedelta(hours=2))
        refresh = fresh(wanted.result)
        await work(stand.worker(refresh=refresh))
        (owed,) = await of(stand.ledger)
        assert owed.delivery.state is DeliveryState.PENDING
        stand.now[0] += timedelta(hours=3)
        await work(stand.worker(refresh=refresh))
        (owed,) = await of(stand.ledger)
        assert owed.delivery.state is DeliveryState.DISCARDED
        assert "answered 404" in (owed.delivery.reason or "")
        assert stand.left() == []


async def test_an_end_that_nobody_told_is_one_for_the_ledger_and_for_storing(tmp_path: Path) -> None:
    """A provider's other results may end sooner: what is listed as alive is not given up."""
    async with standing(tmp_path) as stand, serving(whole(b"no", 404)) as site:
        await stand.completed(url_of(site), life=None, kind="file", provider="minimax")
        (row,) = await stand.rows()
        for after, state in ((-60, DeliveryState.PENDING), (1, DeliveryState.DISCARDED)):
            stand.now[0] = row.expires_at + timedelta(seconds=after)
            with capture_logs() as logs:
                await work(stand.worker())
            (told,) = (line["expires_at"] for line in logs if line["event"] == "result.not_stored")
            assert told == row.expires_at.isoformat()
            (owed,) = await of(stand.ledger)
            assert owed.delivery.state is state


async def test_a_fresh_url_saves_what_has_expired(tmp_path: Path) -> None:
    """Even after its end, a fresh URL of the provider's is enough."""

    def reply(asked: Asked) -> Items:
        return film(asked) if asked.target == "/new.mp4" else whole(b"no", 403)

    async with standing(tmp_path) as stand, serving(reply) as site:
        await stand.completed(url_of(site), life=timedelta(hours=1))
        stand.now[0] += timedelta(days=3)
        await work(stand.worker(refresh=fresh(Result(kind="video", url=url_of(site, "/new.mp4")))))
        (owed,) = await of(stand.ledger)
        assert owed.delivery.state is DeliveryState.SUCCEEDED
        assert stand.files() != []


async def test_one_that_fails_does_not_keep_the_others(tmp_path: Path) -> None:
    """The good ones are stored; what is left is what is tried again."""

    def reply(asked: Asked) -> Items:
        return whole(b"busy", 503) if asked.target == "/0.mp4" and len(site.asked) < 3 else film(asked)

    async with standing(tmp_path) as stand, serving(reply) as site:
        await stand.completed(url_of(site, "/0.mp4"), url_of(site, "/1.mp4"))
        await work(stand.worker())
        assert len(stand.files()) == 1
        stand.now[0] += timedelta(minutes=1)
        await work(stand.worker())
        assert len(stand.files()) == 2
        assert [asked.target for asked in site.asked] == ["/0.mp4", "/1.mp4", "/0.mp4"]


async def test_a_long_row_of_results_is_stored_in_several_turns(tmp_path: Path) -> None:
    """When its time is used up an attempt puts the rest off, which counts as no failure."""
    async with standing(tmp_path, results_timeout_seconds=60) as stand, serving(film) as site:

        def reply(asked: Asked) -> Items:
            stand.now[0] += timedelta(seconds=61)
            return film(asked)

        site.reply = reply
        await stand.completed(url_of(site, "/0.mp4"), url_of(site, "/1.mp4"))
        await work(stand.worker())
        (owed,) = await of(stand.ledger)
        assert [attempt.outcome for attempt in owed.attempts] == ["snoozed", "succeeded"]
        assert owed.delivery.attempts == 1


async def test_the_alarm_names_what_is_about_to_be_lost_once(tmp_path: Path) -> None:
    """A result that is not stored and has less than an hour; later it counts as lost."""
    async with standing(tmp_path) as stand, serving(film) as site:
        await work(stand.worker())  # storing is known
        wanted = await stand.completed(url_of(site), life=timedelta(minutes=50))
        await stand.completed(url_of(site), life=timedelta(hours=50))
        watch = Watch(stand.ledger, lambda: stand.now[0])
        with listening() as said:
            assert await watch.look() is not None
            await watch.look()
        (line,) = [line for line in said.entries if line["event"] == "result.expiring"]
        assert (line["task"], line["minutes"]) == (wanted.task.id, 50)
        counts = await stand.ledger.report(CountResults(now=stand.now[0] + timedelta(hours=1)))
        assert (counts.waiting, counts.lost, counts.expiring) == (2, 1, ())
        await work(stand.worker())
        counts = await stand.ledger.report(CountResults(now=stand.now[0]))
        assert (counts.stored, counts.stored_bytes, counts.waiting) == (2, 2 * len(VIDEO), 0)


async def test_many_alarms_are_few_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first are named, the others counted; and none is told again, however many they are."""
    monkeypatch.setattr("ringback.results.watch.TOLD_AT_ONCE", 2)
    async with standing(tmp_path) as stand:
        await work(stand.worker())
        for number in range(4):
            await stand.completed(f"https://cdn.example/{number}", life=timedelta(minutes=5 + number))
        watch = Watch(stand.ledger, lambda: stand.now[0])
        with listening() as said:
            for _ in range(3):
                await watch.look()
        lines = [line for line in said.entries if line["event"] == "result.expiring"]
        assert [line.get("minutes") for line in lines] == [5, 6, None]
        assert lines[-1]["more"] == 2


async def test_what_is_left_of_a_crash_is_cleared_away(tmp_path: Path) -> None:
    """A result that was written down just before its process died leaves bytes behind; the next attempt takes them."""
    async with standing(tmp_path) as stand, serving(whole(b"busy", 503)) as site:
        wanted = await stand.completed(url_of(site), url_of(site, "/b.mp4"))
        await work(stand.worker())
        kept = KeptResult(
            event_id=wanted.event_id,
            position=0,
            stored_url="s3://films/0.mp4",
            size=3,
            sha256="0" * 64,
            content_type=None,
            stored_at=stand.now[0],
        )
        await stand.ledger.keep_result(kept)
        piece = Piece.open(stand.place.spool, f"{wanted.task.id}.0")
        piece.begin("https://cdn.example/a", None, None, None)
        piece.append(b"abc")
        stand.now[0] += timedelta(hours=1)
        with listening() as said:
            await work(stand.worker())  # somebody has it still
        assert "result.left_over" in [line["event"] for line in said.entries]
        piece.close()
        stand.now[0] += timedelta(hours=2)
        await work(stand.worker())
        assert stand.left() == []


async def test_an_event_without_a_task_has_nothing_to_store(tmp_path: Path) -> None:
    """It cannot be, and does no harm."""
    async with standing(tmp_path) as stand:
        storing = Storing(stand.settings, stand.keeper())
        assert await storing.store(view(task=None)) is None
        assert stand.left() == []


async def test_the_watch_ends_when_told_and_outlives_a_closed_ledger(tmp_path: Path) -> None:
    """It is a part of a process like any other."""
    async with standing(tmp_path) as stand:
        stop = asyncio.Event()
        running = asyncio.create_task(Watch(stand.ledger).run(stop))
        await asyncio.sleep(0)
        stop.set()
        await asyncio.wait_for(running, 5)
        await stand.ledger.close()
        assert await Watch(stand.ledger).look() is None


def test_when_to_try_again() -> None:
    """As the policy says, within a quarter of what is left but for half a minute, and what the other side asks."""

    def failed(error: Exception, left: float) -> tuple[float, bool]:
        now = NOW
        failure = Failure(None, now + timedelta(seconds=left), error)  # type: ignore[arg-type]
        return failure.after_seconds(9, now), failure.is_over(now)

    assert failed(StorageError("x"), 86_400) == (3600.0, False)
    assert failed(StorageError("x"), 400) == (100.0, False)
    assert failed(StorageError("x"), 20) == (30.0, False)
    assert failed(StorageError("x"), -20) == (3600.0, False)
    assert failed(StorageError("x"), -PATIENCE.total_seconds()) == (3600.0, True)
    assert failed(DownloadInterrupted("x", retry_after_seconds=200), 400) == (200.0, False)
    assert failed(DownloadInterrupted("x", retry_after_seconds=999_999), 400) == (200.0, False)
    assert failed(DownloadInterrupted("x", retry_after_seconds=999_999), -1) == (999_999.0, False)
    assert failed(DownloadExpired("x"), 0) == (3600.0, True)
    assert failed(DownloadRefused("x"), 400)[1]


def test_its_name_is_taken() -> None:
    """A handler of the user's cannot be called like the built-in one, nor wait for half a result."""
    handlers = Handlers()

    @handlers.on("task.completed", name=STORE_RESULTS)
    async def mine(event: Event) -> None:
        """Stand in the way."""

    with pytest.raises(HandlersError, match="of Ringback's own"):
        handlers.plus(handlers[STORE_RESULTS])
    with pytest.raises(HandlersError, match="expected True or False"):
        handlers.on("task.completed", stored="yes")  # type: ignore[arg-type]

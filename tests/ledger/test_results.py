"""Stored results: written down, shown with their events, listed, counted, waited for, and gone with their event."""

from datetime import timedelta
from typing import Any

import pytest

from ringback.ledger import (
    STORE_RESULTS,
    CountResults,
    KeptResult,
    Ledger,
    ListResults,
    Prune,
    Query,
    ResultCounts,
    ResultRow,
    Share,
    Turn,
)
from ringback.model import DeliveryState, Outcome, Reading, Result

from .builders import (
    ANY,
    COMPLETED,
    FAILED,
    LONG_AGO,
    NOW,
    at,
    claim,
    ended,
    fact,
    registered,
    settle,
    worker,
    working,
)

STORED, PENDING = DeliveryState.SUCCEEDED, DeliveryState.PENDING
VIDEOS = "https://cdn.example"


async def completed(ledger: Ledger, name: str, *lives: float | None, seconds: float = 0) -> str:
    """Have a task complete with results whose URLs end so many seconds after NOW; gives its event."""
    results = tuple(
        Result(kind="video", url=f"{VIDEOS}/{name}/{place}", expires_at=None if life is None else at(life))
        for place, life in enumerate(lives)
    )
    said = Reading(status=COMPLETED, provider_id=f"p-{name}", results=results)
    receipt = await ledger.record(fact(COMPLETED, f"task_{name}", reading=said, seconds=seconds))
    assert receipt.event_id is not None
    return receipt.event_id


def kept(event_id: str, position: int = 0, **more: Any) -> KeptResult:
    """Say that a result is stored."""
    values: dict[str, Any] = {
        "stored_url": f"file:///kept/{position}.mp4",
        "size": 10,
        "sha256": "a" * 64,
        "content_type": "video/mp4",
    }
    return KeptResult(event_id=event_id, position=position, stored_at=at(5), **values | more)


async def rows(ledger: Ledger, **ask: Any) -> tuple[ResultRow, ...]:
    """List results."""
    return await ledger.report(ListResults(**ask))


async def counts(ledger: Ledger, seconds: float = 0) -> ResultCounts:
    """Count results."""
    return await ledger.report(CountResults(now=at(seconds)))


async def turn(ledger: Ledger, seconds: float, fan_out: int = 0, **shares: Share) -> list[str]:
    """Take a worker's turn; gives the tasks of what begins, in order, with the handler."""
    named = {name.replace("_", "-"): share for name, share in shares.items()}
    named = {STORE_RESULTS if name == "store" else name: share for name, share in named.items()}
    found = await ledger.turn(Turn(process=worker(), now=at(seconds), shares=named, limit=100, fan_out=fan_out))
    return [f"{work.delivery.handler} {work.task.id if work.task else '-'}" for work in found.works]


async def test_what_is_stored_is_shown_with_its_event(ledger: Ledger) -> None:
    """In the list, in the task's story, to the handler that claims it; the other results stay as they are."""
    event_id = await completed(ledger, "a", 60, 60)
    await working(ledger, "h")
    assert await ledger.keep_result(kept(event_id, 1))
    await turn(ledger, 1, fan_out=10)
    (event,) = await ledger.events(Query(event_id=event_id))
    assert [result.stored_url for result in event.results] == [None, "file:///kept/1.mp4"]
    assert (event.results[1].size, event.results[1].sha256) == (10, "a" * 64)
    assert (await ledger.story("task_a")).events[0] == event
    (work,) = await claim(ledger)
    assert work.event.results == event.results


async def test_what_was_stored_last_counts(ledger: Ledger) -> None:
    """Stored again elsewhere: one row, the newer one."""
    event_id = await completed(ledger, "a", 60)
    assert await ledger.keep_result(kept(event_id))
    assert await ledger.keep_result(kept(event_id, stored_url="s3://films/0.mp4", content_type=None))
    (row,) = await rows(ledger)
    assert row.kept == kept(event_id, stored_url="s3://films/0.mp4", content_type=None)
    assert (row.task_id, row.provider, row.position, row.expires_at) == ("task_a", "qingbo", 0, at(60))


async def test_a_result_of_an_event_that_is_gone_is_not_written(ledger: Ledger) -> None:
    """Whoever stored it learns so, and its neighbour in the same batch is written."""
    event_id = await completed(ledger, "a", 60)
    assert not await ledger.keep_result(kept("evt_gone"))
    assert await ledger.keep_result(kept(event_id))
    assert len(await rows(ledger)) == 1


async def test_the_list_goes_from_page_to_page(ledger: Ledger) -> None:
    """Newest event first, all results of each, and those of one task alone."""
    for number in range(5):
        await completed(ledger, str(number), 60, 90, seconds=number)
    first = await rows(ledger, limit=2)
    assert [(row.task_id, row.position) for row in first] == [
        *(("task_4", 0), ("task_4", 1), ("task_3", 0), ("task_3", 1))
    ]
    second = await rows(ledger, limit=10, below=min(row.seq for row in first))
    assert [row.task_id for row in second] == ["task_2", "task_2", "task_1", "task_1", "task_0", "task_0"]
    assert [row.expires_at for row in await rows(ledger, task_id="task_1")] == [at(60), at(90)]
    assert await rows(ledger, task_id="task_x") == ()


async def test_what_has_no_results_is_not_listed(ledger: Ledger) -> None:
    """A failed task, and one that completed with nothing."""
    await ledger.record(fact(FAILED, "task_f", "p-f"))
    await completed(ledger, "empty")
    assert await rows(ledger) == ()


async def test_nothing_waits_where_storing_was_never_on(ledger: Ledger) -> None:
    """Else every ledger without a place would be full of alarms."""
    event_id = await completed(ledger, "a", 60)
    assert await counts(ledger) == ResultCounts()
    await ledger.keep_result(kept(event_id))
    assert await counts(ledger) == ResultCounts(stored=1, stored_bytes=10)


async def test_what_waits_is_counted_by_what_will_become_of_it(ledger: Ledger) -> None:
    """Fanned out or not, running, given up; and what is about to be lost, soonest first."""
    await working(ledger, STORE_RESULTS)
    await completed(ledger, "a", 7000, None)
    await completed(ledger, "b", 1800)
    assert (await counts(ledger)).waiting == 3
    await turn(ledger, 1, fan_out=10)
    found = await counts(ledger)
    assert (found.waiting, [row.task_id for row in found.expiring]) == (3, ["task_b"])
    works = await claim(ledger, STORE_RESULTS)
    given_up = next(work for work in works if work.task and work.task.id == "task_b")
    await settle(ledger, [ended(given_up, Outcome.DISCARDED, DeliveryState.DISCARDED)])
    found = await counts(ledger, 3500)
    assert (found.waiting, found.given_up, found.lost) == (2, 1, 1)
    assert [(row.task_id, row.position) for row in found.expiring] == [("task_a", 0)]
    found = await counts(ledger, 24 * 3600 - 60)  # of whose end nobody told, it comes a day later
    assert [(row.task_id, row.position) for row in found.expiring] == [("task_a", 1)]
    await ledger.keep_result(kept(given_up.event.id))
    assert (await counts(ledger, 3500)).given_up == 0


async def test_the_soonest_to_end_begin_first(ledger: Ledger) -> None:
    """Among those that are due, and without taking the place of other handlers' deliveries."""
    await working(ledger, STORE_RESULTS, "h")
    for name, life in (("a", 500), ("b", 100), ("c", 900), ("d", 50)):
        await completed(ledger, name, life, 10_000)
    await turn(ledger, 1, fan_out=10)
    store = Share(room=3, soonest=True, concurrency=3)
    begun = await turn(ledger, 2, store=store)
    assert begun == [f"{STORE_RESULTS} task_{name}" for name in "dba"]
    assert await turn(ledger, 3, h=Share(room=9)) == ["h task_a", "h task_b", "h task_c", "h task_d"]


async def test_who_waits_for_results_begins_when_storing_ends(ledger: Ledger) -> None:
    """It is put off without an attempt, and nudged: by the turn that settles the storing, however that ended."""
    await working(ledger, STORE_RESULTS, "h")
    await completed(ledger, "a", 5000)
    await completed(ledger, "b", 5000)
    waits = Share(room=9, stored=True)
    assert await turn(ledger, 1, fan_out=10, h=waits) == []
    assert await turn(ledger, 2, h=waits) == []
    works = await claim(ledger, STORE_RESULTS, 3)
    outcomes = {"task_a": (Outcome.SUCCEEDED, STORED), "task_b": (Outcome.FAILED, PENDING)}
    await settle(ledger, [ended(work, *outcomes[work.task.id], seconds=4) for work in works if work.task])
    assert await turn(ledger, 5, h=waits) == ["h task_a"]
    (again,) = await claim(ledger, STORE_RESULTS, 6)
    await settle(ledger, [ended(again, Outcome.DISCARDED, DeliveryState.DISCARDED, seconds=7)])
    assert await turn(ledger, 8, h=waits) == ["h task_b"]
    owed = await ledger.deliveries(Query(handler="h"))
    assert {(one.delivery.attempts, len(one.attempts)) for one in owed} == {(1, 1)}


async def test_who_waits_looks_again_and_ends_with_the_urls(ledger: Ledger) -> None:
    """Where nobody stores, a minute later and every minute; not beyond the life of the results."""
    await working(ledger, STORE_RESULTS, "h")
    await completed(ledger, "a", 100)
    waits = Share(room=9, stored=True)
    assert await turn(ledger, 1, fan_out=10, h=waits) == []
    (owed,) = await ledger.deliveries(Query(handler="h"))
    assert owed.delivery.due_at == at(1)
    assert await turn(ledger, 2, h=waits) == []
    (owed,) = await ledger.deliveries(Query(handler="h"))
    assert (owed.delivery.due_at, owed.delivery.state) == (at(62), PENDING)
    assert await turn(ledger, 63, h=waits) == []
    assert await turn(ledger, 124, h=waits) == ["h task_a"]


async def test_what_was_put_off_holds_up_nobody_of_its_key(ledger: Ledger) -> None:
    """Of two of one key, the one whose results are stored begins, though it came later."""
    await working(ledger, STORE_RESULTS, "h")
    await completed(ledger, "a", 5000)
    second = await completed(ledger, "b", 5000, seconds=1)
    waits = Share(room=9, stored=True, keyed=True)
    await turn(ledger, 1, fan_out=10)
    works = await claim(ledger, STORE_RESULTS, 2)
    done = next(work for work in works if work.event.id == second)
    found = await ledger.deliveries(Query(handler="h"))
    keys = {owed.delivery.id: "k" for owed in found}
    await ledger.turn(Turn(process=worker(), now=at(2), keys=keys))
    assert await turn(ledger, 3, h=waits) == []
    await settle(ledger, [ended(done, Outcome.SUCCEEDED, STORED, seconds=4)])
    assert await turn(ledger, 5, h=waits) == ["h task_b"]


@pytest.mark.parametrize(("days", "left"), [(1, 1), (40, 0), (400, 0)])
async def test_pruning_takes_what_is_known_of_them(ledger: Ledger, days: int, left: int) -> None:
    """With the rest of their event; what was stored stays where it is."""
    event_id = await completed(ledger, "a", 60)
    await working(ledger, "h", patterns=())
    await turn(ledger, 1, fan_out=10)
    await ledger.keep_result(kept(event_id))
    now = NOW + timedelta(days=days)
    prune = Prune(
        now=now, bodies_before=None, rest_before=now - timedelta(days=30), keys_before=now - timedelta(days=90)
    )
    while True:
        step = await ledger.act(prune)
        if step.next is None:
            break
        prune = Prune(
            now=now, bodies_before=None, rest_before=prune.rest_before, keys_before=prune.keys_before, after=step.next
        )
    assert (await counts(ledger)).stored == left


async def test_a_worker_tells_of_handlers_as_before(ledger: Ledger) -> None:
    """The built-in handler is one among others to the ledger."""
    await ledger.beat(worker(), NOW, LONG_AGO, registered({STORE_RESULTS: ANY}))
    assert set((await ledger.summary(NOW)).handlers) == {STORE_RESULTS}

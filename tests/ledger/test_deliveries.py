"""Fanning out, claiming, settling and lapsing: at least one run per event and handler, behind a fence."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest
from msgspec import structs

from ringback.errors import LedgerRejected
from ringback.ledger import Ledger, Pattern, Query, Registration, Turned, beat_from_thread
from ringback.model import Delivery, DeliveryState, Form, Kind, Outcome

from .builders import (
    COMPLETED,
    FAILED,
    LONG_AGO,
    NOW,
    PROCESSING,
    at,
    claim,
    claims,
    ended,
    fact,
    fan_out,
    next_due,
    other,
    owed,
    registered,
    settle,
    submitted,
    worker,
    working,
)
from .conftest import Engine

SUCCEEDED, PENDING, DISCARDED = DeliveryState.SUCCEEDED, DeliveryState.PENDING, DeliveryState.DISCARDED


async def handlers_of(ledger: Ledger, task_id: str) -> list[str]:
    """Tell which handlers a task's events are owed to."""
    return sorted(owed.delivery.handler for owed in (await ledger.story(task_id)).deliveries)


async def test_events_are_matched_by_type_provider_and_model(ledger: Ledger) -> None:
    """A handler gets what one of its patterns fits, once, however many fit; `*` stands for any text."""
    patterns = {
        "all": (Pattern(),),
        "ends": (Pattern(event="task.c*"), Pattern(event="task.*ed")),
        "failures": (Pattern(event="task.failed"),),
        "reapi": (Pattern(provider="reapi"),),
        "waves": (Pattern(model="wave-*"),),
        "deaf": (),
        "case": (Pattern(model="WAVE-1"),),
    }
    await ledger.beat(worker(), NOW, LONG_AGO, registered(patterns))
    await submitted(ledger, "task_a", "p-a", form=Form(model="wave-1"))
    await submitted(ledger, "task_b", "p-b", form=Form(model="tide"), provider="reapi")
    await ledger.record(fact(COMPLETED, "task_a", "p-a"))
    await ledger.record(fact(FAILED, "task_b", "p-b", provider="reapi"))
    await ledger.record(fact(COMPLETED, "task_unknown", None))
    await ledger.record(other(Kind.UNRECOGNISED, "task_a"))
    assert await fan_out(ledger, NOW, 3) == 3
    assert await handlers_of(ledger, "task_a") == ["all", "ends", "waves"]
    assert await handlers_of(ledger, "task_b") == ["all", "ends", "failures", "reapi"]
    assert await handlers_of(ledger, "task_unknown") == ["all", "ends"]
    assert await fan_out(ledger, NOW, 3) == 1
    assert await handlers_of(ledger, "task_a") == ["all", "all", "ends", "waves", "waves"]


async def test_fan_out_writes_once(engine: Engine) -> None:
    """Two workers that fan out together write one delivery, and a late handler gets only later events."""
    ledgers = [await engine.open(), await engine.open()]
    await working(ledgers[0])
    await ledgers[0].record(fact(COMPLETED))
    counts = await asyncio.gather(*[fan_out(ledgers[n % 2], NOW, 10) for n in range(6)])
    assert sorted(counts) == [0, 0, 0, 0, 0, 1]
    await working(ledgers[1], "late")
    await ledgers[1].record(fact(COMPLETED, "task_b", "p-b"))
    assert await fan_out(ledgers[0], NOW, 10) == 1
    assert await handlers_of(ledgers[0], "task_a") == ["h"]
    assert await handlers_of(ledgers[0], "task_b") == ["h", "late"]


async def test_registering_again_replaces_the_patterns(ledger: Ledger) -> None:
    """A handler that is registered anew listens for what it now says."""
    await working(ledger, "h")
    await ledger.beat(worker(), at(1), LONG_AGO, registered({"h": [Pattern(event="task.failed")]}))
    await ledger.record(fact(COMPLETED))
    await fan_out(ledger, NOW, 10)
    assert await handlers_of(ledger, "task_a") == []
    assert (await ledger.summary(NOW)).handlers == {"h": at(1)}


async def test_claim_gives_all_that_a_handler_sees(ledger: Ledger) -> None:
    """A claimed delivery comes with its attempt, its event and its task, and nobody else gets it."""
    await working(ledger)
    task = await submitted(ledger, metadata={"user": 7})
    await ledger.record(fact(COMPLETED, body=b"raw"))
    await fan_out(ledger, at(1), 10)
    (work,) = await claim(ledger)
    assert (work.event.body, work.task and work.task.metadata) == (b"raw", {"user": 7})
    assert work.event.task_id == task.id
    assert (work.delivery.state, work.delivery.attempts, work.delivery.worker) == (DeliveryState.RUNNING, 1, "w1")
    assert (work.attempt.id, work.attempt.number) == (work.delivery.attempt, 1)
    assert await claim(ledger, process="w2") == []


async def test_claim_keeps_to_its_limits(ledger: Ledger) -> None:
    """No more are claimed than may start, of each handler and in all; oldest due first, over all handlers."""
    await working(ledger, "g", "h")
    for number in range(4):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}"))
        await fan_out(ledger, at(number), 10)
    works = (await claims(ledger, worker(), {"g": 9, "h": 9, "k": 9, "l": 0}, at(9), 5)).works
    assert [(w.delivery.handler, w.delivery.due_at) for w in works] == [
        ("g", at(0)), ("h", at(0)), ("g", at(1)), ("h", at(1)), ("g", at(2)),
    ]  # fmt: skip
    works = (await claims(ledger, worker(), {"g": -1, "h": 1}, at(9), 5)).works
    assert [w.delivery.handler for w in works] == ["h"]
    assert await claims(ledger, worker(), {"g": 9}, at(2.9), 5) == Turned(next_due_at=at(3))
    assert await claims(ledger, worker(), {"g": 9}, at(9), 0) == Turned()


async def test_racing_workers_share_what_is_due(engine: Engine) -> None:
    """Workers that claim together get different deliveries, and all of them are given."""
    ledgers = [await engine.open(), await engine.open()]
    await owed(ledgers[0], 20)
    names = [f"w{n}" for n in range(8)]
    wishes = [claims(ledgers[n % 2], worker(name), {"h": 3}, at(100), 3) for n, name in enumerate(names)]
    given = [work.delivery.id for turned in await asyncio.gather(*wishes) for work in turned.works]
    assert len(given) == len(set(given)) == 20


async def test_settled_delivery_is_closed(ledger: Ledger) -> None:
    """Success and discarding settle a delivery and close its attempt."""
    await owed(ledger, 2)
    good, bad = await claim(ledger)
    failed = ended(bad, Outcome.FAILED, DISCARDED, error="ValueError: no", traceback="Traceback …")
    assert await settle(ledger, [ended(good, Outcome.SUCCEEDED, SUCCEEDED), failed]) == [True, True]
    found = {item.delivery.id: item for item in await ledger.deliveries(Query(ids=(good.delivery.id, bad.delivery.id)))}
    assert found[good.delivery.id].delivery.settled_at == at(101)
    delivery, (attempt,) = found[bad.delivery.id].delivery, found[bad.delivery.id].attempts
    assert (delivery.state, delivery.reason, delivery.worker) == (DISCARDED, "ValueError: no", None)
    assert (attempt.outcome, attempt.error, attempt.traceback) == (Outcome.FAILED, "ValueError: no", "Traceback …")
    assert attempt.finished_at == at(101)
    assert await next_due(ledger) is None


async def test_failed_attempt_comes_again_when_due(ledger: Ledger) -> None:
    """A retry is due at its time, keeps its error meanwhile, and is a further attempt."""
    await owed(ledger)
    (work,) = await claim(ledger)
    await settle(ledger, [ended(work, Outcome.FAILED, PENDING, due_at=at(200), error="no")])
    assert await next_due(ledger) == at(200)
    assert await claim(ledger, seconds=199) == []
    (again,) = await claim(ledger, seconds=200)
    assert (again.delivery.attempts, again.attempt.number, again.delivery.reason) == (2, 2, "no")


async def test_released_attempt_does_not_count(ledger: Ledger) -> None:
    """What a stopping worker hands back is due at once and costs no attempt; the attempt stays on record."""
    await owed(ledger)
    (work,) = await claim(ledger)
    await settle(ledger, [ended(work, Outcome.RELEASED, PENDING)])
    (again,) = await claim(ledger, seconds=101)
    assert (again.delivery.attempts, again.attempt.number) == (1, 2)
    assert (await ledger.summary(NOW)).attempts == {Outcome.RELEASED: 1}


async def test_late_finisher_is_fenced_off(ledger: Ledger) -> None:
    """A worker that was presumed dead cannot settle what another one has taken over."""
    await owed(ledger)
    (slow,) = await claim(ledger)
    assert len(await ledger.beat(worker("w2"), at(200), at(170))) == 1
    (fresh,) = await claim(ledger, seconds=200, process="w2")
    assert (fresh.delivery.id, fresh.delivery.lapses, fresh.attempt.number) == (slow.delivery.id, 1, 2)
    late = ended(slow, Outcome.SUCCEEDED, SUCCEEDED, seconds=201)
    assert await settle(ledger, [late]) == [False]
    assert await settle(ledger, [ended(fresh, Outcome.FAILED, DISCARDED, seconds=202)]) == [True]
    (item,) = await ledger.deliveries(Query())
    assert item.delivery.state is DISCARDED
    assert [attempt.outcome for attempt in item.attempts] == [Outcome.LAPSED, Outcome.FAILED]


async def test_silent_worker_loses_what_it_holds(ledger: Ledger) -> None:
    """Who beats keeps its deliveries; who is silent or has left without them does not, and is forgotten in time."""
    await owed(ledger, 3)
    for name in ("w1", "w2", "w3"):
        await ledger.beat(worker(name), NOW, LONG_AGO)
        await claims(ledger, worker(name), {"h": 1}, at(9), 1)
    assert len(await ledger.beat(worker("w1"), at(40), at(10))) == 2
    assert len(await ledger.beat(worker("w1"), at(41), at(10))) == 0
    assert len(await ledger.beat(worker("w1"), at(42), at(11), leaving=True)) == 1
    assert [len(await claim(ledger, process=name)) for name in ("w4", "w5", "w6", "w7")] == [1, 1, 1, 0]
    assert {process.id for process in (await ledger.summary(at(50))).processes} == {"w2", "w3"}
    await ledger.beat(worker("w4"), at(200), at(170))
    assert {process.id for process in (await ledger.summary(at(50))).processes} == {"w4"}


async def test_a_worker_may_be_silent_as_long_as_its_own_heartbeats_take(ledger: Ledger) -> None:
    """One that beats seldom is not dead because others beat often: its deliveries stay with it, and it is shown."""
    await owed(ledger)
    seldom = structs.replace(worker(), silence=timedelta(seconds=360))
    await ledger.beat(seldom, NOW, LONG_AGO)
    assert len((await claims(ledger, seldom, {"h": 1}, at(9), 1)).works) == 1
    assert await ledger.beat(worker("w2"), at(360), at(330)) == []
    assert set(await ledger.processes(at(360))) == {seldom, worker("w2")}
    assert len(await ledger.beat(worker("w2"), at(361), at(331))) == 1
    assert await ledger.processes(at(361)) == (worker("w2"),)
    await ledger.beat(worker("w2"), at(421), at(391))
    assert {process.id for process in (await ledger.summary(at(50))).processes} == {"w2"}


async def test_next_due_tells_of_whatever_waits(ledger: Ledger) -> None:
    """A claim that gets nothing tells when an event not fanned out or a delivery is due; late events do not count."""
    assert await next_due(ledger) is None
    await working(ledger)
    await ledger.record(fact(COMPLETED, seconds=5))
    assert await next_due(ledger) == at(5)
    await fan_out(ledger, at(6), 10)
    assert await next_due(ledger) == at(6)
    assert await next_due(ledger, "another") is None
    await claim(ledger)
    await ledger.record(fact(PROCESSING))
    assert await next_due(ledger) is None


async def lapse(ledger: Ledger, seconds: float) -> list[Delivery]:
    """Take from every worker but this one."""
    return list(await ledger.beat(worker("reaper"), at(seconds), at(seconds)))


async def test_first_lapse_is_free_and_a_later_one_counts(ledger: Ledger) -> None:
    """Nobody knows whether the first one had begun; from then on each counts, and the last one allowed discards."""
    process = await working(ledger)
    await ledger.beat(process, NOW, LONG_AGO, registered({"h": [Pattern()]}, attempts=2))
    await ledger.record(fact(COMPLETED))
    await fan_out(ledger, NOW, 10)
    told = []
    for number in (1, 2, 3):
        await claim(ledger, seconds=number * 100)
        (delivery,) = await lapse(ledger, number * 100 + 50)
        told.append((delivery.state, delivery.attempts, delivery.lapses))
    assert told == [(PENDING, 0, 1), (PENDING, 1, 2), (DISCARDED, 2, 3)]
    assert delivery.settled_at == at(350)
    assert delivery.reason == "given up: its worker died or fell silent 3 times"
    assert await lapse(ledger, 400) == []
    (item,) = await ledger.deliveries(Query())
    assert [attempt.outcome for attempt in item.attempts] == [Outcome.LAPSED] * 3


async def test_lapsed_delivery_is_claimed_alone(ledger: Ledger) -> None:
    """It waits for an idle worker and holds back what is due later; what is due before it goes first."""
    await owed(ledger, 4)
    first, *others = await claim(ledger)
    failed = [
        ended(work, Outcome.FAILED, PENDING, due_at=at(due)) for work, due in zip(others, (20, 40, 50), strict=True)
    ]
    await settle(ledger, failed)
    await lapse(ledger, 30)
    (early,) = await claim(ledger, seconds=200)
    assert early.delivery.due_at == at(20)
    held = await claims(ledger, worker(), {"h": 9}, at(200), 9, idle=False)
    assert held == Turned(next_due_at=at(30))
    (alone,) = await claim(ledger, seconds=200)
    assert alone.delivery.id == first.delivery.id
    assert [work.delivery.due_at for work in await claim(ledger, seconds=200)] == [at(40), at(50)]


async def test_beat_from_thread(engine: Engine) -> None:
    """A thread beats as the event loop would, while that is blocked: the worker lives, the silent one lapses."""
    ledger = await engine.open()
    await owed(ledger)
    await claim(ledger)
    beat = partial(beat_from_thread, engine.settings, worker("w2"))
    assert beat(at(200), NOW, {}) == []
    (lapsed,) = beat(at(201), at(200), registered({"late": [Pattern()]}))
    assert (lapsed.handler, lapsed.state, lapsed.lapses) == ("h", PENDING, 1)
    summary = await ledger.summary(at(201))
    assert ([process.id for process in summary.processes], summary.handlers["late"]) == (["w2"], at(201))
    with pytest.raises(LedgerRejected):
        beat(at(202), NOW, {"late": Registration(patterns=[], attempts=-1)})

"""A ledger with rows of every kind, as time goes by, and all that people can read of it: for the tests of moving."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from msgspec import structs

from ringback.ledger import (
    STORE_RESULTS,
    Cancel,
    Costs,
    CountResults,
    Differing,
    Discard,
    Expected,
    Keep,
    KeptResult,
    Learn,
    Ledger,
    ListResults,
    Pattern,
    Pushes,
    Query,
    Rate,
    Registration,
    Replay,
    ResultRow,
    Share,
    Spending,
    Turn,
    Work,
)
from ringback.model import DeliveryState, EventType, Form, Kind, Notice, Outcome, Source, TaskState, Trust

from .builders import (
    ANY,
    COMPLETED,
    FAILED,
    LONG_AGO,
    NOW,
    PROCESSING,
    at,
    ended,
    fact,
    fan_out,
    new_task,
    other,
    settle,
    submitted,
    worker,
)
from .hands import Hand

ALL = 100_000
DAY = 86_400.0
KEY = "0" * 16
OLD = -100 * DAY  # when tasks were settled of which only the keys are left
BEFORE = at(DAY)  # when it is read, on both engines
STATES = (PROCESSING, FAILED, TaskState.CANCELLED)
HANDLERS = {"h": ANY, "rated": (Pattern(event="task.completed", model="m"),), STORE_RESULTS: ANY}


async def fill(ledger: Ledger) -> None:
    """Have everything happen that leaves something behind. The worker that ran is gone, and did not say so."""
    await ledger.enlist_keys(["1" * 16, KEY], NOW)
    await _old(ledger)
    await _tasks(ledger)
    await _callbacks(ledger)
    await _history(ledger)
    await ledger.beat(worker("poller", "poller"), at(1), LONG_AGO)
    found = {name: Registration(patterns=patterns, attempts=3) for name, patterns in HANDLERS.items()}
    await ledger.beat(worker(), at(1), LONG_AGO, found)
    await _deliveries(ledger)
    await _results(ledger)
    late = Registration(patterns=ANY, since=LONG_AGO)
    await ledger.beat(worker("w2"), at(400), LONG_AGO, {"late": late})
    await ledger.reject({("qingbo", "token"): 3, ("", "route"): 1}, NOW)
    await ledger.record(fact(PROCESSING, "task_sent", "p-sent", seconds=500))  # is to be fanned out, and the next
    await ledger.record(fact(COMPLETED, None, "p-nobody", seconds=501))  # later, since its task may be about to be sent


async def _old(ledger: Ledger) -> None:
    """Have tasks settle so long ago that only their keys are left."""
    for number in range(2):
        await ledger.record(fact(COMPLETED, f"task_old{number}", f"p-old{number}", seconds=OLD))
    await fan_out(ledger, at(OLD), 10)
    await ledger.act(Keep(rest=timedelta(days=30), keys=timedelta(days=3650)).at(NOW))


async def _tasks(ledger: Ledger) -> None:
    """Have tasks in every state, with what money, forms and keys leave in a row."""
    await ledger.add_task(new_task(key="mine", metadata={"ж": ["\N{SNOWMAN}", 'a\tb\\n"']}, created_at=at(-5)))
    await submitted(ledger, "task_sent", "p-sent", url_key=KEY, form=Form(model="m", prompt="line\none\r\\."))
    await submitted(ledger, "task_quiet", "p-quiet")
    for state in STATES:
        await submitted(ledger, f"task_{state}", f"p-{state}", parent_id="task_sent", price_microdollars=5_000_000)
        await ledger.record(fact(state, f"task_{state}", f"p-{state}", seconds=5, charged_microdollars=7))
    await submitted(ledger, "task_expired", "p-expired")
    presumed: dict[str, Any] = {"source": Source.RINGBACK, "trust": Trust.NONE, "seconds": 6}
    await ledger.record(fact(TaskState.EXPIRED, "task_expired", "p-expired", **presumed))
    await ledger.plan_fetches({"task_sent": at(60)})


async def _callbacks(ledger: Ledger) -> None:
    """Have requests come of every kind: good, twice, late, contradicting, hints and nonsense."""
    body = bytes(range(256)) + b'"\\.\t\n\x00'
    for task in ("task_0", "task_1", "task_2", "task_3", "task_4", "task_5"):
        await ledger.record(fact(COMPLETED, task, f"p-{task}", seconds=7, body=body))
        await ledger.record(fact(COMPLETED, task, f"p-{task}", seconds=8))
    await ledger.record(fact(FAILED, "task_0", "p-task_0", seconds=9))  # contradicts
    await ledger.record(fact(PROCESSING, "task_0", "p-task_0", seconds=9))  # late
    await ledger.record(fact(COMPLETED, "task_sent", "p-other", seconds=9))  # another task's
    await ledger.record(
        fact(COMPLETED, "task_sent", "p-sent", kind=Kind.HINT, trust=Trust.PARTIAL, reason="r", seconds=9)
    )
    await ledger.record(other(Kind.UNRECOGNISED, "task_1", body=b"\x00\xff?", seconds=9))
    await ledger.record(other(Kind.RECEIVED, None, body=b"hello", seconds=9))
    for state in (COMPLETED, FAILED):  # one id for two facts
        await ledger.record(fact(state, "task_twice", "p-twice", event_id="e", seconds=9))
    noticed: dict[str, Any] = {"source": Source.RINGBACK, "trust": Trust.NONE, "seconds": 10}
    notice = Notice(event_id="silence", type=EventType.RECEIVER_PUSH_MISSING)
    await ledger.record(other(Kind.RECEIVED, None, body=b"{}", notice=notice, reason=None, **noticed))


async def _history(ledger: Ledger) -> None:
    """Have enough tasks settle to learn from."""
    for number in range(20):
        task = f"task_past{number}"
        await submitted(ledger, task, task, form=Form(model="m"), url_key=KEY, price_microdollars=1)
        await ledger.record(fact(COMPLETED, task, task, seconds=20 + number))
    await ledger.act(Learn(now=at(50)))


async def _deliveries(ledger: Ledger) -> None:
    """Have handlers run, fail, wait for each other, be replayed, cancelled and given up; one still runs."""
    hand = Hand(
        ledger, key=lambda work: "one" if work.event.task_id in ("task_0", "task_1", "task_2") else work.event.id
    )
    begun = {str(work.event.task_id): work for work in await hand.begin(100, limit=30, fan_out=60)}
    works = list(begun.values())
    await ledger.finish_step(works[0].attempt, "charge", at(101))
    await hand.end(*works[:5])
    await _end(ledger, works[5], Outcome.FAILED, DeliveryState.PENDING, error="E: \u00e4\n", traceback="a\tb\\")
    await _end(ledger, works[6], Outcome.FAILED, DeliveryState.DISCARDED)
    await ledger.act(Replay(query=Query(ids=(works[0].delivery.id,)), by="ada", now=at(200), reason="again"))
    rated = Share(room=2, rate=Rate(count=2, period=timedelta(minutes=1)))
    await ledger.turn(Turn(process=worker(), now=at(201), shares={"rated": rated}, limit=2))
    for action, place in ((Cancel, 0), (Discard, 1)):
        waiting = await ledger.deliveries(Query(state="pending", handler=STORE_RESULTS, limit=ALL))
        await ledger.act(action(query=Query(ids=(waiting[place].delivery.id,)), by="ada", now=at(202)))
    for _ in range(5):
        await hand.begin(300)  # what may not begin beside what runs is parked


async def _end(ledger: Ledger, work: Work, outcome: Outcome, state: DeliveryState, **more: Any) -> None:
    assert await settle(ledger, [ended(work, outcome, state, **more)]) == [True]


async def _results(ledger: Ledger) -> None:
    """Have one result stored."""
    (event,) = await ledger.events(Query(task_id="task_5", type="task.completed"))
    stored: dict[str, Any] = {
        "stored_url": "file:///kept/a%20b.mp4",
        "size": 1 << 40,
        "sha256": "a" * 64,
        "content_type": None,
    }
    assert await ledger.keep_result(KeptResult(event_id=event.id, position=0, stored_at=at(5), **stored))


async def all_of(ledger: Ledger) -> dict[str, Any]:
    """Read everything that people can."""
    tasks = await ledger.tasks(Query(limit=ALL))
    counts = await ledger.report(CountResults(now=BEFORE))
    return {
        "tasks": tasks,
        "stories": [await ledger.story(task.id) for task in tasks],
        "events": await ledger.events(Query(limit=ALL)),
        "deliveries": await ledger.deliveries(Query(limit=ALL)),
        "summary": await ledger.summary(BEFORE),
        "processes": await ledger.processes(at(1)),
        "costs": sorted(await ledger.report(Costs()), key=repr),  # in any order
        "cost of each": await ledger.report(Costs(newest=ALL)),
        "spent": await ledger.report(Spending(now=BEFORE)),
        "charged otherwise": await ledger.report(Differing(since=LONG_AGO, until=BEFORE)),
        "expected lengths": await ledger.report(Expected()),
        "pushes": await ledger.report(Pushes(since=LONG_AGO)),
        "results": _unnumbered(await ledger.report(ListResults(limit=ALL))),
        "counted": structs.replace(counts, expiring=_unnumbered(counts.expiring)),
    }


def _unnumbered(rows: tuple[ResultRow, ...]) -> tuple[ResultRow, ...]:
    return tuple(structs.replace(row, seq=0) for row in rows)


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare, one by one, so that what differs is short enough to be read."""
    assert found.keys() == expected.keys()
    for name, answer in expected.items():
        if isinstance(answer, Sequence):
            assert len(found[name]) == len(answer), name
            for ours, theirs in zip(found[name], answer, strict=True):
                assert ours == theirs, name
        assert found[name] == answer, name

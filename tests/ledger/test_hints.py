"""What a hint may do: make a task due, make one known where it proves that much, and never fill the disk."""

import asyncio
from datetime import timedelta

import pytest

from ringback.ledger import Ledger, Query
from ringback.model import Arrival, Kind, Origin, Source, Task, TaskState, Trust, Verdict, new_id

from .builders import COMPLETED, FAILED, LONG_AGO, NOW, PROCESSING, at, claimed, fact, other, reading, sent, submitted
from .builders import worker as process
from .conftest import Engine

KNOWING = [Trust.PARTIAL, Trust.TOKEN, Trust.SIGNED]


def hint(
    task_id: str | None = None, provider_id: str | None = "p-x", trust: Trust = Trust.PARTIAL, *, seconds: float = 0
) -> Arrival:
    """Make a hint; it names its task where `provider_id` does, and was not understood otherwise."""
    if provider_id is None:
        return other(Kind.HINT, task_id, trust=trust, seconds=seconds)
    return fact(COMPLETED, task_id, provider_id, kind=Kind.HINT, trust=trust, reason="unconfirmed", seconds=seconds)


async def only(ledger: Ledger) -> Task:
    """Give the one task."""
    (task,) = await ledger.tasks(Query())
    return task


@pytest.mark.parametrize("trust", KNOWING)
async def test_hint_makes_an_unknown_task_known_and_due(ledger: Ledger, trust: Trust) -> None:
    """What proves the task's id is worth a task and a question now, and says nothing about how it stands."""
    receipt = await ledger.record(hint(trust=trust, seconds=2))
    task = await only(ledger)
    assert (receipt.verdict, receipt.task_id, receipt.event_id) == (Verdict.HINT, task.id, None)
    assert (task.state, task.origin, task.provider_id) == (TaskState.PENDING, Origin.CALLBACK, "p-x")
    assert (task.fetch_at, task.callbacks) == (at(2), 1)
    assert await ledger.events(Query()) == []
    assert (await ledger.record(hint(trust=trust))).task_id == task.id


async def test_hint_of_no_trust_makes_nothing(ledger: Ledger) -> None:
    """Anybody could send a million of them: an id that nobody knows is only counted."""
    receipt = await ledger.record(hint(trust=Trust.NONE))
    assert (receipt.verdict, receipt.task_id) == (Verdict.COUNTED, None)
    assert await ledger.tasks(Query()) == []
    assert (await ledger.summary(NOW)).hints == 0


async def test_hint_of_no_trust_finds_the_task_that_it_names(ledger: Ledger) -> None:
    """A known id is worth a question, whoever says it."""
    await submitted(ledger)
    receipt = await ledger.record(hint(None, "p-a", Trust.NONE, seconds=3))
    assert (receipt.verdict, receipt.task_id) == (Verdict.HINT, "task_a")
    assert (await only(ledger)).fetch_at == at(3)


@pytest.mark.parametrize(
    ("trust", "verdict"),
    [
        (Trust.NONE, Verdict.COUNTED),
        (Trust.PARTIAL, Verdict.COUNTED),
        (Trust.TOKEN, Verdict.HINT),
        (Trust.SIGNED, Verdict.HINT),
    ],
)
async def test_hint_that_names_no_task(ledger: Ledger, trust: Trust, verdict: Verdict) -> None:
    """It is kept where only its provider can send it; a partial signature can be sent again over any other body."""
    receipt = await ledger.record(hint(None, None, trust))
    assert (receipt.verdict, receipt.task_id) == (verdict, None)
    assert (await ledger.summary(NOW)).hints == (verdict is Verdict.HINT)


async def test_hint_teaches_a_pending_task_its_id(ledger: Ledger) -> None:
    """A push that overtook the answer names what can be asked about; the answer's own word stands above it."""
    await claimed(ledger)
    await ledger.record(hint("task_a", "p-a", seconds=1))
    task = await only(ledger)
    assert (task.provider_id, task.state, task.fetch_at) == ("p-a", TaskState.PENDING, at(1))
    await ledger.save_send(sent(reading=reading(TaskState.SUBMITTED, "p-true")))
    assert (await only(ledger)).provider_id == "p-true"


async def test_hint_cannot_rename_a_task(ledger: Ledger) -> None:
    """The URL fixes the task, and its own id is what is asked about."""
    await submitted(ledger)
    receipt = await ledger.record(hint("task_a", "p-other"))
    assert (receipt.verdict, receipt.task_id) == (Verdict.HINT, "task_a")
    assert (await only(ledger)).provider_id == "p-a"


async def test_hint_under_the_url_of_an_unknown_task(ledger: Ledger) -> None:
    """It makes the task under the URL's id, unless that is too old, or the body is about another task."""
    await submitted(ledger)
    assert (await ledger.record(hint("task_b", "p-a"))).task_id is None
    assert (await ledger.record(hint(new_id("task", NOW - timedelta(days=91)), "p-old"))).task_id is None
    assert (await ledger.record(hint("task_c", "p-c"))).task_id == "task_c"
    assert {task.id for task in await ledger.tasks(Query())} == {"task_a", "task_c"}


async def test_hint_doubts_what_was_only_presumed(ledger: Ledger) -> None:
    """A guess of ours may be asked about once more; what the provider has said may not."""
    await submitted(ledger)
    await ledger.record(fact(FAILED, source=Source.RINGBACK, trust=Trust.NONE))
    assert (await only(ledger)).fetch_at is None
    receipt = await ledger.record(hint("task_a", "p-a", seconds=7))
    assert (receipt.state, (await only(ledger)).fetch_at) == (FAILED, at(7))
    assert len(await ledger.claim_fetches("qingbo", at(7), at(67), 5)) == 1
    await ledger.plan_fetches({"task_a": None})
    assert (await only(ledger)).fetch_at is None
    await ledger.record(fact(COMPLETED, source=Source.POLL))
    await ledger.record(hint("task_a", "p-a", seconds=20))
    assert (await only(ledger)).fetch_at is None


async def test_requests_under_the_url_of_an_unknown_task_are_bounded(ledger: Ledger) -> None:
    """A hundred per URL are kept, then they are counted; and a task that becomes known goes on from there."""
    kinds = (Kind.HINT, Kind.UNRECOGNISED)
    arrivals = [other(kinds[n % 2], "task_lost", body=b"%d" % n) for n in range(103)]
    first = [await ledger.record(arrival) for arrival in arrivals[:60]]
    rest = await asyncio.gather(*map(ledger.record, arrivals[60:]))
    verdicts = [receipt.verdict for receipt in (*first, *rest)]
    assert verdicts[100:] == [Verdict.COUNTED] * 3
    assert Verdict.COUNTED not in verdicts[:100]
    assert (await ledger.record(arrivals[1])).verdict is Verdict.DUPLICATE
    assert (await ledger.record(other(Kind.HINT, "task_lost_too"))).verdict is Verdict.HINT
    summary = await ledger.summary(NOW)
    assert (summary.hints, summary.unrecognised, summary.tasks) == (51, 50, {})
    assert (await ledger.record(fact(PROCESSING, "task_lost", "p-x"))).verdict is Verdict.NEW
    assert (await ledger.record(other(Kind.HINT, "task_lost"))).verdict is Verdict.COUNTED
    assert len((await ledger.story("task_lost")).callbacks) == 100


async def test_too_old_and_mismatched_facts_are_bounded_too(ledger: Ledger) -> None:
    """What cannot be taken as a fact counts like what cannot be read."""
    await submitted(ledger)
    arrivals = [fact(COMPLETED, "task_lost", "p-a", body=b"%d" % n) for n in range(102)]
    verdicts = [receipt.verdict for receipt in await asyncio.gather(*map(ledger.record, arrivals))]
    assert verdicts == [Verdict.UNRECOGNISED] * 100 + [Verdict.COUNTED] * 2


async def test_processes_are_those_of_the_last_minute(engine: Engine) -> None:
    """Whoever has beaten within a minute is seen, by every process."""
    ledger, neighbour = await engine.open(), await engine.open()
    await ledger.beat(process("w1"), NOW, LONG_AGO)
    await ledger.beat(process("p1", "poller"), at(30), LONG_AGO)
    assert {found.role for found in await neighbour.processes(at(59))} == {"worker", "poller"}
    assert [found.id for found in await neighbour.processes(at(61))] == ["p1"]
    await ledger.beat(process("p1", "poller"), at(62), LONG_AGO, leaving=True)
    assert await neighbour.processes(at(62)) == ()

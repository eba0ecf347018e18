"""What becomes of an arrival: new, duplicate, late, contradicted, conflict, unrecognised, hint or only counted."""

import asyncio
from datetime import timedelta

import pytest

from ringback.errors import LedgerRejected, LedgerUnavailable
from ringback.ledger import Ledger, Query
from ringback.model import (
    EventType,
    Kind,
    Origin,
    Receipt,
    Source,
    Standing,
    Task,
    TaskError,
    TaskState,
    Trust,
    Verdict,
    new_id,
)

from .builders import COMPLETED, FAILED, NOW, PROCESSING, at, claimed, fact, fan_out, other, submitted


async def only(ledger: Ledger) -> Task:
    """Give the one task."""
    (task,) = await ledger.tasks(Query())
    return task


async def test_fact_becomes_an_event_with_the_first_request(ledger: Ledger) -> None:
    """A new fact is an event that holds the request byte for byte, and settles its task."""
    await submitted(ledger)
    receipt = await ledger.record(fact(COMPLETED, event_id="e1", body=b"\x00\xff raw", seconds=5))
    task = await only(ledger)
    assert receipt == Receipt(verdict=Verdict.NEW, event_id=task.settled_event, task_id="task_a", state=COMPLETED)
    assert (task.settled_by, task.settled_at, task.callbacks) == (Source.CALLBACK, at(5), 1)
    (event,) = await ledger.events(Query())
    assert (event.type, event.status, event.standing) == (EventType.TASK_COMPLETED, COMPLETED, Standing.ACCEPTED)
    assert (event.body, event.headers, event.provider_event_id) == (b"\x00\xff raw", (("x-try", "1"),), "e1")
    assert event.results[0].url == "https://cdn.example/v.mp4"
    assert (event.received_at, event.last_seen_at, event.duplicates) == (at(5), at(5), 0)


async def test_failure_keeps_the_providers_words(ledger: Ledger) -> None:
    """A failed task's event holds code and message, and an empty body stays empty."""
    await submitted(ledger)
    error = TaskError(message="nein \0 ~", code="20002")
    await ledger.record(fact(FAILED, body=b"", error=error, charged_microdollars=120_000))
    (event,) = await ledger.events(Query())
    assert (event.error, event.body) == (error, b"")
    assert (await only(ledger)).charged_microdollars == 120_000


async def test_a_copy_fills_in_a_charge_that_was_not_told(ledger: Ledger) -> None:
    """What the first telling left out is added, by a push or a poll; what was said once stands, and so does the end."""
    await submitted(ledger)
    await ledger.record(fact(COMPLETED))
    await ledger.record(fact(FAILED, charged_microdollars=7))  # contradicts: it is no word about this end
    assert (await only(ledger)).charged_microdollars is None
    for charge, source in ((44_624, Source.POLL), (99, Source.CALLBACK)):
        receipt = await ledger.record(fact(COMPLETED, seconds=9, charged_microdollars=charge, source=source))
        assert receipt.duplicate
    task = await only(ledger)
    assert (task.charged_microdollars, task.state, task.settled_at) == (44_624, COMPLETED, at(0))


async def test_same_fact_is_a_duplicate(ledger: Ledger) -> None:
    """A redelivery moves two fields of its event and nothing else, whatever its body and event id."""
    await submitted(ledger)
    first = await ledger.record(fact(COMPLETED, event_id="e1", body=b"first"))
    again = await ledger.record(fact(COMPLETED, event_id="e1", body=b"signed anew", seconds=9))
    other_id = await ledger.record(fact(COMPLETED, event_id="e2", seconds=7))
    assert (again.verdict, again.event_id, again.state) == (Verdict.DUPLICATE, first.event_id, COMPLETED)
    assert again.duplicate
    assert other_id.event_id == first.event_id
    (event,) = await ledger.events(Query())
    assert (event.body, event.duplicates, event.last_seen_at) == (b"first", 2, at(9))
    assert (await only(ledger)).callbacks == 3


async def test_our_own_question_is_no_redelivery(ledger: Ledger) -> None:
    """A poll that finds what a push said already counts neither as a callback nor as a duplicate."""
    await submitted(ledger)
    await ledger.record(fact(COMPLETED))
    assert (await ledger.record(fact(COMPLETED, source=Source.POLL))).duplicate
    (event,) = await ledger.events(Query())
    assert (event.duplicates, (await only(ledger)).callbacks) == (0, 1)


async def test_step_after_the_end_is_late(ledger: Ledger) -> None:
    """`processing` after `completed` is kept, marked, moves nothing and is handed to nobody."""
    await submitted(ledger)
    await ledger.record(fact(COMPLETED))
    receipt = await ledger.record(fact(PROCESSING, progress=7))
    assert (receipt.verdict, receipt.state) == (Verdict.LATE, COMPLETED)
    assert (await only(ledger)).progress is None
    assert (await ledger.summary(NOW)).waiting_events == 1


async def test_second_final_word_is_contradicted(ledger: Ledger) -> None:
    """Completed, then failed: the first stands, the second is kept and marked."""
    await submitted(ledger)
    first = await ledger.record(fact(COMPLETED))
    receipt = await ledger.record(fact(FAILED))
    assert (receipt.verdict, receipt.state) == (Verdict.CONTRADICTED, COMPLETED)
    assert receipt.event_id is not None
    assert (await only(ledger)).settled_event == first.event_id
    assert (await ledger.record(fact(FAILED))).verdict is Verdict.DUPLICATE


@pytest.mark.parametrize("presumed", [TaskState.EXPIRED, FAILED])
async def test_presumption_gives_way_to_the_provider(ledger: Ledger, presumed: TaskState) -> None:
    """What we presumed is replaced by the provider's word with a new event, even where it says the same."""
    await submitted(ledger)
    guess = fact(presumed, source=Source.RINGBACK, trust=Trust.NONE, reason="silent for 48 h")
    assert (await ledger.record(guess)).verdict is Verdict.NEW
    assert (await only(ledger)).settled_by is Source.RINGBACK
    assert (await ledger.record(fact(PROCESSING))).verdict is Verdict.LATE
    receipt = await ledger.record(fact(FAILED, seconds=3))
    task = await only(ledger)
    assert (receipt.verdict, task.state, task.settled_by) == (Verdict.NEW, FAILED, Source.CALLBACK)
    assert (task.settled_event, task.settled_at) == (receipt.event_id, at(3))
    assert (await ledger.record(guess)).verdict is Verdict.DUPLICATE
    assert len(await ledger.events(Query(type="task.failed"))) == (2 if presumed is FAILED else 1)


async def test_presumption_never_replaces_the_provider(ledger: Ledger) -> None:
    """A guess about a task that has settled is kept as late; and nobody but the provider can say cancelled."""
    await submitted(ledger)
    with pytest.raises(LedgerRejected):
        await ledger.record(fact(TaskState.CANCELLED, source=Source.RINGBACK, trust=Trust.NONE))
    await ledger.record(fact(TaskState.CANCELLED))
    guess = await ledger.record(fact(TaskState.EXPIRED, source=Source.RINGBACK, trust=Trust.NONE))
    assert (guess.verdict, guess.state) == (Verdict.LATE, TaskState.CANCELLED)


async def test_progress_is_one_event_with_the_newest_body(ledger: Ledger) -> None:
    """However often a task says how far it is: one event per status, which keeps the newest body."""
    await submitted(ledger)
    await ledger.record(fact(PROCESSING, progress=10, body=b"10"))
    await asyncio.gather(*[ledger.record(fact(PROCESSING, progress=n, body=b"%d" % n)) for n in (20, 30)])
    (event,) = await ledger.events(Query())
    assert (event.type, event.body, event.duplicates) == (EventType.TASK_PROGRESSED, b"30", 2)
    assert (await only(ledger)).progress == 30


@pytest.mark.parametrize(("trust", "verdict"), [(Trust.SIGNED, Verdict.CONFLICT), (Trust.TOKEN, Verdict.NEW)])
async def test_event_id_is_scoped_by_trust(ledger: Ledger, trust: Trust, verdict: Verdict) -> None:
    """A signed event id is known per provider, another one only within its task."""
    await submitted(ledger, "task_a", "p-a")
    await submitted(ledger, "task_b", "p-b")
    first = await ledger.record(fact(COMPLETED, "task_a", "p-a", event_id="e", trust=trust))
    receipt = await ledger.record(fact(COMPLETED, "task_b", "p-b", event_id="e", trust=trust, body=b"kept"))
    assert receipt.verdict is verdict
    story = await ledger.story("task_b")
    if verdict is Verdict.CONFLICT:
        (kept,) = story.callbacks
        assert (kept.verdict, kept.reason, kept.callback.body) == ("conflict", "event_id_reused", b"kept")
        assert kept.event_id == first.event_id
        assert (story.task.state, story.events) == (TaskState.SUBMITTED, ())
        assert (await ledger.summary(NOW)).conflicts == 1


async def test_event_id_with_another_status_is_a_conflict(ledger: Ledger) -> None:
    """One event id says one thing: with another status it is kept and overwrites nothing."""
    await submitted(ledger)
    await ledger.record(fact(PROCESSING, event_id="e"))
    assert (await ledger.record(fact(COMPLETED, event_id="e"))).verdict is Verdict.CONFLICT
    assert (await only(ledger)).state is PROCESSING


async def test_unrecognised_is_kept_once_per_body(ledger: Ledger) -> None:
    """What was not understood is an event by itself, keyed by the URL's task and the bytes; no state moves."""
    await submitted(ledger)
    receipts = [await ledger.record(other(Kind.UNRECOGNISED, body=body)) for body in (b"a", b"b", b"a")]
    assert [r.verdict for r in receipts] == [Verdict.UNRECOGNISED, Verdict.UNRECOGNISED, Verdict.DUPLICATE]
    elsewhere = await ledger.record(other(Kind.UNRECOGNISED, None, body=b"a"))
    assert (elsewhere.verdict, elsewhere.task_id) == (Verdict.UNRECOGNISED, None)
    story = await ledger.story("task_a")
    assert [event.type for event in story.events] == [EventType.CALLBACK_UNRECOGNISED] * 2
    assert [kept.callback.body for kept in story.callbacks] == [b"a", b"b"]
    assert (story.task.state, story.task.callbacks) == (TaskState.SUBMITTED, 3)


async def test_received_is_an_event_about_no_task(ledger: Ledger) -> None:
    """What is authentic and understood but not about a task is one event per event id, in its provider, or per body."""
    named = fact(COMPLETED, None, None, event_id="e", kind=Kind.RECEIVED, trust=Trust.SIGNED)
    elsewhere = fact(COMPLETED, None, None, event_id="e", kind=Kind.RECEIVED, trust=Trust.TOKEN, provider="reapi")
    nameless = other(Kind.RECEIVED, None, body=b"hello")
    receipts = [await ledger.record(item) for item in (named, named, elsewhere, elsewhere, nameless, nameless)]
    assert [r.verdict for r in receipts] == [Verdict.NEW, Verdict.DUPLICATE] * 3
    events = await ledger.events(Query(type="callback.received"))
    assert {(event.task_id, event.status, event.duplicates) for event in events} == {(None, None, 1)}


async def test_hint_only_makes_its_task_due(ledger: Ledger) -> None:
    """A request that proves nothing is kept, and its task is asked about now: no event, no key, no state."""
    await submitted(ledger)
    receipt = await ledger.record(other(Kind.HINT, body=b"psst", seconds=4))
    assert receipt == Receipt(verdict=Verdict.HINT, task_id="task_a", state=TaskState.SUBMITTED)
    story = await ledger.story("task_a")
    assert (story.task.fetch_at, story.events) == (at(4), ())
    assert [(kept.reason, kept.callback.body) for kept in story.callbacks] == [("because", b"psst")]
    by_id = fact(COMPLETED, None, "p-a", kind=Kind.HINT, reason="unconfirmed")
    assert (await ledger.record(by_id)).task_id == "task_a"
    assert (await ledger.record(other(Kind.HINT, "task_nobody"))).task_id is None
    assert (await ledger.summary(NOW)).hints == 3


async def test_hints_cause_one_fetch_in_five_seconds(ledger: Ledger) -> None:
    """However many hints come, a task is not due again before five seconds after it was last asked about."""
    await submitted(ledger)
    await ledger.record(other(Kind.HINT))
    assert len(await ledger.claim_fetches("qingbo", NOW, at(60), 10)) == 1
    await asyncio.gather(*[ledger.record(other(Kind.HINT, seconds=n / 10)) for n in range(20)])
    assert (await only(ledger)).fetch_at == at(5)
    assert await ledger.claim_fetches("qingbo", at(4.9), at(60), 10) == []
    await ledger.record(fact(COMPLETED))
    await ledger.record(other(Kind.HINT, seconds=9))
    assert (await only(ledger)).fetch_at is None


async def test_past_a_hundred_requests_are_counted(ledger: Ledger) -> None:
    """A task keeps a hundred requests beside its facts; then they are counted, and facts still come through."""
    await submitted(ledger)
    kinds = (Kind.HINT, Kind.UNRECOGNISED)
    arrivals = [other(kinds[n % 2], body=b"%d" % n) for n in range(103)]
    verdicts = [receipt.verdict for receipt in await asyncio.gather(*map(ledger.record, arrivals))]
    assert verdicts[100:] == [Verdict.COUNTED] * 3
    assert Verdict.COUNTED not in verdicts[:100]
    assert (await ledger.record(arrivals[1])).verdict is Verdict.DUPLICATE
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.NEW
    story = await ledger.story("task_a")
    assert (len(story.callbacks), story.task.callbacks) == (100, 105)


async def test_unknown_task_is_made_from_its_callback(ledger: Ledger) -> None:
    """Every task event has a task: an authentic fact about an unknown one creates it, to be asked about later."""
    receipt = await ledger.record(fact(PROCESSING, None, "p-x"))
    task = await only(ledger)
    assert (task.id, task.provider_id, task.origin, task.form) == (receipt.task_id, "p-x", Origin.CALLBACK, None)
    assert (task.state, task.fetch_at) == (PROCESSING, NOW + timedelta(minutes=5))
    again = await ledger.record(fact(COMPLETED, None, "p-x"))
    assert (again.task_id, again.state) == (task.id, COMPLETED)
    by_url = await ledger.record(fact(COMPLETED, "task_url", None))
    assert (by_url.verdict, by_url.task_id) == (Verdict.NEW, "task_url")


async def test_unknown_task_of_a_too_old_url_is_not_made(ledger: Ledger) -> None:
    """Past the time that facts are remembered an unknown task may be a pruned one: its callback is only kept."""
    for days, verdict in ((91, Verdict.UNRECOGNISED), (89, Verdict.NEW)):
        receipt = await ledger.record(fact(COMPLETED, new_id("task", NOW - timedelta(days=days)), None))
        assert receipt.verdict is verdict
    endless = "task_" + "f" * 30
    assert (await ledger.record(fact(COMPLETED, endless, None))).task_id == endless
    (event,) = await ledger.events(Query(type="callback.unrecognised"))
    assert (event.conflict, event.task_id) == ("task_too_old", None)


async def test_fact_about_nobody_is_unrecognised(ledger: Ledger) -> None:
    """On an account endpoint a fact without the provider's id has no task; it is kept."""
    assert (await ledger.record(fact(COMPLETED, None, None))).verdict is Verdict.UNRECOGNISED
    (event,) = await ledger.events(Query())
    assert event.conflict == "no_task_id"


async def test_pending_task_learns_its_id_from_an_early_push(ledger: Ledger) -> None:
    """A push that comes before the answer tells the provider's id, and the task can be asked about."""
    await claimed(ledger, fetch_at=at(10_000))
    await ledger.record(fact(PROCESSING, seconds=1))
    task = await only(ledger)
    assert (task.provider_id, task.state, task.fetch_at) == ("p-a", PROCESSING, at(301))


async def test_settled_task_that_learns_its_id_stays_unasked(ledger: Ledger) -> None:
    """A copy that names the provider's id for the first time does not have a settled task asked about."""
    await ledger.record(fact(COMPLETED, "task_lost", None))
    await ledger.record(fact(COMPLETED, "task_lost", "p-x"))
    task = await only(ledger)
    assert (task.provider_id, task.fetch_at) == ("p-x", None)


async def test_conflict_about_an_unknown_task_holds_nobody_up(ledger: Ledger) -> None:
    """A task that is known from a conflict only stays pending, but no submission: other unknown tasks are not held."""
    await submitted(ledger)
    await ledger.record(fact(COMPLETED, event_id="e", trust=Trust.SIGNED))
    stray = fact(COMPLETED, "task_stray", None, event_id="e", trust=Trust.SIGNED)
    assert (await ledger.record(stray)).verdict is Verdict.CONFLICT
    await ledger.record(fact(COMPLETED, None, "p-x"))
    assert await fan_out(ledger, NOW, 10) == 2


async def test_what_no_rule_foresees_comes_again(ledger: Ledger) -> None:
    """A fact that makes no event is a bug of ours, and no fault of the callback: only its neighbours are stored."""
    arrivals = [fact(COMPLETED), fact(TaskState.PENDING, "task_odd", "p-odd"), fact(COMPLETED, "task_b", "p-b")]
    told = await asyncio.gather(*map(ledger.record, arrivals), return_exceptions=True)
    assert [type(answer) for answer in told] == [Receipt, LedgerUnavailable, Receipt]
    assert {event.task_id for event in await ledger.events(Query())} == {"task_a", "task_b"}

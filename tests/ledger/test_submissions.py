"""What the submitter is promised: one task per key, one claim per sending, and answers that never lower a state."""

import asyncio

import pytest

from ringback.errors import KeyConflict, LedgerRejected, NotFound
from ringback.ledger import Ledger, Query
from ringback.model import Callback, Form, Source, TaskError, TaskState, Verdict

from .builders import COMPLETED, FAILED, NOW, PROCESSING, at, claimed, fact, new_task, reading, sent, submitted

PROVIDERS = ["qingbo"]


async def test_task_comes_back_as_it_was_given(ledger: Ledger) -> None:
    """A new task is stored whole."""
    form = Form(model="wave-1", prompt="a wave ~ 波", image_urls=("https://a/b.png",), extra={"seed": 7})
    task = new_task(
        form=form, key="k", request_hash="r", metadata={"n": 2**70, "deep": [{}]}, url_key="f", price_microdollars=5,
        resend_at=at(30), fetch_at=at(60),
    )  # fmt: skip
    assert await ledger.add_task(task) == (task, True)
    assert await ledger.tasks(Query()) == [task]


async def test_a_task_that_is_sent_at_once_is_stored_as_claimed(ledger: Ledger) -> None:
    """Its claim is as any other: whoever saw it unclaimed, or claims it as it was, does not get it twice."""
    unclaimed = new_task(resend_at=at(30))
    task = new_task(resend_at=at(40), sent_at=NOW, sends=1)
    assert await ledger.add_task(task) == (task, True)
    assert await ledger.tasks(Query()) == [task]
    assert not await ledger.claim_send(unclaimed, at(1), None)
    assert await ledger.due_sends(PROVIDERS, at(39), 10) == []
    assert await ledger.due_sends(PROVIDERS, at(40), 10) == [task]
    assert await ledger.claim_send(task, at(40), None)
    assert not await ledger.claim_send(task, at(41), None)


async def test_same_key_same_request_gives_the_same_task(ledger: Ledger) -> None:
    """A key that is known gives the task that has it, also when both come in one batch."""
    adding = [ledger.add_task(new_task(name, key="k", request_hash="r")) for name in ("task_a", "task_b")]
    assert [(task.id, new) for task, new in await asyncio.gather(*adding)] == [("task_a", True), ("task_a", False)]
    again, new = await ledger.add_task(new_task("task_c", key="k", request_hash="r"))
    assert (again.id, new) == ("task_a", False)


async def test_same_key_other_request_is_a_conflict(ledger: Ledger) -> None:
    """A key cannot be used for another request, also when both come in one batch; the other task is not stored."""
    adding = [ledger.add_task(new_task(f"task_{hash_}", key="", request_hash=hash_)) for hash_ in ("r", "s")]
    first, second = await asyncio.gather(*adding, return_exceptions=True)
    assert isinstance(first, tuple)
    assert isinstance(second, KeyConflict)
    assert "task_r" in str(second)
    assert [task.id for task in await ledger.tasks(Query())] == ["task_r"]


async def test_tasks_without_a_key_are_all_new(ledger: Ledger) -> None:
    """Keys are optional, and their absence is not a key."""
    assert [new for _, new in await asyncio.gather(*[ledger.add_task(new_task(f"task_{n}")) for n in range(3)])] == [
        True, True, True,
    ]  # fmt: skip


async def test_one_claim_wins(ledger: Ledger) -> None:
    """Of many who want to send a task one may, whether they ask together or later."""
    task, _ = await ledger.add_task(new_task())
    won = await asyncio.gather(*[ledger.claim_send(task, at(n), None) for n in range(5)])
    assert won == [True, False, False, False, False]
    assert not await ledger.claim_send(task, at(9), None)
    (stored,) = await ledger.tasks(Query())
    assert (stored.sent_at, stored.sends) == (NOW, 1)


async def test_stale_claim_can_be_taken_over(ledger: Ledger) -> None:
    """Whoever saw the last claim may replace it, once it is due; and the sending before it can no longer give it up."""
    task, _ = await ledger.add_task(new_task())
    await ledger.claim_send(task, NOW, at(60))
    assert await ledger.due_sends(PROVIDERS, at(59), 10) == []
    (due,) = await ledger.due_sends(PROVIDERS, at(60), 10)
    assert await ledger.claim_send(due, at(61), at(120))
    late = await ledger.save_send(sent(sent_at=0, resend_at=at(62), release=True))
    assert (late.sent_at, late.resend_at) == (at(61), at(120))


async def test_accepted_task_has_its_id_and_asks_later(ledger: Ledger) -> None:
    """An acceptance saves the provider's id, when to ask first, and that nobody sends again."""
    await claimed(ledger)
    answer = reading(TaskState.SUBMITTED, "p-a", progress=3)
    task = await ledger.save_send(sent(reading=answer, fetch_at=at(300), note="x" * 900))
    assert (task.state, task.provider_id, task.accepted_at) == (TaskState.SUBMITTED, "p-a", at(1))
    assert (task.fetch_at, task.resend_at, task.progress) == (at(300), None, 3)
    assert task.send_note == "x" * 500
    assert not await ledger.claim_send(task, at(2), None)


async def test_refused_task_has_failed(ledger: Ledger) -> None:
    """A refusal settles the task by the submission, with an event that holds the answer."""
    await claimed(ledger)
    answer = reading(FAILED, error=TaskError(message="no", code="20002"))
    callback = Callback(body=b"{...}", received_at=at(1))
    task = await ledger.save_send(sent(reading=answer, callback=callback))
    assert (task.state, task.settled_by, task.settled_at) == (FAILED, Source.SUBMISSION, at(1))
    (event,) = await ledger.events(Query())
    assert (event.id, event.body, event.error) == (task.settled_event, b"{...}", answer.error)


async def test_answer_that_is_final_already_is_a_fact(ledger: Ledger) -> None:
    """A provider that completes at once settles the task by its answer, and the push that follows is a duplicate."""
    await claimed(ledger)
    task = await ledger.save_send(sent(reading=reading(COMPLETED, "p-a"), fetch_at=at(9)))
    assert (task.state, task.provider_id, task.fetch_at) == (COMPLETED, "p-a", None)
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.DUPLICATE


async def test_released_task_may_be_sent_again(ledger: Ledger) -> None:
    """Where nothing was bought the claim is given up, and the task is due again when that is allowed."""
    await claimed(ledger)
    task = await ledger.save_send(sent(resend_at=at(10), release=True, note="429"))
    assert (task.sent_at, task.resend_at, task.send_note) == (None, at(10), "429")
    (due,) = await ledger.due_sends(PROVIDERS, at(10), 1)
    assert await ledger.claim_send(due, at(11), None)


async def test_unknown_end_is_kept_and_never_resent(ledger: Ledger) -> None:
    """Where it is not known whether the provider took it the claim stays, and a deadline for asking is kept."""
    await claimed(ledger, fetch_at=at(7))
    task = await ledger.save_send(sent(note="timeout", fetch_at=at(99)))
    assert (task.state, task.sent_at, task.resend_at, task.fetch_at) == (TaskState.PENDING, NOW, None, at(7))
    assert await ledger.due_sends(PROVIDERS, at(10_000), 10) == []
    assert (await ledger.summary(NOW)).unknown_sends == 1


@pytest.mark.parametrize("pushed", [PROCESSING, COMPLETED])
async def test_answer_never_lowers_a_state(ledger: Ledger, pushed: TaskState) -> None:
    """A push that overtook the answer stands; an unanswered sending of such a task is not resent either."""
    await claimed(ledger)
    await ledger.record(fact(pushed))
    unanswered = await ledger.save_send(sent(resend_at=at(5)))
    assert (unanswered.state, unanswered.resend_at) == (pushed, None)
    task = await ledger.save_send(sent(reading=reading(TaskState.SUBMITTED, "p-a"), fetch_at=at(5)))
    assert (task.state, task.provider_id) == (pushed, "p-a")
    assert task.fetch_at == (None if pushed is COMPLETED else at(5))


async def test_refusal_after_completion_contradicts(ledger: Ledger) -> None:
    """The first final word stands, even against the answer to our own request."""
    await claimed(ledger)
    await ledger.record(fact(COMPLETED))
    assert (await ledger.save_send(sent(reading=reading(FAILED)))).state is COMPLETED
    assert (await ledger.summary(NOW)).conflicts == 1


async def test_id_of_another_submission_harms_only_its_caller(ledger: Ledger) -> None:
    """Where a provider gives one id twice the second answer is refused, and its neighbours in the batch are saved."""
    await submitted(ledger, "task_a", "p-a")
    for name in ("task_b", "task_c", "task_d"):
        await claimed(ledger, name)
    answers = [
        ledger.save_send(sent("task_b", reading=reading(COMPLETED, "p-a"))),
        ledger.save_send(sent("task_c", reading=reading(TaskState.SUBMITTED, "p-c"))),
        ledger.save_send(sent("task_d", reading=reading(TaskState.SUBMITTED, "p-c"))),
    ]
    b, c, d = await asyncio.gather(*answers, return_exceptions=True)
    assert isinstance(b, LedgerRejected)
    assert "task_a" in str(b)
    assert not isinstance(c, BaseException)
    assert c.provider_id == "p-c"
    assert isinstance(d, LedgerRejected)
    states = {task.id: task.state for task in await ledger.tasks(Query())}
    assert states["task_a"] is TaskState.SUBMITTED
    assert states["task_b"] is TaskState.PENDING
    assert await ledger.events(Query()) == []


async def test_answer_for_an_unknown_task_is_not_found(ledger: Ledger) -> None:
    """The end of a sending needs its task."""
    for answer in (reading(COMPLETED, "p-x"), None):
        with pytest.raises(NotFound):
            await ledger.save_send(sent("task_none", reading=answer))


async def test_due_sends_come_oldest_first(ledger: Ledger) -> None:
    """What waits longest to be sent again is given first, only so many, and of these providers only."""
    for n in (3, 1, 2):
        await ledger.add_task(new_task(f"task_{n}", resend_at=at(n)))
    await ledger.add_task(new_task("task_0", provider="reapi", resend_at=at(0)))
    assert [task.id for task in await ledger.due_sends(PROVIDERS, at(9), 2)] == ["task_1", "task_2"]
    assert [task.id for task in await ledger.due_sends(["reapi", "other"], at(9), 2)] == ["task_0"]
    assert await ledger.due_sends([], at(9), 2) == []

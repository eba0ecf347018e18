"""The resend rule, to the letter: provider by answer."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from msgspec import structs
from structlog.testing import capture_logs

from ringback.errors import LedgerRejected, LedgerUnavailable, SubmissionRefused
from ringback.ledger import Query, Sent
from ringback.model import Source, Task, TaskState
from ringback.outbound import Outbound
from ringback.retry import SENDING
from submitter.sending import Sender, send_patience

from .submitter_rig import KEYS, PUBLIC_URL, START, Answer, Rig, accepted, answer, refusal

NOTHING_BOUGHT = [answer(429), httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")]
DOUBTFUL = [
    answer(500),
    answer(503),
    answer(408),
    answer(425),
    answer(302, location="http://elsewhere"),
    answer(200, {"hello": "world"}),
    answer(200),
    httpx.ReadTimeout("slow"),
    httpx.ReadError("reset"),
    httpx.RemoteProtocolError("closed"),
]
REFUSED = [400, 401, 402, 403, 404, 409, 422]


@pytest.mark.parametrize("provider", ["qingbo", "reapi"])
@pytest.mark.parametrize("end", NOTHING_BOUGHT, ids=repr)
async def test_what_bought_nothing_is_sent_again_by_anybody(tmp_path: Path, provider: str, end: Answer) -> None:
    """429 and a refused connection: tried again here, then released and left to the poller."""
    async with Rig(tmp_path, end) as rig:
        task = await rig.submitter.submit(provider, prompt="x")
        assert len(rig.wire.requests) == SENDING.attempts
        assert (task.state, task.sent_at) == (TaskState.PENDING, None)
        assert task.resend_at is not None
        assert task.resend_at > rig.clock()
        rig.wire.answers = [accepted(provider)]
        assert await rig.poll(minutes=1) >= 1
        assert (await rig.task(task)).accepted_at is not None


@pytest.mark.parametrize("end", DOUBTFUL, ids=repr)
async def test_a_doubtful_end_is_sent_again_under_an_idempotency_key(tmp_path: Path, end: Answer) -> None:
    """qingbo: the claim stays, every request carries the same key, the poller goes on within the window."""
    async with Rig(tmp_path, end) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        assert len(rig.wire.requests) == SENDING.attempts
        assert {request.headers["idempotency-key"] for request in rig.wire.requests} == {task.id}
        assert task.state is TaskState.PENDING
        assert task.sent_at is not None
        assert task.resend_at is not None
        rig.wire.answers = [accepted("qingbo")]
        await rig.poll(minutes=1)
        assert (await rig.task(task)).provider_id == "task-wave1"


@pytest.mark.parametrize("end", DOUBTFUL, ids=repr)
async def test_a_doubtful_end_without_an_idempotency_key_is_never_sent_again(tmp_path: Path, end: Answer) -> None:
    """reAPI: an unknown end is kept and shown, since a blind retry buys a second video."""
    async with Rig(tmp_path, end) as rig:
        with capture_logs() as lines:
            task = await rig.submitter.submit("reapi", prompt="x", key="k")
        assert len(rig.wire.requests) == 1
        assert (task.state, task.resend_at) == (TaskState.PENDING, None)
        assert task.sent_at == START
        assert task.send_note
        assert [line["event"] for line in lines] == ["submission.unknown_end"]
        await rig.poll(hours=1)
        assert (await rig.submitter.submit("reapi", prompt="x", key="k")).id == task.id
        assert len(rig.wire.requests) == 1
        assert (await rig.ledger.summary(rig.clock())).unknown_sends == 1


@pytest.mark.parametrize("provider", ["qingbo", "reapi"])
@pytest.mark.parametrize("status", REFUSED)
async def test_a_refusal_is_stored_as_failed_before_it_is_raised(tmp_path: Path, provider: str, status: int) -> None:
    """A 4xx bought nothing: the task fails with the provider's words, as an event that handlers get."""
    async with Rig(tmp_path, refusal(status, "not like this")) as rig:
        with pytest.raises(SubmissionRefused, match="not like this") as caught:
            await rig.submitter.submit(provider, prompt="x", key="k")
        story = await rig.ledger.story("k")
    assert caught.value.code == "some_code"
    assert (f"RINGBACK_{provider.upper()}_API_KEY" in str(caught.value)) is (status in (401, 403))
    assert (story.task.state, story.task.settled_by) == (TaskState.FAILED, Source.SUBMISSION)
    assert [event.type for event in story.events] == ["task.failed"]
    assert story.events[0].error is not None
    assert story.events[0].error.message == "not like this"
    assert b"not like this" in story.events[0].body
    assert len(rig.wire.requests) == 1


@pytest.mark.parametrize("second", [answer(429), httpx.ConnectError("refused"), *map(refusal, (401, 402, 403, 409))])
async def test_a_doubt_outlives_what_by_itself_bought_nothing(tmp_path: Path, second: Answer) -> None:
    """After a timeout the first request may have been accepted, whatever the second one meets."""
    async with Rig(tmp_path, httpx.ReadTimeout("slow"), second) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        assert task.state is TaskState.PENDING
        assert task.sent_at is not None
        await rig.poll(hours=25)
        task = await rig.task(task)
        assert (task.state, task.resend_at) == (TaskState.PENDING, None)
        assert "too late" in (task.send_note or "")


async def test_a_refusal_of_the_request_itself_ends_a_doubt(tmp_path: Path) -> None:
    """Under its key an accepted request would have been answered with its task."""
    async with Rig(tmp_path, httpx.ReadTimeout("slow"), refusal(400)) as rig:
        with pytest.raises(SubmissionRefused):
            await rig.submitter.submit("qingbo", prompt="x")


async def test_retry_after_is_honoured_here_up_to_a_minute(tmp_path: Path) -> None:
    """A short wait is waited for; what asks for more is left to the poller with its time."""
    async with Rig(tmp_path, answer(429, retry_after="7"), answer(429, retry_after="600"), accepted("reapi")) as rig:
        task = await rig.submitter.submit("reapi", prompt="x")
        assert rig.clock.pauses == [7.0]
        assert task.resend_at == START + timedelta(seconds=607)
        await rig.poll(seconds=599)
        assert len(rig.wire.requests) == 2
        await rig.poll(seconds=1)
        assert (await rig.task(task)).accepted_at is not None


async def test_retry_after_puts_a_task_off_for_an_hour_at_most(tmp_path: Path) -> None:
    """Days are more likely a mistake than meant, and nobody would look at the task until then."""
    async with Rig(tmp_path, answer(429, retry_after="864000")) as rig:
        task = await rig.submitter.submit("reapi", prompt="x")
        assert len(rig.wire.requests) == 1
        assert task.resend_at == START + timedelta(hours=1)


async def test_the_poller_waits_longer_after_each_sending(tmp_path: Path) -> None:
    """A provider that is down for hours is not asked every second."""
    async with Rig(tmp_path, answer(503)) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        waits = []
        for _ in range(4):
            assert task.resend_at is not None
            waits.append(task.resend_at - rig.clock())
            rig.clock.now = task.resend_at
            await rig.poll()
            task = await rig.task(task)
    assert waits == [timedelta(seconds=s) for s in (10, 20, 40, 80)]


async def test_the_claim_may_be_taken_over_only_under_an_idempotency_key(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a sending: qingbo's task is sent again by the poller, reAPI's never is."""
    asked = asyncio.Event()

    async def hang(_: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with Rig(tmp_path, hang) as rig:
        claims = {}
        for provider in ("qingbo", "reapi"):
            asked.clear()
            sending = asyncio.create_task(rig.submitter.submit(provider, prompt="x", key=provider))
            await asked.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            claims[provider] = (await rig.ledger.story(provider)).task
        assert claims["qingbo"].resend_at == START + timedelta(seconds=rig.settings.request_timeout_seconds + 30)
        assert claims["reapi"].resend_at is None
        rig.wire.answers = [accepted("qingbo")]
        rig.wire.requests.clear()
        with capture_logs() as lines:
            await rig.poll(seconds=61)
        assert [request.headers["idempotency-key"] for request in rig.wire.requests] == [claims["qingbo"].id]
        assert "task.resent" in [line["event"] for line in lines]
        assert (await rig.task(claims["reapi"])).state is TaskState.PENDING


async def test_a_task_that_was_stored_and_never_claimed_is_sent_by_the_poller(tmp_path: Path) -> None:
    """A crash between the commit and the claim loses nothing, idempotency key or not."""
    async with Rig(tmp_path, accepted("reapi")) as rig:
        draft = rig.submitter.plan("reapi", prompt="x").task
        await rig.ledger.add_task(draft)
        assert await rig.poll(seconds=1) == 0
        await rig.poll(seconds=60)
        assert (await rig.task(draft)).provider_id == "task_r1"


async def test_what_waits_for_its_turn_is_stored_and_not_claimed(tmp_path: Path) -> None:
    """A crash meanwhile finds it as never sent; what is sent at once was stored as claimed, under the usual lease."""
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(_: httpx.Request) -> httpx.Response:
        arrived.set()
        await go_on.wait()
        return accepted("qingbo")

    async with Rig(tmp_path, slowly, accepted("qingbo", 2), provider_concurrency=1) as rig:
        first = asyncio.create_task(rig.submitter.submit("qingbo", prompt="x", key="first"))
        await arrived.wait()
        second = asyncio.create_task(rig.submitter.submit("qingbo", prompt="x", key="second"))
        seen = 0
        while len(stored := await rig.ledger.tasks(Query())) < 2:
            seen = await rig.ledger.changed(seen, 5)
        lease = START + send_patience(rig.settings)
        assert {task.key: (task.sent_at, task.sends, task.resend_at) for task in stored} == {
            "first": (START, 1, lease),
            "second": (None, 0, lease),
        }
        again = await rig.submitter.submit("qingbo", prompt="x", key="first")  # which somebody is sending
        assert (again.state, again.sent_at) == (TaskState.PENDING, START)
        go_on.set()
        sends = [(task.provider_id, task.sends) for task in await asyncio.gather(first, second)]
        assert sends == [("task-wave1", 1), ("task-wave2", 1)]
        assert len(rig.wire.requests) == 2


async def test_two_processes_race_for_one_claim_and_one_sends(tmp_path: Path) -> None:
    """The conditional UPDATE lets one through; the other gives the task as it stands."""
    async with Rig(tmp_path, accepted("reapi")) as rig:
        draft, _ = await rig.ledger.add_task(rig.submitter.plan("reapi", prompt="x").task)
        senders = [rig.make_sender(await rig.open_ledger()) for _ in range(2)]
        first, second = await asyncio.gather(*(sender.resume(draft) for sender in senders))
        assert len(rig.wire.requests) == 1
        assert sorted([first.ending is None, second.ending is None]) == [False, True]
        assert (await rig.task(draft)).sends == 1


async def test_an_answer_that_cannot_be_saved_at_once_is_saved_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is locked for a moment does not lose a task that is paid for."""
    async with Rig(tmp_path, accepted("reapi")) as rig:
        save, failures = rig.ledger.save_send, iter([True, True, False])

        async def sometimes(sent: Sent) -> Task:
            if next(failures):
                raise LedgerUnavailable
            return await save(sent)

        monkeypatch.setattr(rig.ledger, "save_send", sometimes)
        assert (await rig.submitter.submit("reapi", prompt="x")).provider_id == "task_r1"


async def test_an_answer_that_cannot_be_saved_at_all_is_told_with_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The video is paid for, and without the provider's id nobody could find it again."""

    async def never(_: Sent) -> Task:
        raise LedgerUnavailable("the disk is full")

    async with Rig(tmp_path, accepted("reapi")) as rig:
        monkeypatch.setattr(rig.ledger, "save_send", never)
        with capture_logs() as logs, pytest.raises(LedgerUnavailable, match=r"reapi accepted .* as task_r1") as caught:
            await rig.submitter.submit("reapi", prompt="x")
        (task,) = await rig.ledger.tasks(Query())
    assert "the disk is full; keep that id" in str(caught.value)
    assert task.id in str(caught.value)
    told = [line for line in logs if line["event"].startswith("submission.")]
    assert [line["event"] for line in told] == ["submission.save_delayed"] * 5 + ["submission.save_failed"]
    assert {(line["task"], line["provider"], line["provider_id"]) for line in told} == {(task.id, "reapi", "task_r1")}
    assert told[-1]["log_level"] == "error"


async def test_an_answer_without_an_id_that_cannot_be_saved_is_the_ledgers_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was told that could be kept, so nothing is said of an id."""

    async def never(_: Sent) -> Task:
        raise LedgerUnavailable("the disk is full")

    async with Rig(tmp_path, answer(500)) as rig:
        monkeypatch.setattr(rig.ledger, "save_send", never)
        with pytest.raises(LedgerUnavailable, match=r"^the disk is full$"):
            await rig.submitter.submit("reapi", prompt="x")


async def test_an_id_that_another_task_holds_ends_as_unknown(tmp_path: Path) -> None:
    """A provider that gives one id twice cannot make us send again and again."""
    async with Rig(tmp_path, accepted("qingbo")) as rig:
        await rig.submitter.submit("qingbo", prompt="x")
        task = await rig.submitter.submit("qingbo", prompt="y")
        assert (task.state, task.provider_id, task.resend_at) == (TaskState.PENDING, None, None)
        assert "ask the provider" in (task.send_note or "")


async def test_a_rejected_record_without_an_answer_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to fall back on, so the caller hears of it."""

    async def reject(_: Sent) -> Task:
        raise LedgerRejected

    async with Rig(tmp_path, answer(500)) as rig:
        monkeypatch.setattr(rig.ledger, "save_send", reject)
        with pytest.raises(LedgerRejected):
            await rig.submitter.submit("qingbo", prompt="x")


async def test_a_stored_task_that_is_no_longer_valid_fails_without_being_sent(tmp_path: Path) -> None:
    """Rules may have changed since it was stored; but where an earlier sending is in doubt nothing is concluded."""
    async with Rig(tmp_path, accepted("qingbo")) as rig:
        draft = rig.submitter.plan("qingbo", prompt="x").task
        assert draft.form is not None
        draft = structs.replace(draft, form=structs.replace(draft.form, duration=99))
        sender = rig.make_sender(rig.ledger)
        doubted = structs.replace(draft, id="task_doubted")
        for task in (draft, doubted):
            await rig.ledger.add_task(task)
        assert (await sender.resume(draft)).task.state is TaskState.FAILED
        await rig.ledger.claim_send(doubted, rig.clock(), None)
        doubted = (await sender.resume(await rig.task(doubted))).task
        assert (doubted.state, doubted.sent_at, doubted.sends) == (TaskState.PENDING, START, 2)
        assert rig.wire.requests == []


async def test_a_setting_that_breaks_while_a_task_waits_buys_nothing(tmp_path: Path) -> None:
    """The claim is given back, with what is wrong as the note."""
    async with Rig(tmp_path, accepted("reapi")) as rig:
        draft, _ = await rig.ledger.add_task(rig.submitter.plan("reapi", prompt="x").task)
        async with Outbound(replace(rig.settings, providers={})) as keyless:
            task = (await Sender(rig.settings, rig.ledger, keyless, clock=rig.clock).resume(draft)).task
        assert (task.state, task.sent_at) == (TaskState.PENDING, None)
        assert "RINGBACK_REAPI_API_KEY" in (task.send_note or "")


async def test_an_early_push_is_adopted_when_the_answer_is_saved(tmp_path: Path) -> None:
    """The callback overtakes the answer: first on the task's own URL, then by a row made from an unknown id."""

    async def by_url(request: httpx.Request) -> httpx.Response:
        await rig.push(request.headers["idempotency-key"], "task-wave1", TaskState.COMPLETED)
        return accepted("qingbo")

    async def by_unknown_id(_: httpx.Request) -> httpx.Response:
        await rig.push("task_ofsomebody", "task-wave2", TaskState.COMPLETED)
        return accepted("qingbo", 2)

    async with Rig(tmp_path, by_url, by_unknown_id, public_url=PUBLIC_URL) as rig:
        for key in ("first", "second"):
            task = await rig.submitter.submit("qingbo", prompt="x", key=key)
            story = await rig.ledger.story(key)
            assert (task.state, task.settled_by) == (TaskState.COMPLETED, Source.CALLBACK)
            assert [event.type for event in story.events] == ["task.completed"]
        assert len(rig.wire.requests) == 2


async def test_a_push_during_a_doubtful_sending_ends_the_doubt(tmp_path: Path) -> None:
    """The request timed out, but its task has called back: there is nothing to send again."""

    async def push_then_fail(request: httpx.Request) -> httpx.Response:
        await rig.push(request.headers["idempotency-key"], "task-wave1", TaskState.PROCESSING)
        raise httpx.ReadTimeout("slow")

    async with Rig(tmp_path, push_then_fail, public_url=PUBLIC_URL) as rig:
        with capture_logs() as lines:
            task = await rig.submitter.submit("qingbo", prompt="x")
        assert (task.state, task.resend_at) == (TaskState.PROCESSING, None)
        assert len(rig.wire.requests) == 1
        assert [line["event"] for line in lines] == ["task.submitted"]


async def test_a_final_answer_to_the_submission_settles_the_task(tmp_path: Path) -> None:
    """PROVIDERS A: with Prefer, or a repeated key, the answer may be the finished task."""
    async with Rig(tmp_path, accepted("qingbo", 1, "completed")) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x", key="k")
        story = await rig.ledger.story("k")
    assert (task.state, task.settled_by, task.fetch_at) == (TaskState.COMPLETED, Source.SUBMISSION, None)
    assert b"task-wave1" in story.events[0].body


async def test_neither_token_nor_key_reaches_an_error_the_ledger_or_a_log_line(tmp_path: Path) -> None:
    """A provider may quote what we sent; the copies that people see do not."""

    async def quote(request: httpx.Request) -> httpx.Response:
        return refusal(400, f"bad {request.content.decode()} from {request.headers['authorization']}")

    async with Rig(tmp_path, quote, public_url=PUBLIC_URL) as rig:
        with capture_logs() as lines, pytest.raises(SubmissionRefused) as caught:
            await rig.submitter.submit("qingbo", prompt="x", key="k")
        mac = rig.wire.body()["callback_url"].rpartition(".")[2]
        event = (await rig.ledger.story("k")).events[0]
    for text in (str(caught.value), str(event.error), str(lines)):
        assert mac not in text
        assert KEYS["qingbo"] not in text

"""The poller: when it asks, what it makes of the answers, and what it leaves alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs
from structlog.testing import capture_logs

import submitter.asking
import submitter.poller
from ringback.errors import LedgerUnavailable
from ringback.ledger import Ledger
from ringback.model import Arrival, Callback, Kind, Source, Task, TaskState, Trust

from .submitter_rig import PUBLIC_URL, START, Answer, Rig, accepted, answer, completed, refusal


@asynccontextmanager
async def submitted(folder: Path, provider: str, *answers: Answer, **settings: Any) -> AsyncIterator[tuple[Rig, Task]]:
    """Give a rig with one accepted task, whose questions get these answers."""
    async with Rig(folder, accepted(provider), *answers, **settings) as rig:
        task = await rig.submitter.submit(provider, prompt="x", key="k")
        rig.wire.requests.clear()
        yield rig, task


async def ask(rig: Rig, task: Task) -> Task:
    """Go to the moment at which a task is due, let it be asked about, and give what became of it."""
    assert task.fetch_at is not None
    rig.clock.now = task.fetch_at
    await rig.poll()
    return await rig.task(task)


def wait_of(rig: Rig, task: Task) -> float:
    """Give the seconds until the next question."""
    assert task.fetch_at is not None
    return (task.fetch_at - rig.clock()).total_seconds()


def names(lines: list[Any]) -> list[str]:
    """Give the names of the log lines."""
    return [line["event"] for line in lines]


async def test_a_provider_without_push_is_asked_on_the_seeds_schedule(tmp_path: Path) -> None:
    """Shared seed 000…: every 5 s to 5 min, growing to 1 min by 1 h, then every 3 min, until the final word."""
    async with submitted(tmp_path, "reapi", accepted("reapi")) as (rig, begun):
        task = begun
        assert await rig.poll(seconds=4) == 0
        waits = {}
        for minutes in (1, 4, 20, 61, 600):
            rig.clock.now = START + timedelta(minutes=minutes)
            await rig.poll()
            waits[minutes] = wait_of(rig, await rig.task(task))
        assert waits == {1: 5, 4: 5, 20: 20, 61: 180, 600: 180}
        rig.wire.answers = [completed("reapi")]
        task = await ask(rig, await rig.task(task))
        assert (task.state, task.settled_by, task.fetch_at) == (TaskState.COMPLETED, Source.POLL, None)
        assert [str(request.url) for request in rig.wire.requests][-1].endswith("/api/v1/tasks/task_r1")
        assert await rig.poll(hours=1) == 0


async def test_a_push_that_is_overdue_is_asked_for_and_said_once(tmp_path: Path) -> None:
    """With a callback URL the first question comes at the deadline, further ones at least a minute apart."""
    async with submitted(tmp_path, "qingbo", accepted("qingbo"), public_url=PUBLIC_URL) as (rig, begun):
        task = begun
        assert await rig.poll(seconds=299) == 0
        with capture_logs() as lines:
            task = await ask(rig, task)
            assert wait_of(rig, task) == 60
            rig.wire.answers = [completed("qingbo")]
            task = await ask(rig, task)
        assert task.state is TaskState.COMPLETED
        assert (await rig.ledger.summary(rig.clock())).recovered == 1
        assert names(lines).count("push.overdue") == 1
        assert names(lines).count("task.polled") == 2


async def test_a_pushed_task_is_not_asked_about(tmp_path: Path) -> None:
    """The poller is the net, not the road."""
    async with submitted(tmp_path, "qingbo", accepted("qingbo"), public_url=PUBLIC_URL) as (rig, task):
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        assert await rig.poll(hours=1) == 0
        assert rig.wire.requests == []


async def test_a_hint_makes_a_task_due_at_once(tmp_path: Path) -> None:
    """A request that proves nothing is confirmed by a question, and no push is called overdue."""
    async with submitted(tmp_path, "qingbo", completed("qingbo"), public_url=PUBLIC_URL) as (rig, task):
        hint = Arrival(
            kind=Kind.HINT,
            provider="qingbo",
            source=Source.CALLBACK,
            trust=Trust.NONE,
            callback=Callback(body=b"{}", received_at=rig.clock()),
            task_id=task.id,
        )
        await rig.ledger.record(hint)
        with capture_logs() as lines:
            await rig.poll()
        assert (await rig.task(task)).state is TaskState.COMPLETED
        assert "push.overdue" not in names(lines)


@pytest.mark.parametrize(
    "end",
    [
        answer(500),
        answer(408),
        answer(302),
        answer(200, {"no": "task"}),
        answer(200, {"id": "task_of_another", "status": "completed"}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
    ],
    ids=repr,
)
async def test_a_question_without_a_usable_answer_is_asked_again_later_and_later(tmp_path: Path, end: Answer) -> None:
    """Said once at warning; a good answer begins anew."""
    async with submitted(tmp_path, "reapi", end) as (rig, begun):
        task = begun
        waits = []
        with capture_logs() as lines:
            for _ in range(7):
                task = await ask(rig, task)
                waits.append(wait_of(rig, task))
        assert waits == [10, 20, 40, 80, 160, 300, 300]
        assert [line["log_level"] for line in lines if line["event"] == "poll.failed"] == ["warning"] + ["debug"] * 6
        rig.wire.answers = [accepted("reapi"), end]
        task = await ask(rig, task)
        assert wait_of(rig, await ask(rig, task)) < 40


async def test_a_429_pauses_the_whole_provider_and_no_other(tmp_path: Path) -> None:
    """Retry-After holds for every task of it; half a minute where it is absent."""
    limit = answer(429, retry_after="40")

    async def reapi_is_busy(request: httpx.Request) -> httpx.Response:
        return limit if request.url.host == "reapi.ai" else completed("qingbo")

    async with submitted(tmp_path, "reapi", accepted("reapi", 2), accepted("qingbo"), reapi_is_busy) as (rig, first):
        second = await rig.submitter.submit("reapi", prompt="y")
        other = await rig.submitter.submit("qingbo", prompt="x")
        await rig.poll(seconds=5)
        assert (await rig.task(other)).state is TaskState.COMPLETED
        assert [wait_of(rig, await rig.task(task)) for task in (first, second)] == [40, 40]
        unsent = rig.submitter.plan("reapi", prompt="z").task
        await rig.ledger.add_task(structs.replace(unsent, resend_at=rig.clock()))
        assert await rig.poll(seconds=39) == 0
        limit = answer(429)
        assert await rig.poll(seconds=1) == 3
        assert wait_of(rig, await rig.task(first)) == 30


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_stops_the_provider_for_ten_minutes_and_is_said_once(tmp_path: Path, status: int) -> None:
    """The line names the setting; after a good answer it would be said again."""
    async with submitted(tmp_path, "reapi", refusal(status)) as (rig, begun):
        task = begun
        with capture_logs() as lines:
            task = await ask(rig, task)
            assert wait_of(rig, task) == 600
            assert await rig.poll(seconds=599) == 0
            task = await ask(rig, task)
        said = [line for line in lines if line["event"] == "poller.unauthorised"]
        assert len(said) == 1
        assert "RINGBACK_REAPI_API_KEY" in said[0]["message"]
        rig.wire.answers = [accepted("reapi"), refusal(status)]
        task = await ask(rig, task)
        with capture_logs() as lines:
            await ask(rig, task)
        assert "poller.unauthorised" in names(lines)


async def test_a_task_that_the_provider_does_not_know_is_given_up_slowly(tmp_path: Path) -> None:
    """Three times in a row while it is young, since a provider may learn of it late; a guess that a push replaces."""
    async with submitted(tmp_path, "qingbo", refusal(404), refusal(404), accepted("qingbo"), refusal(404)) as (
        rig,
        begun,
    ):
        task = begun
        for _ in range(5):
            task = await ask(rig, task)
            assert task.state is TaskState.SUBMITTED
        task = await ask(rig, task)
        assert (task.state, task.settled_by) == (TaskState.FAILED, Source.RINGBACK)
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        assert (await rig.task(task)).state is TaskState.COMPLETED


async def test_an_old_task_that_the_provider_does_not_know_is_given_up_at_once(tmp_path: Path) -> None:
    """After ten minutes every provider knows its own tasks."""
    async with submitted(tmp_path, "reapi", refusal(410)) as (rig, task):
        await rig.poll(minutes=10)
        assert (await rig.task(task)).state is TaskState.FAILED


@pytest.mark.parametrize("end", [accepted("reapi"), answer(500), refusal(401), answer(429)], ids=repr)
async def test_a_task_past_the_longest_time_expires_after_one_more_question(tmp_path: Path, end: Answer) -> None:
    """Whatever comes but a final word: presumed expired, once."""
    async with submitted(tmp_path, "reapi", end) as (rig, begun):
        task = begun
        await rig.poll(hours=48)
        task = await rig.task(task)
        assert (task.state, task.settled_by, task.fetch_at) == (TaskState.EXPIRED, Source.RINGBACK, None)
        assert len(rig.wire.requests) == 1


async def test_a_poller_that_was_away_for_days_believes_the_provider(tmp_path: Path) -> None:
    """A task that ended meanwhile is not presumed expired."""
    async with submitted(tmp_path, "reapi", completed("reapi")) as (rig, task):
        await rig.poll(days=5)
        assert (await rig.task(task)).state is TaskState.COMPLETED


async def test_an_unknown_end_expires_without_a_question(tmp_path: Path) -> None:
    """There is no id to ask about: only the deadline is left, and a task never sent shares it."""
    async with Rig(tmp_path, answer(500), answer(429, retry_after="600")) as rig:
        unknown = await rig.submitter.submit("reapi", prompt="x")
        unsent = await rig.submitter.submit("reapi", prompt="y")
        rig.wire.requests.clear()
        await rig.poll(hours=48)
        assert (await rig.task(unknown)).state is TaskState.EXPIRED
        assert (await rig.task(unsent)).state is TaskState.EXPIRED
        assert rig.wire.requests == []


async def test_a_pending_task_without_an_id_is_put_off_to_its_deadline(tmp_path: Path) -> None:
    """A hint for an unknown end makes it due; there is nothing to ask yet."""
    async with Rig(tmp_path, answer(500)) as rig:
        task = await rig.submitter.submit("reapi", prompt="x")
        await rig.ledger.plan_fetches({task.id: rig.clock()})
        assert await rig.poll() == 1
        assert (await rig.task(task)).fetch_at == START + timedelta(hours=48)


async def test_a_missing_key_is_said_once_and_does_not_spin(tmp_path: Path) -> None:
    """Questions wait a minute, sendings until there is a key."""
    async with submitted(tmp_path, "reapi", answer(429, retry_after="600")) as (rig, task):
        waiting = await rig.submitter.submit("qingbo", prompt="y")
        rig.wire.requests.clear()
        rig.settings = replace(rig.settings, providers={})
        rig.outbound._settings = rig.settings
        with capture_logs() as lines:
            await rig.poll(seconds=600)
            assert wait_of(rig, await rig.task(task)) == 60
            assert await rig.poll(seconds=59) == 0
            await rig.poll(seconds=1)
        said = [line["message"] for line in lines if line["event"] == "poller.not_configured"]
        assert sorted(text.partition(":")[0] for text in said) == ["qingbo needs an API key", "reapi needs an API key"]
        assert rig.wire.requests == []
        assert (await rig.task(waiting)).state is TaskState.PENDING


async def test_one_failing_question_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even an error of our own stays with its task, which is asked about again after its lease."""
    async with submitted(tmp_path, "reapi", accepted("qingbo"), completed("qingbo")) as (rig, task):
        other = await rig.submitter.submit("qingbo", prompt="x")

        def broken(_: str) -> None:
            raise ZeroDivisionError

        provider = rig.poller._lanes["reapi"].provider
        monkeypatch.setattr(provider, "build_fetch", broken, raising=False)
        with capture_logs() as lines:
            await rig.poll(seconds=5)
        assert [line["reason"] for line in lines if line["event"] == "poll.failed"] == ["ZeroDivisionError"]
        assert (await rig.task(other)).state is TaskState.COMPLETED
        assert wait_of(rig, await rig.task(task)) == 60


async def test_one_failing_sending_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger in trouble is left alone for half a minute; nothing was sent, so nothing is lost."""
    async with Rig(tmp_path, answer(429, retry_after="600")) as rig:
        first = await rig.submitter.submit("reapi", prompt="x")
        second = await rig.submitter.submit("reapi", prompt="y")
        claim = rig.ledger.claim_send

        async def sometimes(task: Task, now: datetime, resend_at: datetime | None) -> bool:
            if task.id == first.id:
                raise LedgerUnavailable
            return await claim(task, now, resend_at)

        monkeypatch.setattr(rig.ledger, "claim_send", sometimes)
        rig.wire.answers = [accepted("reapi"), completed("reapi")]
        with capture_logs() as lines:
            assert await rig.poll(minutes=10) == 2
            assert await rig.poll(seconds=1) == 0
        assert names(lines).count("resend.failed") == 1
        assert (await rig.task(second)).accepted_at is not None
        monkeypatch.undo()
        rig.wire.answers = [accepted("reapi", 2)]
        await rig.poll(seconds=30)
        assert (await rig.task(first)).accepted_at is not None


async def test_a_slow_answer_holds_up_nobody(tmp_path: Path) -> None:
    """Each question is a task of its own; no more run at once than the provider may be asked."""
    release, running, most = asyncio.Event(), 0, 0

    async def first_is_slow(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if request.url.path.endswith("task_r0"):
            await release.wait()
        running -= 1
        return completed("reapi", int(request.url.path.rpartition("_r")[2]))

    async with Rig(tmp_path, *(accepted("reapi", n) for n in range(7)), first_is_slow, provider_concurrency=2) as rig:
        tasks = [await rig.submitter.submit("reapi", prompt=str(n)) for n in range(7)]
        rig.clock.advance(seconds=5)
        polling = asyncio.create_task(rig.poller.run_once(30))
        await asyncio.gather(*(rig.submitter.wait(task, 10) for task in tasks[1:]))
        release.set()
        assert await polling == 7
        assert (await rig.task(tasks[0])).state is TaskState.COMPLETED
    assert most == 2


async def test_two_pollers_ask_once(tmp_path: Path) -> None:
    """The lease is the claim to ask."""
    async with submitted(tmp_path, "reapi", accepted("reapi")) as (rig, _):
        rig.clock.advance(seconds=5)
        counts = await asyncio.gather(*(rig.make_poller().run_once(5) for _ in range(2)))
        assert sorted(counts) == [0, 1]
        assert len(rig.wire.requests) == 1


async def test_no_time_means_nothing_is_begun(tmp_path: Path) -> None:
    """`run_once` is for platforms that call us for a while."""
    async with submitted(tmp_path, "reapi", accepted("reapi")) as (rig, _):
        rig.clock.advance(seconds=5)
        assert await rig.poller.run_once(0) == 0
        assert rig.wire.requests == []


async def test_what_the_poller_remembers_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that a push settled are never asked about again, and must not pile up in memory."""
    monkeypatch.setattr(submitter.asking, "REMEMBERED", 1)
    async with submitted(tmp_path, "reapi", accepted("reapi", 2), answer(500)) as (rig, _):
        await rig.submitter.submit("reapi", prompt="y")
        await rig.poll(seconds=5)
        assert len(rig.poller._asker._failures) == 1


async def run_until(rig: Rig, task: Task, state: TaskState) -> None:
    """Run the poller as a process does, until a task has got there."""
    stop = asyncio.Event()
    running = asyncio.create_task(rig.poller.run(stop))
    async with asyncio.timeout(20):
        seen = 0
        while (await rig.task(task)).state is not state:
            seen = await rig.ledger.changed(seen, 1)
    stop.set()
    await running


async def test_run_polls_beats_and_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes itself known as a poller, does what is due, and says goodbye when it is stopped."""
    monkeypatch.setattr(submitter.poller, "ROUND_SECONDS", 0.01)

    async def look(_: httpx.Request) -> httpx.Response:
        seen.extend((await rig.ledger.summary(rig.clock())).processes)
        return completed("reapi")

    seen: list[Any] = []
    async with submitted(tmp_path, "reapi", look, provider_concurrency=1) as (rig, task):
        rig.clock.advance(seconds=5)
        with capture_logs() as lines:
            await run_until(rig, task, TaskState.COMPLETED)
        assert [process.role for process in seen] == ["poller"]
        assert (await rig.ledger.summary(rig.clock())).processes == ()
        assert (names(lines)[0], names(lines)[-1]) == ("poller.started", "poller.stopped")


async def test_run_survives_a_ledger_in_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told once and waited for, as is its end; the loop goes on, and tells of the next one."""
    monkeypatch.setattr(submitter.poller, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(submitter.poller, "IDLE_SECONDS", 0.01)
    async with submitted(tmp_path, "reapi", completed("reapi")) as (rig, task):
        ledger = Troubled(rig.ledger)
        rig.poller._ledger = ledger
        rig.clock.advance(seconds=5)
        with capture_logs() as lines:
            await run_until(rig, task, TaskState.COMPLETED)
            ledger.left["claim_fetches"] = 1
            assert await rig.poller._round_or_wait() == 0
        told = [line for line in lines if line["event"].startswith("poller.ledger_")]
        assert names(told) == ["poller.ledger_trouble", "poller.ledger_available", "poller.ledger_trouble"]
        assert told[1]["failures"] == 2


class Troubled:
    """A real ledger whose first calls of two methods fail, as on a full disk."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.left = {"beat": 2, "changed": 1}

    def __getattr__(self, name: str) -> Any:
        if self.left.get(name, 0) > 0:
            self.left[name] -= 1

            async def fail(*_: object, **__: object) -> None:
                raise LedgerUnavailable

            return fail
        return getattr(self._ledger, name)


async def test_a_stopping_poller_lets_go_of_what_takes_too_long(tmp_path: Path) -> None:
    """After grace_seconds a question is dropped; its lease brings it back."""
    asked = asyncio.Event()

    async def hang(_: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with submitted(tmp_path, "reapi", hang, grace_seconds=0.01) as (rig, task):
        rig.clock.advance(seconds=5)
        stop = asyncio.Event()
        running = asyncio.create_task(rig.poller.run(stop))
        await asked.wait()
        stop.set()
        async with asyncio.timeout(5):
            await running
        assert wait_of(rig, await rig.task(task)) == 60


async def test_an_idle_poller_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing due it looks about every other second."""
    async with Rig(tmp_path, answer(500)) as rig:
        rounds = 0
        real = rig.poller._round

        async def count() -> int:
            nonlocal rounds
            rounds += 1
            return await real()

        monkeypatch.setattr(rig.poller, "_round", count)
        stop = asyncio.Event()
        running = asyncio.create_task(rig.poller.run(stop))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(running), 0.5)
        stop.set()
        await running
    assert rounds == 1

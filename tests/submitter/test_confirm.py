"""What the poller makes of hints: it asks soon, and settles what the provider will never know."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from ringback.intake import Intake
from ringback.ledger import Query
from ringback.model import Callback, Confirm, Event, Reading, Receipt, Source, Task, TaskState, Trust, Verdict
from ringback.providers import Provider
from ringback.providers.qingbo import Qingbo
from ringback.settings import ProviderSettings

from .submitter_rig import PUBLIC_URL, START, Answer, Rig, accepted, answer, completed, refusal

CONFIRM = {"qingbo": ProviderSettings(api_key="k", confirm=Confirm.ALWAYS)}


def rig_of(folder: Path, *answers: Answer, **settings: Any) -> Rig:
    """Make a rig whose qingbo has to be confirmed."""
    return Rig(folder, *answers, **{"providers": CONFIRM} | settings)


async def hint(rig: Rig, intake: Intake | None = None, task_id: str | None = None) -> Receipt:
    """Let a push come that says that `task-wave1` has completed."""
    body = json.dumps({"task_id": "task-wave1", "status": "completed", "result": {"url": "https://cdn.example/v.mp4"}})
    callback = Callback(body=body.encode(), received_at=rig.clock())
    receipt = await (intake or rig.intake).pushed(Qingbo(), task_id, Trust.TOKEN, callback)
    assert receipt.verdict is Verdict.HINT
    return receipt


async def only(rig: Rig) -> Task:
    """Give the one task."""
    (task,) = await rig.ledger.tasks(Query())
    return task


async def events(rig: Rig) -> list[Event]:
    """Give all events, oldest first."""
    return list(reversed(await rig.ledger.events(Query())))


async def given_up(rig: Rig) -> None:
    """Ask about a task that only a hint has named until it is given up."""
    await hint(rig)
    while (await only(rig)).fetch_at is not None:
        await rig.poll(seconds=5)
    assert (await only(rig)).state is TaskState.FAILED


@pytest.mark.parametrize("status", [400, 404, 410, 422])
async def test_a_task_that_only_a_hint_knows_is_given_up_within_seconds(tmp_path: Path, status: int) -> None:
    """A permanent refusal is asked for three times, five seconds apart, and not for days."""
    async with rig_of(tmp_path, refusal(status)) as rig:
        await given_up(rig)
        task = await only(rig)
        assert (task.settled_by, len(rig.wire.requests)) == (Source.RINGBACK, 3)
        assert rig.clock() - START <= timedelta(seconds=15)
        assert await rig.poll(days=1) == 0


async def test_a_hint_reopens_what_was_only_presumed(tmp_path: Path) -> None:
    """The provider may have learnt of its task later than we asked: its word replaces the guess, with a new event."""
    async with rig_of(tmp_path, refusal(404)) as rig:
        await given_up(rig)
        rig.wire.answers = [completed("qingbo")]
        assert (await hint(rig)).state is TaskState.FAILED
        assert await rig.poll(seconds=5) == 1
        task = await only(rig)
        assert (task.state, task.settled_by, task.fetch_at) == (TaskState.COMPLETED, Source.POLL, None)
        assert [(event.status, event.source) for event in await events(rig)] == [
            (TaskState.FAILED, Source.RINGBACK),
            (TaskState.COMPLETED, Source.POLL),
        ]
        await hint(rig)
        assert await rig.poll(seconds=5) == 0


@pytest.mark.parametrize(
    "end", [refusal(404), answer(500), accepted("qingbo"), httpx.ConnectError("refused")], ids=repr
)
async def test_each_hint_about_a_presumed_task_is_one_question(tmp_path: Path, end: Answer) -> None:
    """Whatever else comes, the guess stands, and nobody goes on asking about it."""
    async with rig_of(tmp_path, refusal(404)) as rig:
        await given_up(rig)
        rig.wire.answers, asked = [end], len(rig.wire.requests)
        await hint(rig)
        assert await rig.poll(seconds=5) == 1
        task = await only(rig)
        assert (task.state, task.settled_by, task.fetch_at) == (TaskState.FAILED, Source.RINGBACK, None)
        assert await rig.poll(days=3) == 0
        assert len(rig.wire.requests) == asked + 1


@pytest.mark.parametrize("busy", [refusal(401), answer(429, None, Retry_After="60")], ids=["key", "busy"])
async def test_a_provider_that_wants_no_questions_has_not_answered_this_one(tmp_path: Path, busy: Answer) -> None:
    """What it says of all tasks is no word about this one, which may well have completed: it is asked about later."""
    async with rig_of(tmp_path, refusal(404)) as rig:
        await given_up(rig)
        rig.wire.answers = [busy, completed("qingbo")]
        await hint(rig)
        assert await rig.poll(seconds=5) == 1
        assert (await only(rig)).state is TaskState.FAILED
        assert await rig.poll(minutes=11) == 1
        assert (await only(rig)).state is TaskState.COMPLETED


async def test_a_hint_during_such_a_question_is_not_lost(tmp_path: Path) -> None:
    """What came while we asked is another doubt."""

    async def knock_again(_: httpx.Request) -> httpx.Response:
        await hint(rig)
        rig.wire.answers = [completed("qingbo")]
        return refusal(404)

    async with rig_of(tmp_path, refusal(404)) as rig:
        await given_up(rig)
        rig.wire.answers = [knock_again]
        await hint(rig)
        await rig.poll(seconds=5)
        assert (await only(rig)).state is TaskState.FAILED
        await rig.poll(seconds=5)
        assert (await only(rig)).state is TaskState.COMPLETED


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_keeps_the_hint_waiting(tmp_path: Path, status: int) -> None:
    """It says nothing about the task: the provider is left alone for ten minutes, and one line says why."""
    async with rig_of(tmp_path, refusal(status)) as rig:
        with capture_logs() as lines:
            await hint(rig)
            await rig.poll()
            await hint(rig)
            assert await rig.poll(seconds=599) == 0
            rig.wire.answers = [completed("qingbo")]
            assert await rig.poll(seconds=1) == 1
        assert [line["event"] for line in lines].count("poller.unauthorised") == 1
        assert (await only(rig)).state is TaskState.COMPLETED


async def test_a_hinted_task_is_asked_about_again_soon(tmp_path: Path) -> None:
    """A push that overtook the provider's own books has come already: there is none to wait a minute for."""
    async with rig_of(tmp_path, accepted("qingbo"), accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        rig.wire.answers = [accepted("qingbo"), completed("qingbo")]
        rig.clock.advance(seconds=20)
        await hint(rig, task_id=task.id)
        await rig.poll()
        assert (await rig.task(task)).state is TaskState.SUBMITTED
        await rig.poll(seconds=5)
        assert (await rig.task(task)).state is TaskState.COMPLETED


class Deaf(Provider):
    """Pushes, and cannot be asked."""

    name = "deaf"
    base_url = "https://deaf.example"


async def test_what_cannot_be_asked_about_waits_for_its_deadline(tmp_path: Path) -> None:
    """No request, no key that is missed, no line in the log; in the end it is presumed expired."""
    async with Rig(tmp_path, answer(500), catalogue={"deaf": Deaf()}, providers={}) as rig:
        with capture_logs() as lines:
            await rig.push("task_one", "p1", TaskState.PROCESSING, "deaf")
            await rig.poll(minutes=5)
            task = await only(rig)
            assert task.fetch_at == task.created_at + Deaf.longest
            assert await rig.poll(hours=1) == 0
            await rig.poll(hours=48)
        assert (await only(rig)).state is TaskState.EXPIRED
        assert rig.wire.requests == []
        assert [line["event"] for line in lines] == ["task.presumed"]


async def test_a_running_poller_hears_of_a_hint_from_another_process(tmp_path: Path) -> None:
    """While it has nothing to do it learns of what a receiver has stored within about a second."""
    async with rig_of(tmp_path, completed("qingbo")) as rig:
        receiver, stop = await rig.open_ledger(), asyncio.Event()
        running = asyncio.create_task(rig.poller.run(stop))
        async with asyncio.timeout(10):
            seen = 0
            while not await receiver.processes(rig.clock()):  # from then on it rests
                seen = await receiver.changed(seen, 1)
            began = asyncio.get_running_loop().time()
            await hint(rig, Intake(receiver, rig.settings))
            while (await receiver.tasks(Query()))[0].state is not TaskState.COMPLETED:
                seen = await receiver.changed(seen, 1)
        assert asyncio.get_running_loop().time() - began < 3
        stop.set()
        await running


async def test_an_answer_that_comes_after_the_adoption_belongs_to_the_submitted_task(tmp_path: Path) -> None:
    """Who asks about a task that only a hint has named may find it gone: its submission's answer came meanwhile."""

    async def answer_of_the_submission(_: httpx.Request) -> httpx.Response:
        asked.set()
        await asked_enough.wait()
        return completed("qingbo")

    async with rig_of(tmp_path, answer_of_the_submission) as rig:
        asked, asked_enough = asyncio.Event(), asyncio.Event()
        await hint(rig)
        polling = asyncio.create_task(rig.poll())
        await asked.wait()
        rig.wire.answers = [accepted("qingbo")]
        task = await rig.submitter.submit("qingbo", prompt="x")
        asked_enough.set()
        await polling
        found = await only(rig)
        assert (found.id, found.state) == (task.id, TaskState.COMPLETED)
        (event,) = await events(rig)
        assert (event.type, event.task_id) == ("task.completed", task.id)
        assert len((await rig.ledger.story(task.id)).callbacks) == 1


async def test_a_guess_about_an_adopted_task_is_about_the_submitted_one(tmp_path: Path) -> None:
    """The provider's id is the same, so what it does not know it does not know."""
    async with rig_of(tmp_path, accepted("qingbo")) as rig:
        await hint(rig)
        unknown = await only(rig)
        task = await rig.submitter.submit("qingbo", prompt="x")
        await rig.intake.presume(unknown, TaskState.FAILED, "gone", rig.clock())
        assert (await rig.task(task)).state is TaskState.FAILED
        receipt = await rig.intake.polled(
            Qingbo(), unknown, Reading(status=TaskState.COMPLETED, provider_id="task-wave1"), b"{}", rig.clock()
        )
        assert receipt.task_id == task.id

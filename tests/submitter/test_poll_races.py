"""Push and poll for one task at the same moment: one event, whoever is first."""

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from ringback.intake import Intake
from ringback.ledger import Pushes
from ringback.model import Callback, Source, Standing, TaskState, Trust, Verdict
from ringback.providers import get_provider
from submitter.poller import Poller

from .submitter_rig import PUBLIC_URL, START, Rig, accepted, completed

TASKS = 30


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_push_and_poll_at_the_same_moment_make_one_event(tmp_path: Path, status: str) -> None:
    """Thirty times, from two processes' ledgers on one file: each answer and its push are let go at one moment.

    Both write through connections of their own, in threads of their own. `completed` by both is one fact; `failed`
    by the push is another final word: the first one stands, the second is kept and handed to nobody.
    """
    async with Rig(tmp_path, *(accepted("qingbo", n) for n in range(TASKS)), public_url=PUBLIC_URL) as rig:
        submitted = [await rig.submitter.submit("qingbo", prompt=str(n)) for n in range(TASKS)]
        task_of = {task.provider_id: task for task in submitted}
        receiver = Intake(await rig.open_ledger(), rig.settings)
        provider = get_provider("qingbo", rig.settings.catalogue)
        pushes: list[asyncio.Task[Verdict]] = []

        async def push(name: str) -> Verdict:
            body = b'{"task_id": "%s", "status": "%s"}' % (name.encode(), status.encode())
            callback = Callback(body=body, received_at=rig.clock())
            return (await receiver.pushed(provider, task_of[name].id, Trust.TOKEN, callback)).verdict

        async def answer_and_push(request: httpx.Request) -> httpx.Response:
            name = request.url.path.rpartition("/")[2]
            pushes.append(asyncio.create_task(push(name)))
            if len(pushes) % 2:  # let the push go first, or leave it to the loop
                await asyncio.sleep(0)
            return completed("qingbo", int(name.removeprefix("task-wave")))

        rig.wire.answers = [answer_and_push]
        assert await rig.poll(seconds=300) == TASKS
        verdicts = Counter(await asyncio.gather(*pushes))
        stories = [await rig.ledger.story(task.id) for task in submitted]
        summary = await rig.ledger.summary(rig.clock())
        counts = await rig.ledger.report(Pushes(since=START))
    accepted_events = [[e for e in story.events if e.standing is Standing.ACCEPTED] for story in stories]
    finals = [[event.status for event in events if event.type != "task.progressed"] for events in accepted_events]
    assert [len(final) for final in finals] == [1] * TASKS
    assert all(final == [story.task.state] for final, story in zip(finals, stories, strict=True))
    by_push = sum(story.task.settled_by is Source.CALLBACK for story in stories)
    other = Verdict.DUPLICATE if status == "completed" else Verdict.CONTRADICTED
    assert verdicts == Counter({Verdict.NEW: by_push, other: TASKS - by_push})
    assert summary.settled_by_poll == TASKS - by_push
    assert [(one.expected, one.late, one.missing) for one in counts] == [(TASKS, TASKS, 0)]


async def test_two_pollers_and_a_push_make_one_event(tmp_path: Path) -> None:
    """Even where a lease has run out, so that the task is asked about twice at the same time."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        both, asked = asyncio.Barrier(2), asyncio.Event()
        pushes: list[asyncio.Task[None]] = []

        async def meet(_: httpx.Request) -> httpx.Response:
            asked.set()
            if await both.wait() == 0:
                push = rig.push(task.id, "task-wave1", TaskState.COMPLETED)
                pushes.append(asyncio.create_task(push))
            return completed("qingbo")

        rig.wire.answers = [meet]
        rig.clock.advance(seconds=300)
        first = asyncio.create_task(rig.poller.run_once(5))
        await asked.wait()
        rig.clock.advance(seconds=61)
        ledger = await rig.open_ledger()
        second = Poller(rig.settings, ledger, rig.outbound, Intake(ledger, rig.settings), clock=rig.clock)
        assert sum(await asyncio.gather(first, second.run_once(5))) == 2
        await asyncio.gather(*pushes)
        story = await rig.ledger.story(task.id)
        assert [event.status for event in story.events] == [TaskState.COMPLETED]
        assert story.task.fetch_at is None

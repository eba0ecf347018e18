"""Deadlines: how long a push is waited for is learned from past tasks, with a floor and a cap."""

import asyncio
import itertools
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from ringback.errors import LedgerUnavailable
from ringback.ledger import Expected
from ringback.ledger.expectations import FEWEST
from ringback.model import Source, Task, TaskState
from ringback.retry import push_delay

from .submitter_rig import PUBLIC_URL, START, Answer, Rig, accepted, completed

NUMBERS = itertools.count(5000)


def seconds(delay: timedelta) -> float:
    """Give a delay in seconds."""
    return delay.total_seconds()


@pytest.mark.parametrize(
    ("median", "p95", "wanted"),
    [(10, 20, 300), (200, 400, 500), (600, 3600, 4500), (60, 10_800, 600), (40_000, 80_000, 86_400)],
    ids=["the floor", "a quarter longer", "a wide spread", "ten medians", "the cap"],
)
def test_a_push_is_waited_for_a_quarter_longer_than_most_took(median: float, p95: float, wanted: float) -> None:
    """Never less than the setting, never more than the cap; a few that came hours late do not count for hours."""
    floor, cap = timedelta(seconds=300), timedelta(hours=24)
    assert seconds(push_delay(timedelta(seconds=median), timedelta(seconds=p95), floor, cap)) == wanted


async def take(rig: Rig, span: float, count: int = FEWEST, provider: str = "qingbo") -> None:
    """Have so many tasks end by a push after so long, and the poller learn of it."""
    rig.wire.answers = [accepted(provider, 1000 + number) for number in range(count)]
    tasks = [await rig.submitter.submit(provider, prompt=str(number)) for number in range(count)]
    rig.clock.advance(seconds=span)
    for task in tasks:
        assert task.provider_id is not None
        await rig.push(task.id, task.provider_id, TaskState.COMPLETED, provider)
    await rig.poller.run_once(5)


async def submit(rig: Rig, *answers: Answer, provider: str = "qingbo", model: str | None = None) -> Task:
    """Submit one task, whose questions get these answers."""
    rig.wire.answers = [accepted(provider, next(NUMBERS)), *answers]
    task = await rig.submitter.submit(provider, prompt="x", model=model)
    rig.wire.requests.clear()
    return task


def wait_of(rig: Rig, task: Task) -> float:
    """Give the seconds until the next question."""
    assert task.fetch_at is not None
    return seconds(task.fetch_at - rig.clock())


async def test_the_first_question_comes_when_tasks_like_this_have_ended(tmp_path: Path) -> None:
    """Before anything is known the setting holds; what is learned is used within a minute."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        assert wait_of(rig, await submit(rig, accepted("qingbo"))) == 300
        await take(rig, 800)
        rig.clock.advance(minutes=1)
        task = await submit(rig, accepted("qingbo"), completed("qingbo"))
        assert wait_of(rig, task) == 1000
        assert wait_of(rig, await submit(rig, accepted("qingbo"), model="another")) == 300


async def test_a_deadline_in_use(tmp_path: Path) -> None:
    """Not asked about before; then on the schedule of the seed, no more often than once a minute in the beginning."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        await take(rig, 800)
        task = await submit(rig, accepted("qingbo"))
        assert await rig.poll(seconds=999) == 0
        waits = []
        for _ in range(3):
            await rig.poll(seconds=wait_of(rig, await rig.task(task)))
            waits.append(wait_of(rig, await rig.task(task)))
        rig.clock.advance(hours=2)
        await rig.poll()
        waits.append(wait_of(rig, await rig.task(task)))
        assert waits == [60, 60, 60, 180]


async def test_a_provider_that_never_pushes_keeps_the_schedule(tmp_path: Path) -> None:
    """What is learned of its tasks is told to people; asking begins after five seconds all the same."""
    async with Rig(tmp_path, accepted("reapi"), public_url=PUBLIC_URL) as rig:
        for number in range(FEWEST):
            rig.wire.answers = [accepted("reapi", number), completed("reapi", number)]
            await rig.submitter.submit("reapi", prompt="x")
            await rig.poll(seconds=800)
        assert [seconds(one.median) for one in await rig.ledger.report(Expected())] == [800]
        assert wait_of(rig, await submit(rig, provider="reapi")) == 5


async def test_without_a_public_url_no_push_is_expected(tmp_path: Path) -> None:
    """Whatever the provider could do: it was not told where to call."""
    async with Rig(tmp_path, accepted("qingbo"), completed("qingbo")) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x")
        assert wait_of(rig, task) == 5
        with capture_logs() as lines:
            await rig.poll(seconds=5)
        assert "push.missing" not in [line["event"] for line in lines]


async def test_nothing_is_asked_between_a_paid_answer_and_its_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is busy with a report would keep it in memory, where a crash loses it."""
    done: list[str] = []
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        report, save_send = rig.ledger.report, rig.ledger.save_send

        async def answered(_: httpx.Request) -> httpx.Response:
            done.append("bought")
            return accepted("qingbo")

        async def told(ask: Any) -> Any:
            done.append("read")
            return await report(ask)

        async def saved(sent: Any) -> Any:
            done.append("saved")
            return await save_send(sent)

        rig.wire.answers = [answered]
        monkeypatch.setattr(rig.ledger, "report", told)
        monkeypatch.setattr(rig.ledger, "save_send", saved)
        await rig.submitter.submit("qingbo", prompt="x")
    assert done == ["read", "bought", "saved"]


async def test_a_ledger_in_trouble_leaves_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A paid answer is saved with the deadline that is known, and reading is tried again a minute later."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        await take(rig, 800)
        rig.submitter = await rig._stack.enter_async_context(rig.make_submitter())
        report = rig.ledger.report
        calls = 0

        async def fail(_: object) -> None:
            nonlocal calls
            calls += 1
            raise LedgerUnavailable

        monkeypatch.setattr(rig.ledger, "report", fail)
        with capture_logs() as lines:
            assert wait_of(rig, await submit(rig)) == 300
        assert [line["event"] for line in lines].count("expectations.unread") == 1
        monkeypatch.setattr(rig.ledger, "report", report)
        assert wait_of(rig, await submit(rig)) == 300
        rig.clock.advance(minutes=1)
        assert (wait_of(rig, await submit(rig)), calls) == (1000, 1)


async def test_many_at_once_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of many submissions reads for all, and all have the learned deadline."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        await take(rig, 800)
        rig.submitter = await rig._stack.enter_async_context(rig.make_submitter())
        report, calls = rig.ledger.report, 0

        async def count(ask: object) -> object:
            nonlocal calls
            calls += 1
            return await report(ask)  # type: ignore[call-overload]

        monkeypatch.setattr(rig.ledger, "report", count)
        rig.wire.answers = [accepted("qingbo", number) for number in range(8)]
        tasks = await asyncio.gather(*(rig.submitter.submit("qingbo", prompt=str(n)) for n in range(8)))
        assert {wait_of(rig, task) for task in tasks} == {1000}
        assert calls == 1


async def test_past_the_cap_expired_and_still_the_providers_word_counts(tmp_path: Path) -> None:
    """The cap of reapi is 48 h. The presumption is an event like any other; a later `completed` is a new one."""
    async with Rig(tmp_path, accepted("reapi"), accepted("reapi")) as rig:
        task = await rig.submitter.submit("reapi", prompt="x")
        await rig.poll(hours=47.9)
        assert (await rig.task(task)).state is TaskState.PROCESSING
        await rig.poll(hours=0.2)
        expired = await rig.task(task)
        assert (expired.state, expired.settled_by, expired.fetch_at) == (TaskState.EXPIRED, Source.RINGBACK, None)
        assert expired.settled_at == START + timedelta(hours=48.1)
        await rig.push(task.id, "task_r1", TaskState.COMPLETED, "reapi")
        final = await rig.task(task)
        assert (final.state, final.settled_by) == (TaskState.COMPLETED, Source.CALLBACK)
        events = (await rig.ledger.story(task.id)).events
        assert [(event.type.value, event.standing.value) for event in events if event.type != "task.progressed"] == [
            ("task.expired", "accepted"),
            ("task.completed", "accepted"),
        ]
        assert await rig.poll(hours=1) == 0

"""Reconciling: what the provider says and we missed is taken in once, what contradicts us is shown and left."""

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from ringback.ledger import Query
from ringback.model import Result, Source, Standing, Task, TaskState
from ringback.providers import Response
from ringback.providers.qingbo import Qingbo
from ringback.settings import ProviderSettings
from submitter import reconciling
from submitter.reconciling import Compared, Reconciler, What, Window

from .submitter_rig import START, Answer, Rig, accepted, answer, completed, refusal

QINGBO = Qingbo()
WEEK = Window(since=START - timedelta(days=7), until=START + timedelta(days=7))
URL = "https://cdn.example/v.mp4"


def reconciler(rig: Rig) -> Reconciler:
    """Make a pass on this rig, whose pauses move its clock."""
    parts = (rig.settings, rig.ledger, rig.outbound, rig.intake)
    return Reconciler(*parts, clock=rig.clock, pause=rig.clock.pause, chance=lambda: 0.5)


async def compare(rig: Rig, window: Window = WEEK, *, dry_run: bool = False) -> list[Compared]:
    """Do a whole pass."""
    return [compared async for compared in reconciler(rig).run(window, dry_run=dry_run)]


def found(compared: list[Compared]) -> list[tuple[What, str, str]]:
    """Give what differed."""
    return [(d.what, d.here, d.there) for one in compared for d in one.differences]


async def everything(rig: Rig) -> Any:
    """Give all tasks and events as they are stored, to tell whether anything has changed."""
    return await rig.ledger.tasks(Query()), await rig.ledger.events(Query())


def ended(status: str, **fields: Any) -> httpx.Response:
    """Answer as qingbo does about a task that has ended."""
    return answer(200, {"task_id": "task-wave1", "status": status} | fields)


def video(url: str = URL) -> dict[str, Any]:
    """Give a result as qingbo does."""
    return {"result": {"videos": [{"url": url}]}}


async def submitted(rig: Rig, provider: str = "qingbo") -> Task:
    """Submit one task."""
    return await rig.submitter.submit(provider, prompt="x")


async def handled(rig: Rig, task: Task, body: dict[str, Any]) -> None:
    """Have the task completed, with what this body says."""
    response = answer(200, {"task_id": task.provider_id, "status": "completed"} | body)
    reading = QINGBO.read_task(Response(status=200, body=response.content), task, rig.clock())
    await rig.intake.polled(QINGBO, task, reading, response.content, rig.clock())


async def test_an_end_that_was_missed_is_taken_in_once(tmp_path: Path) -> None:
    """The provider's end becomes an event as a poll's would; a second pass finds nothing and changes nothing."""
    async with Rig(tmp_path, accepted("qingbo"), ended("completed", cost=22_312, **video())) as rig:
        task = await submitted(rig)
        assert found(await compare(rig, dry_run=True)) == [(What.ENDED, "submitted", "completed")]
        assert (await rig.task(task)).state is TaskState.SUBMITTED
        assert found(await compare(rig)) == [(What.ENDED, "submitted", "completed")]
        done = await rig.task(task)
        assert (done.state, done.settled_by, done.charged_microdollars) == (TaskState.COMPLETED, Source.POLL, 44_624)
        before = await everything(rig)
        (again,) = await compare(rig)
        assert (again.asked, again.differences) == (True, ())
        assert await everything(rig) == before


async def test_a_missing_charge_is_filled_in_and_another_one_is_shown(tmp_path: Path) -> None:
    """What a push left out is added; what was said once is never changed."""
    async with Rig(tmp_path, accepted("qingbo"), ended("completed", cost=22_312)) as rig:
        task = await submitted(rig)
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        assert found(await compare(rig)) == [(What.CHARGE_MISSING, "-", "$0.044624")]
        assert (await rig.task(task)).charged_microdollars == 44_624
        assert found(await compare(rig)) == []
        rig.wire.answers = [ended("completed", cost=30_000)]
        before = await everything(rig)
        for _ in range(2):
            assert found(await compare(rig)) == [(What.CHARGE, "$0.044624", "$0.060000")]
        assert await everything(rig) == before


async def test_a_contradiction_is_shown_and_nothing_overwritten(tmp_path: Path) -> None:
    """The other word is kept as an event that nobody handles, once; it is shown each time."""
    async with Rig(tmp_path, accepted("qingbo"), ended("failed", cost=0)) as rig:
        task = await submitted(rig)
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        expected = [(What.CONTRADICTED, "completed", "failed")]
        assert found(await compare(rig)) == expected
        before = await everything(rig)
        assert [event.standing for event in before[1]] == [Standing.CONTRADICTED, Standing.ACCEPTED]
        assert found(await compare(rig)) == expected
        assert await everything(rig) == before
        assert (before[0][0].state, before[0][0].charged_microdollars) == (TaskState.COMPLETED, None)


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ("completed", (What.REPLACED, "expired, presumed", "completed")),
        ("processing", (What.STILL_OPEN, "expired, presumed", "processing")),
    ],
)
async def test_what_we_only_presumed(tmp_path: Path, then: str, expected: tuple[What, str, str]) -> None:
    """The provider's final word replaces it; one that is still working is shown, since nobody asks again by itself."""
    async with Rig(tmp_path, accepted("qingbo")) as rig:
        task = await submitted(rig)
        rig.wire.answers = [answer(500)]
        await rig.poll(hours=50)
        assert (await rig.task(task)).state is TaskState.EXPIRED
        rig.wire.answers = [ended(then)]
        assert found(await compare(rig)) == [expected]
        state = (await rig.task(task)).state
        assert state is (TaskState.COMPLETED if then == "completed" else TaskState.EXPIRED)
        assert found(await compare(rig)) == ([] if then == "completed" else [expected])


@pytest.mark.parametrize(
    ("there", "differs"),
    [
        (video(URL + "?signature=new&expires=9"), False),
        (video("https://cdn.example/w.mp4"), True),
        ({"result": {"videos": [{"url": [URL, "https://cdn.example/w.mp4"]}]}}, True),
        ({}, False),
    ],
)
async def test_results_are_compared_by_what_does_not_change(
    tmp_path: Path, there: dict[str, Any], differs: bool
) -> None:
    """A signature in a URL is new with every answer; another file, or another number of them, is a difference."""
    async with Rig(tmp_path, accepted("qingbo"), ended("completed", **there)) as rig:
        task = await submitted(rig)
        await handled(rig, task, video())
        kinds = [what for what, _, _ in found(await compare(rig))]
        assert kinds == ([What.RESULTS] if differs else [])
        (event,) = await rig.ledger.events(Query())
        assert [result.url for result in event.results] == [URL]


def test_how_results_are_told() -> None:
    """Counted, with the first one's address and without what signs it."""
    one = Result(kind="video", url=URL + "?s=1")
    assert reconciling._counted(()) == "0"
    assert reconciling._counted((one,)) == f"1: {URL}"
    assert reconciling._counted((one, one)) == f"2: {URL}, …"


async def test_a_sending_whose_end_is_unknown(tmp_path: Path) -> None:
    """It has no id to ask by: shown with how it ended. One that waits to be sent again, or failed, is in order."""
    doubtful, later, refused = httpx.ReadTimeout("x"), answer(429, None, Retry_After="900"), refusal(400)
    async with Rig(tmp_path, doubtful) as rig:
        await submitted(rig, "reapi")
        rig.wire.answers = [later]
        await submitted(rig, "reapi")
        rig.wire.answers = [refused]
        with pytest.raises(Exception, match="no"):
            await submitted(rig, "reapi")
        asked = len(rig.wire.requests)
        rig.clock.advance(minutes=5)
        compared = await compare(rig)
        ((what, here, _),) = found(compared)
        assert (what, [one.asked for one in compared]) == (What.UNKNOWN_SEND, [False] * 3)
        assert "no answer in time" in here
        assert len(rig.wire.requests) == asked


async def test_what_is_just_being_sent_is_in_order(tmp_path: Path) -> None:
    """Without an idempotency key its claim looks like one in doubt: whoever heeded that would buy it twice."""
    seen: list[list[tuple[What, str, str]]] = []

    async def compare_meanwhile(_: httpx.Request) -> httpx.Response:
        seen.append(found(await compare(rig)))
        return accepted("reapi")

    async with Rig(tmp_path, compare_meanwhile) as rig:
        await submitted(rig, "reapi")
        assert seen == [[]]


async def test_what_the_provider_does_not_know(tmp_path: Path) -> None:
    """An open task is shown and left to the poller; an ended one was merely forgotten."""
    async with Rig(tmp_path, accepted("qingbo"), refusal(404)) as rig:
        task = await submitted(rig)
        assert found(await compare(rig)) == [(What.UNKNOWN_THERE, "submitted", "qingbo answered 404")]
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        (compared,) = await compare(rig)
        assert (compared.forgotten, compared.differences) == (True, ())


@pytest.mark.parametrize(
    ("said", "expected"), [("completed", []), ("failed", [(What.CONTRADICTED, "completed", "failed")])]
)
async def test_a_push_that_comes_while_the_provider_is_asked(
    tmp_path: Path, said: str, expected: list[tuple[What, str, str]]
) -> None:
    """The pass claims no more than it did: what a push told first is no difference, unless it told otherwise."""

    async def slow(_: httpx.Request) -> httpx.Response:
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        return ended(said)

    async with Rig(tmp_path, accepted("qingbo"), slow) as rig:
        task = await submitted(rig)
        assert found(await compare(rig)) == expected
        assert len(await rig.ledger.events(Query())) == 1 + len(expected)


async def test_a_busy_provider_is_left_alone_for_as_long_as_it_wants(tmp_path: Path) -> None:
    """Retry-After holds every question to that provider; the pass still gets its answers."""
    times = []

    async def busy(request: httpx.Request) -> httpx.Response:
        times.append(rig.clock())
        if len(times) <= 2:
            return answer(429, None, Retry_After="20")
        return answer(200, {"task_id": request.url.path.rpartition("/")[2], "status": "processing"})

    async with Rig(tmp_path, provider_concurrency=1) as rig:
        rig.wire.answers = [accepted("qingbo", number) for number in range(1, 6)]
        for _ in range(5):
            await submitted(rig)
        rig.wire.answers = [busy]
        compared = await compare(rig)
        assert (found(compared), [one.asked for one in compared]) == ([], [True] * 5)
        gaps = [(later - first).total_seconds() for first, later in pairwise(times)]
        assert gaps[:3] == [20, 20, 0]


@pytest.mark.parametrize(
    ("end", "asked", "why"),
    [
        (answer(401), 1, "qingbo answered 401: check RINGBACK_QINGBO_API_KEY"),
        (answer(429, None, Retry_After="4000"), 1, "qingbo answered 429 and asks for 4000 s"),
        (answer(429), 10 * 30, "qingbo answered 429"),
        (answer(503), 10 * 5, "qingbo answered 503"),
        (httpx.ConnectError("x"), 10 * 5, "qingbo: GET: no connection to www.qingbo.dev"),
        (answer(200, {"status": "?"}), 10, "qingbo: expected a task id"),
        (answer(200, {"task_id": "another", "status": "completed"}), 10, "qingbo: the answer is about another task"),
    ],
    ids=["key", "long", "busy", "down", "away", "nonsense", "another"],
)
async def test_a_provider_that_does_not_answer_is_asked_no_more(
    tmp_path: Path, end: Answer, asked: int, why: str
) -> None:
    """The rest of its tasks are told as not asked, with the reason, and nothing is presumed about any."""
    async with Rig(tmp_path, provider_concurrency=1) as rig:
        rig.wire.answers = [accepted("qingbo", number) for number in range(1, 16)]
        for _ in range(15):
            await submitted(rig)
        rig.wire.answers = [end]
        before, sent = await everything(rig), len(rig.wire.requests)
        compared = await compare(rig)
        assert [one.asked for one in compared] == [False] * 15
        assert all(what is What.UNASKED and there.startswith(why) for what, _, there in found(compared))
        assert len(rig.wire.requests) - sent == asked
        assert await everything(rig) == before


async def test_a_provider_without_a_key(tmp_path: Path) -> None:
    """It is named, and the others are asked all the same."""
    async with Rig(tmp_path, accepted("qingbo"), accepted("reapi"), completed("reapi")) as rig:
        await submitted(rig)
        await submitted(rig, "reapi")
    keyless = {"reapi": ProviderSettings(api_key="k")}
    async with Rig(tmp_path, completed("reapi"), providers=keyless) as rig:
        assert sorted(found(await compare(rig))) == [
            (What.UNASKED, "submitted", "qingbo needs an API key: set RINGBACK_QINGBO_API_KEY"),
            (What.ENDED, "processing", "completed"),
        ]


async def test_the_window_is_gone_through_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every task of it once, however many were created at one moment; `reached` tells where to go on."""
    monkeypatch.setattr(reconciling, "PAGE", 4)
    async with Rig(tmp_path) as rig:
        rig.wire.answers = [accepted("qingbo", number) for number in range(1, 21)]
        tasks = []
        for number in range(20):
            tasks.append(await submitted(rig))
            if number % 7 == 6:
                rig.clock.advance(hours=1)
        rig.wire.answers = [named]
        all_of_them = await compare(rig)
        assert {one.task.id for one in all_of_them} == {task.id for task in tasks}
        assert len(all_of_them) == 20
        hour = Window(since=START + timedelta(hours=1), until=START + timedelta(hours=2), provider="qingbo")
        assert {one.task.id for one in await compare(rig, hour)} == {task.id for task in tasks[7:14]}
        assert await compare(rig, Window(since=WEEK.since, until=WEEK.until, provider="reapi")) == []
        one_pass = reconciler(rig)
        seen = []
        async for compared in one_pass.run(WEEK):
            seen.append(compared.task.id)
            if one_pass.reached is not None:
                break
        assert one_pass.reached is not None
        rest = Window(since=WEEK.since, until=one_pass.reached)
        assert {one.task.id for one in await compare(rig, rest)} | set(seen) == {task.id for task in tasks}


async def named(request: httpx.Request) -> httpx.Response:
    """Answer about whichever task was asked about."""
    return answer(200, {"task_id": request.url.path.rpartition("/")[2], "status": "queued"})


async def test_tasks_of_no_provider_that_can_be_asked(tmp_path: Path) -> None:
    """A provider that was configured once, or only pushes, is passed over; so is what it cannot name."""
    async with Rig(tmp_path) as rig:
        await rig.push("task_x", "p-1", TaskState.PROCESSING, provider="github")
        await rig.push("task_y", "p-2", TaskState.PROCESSING, provider="bygone")
        await rig.push("task_z", "p-3", TaskState.PROCESSING, provider="fal")
        compared = await compare(rig)
        assert [(one.asked, one.differences) for one in compared] == [(False, ())] * 3


async def test_trouble_with_the_ledger_ends_the_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked is not waited for, and the error is the ledger's own."""

    async def broken(*_: object) -> Any:
        raise OSError("the disk is gone")

    async with Rig(tmp_path, accepted("qingbo"), completed("qingbo")) as rig:
        await submitted(rig)
        monkeypatch.setattr(rig.intake, "polled", broken)
        with pytest.raises(OSError, match="the disk is gone"):
            await compare(rig)
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if "_one" in repr(task.get_coro())]

"""Pushes that never came: told in a line each, counted, and made known by one event per provider and hour."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from ringback.errors import LedgerUnavailable
from ringback.intake import Intake
from ringback.ledger import Pushes, Query
from ringback.model import Arrival, Callback, Confirm, Event, EventType, Kind, Source, Task, TaskState, Trust
from ringback.settings import ProviderSettings

from .submitter_rig import PUBLIC_URL, START, Answer, Rig, accepted, completed

MISSING = EventType.RECEIVER_PUSH_MISSING


async def submit(rig: Rig, number: int, *answers: Answer) -> Task:
    """Submit one task, whose questions get these answers."""
    rig.wire.answers = [accepted("qingbo", number), *answers]
    return await rig.submitter.submit("qingbo", prompt=str(number))


async def lose(rig: Rig, number: int = 1) -> Task:
    """Have a task whose push never comes, until the poller has asked."""
    task = await submit(rig, number, completed("qingbo", number))
    rig.clock.advance(seconds=300)
    await rig.poller.run_once(5)
    return task


async def told(rig: Rig) -> list[Event]:
    """List the events about missing pushes, oldest first."""
    return list(reversed(await rig.ledger.events(Query(type=MISSING))))


def said(lines: list[Any], name: str) -> list[Any]:
    """Give the log lines of this name."""
    return [line for line in lines if line["event"] == name]


async def test_a_push_that_never_came_is_told_and_counted(tmp_path: Path) -> None:
    """A line for the task, a warning and an event for the provider; the event's payload says how bad it is."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        pushed = await submit(rig, 7)
        await rig.push(pushed.id, "task-wave7", TaskState.COMPLETED)
        with capture_logs() as lines:
            task = await lose(rig)
        (line,) = said(lines, "push.missing")
        assert (line["task"], line["provider"], line["recovered"]) == (task.id, "qingbo", True)
        (event,) = await told(rig)
        assert (event.provider, event.task_id, event.source, event.trust) == (
            "qingbo", None, Source.RINGBACK, Trust.NONE
        )  # fmt: skip
        assert msgspec.json.decode(event.body) == {
            "provider": "qingbo",
            "since": "2026-05-01T11:05:00Z",
            "expected": 2,
            "received": 1,
            "late": 0,
            "recovered": 1,
            "expired": 0,
            "missing": 1,
            "share_missing": 0.5,
            "example_task": task.id,
        }
        (warning,) = said(lines, "receiver.push_missing")
        assert (warning["log_level"], warning["event_id"], warning["missing"]) == ("warning", event.id, 1)


async def test_one_event_per_provider_and_hour(tmp_path: Path) -> None:
    """However many are missing, and in whichever process; the next hour has its own."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        for number in range(3):
            await lose(rig, number)
        rig.poller = rig.make_poller()  # another process, or this one after a restart
        await lose(rig, 3)
        (first,) = await told(rig)
        rig.clock.now = START + timedelta(hours=1)
        await lose(rig, 4)
        assert next(event.id for event in await told(rig)) == first.id
        assert [msgspec.json.decode(event.body)["missing"] for event in await told(rig)] == [1, 5]


async def test_several_pollers_make_one_event(tmp_path: Path) -> None:
    """Each has noticed something, each enters it at the same moment: the ledger's key keeps one."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        tasks = [await submit(rig, number) for number in range(2)]
        rig.clock.advance(seconds=300)
        watches = []
        for number, task in enumerate(tasks):
            ledger = await rig.open_ledger()
            poller = rig.make_poller()
            poller._watch._ledger, poller._watch._intake = ledger, Intake(ledger, rig.settings)
            rig.wire.answers = [completed("qingbo", number)]
            (claimed,) = await rig.ledger.claim_fetches("qingbo", rig.clock(), rig.clock() + timedelta(minutes=1), 1)
            assert claimed.id == task.id
            await poller._asker.ask(poller._lanes["qingbo"], claimed)
            watches.append(poller._watch)
        await asyncio.gather(*(watch.once() for watch in watches))
        assert len(await told(rig)) == 1


async def test_an_expired_task_is_missing_its_push_too(tmp_path: Path) -> None:
    """Given up after the provider's longest time, and never heard of."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        task = await submit(rig, 1, accepted("qingbo"))
        with capture_logs() as lines:
            await rig.poll(hours=48)
        assert (await rig.task(task)).state is TaskState.EXPIRED
        assert [line["recovered"] for line in said(lines, "push.missing")] == [False]
        (event,) = await told(rig)
        assert msgspec.json.decode(event.body)["expired"] == 1


async def test_a_push_that_comes_within_the_minute_is_only_late(tmp_path: Path) -> None:
    """It is counted as late, and nobody is alarmed."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        task = await submit(rig, 1, completed("qingbo"))
        rig.clock.advance(seconds=300)
        (claimed,) = await rig.ledger.claim_fetches("qingbo", rig.clock(), rig.clock() + timedelta(minutes=1), 1)
        with capture_logs() as lines:
            await rig.poller._asker.ask(rig.poller._lanes["qingbo"], claimed)
        assert len(said(lines, "push.missing")) == 1
        await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
        await rig.poll(minutes=1)
        assert await told(rig) == []
        (counts,) = await rig.ledger.report(Pushes(since=START))
        assert (counts.late, counts.recovered, counts.missing) == (1, 1, 0)


@pytest.mark.parametrize(
    ("status", "kind", "missing"),
    [(TaskState.PROCESSING, Kind.FACT, True), (None, Kind.HINT, False), (None, Kind.UNRECOGNISED, False)],
    ids=["a step on the way", "a hint", "nonsense"],
)
async def test_what_came_before_the_end_decides(
    tmp_path: Path, status: TaskState | None, kind: Kind, missing: bool
) -> None:
    """Whoever was told of a step on the way was not told of the end; a hint and a body without sense are pushes."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        task = await submit(rig, 1, completed("qingbo"))
        if status is not None:
            await rig.push(task.id, "task-wave1", status)
        else:
            arrival = Arrival(
                kind=kind,
                provider="qingbo",
                source=Source.CALLBACK,
                trust=Trust.TOKEN,
                callback=Callback(body=b"?", received_at=rig.clock()),
                task_id=task.id,
            )
            await rig.ledger.record(arrival)
        with capture_logs() as lines:
            await rig.poll(seconds=300)
        assert (await rig.task(task)).settled_by is Source.POLL
        assert len(said(lines, "push.missing")) == missing
        assert len(await told(rig)) == missing
        (counts,) = await rig.ledger.report(Pushes(since=START))
        assert counts.missing == missing


async def test_a_push_that_was_first_by_a_hair_is_not_missing(tmp_path: Path) -> None:
    """The poll's answer is then a copy of what the push has said."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:

        async def overtaken(_: Any) -> Any:
            await rig.push(task.id, "task-wave1", TaskState.COMPLETED)
            return completed("qingbo")

        task = await submit(rig, 1, overtaken)
        with capture_logs() as lines:
            await rig.poll(seconds=300)
        assert said(lines, "push.missing") == []
        assert (await rig.task(task)).settled_by is Source.CALLBACK


@pytest.mark.parametrize(("said", "missing"), [("completed", True), ("failed", False), ("cancelled", False)])
async def test_only_an_end_that_was_to_be_told_is_missing(tmp_path: Path, said: str, missing: bool) -> None:
    """Nothing was asked for but `completed`; and whoever cancels a task knows it already."""
    events = ["cancelled"] if said == "cancelled" else ["completed"]
    async with Rig(tmp_path, accepted("qingbo"), accepted("qingbo", 1, said), public_url=PUBLIC_URL) as rig:
        task = await rig.submitter.submit("qingbo", prompt="x", callback_events=events)
        with capture_logs() as lines:
            await rig.poll(seconds=300)
        assert (await rig.task(task)).state.value == said
        assert len([line for line in lines if line["event"] == "push.missing"]) == missing
        assert len(await rig.ledger.report(Pushes(since=START))) == missing


async def test_a_provider_whose_pushes_are_hints(tmp_path: Path) -> None:
    """Each makes its task due, and the answer counts: the push has come."""
    providers = {"qingbo": ProviderSettings(api_key="k", confirm=Confirm.ALWAYS)}
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL, providers=providers) as rig:
        task = await submit(rig, 1, completed("qingbo"))
        callback = Callback(body=b"{}", received_at=rig.clock())
        provider = rig.settings.catalogue["qingbo"]
        await rig.intake.hinted(provider, task.id, Trust.TOKEN, callback, "unconfirmed")
        with capture_logs() as lines:
            await rig.poll()
        assert [line for line in lines if line["event"] == "push.missing"] == []
        assert [(one.on_time, one.recovered) for one in await rig.ledger.report(Pushes(since=START))] == [(1, 0)]


async def test_a_ledger_in_trouble_does_not_undo_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a push was missing cannot be told then; the task has ended, and is not asked about again."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        task = await submit(rig, 1, completed("qingbo"))
        await rig.push(task.id, "task-wave1", TaskState.PROCESSING)

        async def fail(_: str) -> None:
            raise LedgerUnavailable

        monkeypatch.setattr(rig.ledger, "story", fail)
        with capture_logs() as lines:
            await rig.poll(seconds=300)
        assert len([line for line in lines if line["event"] == "pushes.unwatched"]) == 1
        assert (await rig.task(task)).state is TaskState.COMPLETED
        assert await rig.poll(hours=1) == 0


async def test_trouble_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was noticed stays noticed until the ledger has taken it."""
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        report = rig.ledger.report

        async def fail(_: object) -> None:
            raise LedgerUnavailable

        monkeypatch.setattr(rig.ledger, "report", fail)
        with capture_logs() as lines:
            await lose(rig)
        assert len(said(lines, "pushes.unwatched")) == 1
        assert await told(rig) == []
        monkeypatch.setattr(rig.ledger, "report", report)
        await rig.poll(minutes=1)
        assert len(await told(rig)) == 1


async def test_a_running_poller_watches_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """About once a minute, beside its questions."""
    monkeypatch.setattr("submitter.silence.LOOK_SECONDS", 0.01)
    async with Rig(tmp_path, accepted("qingbo"), public_url=PUBLIC_URL) as rig:
        await submit(rig, 1, completed("qingbo"))
        rig.clock.advance(seconds=300)
        stop, seen = asyncio.Event(), 0
        running = asyncio.create_task(rig.poller.run(stop))
        async with asyncio.timeout(20):
            while not await told(rig):
                seen = await rig.ledger.changed(seen, 1)
        stop.set()
        await running
        assert [event.type for event in await told(rig)] == [MISSING]

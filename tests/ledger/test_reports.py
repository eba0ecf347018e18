"""What people are told: lists, stories, and a summary whose numbers are true."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ringback.errors import LedgerMismatch, NotFound
from ringback.ledger import Awaited, Ledger, Query
from ringback.ledger.sqlite import matching
from ringback.ledger.upkeep import forget_key
from ringback.model import DeliveryState, EventType, Kind, Outcome, Source, TaskState, Trust

from .builders import (
    COMPLETED,
    FAILED,
    NOW,
    PROCESSING,
    at,
    claim,
    claimed,
    ended,
    fact,
    fan_out,
    new_task,
    other,
    settle,
    submitted,
    worker,
    working,
)
from .conftest import Engine


async def test_summary_counts_everything(ledger: Ledger) -> None:
    """Every number of the summary can be recounted from what was done."""
    await working(ledger, "g", "h")
    await submitted(ledger, "task_a", "p-a", url_key="f1")
    await submitted(ledger, "task_b", "p-b", url_key="f1")
    await submitted(ledger, "task_c", "p-c", provider="reapi")
    await submitted(ledger, "task_d", "p-d", url_key="f2")
    await claimed(ledger, "task_e")
    for arrival in (
        fact(PROCESSING, "task_a", "p-a"),
        fact(COMPLETED, "task_a", "p-a", event_id="e", trust=Trust.SIGNED),
        fact(COMPLETED, "task_a", "p-a"),
        fact(FAILED, "task_a", "p-a"),
        fact(FAILED, "task_d", "p-d", event_id="e", trust=Trust.SIGNED),
        fact(COMPLETED, "task_b", "p-b", source=Source.POLL),
        fact(COMPLETED, "task_c", "p-c", provider="reapi", source=Source.POLL),
        other(Kind.HINT, "task_d"),
        other(Kind.UNRECOGNISED, "task_d"),
        other(Kind.UNRECOGNISED, None),
        other(Kind.UNRECOGNISED, None),
    ):
        await ledger.record(arrival)
    await fan_out(ledger, at(5), 4)
    (first, *_) = await claim(ledger, "g")
    await settle(ledger, [ended(first, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED)])
    await ledger.reject({("qingbo", "mac"): 2, ("", "route"): 1}, NOW)
    await ledger.reject({("qingbo", "mac"): 3}, at(86_400))
    got = await ledger.summary(at(30))
    assert got.tasks == {COMPLETED: 3, TaskState.SUBMITTED: 1, TaskState.PENDING: 1}
    assert got.tasks_by_provider == {"qingbo": 4, "reapi": 1}
    assert got.events == {
        EventType.TASK_COMPLETED: 3, EventType.TASK_FAILED: 1, EventType.TASK_PROGRESSED: 1,
        EventType.CALLBACK_UNRECOGNISED: 2,
    }  # fmt: skip
    assert (got.callbacks, got.duplicates, got.conflicts, got.hints, got.unrecognised) == (9, 2, 2, 1, 2)
    assert (got.settled_by_poll, got.recovered, got.unknown_sends) == (2, 1, 1)
    assert got.deliveries == {DeliveryState.SUCCEEDED: 1, DeliveryState.RUNNING: 3, DeliveryState.PENDING: 4}
    assert (got.attempts, got.waiting_events, got.oldest_due_at) == ({Outcome.SUCCEEDED: 1}, 2, at(5))
    assert got.rejections == {("qingbo", "mac"): 5, ("", "route"): 1}
    assert got.new_rejections == got.rejections
    assert (await ledger.summary(at(2 * 86_400))).new_rejections == {("qingbo", "mac"): 3}
    assert (await ledger.report(Awaited()), got.handlers) == ({"f2": 1}, {"g": NOW, "h": NOW})
    assert (got.processes, got.orphaned) == ((worker(),), {})
    later = await ledger.summary(at(100_000))
    assert (later.processes, later.orphaned) == ((), {"h": 4})


async def test_what_is_counted_stands_in_the_order_of_its_names(ledger: Ledger) -> None:
    """Programs are given the same text by either engine, whatever came first."""
    await working(ledger, "h", "g")
    for number, provider in enumerate(("wan", "qingbo", "standard", "kie", "fal", "reapi")):
        await submitted(ledger, f"task_{number}", f"p-{number}", provider=provider)
        status = (PROCESSING, FAILED, COMPLETED, TaskState.CANCELLED)[number % 4]
        await ledger.record(fact(status, f"task_{number}", f"p-{number}", provider=provider))
        await ledger.reject({(provider, "mac"): 1, (provider, "body"): 1}, NOW)
    await claimed(ledger, "task_pending")
    await fan_out(ledger, NOW, 10)
    states = (DeliveryState.SUCCEEDED, DeliveryState.DISCARDED, DeliveryState.CANCELLED)
    outcomes = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.DISCARDED)
    works = await claim(ledger, "g")
    await settle(ledger, [ended(*one) for one in zip(works, outcomes, states, strict=False)])
    got = await ledger.summary(NOW)
    counted: tuple[Mapping[Any, Any], ...] = (
        *(got.tasks, got.tasks_by_provider, got.events, got.deliveries, got.attempts, got.queues, got.rejections),
        *(got.new_rejections, got.handlers),
    )
    assert [list(names) for names in counted] == [sorted(names) for names in counted]
    assert [len(names) for names in counted] == [5, 6, 4, 5, 3, 2, 12, 12, 2]


async def test_empty_ledger_has_an_empty_summary(ledger: Ledger) -> None:
    """A fresh ledger counts nothing."""
    got = await ledger.summary(NOW)
    assert (got.tasks, got.events, got.callbacks, got.deliveries, got.oldest_due_at) == ({}, {}, 0, {}, None)


async def test_lists_are_filtered_newest_first(ledger: Ledger) -> None:
    """Each filter of a query narrows its list, and together they narrow further."""
    await working(ledger, "g", "h")
    await submitted(ledger, "task_a", "p-a")
    await submitted(ledger, "task_b", "p-b", provider="reapi")
    await ledger.record(fact(COMPLETED, "task_a", "p-a"))
    await ledger.record(fact(FAILED, "task_b", "p-b", provider="reapi"))
    await fan_out(ledger, NOW, 10)
    (work, _) = await claim(ledger, "g")
    await settle(ledger, [ended(work, Outcome.FAILED, DeliveryState.DISCARDED, error="Broken PIPE")])

    async def tasks(**query: object) -> list[str]:
        return [task.id for task in await ledger.tasks(Query(**query))]  # type: ignore[arg-type]

    async def events(**query: object) -> list[str | None]:
        return [event.task_id for event in await ledger.events(Query(**query))]  # type: ignore[arg-type]

    async def deliveries(**query: object) -> int:
        return len(await ledger.deliveries(Query(**query)))  # type: ignore[arg-type]

    assert await tasks() == ["task_b", "task_a"]
    assert await tasks(limit=1) == await tasks(state="failed") == await tasks(provider="reapi") == ["task_b"]
    assert await tasks(task_id="task_a") == await tasks(ids=("task_a", "task_x")) == ["task_a"]
    assert await tasks(ids=()) == await tasks(ids=("task_a",), task_id="task_b") == []
    assert await tasks(ids=("task_a", "task_b"), state="failed") == ["task_b"]
    assert await events() == ["task_b", "task_a"]
    assert await events(type="task.completed") == await events(event_id=work.event.id) == ["task_a"]
    assert await events(task_id="task_b") == await events(provider="reapi") == ["task_b"]
    assert await events(ids=(work.event.id,)) == await events(event_id=work.event.id, task_id="task_a") == ["task_a"]
    assert await events(event_id=work.event.id, task_id="task_b") == await events(task_id="task_b", type="task.x") == []
    assert await deliveries() == 4
    assert await deliveries(handler="g") == await deliveries(event_id=work.event.id) == 2
    assert await deliveries(task_id="task_a", handler="h") == 1
    assert await deliveries(state="discarded") == await deliveries(text="broken pipe") == 1
    assert await deliveries(provider="reapi", state="running") == 1
    assert await deliveries(ids=(work.delivery.id,)) == 1


async def test_the_few_that_have_not_succeeded_are_listed_by_their_state_however_they_wait(ledger: Ledger) -> None:
    """What is due, runs, was given up or waits behind another of its key is found by an index of its own."""
    await working(ledger, "g", "h")
    for name in "abc":
        await submitted(ledger, f"task_{name}", f"p-{name}")
        await ledger.record(fact(COMPLETED, f"task_{name}", f"p-{name}"))
    await fan_out(ledger, NOW, 10)
    first, second, _ = await claim(ledger, "g")
    await settle(ledger, [ended(first, Outcome.FAILED, DeliveryState.DISCARDED, error="x")])
    await settle(ledger, [ended(second, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED)])

    async def listed(state: str | None) -> list[str]:
        return [owed.delivery.id for owed in await ledger.deliveries(Query(state=state))]

    by_state = {state: await listed(state) for state in DeliveryState}
    assert {state.value: len(found) for state, found in by_state.items()} == {
        "pending": 3, "running": 1, "succeeded": 1, "discarded": 1, "cancelled": 0
    }  # fmt: skip
    assert sorted(one for found in by_state.values() for one in found) == sorted(await listed(None))
    assert by_state[DeliveryState.DISCARDED] == [first.delivery.id]
    assert by_state[DeliveryState.PENDING] == [
        one for one in await listed(None) if one in by_state[DeliveryState.PENDING]
    ]


async def test_of_many_waiting_deliveries_the_newest_are_listed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are too many to be found first, they are soon come upon: the list is the same."""
    await working(ledger, "g", "h")
    for name in "abc":
        await submitted(ledger, f"task_{name}", f"p-{name}")
        await ledger.record(fact(COMPLETED, f"task_{name}", f"p-{name}"))
    await fan_out(ledger, NOW, 10)
    query = Query(state="pending", limit=4)
    few = await ledger.deliveries(query)
    monkeypatch.setattr(matching, "MOST", 5)
    assert await ledger.deliveries(query) == few
    assert len(few) == 4


async def test_a_provider_id_is_found_whichever_provider_has_given_it(ledger: Ledger) -> None:
    """Providers are gone through one after the other; where two have the same id, either is an answer."""
    for name, provider in (("a", "qingbo"), ("b", "reapi"), ("c", "standard")):
        await submitted(ledger, f"task_{name}", f"p-{name}", provider=provider)
    for name in "abc":
        assert (await ledger.story(f"p-{name}")).task.id == f"task_{name}"


async def test_story_is_found_by_any_name(ledger: Ledger) -> None:
    """A task's story is found by our id, the user's key or the provider's id, ours first."""
    with pytest.raises(NotFound, match="p-a"):
        await ledger.story("p-a")
    await submitted(ledger, "task_a", "p-a", key="k")
    await ledger.add_task(new_task("task_b", key="task_a"))
    for name in ("task_a", "k", "p-a"):
        assert (await ledger.story(name)).task.id == "task_a"
    with pytest.raises(NotFound, match="nobody"):
        await ledger.story("nobody")


async def test_newest_secret_must_be_known(engine: Engine) -> None:
    """A process that lacks the newest secret is refused; rotation goes forward, in any order of the list."""
    old, new = await engine.open(), await engine.open()
    await old.enlist_keys(["f1"], NOW)
    await new.enlist_keys(["f2", "f1"], at(1))
    with pytest.raises(LedgerMismatch, match=r"ringback migrate --forget-secret f2$"):
        await old.enlist_keys(["f1"], at(2))
    await new.enlist_keys(["f1", "f2"], at(3))
    await new.enlist_keys(["f2"], at(4))
    with pytest.raises(LedgerMismatch, match="f2"):
        await old.enlist_keys([], at(5))


async def test_a_secret_can_be_forgotten(engine: Engine) -> None:
    """The exact fingerprint of a known secret is forgotten, its open tasks are counted; the one before is newest."""
    ledger = await engine.open()
    await ledger.enlist_keys(["f2", "f1"], NOW)
    await submitted(ledger, "task_a", "p-a", url_key="f2")
    await submitted(ledger, "task_b", "p-b", url_key="f1")
    assert (await ledger.summary(NOW)).url_keys == ("f2", "f1")
    with pytest.raises(NotFound, match=r"'f'; .* it knows: f2, f1$"):
        forget_key(engine.settings, "f")
    assert forget_key(engine.settings, "f2") == 1
    assert (await ledger.summary(NOW)).url_keys == ("f1",)
    await ledger.enlist_keys(["f3", "f1"], at(1))


async def test_changed_wakes_for_our_own_and_for_foreign_writes(engine: Engine) -> None:
    """Who waits is woken by a write through this ledger object or through another one on the same database."""
    ledger, neighbour = await engine.open(), await engine.open()
    seen = await ledger.changed(0, 5)
    for writer in (ledger, neighbour):
        while (latest := await ledger.changed(seen, 0.3)) != seen:
            seen = latest  # what was written before is told, too
        waiting = asyncio.create_task(ledger.changed(seen, 10))
        await writer.reject({("qingbo", "mac"): 1}, NOW)
        latest = await asyncio.wait_for(waiting, 5)
        assert latest != seen
        seen = latest


async def test_changed_gives_up_after_its_timeout(ledger: Ledger) -> None:
    """Where nothing is written the count comes back as it was."""
    seen = 0
    while (latest := await ledger.changed(seen, 0.3)) != seen:
        seen = latest
    assert await ledger.changed(seen, 0.01) == seen


async def test_rejecting_nothing_writes(ledger: Ledger) -> None:
    """Without any counts it writes all the same: so readiness knows that it can."""
    seen = await ledger.changed(0, 1)
    await ledger.reject({}, at(1))
    assert await ledger.changed(seen, 1) != seen


async def test_tasks_of_a_time_page_by_page(ledger: Ledger) -> None:
    """With `since` tasks come by their creation, newest first, and pages follow on each other without a gap."""
    created = {f"task_{number}": at(number // 3) for number in range(9)}  # three at each moment
    for task_id, moment in sorted(created.items(), reverse=True):  # not in the order of their times
        await ledger.add_task(
            new_task(task_id, created_at=moment, provider="reapi" if task_id == "task_4" else "qingbo")
        )
    query = Query(since=at(1), before=at(3), limit=2)
    seen: list[str] = []
    while page := await ledger.tasks(query):
        seen += [task.id for task in page]
        query = replace(query, before=page[-1].created_at, below=page[-1].id)
    assert seen == [f"task_{number}" for number in range(8, 2, -1)]
    assert [task.id for task in await ledger.tasks(Query(since=at(1), before=at(2)))] == ["task_5", "task_4", "task_3"]
    assert [task.id for task in await ledger.tasks(Query(since=at(0), provider="reapi"))] == ["task_4"]
    assert len(await ledger.tasks(Query(since=at(0)))) == 9

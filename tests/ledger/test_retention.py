"""What is kept for how long, and what a late copy meets when something of it was pruned."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from ringback.ledger import Keep, Ledger, Pattern, Prune, Pruned, Query, ReplayEvents, Share, Turn, Work
from ringback.ledger.retention import STEP, Level, Place
from ringback.ledger.schema import schema_text
from ringback.ledger.sqlite import intake, retention, settling, tasks
from ringback.ledger.sqlite import turn as turns
from ringback.ledger.sqlite.costs import Till
from ringback.model import Arrival, DeliveryState, Kind, Outcome, TaskState, Trust, Verdict, microseconds, new_id
from ringback.providers import CATALOGUE

from .builders import (
    ANY,
    COMPLETED,
    FAILED,
    LONG_AGO,
    NOW,
    PROCESSING,
    SelfClosing,
    at,
    claim,
    claims,
    ended,
    fact,
    fan_out,
    new_task,
    other,
    owed,
    registered,
    settle,
    submitted,
    worker,
    working,
)

DAY = 86_400
DEDUP = timedelta(days=90)
KEEP = Keep(rest=timedelta(days=30), bodies=timedelta(days=7), keys=DEDUP)


async def pruned(ledger: Ledger, days: float, keep: Keep = KEEP, **more: Any) -> Pruned:
    """Prune to the end, so many days after NOW."""
    wish = keep.at(at(days * DAY), **more)
    total = Pruned(next=wish.after)
    while total.next is not None:
        total += await ledger.act(replace(wish, after=total.next))
    return total


async def handled(ledger: Ledger) -> None:
    """Let one worker handle all that is owed, at NOW."""
    await working(ledger)
    while await fan_out(ledger, NOW, 100):
        pass
    works: Sequence[Work] = await claim(ledger)
    await settle(ledger, [ended(w, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED, seconds=0) for w in works])


async def test_when_an_event_was_fanned_out_is_never_forgotten(ledger: Ledger) -> None:
    """It is told of what somebody wanted and of what nobody did, and still when only keys are left."""
    await ledger.beat(worker(), NOW, LONG_AGO, registered({"h": (Pattern(event="task.completed"),)}))
    for number, status in enumerate((COMPLETED, FAILED)):
        await ledger.record(fact(status, f"task_{number}", f"p-{number}"))
    assert {event.fanned_out_at for event in await ledger.events(Query())} == {None}
    assert await fan_out(ledger, at(5), 10) == 2
    await settle(ledger, [ended(w, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED) for w in await claim(ledger)])
    assert [event.fanned_out_at for event in await ledger.events(Query())] == [at(5)] * 2
    assert await pruned(ledger, 31) == Pruned(emptied=2)
    assert [event.fanned_out_at for event in await ledger.events(Query())] == [at(5)] * 2
    assert (await ledger.deliveries(Query())) == []


async def test_what_was_emptied_is_never_replayed(ledger: Ledger) -> None:
    """News of a task of which only keys are left does not make its emptied event one that can be replayed."""
    await submitted(ledger)
    await ledger.record(fact(COMPLETED))
    await handled(ledger)
    assert await pruned(ledger, 31) == Pruned(emptied=1)
    await ledger.record(fact(COMPLETED, seconds=32 * DAY))
    assert await pruned(ledger, 40) == Pruned(bodies=1)
    wish = ReplayEvents(handler="h", since=NOW, until=at(60 * DAY), by="ada", now=at(60 * DAY), dry_run=True)
    assert (await ledger.act(wish)).count == 0


async def test_a_tasks_way_out(ledger: Ledger) -> None:
    """First the raw bodies go, then all but the keys, then the rest; each once, and not before its time."""
    await submitted(ledger, form=None, metadata={"order": 7}, key="mine")
    await ledger.record(fact(COMPLETED))
    await ledger.record(other(Kind.UNRECOGNISED))
    await handled(ledger)
    assert (await pruned(ledger, 6.9)).changed == 0
    assert await pruned(ledger, 7.1) == Pruned(bodies=1)
    story = await ledger.story("task_a")
    assert [(event.body, event.headers) for event in story.events] == [(b"", ())] * 2
    assert [event.results == () for event in story.events] == [False, True]
    assert [kept.callback.body for kept in story.callbacks] == [b""]
    assert len(story.deliveries) == 2
    assert (await pruned(ledger, 29)).changed == 0
    assert await pruned(ledger, 31) == Pruned(emptied=1)
    story = await ledger.story("task_a")
    assert [event.results for event in story.events] == [(), ()]
    assert (story.callbacks, story.deliveries) == ((), ())
    assert (story.task.metadata, story.task.key, story.task.state) == ({}, "mine", COMPLETED)
    assert (await pruned(ledger, 89)).changed == 0
    assert await pruned(ledger, 91) == Pruned(removed=1)
    summary = await ledger.summary(at(91 * DAY))
    assert (summary.tasks, summary.events, summary.deliveries, summary.attempts) == ({}, {}, {}, {})


async def test_nothing_is_pruned_by_itself(ledger: Ledger) -> None:
    """Where nothing may go, nothing does, however old it is."""
    await ledger.record(fact(COMPLETED))
    await ledger.record(other(Kind.RECEIVED, None))
    await handled(ledger)
    assert not Keep().forgets
    assert await pruned(ledger, 9_000, Keep()) == Pruned()
    assert (await ledger.events(Query()))[0].body == b"?"


async def test_long_retention_removes_at_once(ledger: Ledger) -> None:
    """Where the rest is kept longer than the keys must be, all goes together."""
    await ledger.record(fact(COMPLETED))
    await handled(ledger)
    keep = Keep(rest=timedelta(days=120), keys=DEDUP)
    assert (await pruned(ledger, 119, keep)).changed == 0
    assert await pruned(ledger, 121, keep) == Pruned(removed=1)


async def test_unsettled_things_stay(ledger: Ledger) -> None:
    """An open task, an event that no worker saw, a pending and a running delivery keep all that belongs to them."""
    process = await owed(ledger, 2)
    (running,) = (await claims(ledger, process, {"h": 1}, at(1), 1)).works
    await submitted(ledger, "task_open", "p-open")
    await ledger.record(fact(PROCESSING, "task_open", "p-open"))
    await ledger.record(fact(COMPLETED, "task_unseen", "p-unseen"))
    await ledger.record(other(Kind.RECEIVED, None))
    assert await pruned(ledger, 500) == Pruned(waiting=4)
    assert [event.body for event in await ledger.events(Query(type="task.progressed"))] == [b"processing"]
    await settle(ledger, [ended(running, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED)])
    assert await pruned(ledger, 500) == Pruned(removed=1, waiting=3)
    assert (await ledger.story("task_open")).task.state is PROCESSING


async def test_age_counts_from_the_last_news(ledger: Ledger) -> None:
    """A redelivery, a contradiction, a kept request and a handler's end each begin the time anew."""
    for name in ("task_again", "task_other", "task_kept", "task_handled"):
        await ledger.record(fact(COMPLETED, name, f"p-{name}"))
    await working(ledger)
    await fan_out(ledger, NOW, 100)
    works = await claim(ledger)
    late = next(work for work in works if work.event.task_id == "task_handled")
    for work in works:
        seconds = 20 * DAY if work is late else 1
        await settle(ledger, [ended(work, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED, seconds=seconds)])
    await ledger.record(fact(COMPLETED, "task_again", "p-task_again", seconds=20 * DAY))
    await ledger.record(fact(FAILED, "task_other", "p-task_other", seconds=20 * DAY))
    await ledger.record(other(Kind.HINT, "task_kept", seconds=20 * DAY))
    assert (await pruned(ledger, 26)).changed == 0
    assert await pruned(ledger, 28) == Pruned(bodies=4)
    await ledger.record(fact(FAILED, "task_again", "p-task_again", seconds=29 * DAY))
    assert (await pruned(ledger, 35)).changed == 0
    assert await pruned(ledger, 37) == Pruned(bodies=1)
    events = await ledger.events(Query(task_id="task_again"))
    assert {event.body for event in events} == {b""}


async def test_longer_retry_windows(ledger: Ledger) -> None:
    """The keys outlive the time in which the provider sends again, where that is longer."""
    await ledger.record(fact(COMPLETED))
    await handled(ledger)
    windows = {name: timedelta(days=3) for name in ("github", "openai")}
    keep = Keep.of(timedelta(hours=1), None, timedelta(days=1), CATALOGUE.values())
    assert keep.longer == windows
    keep = replace(keep, longer={"qingbo": timedelta(days=3)})
    assert await pruned(ledger, 2, keep) == Pruned(emptied=1)
    assert (await ledger.record(fact(COMPLETED, seconds=2 * DAY))).verdict is Verdict.DUPLICATE
    assert (await pruned(ledger, 4, keep)).removed == 0
    assert await pruned(ledger, 5.1, keep) == Pruned(removed=1)


async def test_a_child_keeps_its_key(ledger: Ledger) -> None:
    """While an event of its parent may be replayed, a task keeps the key under which it would be submitted again."""
    await submitted(ledger, "task_parent", "p-parent")
    await ledger.record(fact(COMPLETED, "task_parent", "p-parent", seconds=50 * DAY))
    await submitted(ledger, "task_child", "p-child", key="derived", parent_id="task_parent")
    await ledger.record(fact(COMPLETED, "task_child", "p-child"))
    await handled(ledger)
    keep = Keep(rest=timedelta(days=95), keys=DEDUP)
    assert await pruned(ledger, 100, keep) == Pruned(emptied=1)
    assert [task.key for task in await ledger.tasks(Query(task_id="task_child"))] == ["derived"]
    assert await pruned(ledger, 146, keep) == Pruned(removed=2)


async def test_a_very_late_copy(ledger: Ledger) -> None:
    """Once the keys are gone, a per-task URL as old as that makes no task and no task event."""
    task_id = new_id("task", NOW)
    await ledger.record(fact(COMPLETED, task_id))
    await handled(ledger)
    assert (await pruned(ledger, 91)).removed == 1
    receipt = await ledger.record(fact(COMPLETED, task_id, seconds=91 * DAY))
    assert receipt.verdict is Verdict.UNRECOGNISED
    assert [event.conflict for event in await ledger.events(Query())] == ["task_too_old"]
    assert await ledger.tasks(Query()) == []


async def test_what_belongs_to_no_task(ledger: Ledger) -> None:
    """Events about no task and requests for unknown tasks go by their age, the latter with their bodies."""
    await ledger.record(other(Kind.RECEIVED, None, body=b"ping"))
    await ledger.record(other(Kind.UNRECOGNISED, "task_stranger", body=b"noise"))
    await ledger.record(other(Kind.HINT, "task_nobody", trust=Trust.NONE))
    await ledger.record(fact(PROCESSING, "task_open"))
    await ledger.record(other(Kind.HINT, "task_open"))
    await handled(ledger)
    assert await pruned(ledger, 8) == Pruned(bodies=2, requests=1)
    assert await pruned(ledger, 31) == Pruned(emptied=2)
    assert (await ledger.record(other(Kind.RECEIVED, None, body=b"ping"))).verdict is Verdict.DUPLICATE
    assert await pruned(ledger, 91) == Pruned(removed=2)
    assert [kept.callback.body for kept in (await ledger.story("task_open")).callbacks] == [b"?"]
    assert (await ledger.summary(NOW)).hints == 1


async def test_only_some_states(ledger: Ledger) -> None:
    """With states, only tasks in these are touched, and nothing that has no task."""
    await ledger.record(fact(COMPLETED, "task_done", "p-1"))
    await ledger.record(fact(FAILED, "task_failed", "p-2"))
    await ledger.record(other(Kind.RECEIVED, None))
    await ledger.reject({("qingbo", "token"): 1}, LONG_AGO)
    await handled(ledger)
    assert await pruned(ledger, 91, states=[FAILED]) == Pruned(removed=1)
    assert [task.id for task in await ledger.tasks(Query())] == ["task_done"]
    assert len((await ledger.summary(NOW)).rejections) == 1


async def test_a_dry_run(ledger: Ledger) -> None:
    """It counts what the same call would do, step by step, and does nothing."""
    for number in range(STEP + 3):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}"))
    await ledger.record(other(Kind.RECEIVED, None))
    await ledger.record(other(Kind.HINT, "task_nobody", trust=Trust.NONE))
    await ledger.reject({("qingbo", "token"): 1}, NOW)
    await working(ledger)
    while await fan_out(ledger, NOW, 100):
        pass
    while works := await claim(ledger):
        await settle(ledger, [ended(w, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED) for w in works])
    before = await ledger.summary(NOW)
    first = await ledger.act(KEEP.at(at(92 * DAY), dry_run=True))
    assert (first.removed, first.next) == (STEP, Place(0, microseconds(NOW), STEP))
    would = await pruned(ledger, 92, dry_run=True)
    assert would == Pruned(removed=STEP + 4, requests=1, rejections=1)
    assert await ledger.summary(NOW) == before
    assert await pruned(ledger, 92) == would
    after = await ledger.summary(NOW)
    assert (after.tasks, after.events, after.hints, after.rejections, after.deliveries) == ({}, {}, 0, {}, {})


async def test_the_bodies_of_steps_do_not_come_back(ledger: Ledger) -> None:
    """A late copy of a step whose body was pruned is counted, and brings no body back."""
    await ledger.record(fact(PROCESSING))
    await ledger.record(fact(COMPLETED))
    await handled(ledger)
    await pruned(ledger, 8)
    receipt = await ledger.record(fact(PROCESSING, seconds=8 * DAY))
    assert receipt.verdict is Verdict.DUPLICATE
    assert [(e.body, e.duplicates) for e in await ledger.events(Query())] == [(b"", 0), (b"", 1)]


def test_a_callback_between_look_and_take() -> None:
    """What was found ripe, and then heard of again before it was taken, stays."""
    wish = KEEP.at(at(91 * DAY))
    db = ledger_in_memory(1)
    intake.record(db, [fact(COMPLETED, "task_0", "p-0")], DEDUP)
    fan_out_and_settle(db)
    found = retention.look(db, wish)
    assert found.pruned.removed == 1
    intake.record(db, [fact(COMPLETED, "task_0", "p-0", seconds=91 * DAY)], DEDUP)
    assert retention.take(db, [(wish, found)]) == [Pruned(next=found.pruned.next)]
    assert db.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_levels() -> None:
    """How much of a record goes depends on when it was last heard of, and for the keys on the provider."""
    wish = replace(KEEP.at(NOW), longer={"slow": at(-100 * DAY)})
    days = {-1: Level.WHOLE, -8: Level.WITHOUT_BODIES, -31: Level.KEYS_ONLY, -91: Level.GONE, -101: Level.GONE}
    assert {day: wish.level("qingbo", microseconds(at(day * DAY))) for day in days} == days
    slow = {**days, -91: Level.KEYS_ONLY}
    assert {day: wish.level("slow", microseconds(at(day * DAY))) for day in days} == slow
    reach = [wish.reach(level) for level in (Level.WHOLE, Level.WITHOUT_BODIES, Level.KEYS_ONLY)]
    assert reach == [microseconds(at(day * DAY)) for day in (-7, -30, -90)]
    bodies = Keep(bodies=timedelta(days=1)).at(NOW)
    assert bodies.level("qingbo", 0) is Level.WITHOUT_BODIES
    assert [bodies.reach(level) is None for level in (Level.WHOLE, Level.WITHOUT_BODIES, Level.KEYS_ONLY)] == [
        False,
        True,
        True,
    ]


def ledger_in_memory(count: int) -> sqlite3.Connection:
    """Make a database with so many accepted tasks; statements and rules are the real ones."""
    db = sqlite3.connect(":memory:", isolation_level=None, factory=SelfClosing)
    db.executescript(f"PRAGMA foreign_keys = ON; {schema_text()}")
    tasks.add(db, [(new_task(f"task_{number}"), None) for number in range(count)], Till())
    settling.beat(db, [(worker(), NOW, LONG_AGO, registered({"h": ANY}), False)])
    return db


def fan_out_and_settle(db: sqlite3.Connection, most: int = 100) -> None:
    """Hand out what waits at NOW, and settle so many deliveries of it."""
    turns.take(db, [Turn(process=worker(), now=NOW, fan_out=100)])
    (turned,) = turns.take(db, [Turn(process=worker(), now=NOW, shares={"h": Share(room=most)}, limit=most)])
    done = [ended(work, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED, seconds=0) for work in turned.works]
    turns.take(db, [Turn(process=worker(), now=NOW, settled=done)])


def run(db: sqlite3.Connection, wish: Prune) -> None:
    """Prune to the end."""
    while True:
        found = retention.look(db, wish)
        (done,) = retention.take(db, [(wish, found)])
        if done.next is None:
            return
        wish = replace(wish, after=done.next)


def unsettled(db: sqlite3.Connection) -> list[list[tuple[Any, ...]]]:
    """Read all that is open: tasks with their events, events that wait, deliveries that are not settled."""
    return [
        db.execute(query).fetchall()
        for query in (
            "SELECT * FROM tasks WHERE settled_at IS NULL ORDER BY seq",
            "SELECT * FROM events WHERE task_id IN (SELECT id FROM tasks WHERE settled_at IS NULL) ORDER BY seq",
            "SELECT * FROM events WHERE fanned_out_at IS NULL AND standing = 'accepted' ORDER BY seq",
            "SELECT d.*, e.* FROM deliveries d JOIN events e ON e.seq = d.event_seq WHERE d.settled_at IS NULL",
        )
    ]


pushes = st.builds(
    lambda status, number, event_id, day: fact(
        status, f"task_{number}", f"p-{number}", event_id=event_id, seconds=day * DAY
    ),
    st.sampled_from([TaskState.SUBMITTED, PROCESSING, COMPLETED, FAILED]),
    st.integers(0, 3),
    st.sampled_from(["e1", "e2", None]),
    st.integers(0, 80),
)


def again_at(arrival: Arrival, day: int) -> Arrival:
    """Send the same once more, so many days after NOW."""
    return structs.replace(arrival, callback=structs.replace(arrival.callback, received_at=at(day * DAY)))


@given(
    st.lists(pushes, min_size=1, max_size=12),
    st.lists(pushes, max_size=4),
    st.integers(0, 6),
    st.tuples(st.integers(1, 120), st.integers(0, 120), st.integers(80, 89)),
)
@settings(max_examples=150, deadline=None)
def test_pruning_is_invisible_to_late_copies(
    first: list[Arrival], second: list[Arrival], most: int, days: tuple[int, int, int]
) -> None:
    """Within the dedup time a copy is the duplicate it would be without pruning, and what is open is untouched."""
    kept, emptied = ledger_in_memory(3), ledger_in_memory(3)
    rest, bodies, today = days
    for db in (kept, emptied):
        intake.record(db, first, DEDUP)
        fan_out_and_settle(db, most)
        intake.record(db, second, DEDUP)
    before = unsettled(emptied)
    keep = Keep(rest=timedelta(days=rest), bodies=timedelta(days=bodies) if bodies else None, keys=DEDUP)
    run(emptied, keep.at(at(today * DAY)))
    assert unsettled(emptied) == before
    again = [again_at(arrival, today) for arrival in first + second]
    told = [[(r.verdict, r.state, r.task_id) for r in intake.record(db, again, DEDUP)] for db in (kept, emptied)]
    assert told[0] == told[1]
    assert Verdict.NEW not in {verdict for verdict, *_ in told[1]}
    counts = [db.execute("SELECT count(*), sum(duplicates) FROM events").fetchone() for db in (kept, emptied)]
    assert counts[0] == counts[1]
    run(emptied, keep.at(at((today + 300) * DAY)))
    left = emptied.execute(
        "SELECT count(*) FROM tasks t WHERE settled_at NOT NULL AND NOT EXISTS (SELECT 1 FROM events"
        " e LEFT JOIN deliveries d ON d.event_seq = e.seq WHERE e.task_id = t.id AND"
        " (d.settled_at IS NULL AND d.seq NOT NULL"
        " OR e.fanned_out_at IS NULL AND e.standing = 'accepted'))"
    ).fetchone()
    assert left == (0,)
    for db in (kept, emptied):
        db.close()


async def test_what_was_emptied_is_not_replayed(ledger: Ledger) -> None:
    """An event without its bodies is handed to a handler once more, one of which only keys are left is not."""
    await ledger.record(fact(COMPLETED))
    await handled(ledger)
    wish = ReplayEvents(handler="h", since=LONG_AGO, until=at(40 * DAY), by="me", now=at(40 * DAY), dry_run=True)
    assert (await pruned(ledger, 8)).bodies == 1
    assert (await ledger.act(wish)).count == 1
    assert (await pruned(ledger, 31)).emptied == 1
    assert (await ledger.act(wish)).count == 0
    assert (await ledger.act(replace(wish, dry_run=False))).count == 0

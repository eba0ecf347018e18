"""Events and attempts in partitions by time: one fact is one event over all of them, and what is empty is dropped."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from ringback.ledger import (
    Keep,
    Ledger,
    Pruned,
    Query,
    Registration,
    ReplayEvents,
    Summary,
    identity,
    open_ledger,
    upkeep,
)
from ringback.ledger import postgres as engine_module
from ringback.ledger.postgres import PostgresLedger, partitions
from ringback.ledger.postgres.connection import Connection
from ringback.model import DeliveryState, Kind, Outcome, Verdict
from ringback.settings import Settings

from .aging import age, lying_in, weeks
from .builders import (
    ANY,
    COMPLETED,
    FAILED,
    LONG_AGO,
    NOW,
    PROCESSING,
    at,
    claim,
    ended,
    fact,
    fan_out,
    other,
    settle,
    submitted,
    worker,
    working,
)
from .server import bare_database

DAY = 86_400
KEEP = Keep(rest=timedelta(days=30), bodies=timedelta(days=7), keys=timedelta(days=90))


@pytest.fixture
def url() -> Iterator[str]:
    """A database of its own, since partitions outlive the emptying of tables."""
    with bare_database() as found:
        yield found


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[PostgresLedger]:
    """An empty ledger."""
    opened = await PostgresLedger.open(url, create=True)
    yield opened
    await opened.close()


@pytest.fixture
def db(ledger: PostgresLedger, url: str) -> Iterator[Connection]:  # noqa: ARG001 -- which makes the tables
    """A connection beside the ledger's."""
    with psycopg.connect(url, autocommit=True) as raw:
        yield Connection(raw)


async def handled(ledger: Ledger) -> None:
    """Let one worker handle all that is owed, at NOW."""
    await working(ledger)
    while await fan_out(ledger, NOW, 100):
        pass
    works = await claim(ledger)
    await settle(ledger, [ended(w, Outcome.SUCCEEDED, DeliveryState.SUCCEEDED, seconds=0) for w in works])


async def pruned(ledger: Ledger, days: float, keep: Keep = KEEP, *, dry_run: bool = False) -> Pruned:
    """Prune to the end, so many days after NOW."""
    wish = keep.at(at(days * DAY), dry_run=dry_run)
    total = Pruned(next=wish.after)
    while total.next is not None:
        total += await ledger.act(replace(wish, after=total.next))
    return total


async def test_a_fact_is_one_event_over_all_partitions(ledger: PostgresLedger, url: str) -> None:
    """A copy that comes weeks later is the duplicate it is, and is counted where its event lies."""
    first = await ledger.record(fact(COMPLETED))
    age(url, 3)
    await ledger.record(fact(COMPLETED, "task_b", "p-b"))
    assert len(lying_in(url)) == 2
    again = await ledger.record(fact(COMPLETED, seconds=21 * DAY))
    assert (again.verdict, again.event_id) == (Verdict.DUPLICATE, first.event_id)
    contradicted = await ledger.record(fact(FAILED, seconds=21 * DAY))
    assert contradicted.verdict is Verdict.CONTRADICTED
    story = await ledger.story("task_a")
    assert [(event.status, event.duplicates) for event in story.events] == [(COMPLETED, 1), (FAILED, 0)]
    assert sorted(lying_in(url).values()) == [1, 2]


async def test_what_lies_weeks_back_is_handed_out_handled_and_replayed(ledger: PostgresLedger, url: str) -> None:
    """An event of an old partition is fanned out, claimed, settled and replayed as any other."""
    await ledger.record(fact(COMPLETED))
    age(url, 5)
    await ledger.record(fact(COMPLETED, "task_b", "p-b"))
    await handled(ledger)
    assert len(await ledger.deliveries(Query(task_id="task_a"))) == 1
    wish = ReplayEvents(handler="h", since=LONG_AGO, until=at(DAY), by="ada", now=NOW)
    assert (await ledger.act(wish)).count == 2
    assert {work.event.task_id for work in await claim(ledger)} == {"task_a", "task_b"}
    new = {"new": Registration(patterns=ANY, since=LONG_AGO)}
    await ledger.beat(worker(), NOW, LONG_AGO, new)
    await fan_out(ledger, NOW, 10)
    assert len(await claim(ledger, "new")) == 2


async def test_a_late_copy_after_its_partition_was_dropped(ledger: PostgresLedger, url: str) -> None:
    """When all of a week is emptied, its partitions go; its facts are known until their time is over."""
    await submitted(ledger)
    first = await ledger.record(fact(COMPLETED))
    await ledger.record(other(Kind.RECEIVED, None, body=b"ping"))
    await handled(ledger)
    age(url, 5)
    (old,) = lying_in(url)
    assert old in weeks(url)
    assert await pruned(ledger, 31, dry_run=True) == Pruned(emptied=2)
    assert old in weeks(url)
    assert await pruned(ledger, 31) == Pruned(emptied=2)
    assert old not in weeks(url)
    assert old.replace("events", "attempts") not in weeks(url, "attempts")
    assert lying_in(url) == {"events_emptied": 2}
    again = await ledger.record(fact(COMPLETED, seconds=40 * DAY))
    assert (again.verdict, again.event_id) == (Verdict.DUPLICATE, first.event_id)
    assert (
        await ledger.record(other(Kind.RECEIVED, None, body=b"ping", seconds=40 * DAY))
    ).verdict is Verdict.DUPLICATE
    assert await fan_out(ledger, at(41 * DAY), 10) == 0
    assert [(event.results, event.duplicates) for event in (await ledger.story("task_a")).events] == [((), 1)]
    assert await pruned(ledger, 91 + 40) == Pruned(removed=2)
    assert (lying_in(url), lying_in(url, "facts"), (await ledger.summary(NOW)).events) == ({}, {}, {})


async def test_what_is_open_keeps_its_partition(ledger: PostgresLedger, url: str) -> None:
    """Where something of a week waits, the rest of it goes all the same, and the partition when that has settled."""
    for number in range(3):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}"))
    await handled(ledger)
    await ledger.record(fact(COMPLETED, "task_unseen", "p-unseen"))
    age(url, 20)
    (old,) = lying_in(url)
    assert await pruned(ledger, 60) == Pruned(emptied=3, waiting=1)
    assert lying_in(url) == {"events_emptied": 3, old: 1}
    await handled(ledger)
    assert await pruned(ledger, 60) == Pruned(emptied=1)
    assert old not in weeks(url)


async def test_a_partition_that_has_rows_after_all_stays(
    ledger: PostgresLedger, url: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at once more when nobody can write any longer."""
    await ledger.record(fact(COMPLETED))
    age(url, 5)
    (old,) = lying_in(url)
    monkeypatch.setattr(partitions, "_is_empty", lambda *_: True)
    assert old not in partitions.drop_empty(db)
    assert lying_in(url) == {old: 1}


FIRST = """
WITH made AS (
    INSERT INTO events (seq, id, type, provider, source, trust, standing, event_key, body, received_at, last_seen_at)
    SELECT begins, 'evt_first', 'callback.received', 'qingbo', 'callback', 'signed', 'accepted', %s, '', 0, 0
    FROM (SELECT (extract(epoch FROM clock_timestamp() - interval '7 days') * 1000)::bigint << 20 AS begins) before
    RETURNING seq, id, event_key)
INSERT INTO facts (key, event_seq) SELECT unnest(ARRAY[id, event_key]), seq FROM made
"""


async def test_two_receivers_with_one_fact_at_the_turn_of_a_week(
    ledger: PostgresLedger, url: str, db: Connection
) -> None:
    """Who comes second, with its event in another partition, waits for the first one, and finds its event."""
    age(url, 1)  # makes the partition of last week
    arrival = other(Kind.RECEIVED, None, body=b"ping")
    with psycopg.connect(url) as first:  # for whom the new week has not begun yet
        first.execute(FIRST, (identity.received_key(arrival),))
        second = asyncio.ensure_future(ledger.record(arrival))
        async with asyncio.timeout(20):
            while not db.ask(b"SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():  # noqa: ASYNC110 -- not ours
                await asyncio.sleep(0.01)
        assert not second.done()
    receipt = await second
    assert (receipt.verdict, receipt.event_id) == (Verdict.DUPLICATE, "evt_first")
    assert [event.duplicates for event in await ledger.events(Query())] == [1]


def test_many_processes_make_them_at_once(url: str) -> None:
    """Each is made once, by whoever is first; the others are content."""
    asyncio.run(opened(url))
    with psycopg.connect(url, autocommit=True) as raw:
        for name in (*weeks(url), *weeks(url, "attempts")):
            raw.execute(f"DROP TABLE {name}".encode())
    made: list[str] = []
    together = threading.Barrier(6)

    def process() -> None:
        with psycopg.connect(url, autocommit=True) as raw:
            together.wait()
            made.extend(partitions.make_ahead(Connection(raw)))

    threads = [threading.Thread(target=process) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == 2 * (partitions.AHEAD + 1)
    assert sorted(made) == sorted((*weeks(url), *weeks(url, "attempts")))


async def opened(url: str) -> None:
    """Make the tables."""
    await (await PostgresLedger.open(url, create=True)).close()


async def test_what_has_no_partition_lies_in_the_default_one(ledger: PostgresLedger, url: str, db: Connection) -> None:
    """Nothing fails where nobody made one; when it is made, its rows move there."""
    this_week = weeks(url)[0]
    db.command(f"DROP TABLE {this_week}, {this_week.replace('events', 'attempts')}")
    await ledger.record(fact(COMPLETED))
    await handled(ledger)
    assert (lying_in(url), lying_in(url, "attempts")) == ({"events_default": 1}, {"attempts_default": 1})
    upkeep.migrate(Settings(database_url=url), create=True)
    assert lying_in(url) == {this_week: 1}
    assert lying_in(url, "attempts") == {this_week.replace("events", "attempts"): 1}
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.DUPLICATE
    assert len(await ledger.deliveries(Query(task_id="task_a"))) == 1


async def test_many_rows_stay_in_the_default_partition(
    ledger: PostgresLedger, url: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To move them would keep everybody waiting: only the weeks after get partitions."""
    this_week, next_week, *_ = weeks(url)
    db.command(f"DROP TABLE {this_week}, {next_week}")
    for number in range(3):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}"))
    monkeypatch.setattr(partitions, "MOVED", 2)
    assert partitions.make_ahead(db) == [next_week]
    assert lying_in(url) == {"events_default": 3}
    assert (await ledger.record(fact(COMPLETED, "task_1", "p-1"))).verdict is Verdict.DUPLICATE


async def test_who_may_not_make_tables_works_all_the_same(ledger: PostgresLedger, url: str, db: Connection) -> None:
    """A user that does not own the tables is told so in the log, and everything lies in the default partition."""
    role = f"ringback_guest_{db.raw.info.backend_pid}"
    db.command(f"DROP TABLE {weeks(url)[0]}; CREATE ROLE {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        db.command(f"SET ROLE {role}")
        assert partitions.make_ahead(db) == []
    finally:
        db.command(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.NEW


async def test_intake_goes_on_while_a_partition_is_dropped(ledger: PostgresLedger, url: str) -> None:
    """A long question that sees the old partition delays its end, not those who write; nothing is refused."""
    await ledger.record(fact(COMPLETED))
    await handled(ledger)
    age(url, 5)
    (old,) = lying_in(url)
    stop, recorded = asyncio.Event(), list[Verdict]()

    async def push() -> None:
        while not stop.is_set():
            number = len(recorded)
            recorded.append((await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}"))).verdict)

    pushing = asyncio.create_task(push())
    with psycopg.connect(url) as reader:
        reader.execute("SELECT count(*) FROM events").fetchone()  # and holds what it has seen until it ends
        assert (await pruned(ledger, 31)).emptied == 1
        assert old in weeks(url)
    assert (await pruned(ledger, 31)).changed == 0
    stop.set()
    await pushing
    assert old not in weeks(url)
    assert len(recorded) > 1
    assert set(recorded) == {Verdict.NEW}


async def scenario(ledger: Ledger, url: str | None) -> tuple[list[Pruned], Summary]:
    """Live a life of some weeks, and prune it step by step."""
    await ledger.reject({("qingbo", "token"): 1}, LONG_AGO)
    for number in range(7):
        await submitted(ledger, f"task_{number}", f"p-{number}")
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}", seconds=number * DAY))
        await ledger.record(fact(PROCESSING, f"task_{number}", f"p-{number}", seconds=number * DAY))
        await ledger.record(other(Kind.UNRECOGNISED, f"task_{number}", body=b"%d" % number))
        await ledger.record(other(Kind.RECEIVED, None, body=b"%d" % number, seconds=number * DAY))
        if number < 5:
            await handled(ledger)
        if url is not None:
            age(url, 1)
    found = []
    for day in (8, 31, 33, 92, 94, 200):
        found += [await pruned(ledger, day, dry_run=True), await pruned(ledger, day)]
        await ledger.record(fact(COMPLETED, "task_0", "p-0"))
    await handled(ledger)
    return [*found, await pruned(ledger, 500)], await ledger.summary(NOW)


async def test_both_engines_prune_the_same(ledger: PostgresLedger, url: str, tmp_path: Path) -> None:
    """Wherever its rows lie, PostgreSQL counts and leaves what SQLite does."""
    embedded = await open_ledger(Settings(database_url=f"sqlite:///{tmp_path}/ledger.db"), create=True)
    ours, theirs = await scenario(embedded, None), await scenario(ledger, url)
    await embedded.close()
    assert theirs == ours
    assert sum(step.removed for step in ours[0]) > 20
    assert lying_in(url) == {}


async def test_partitions_are_looked_after_while_the_ledger_is_open(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then those of the next weeks are made; where that fails, the next time will do."""
    tended, loop = asyncio.Event(), asyncio.get_running_loop()
    times: list[str] = []

    def make_ahead(db: Connection) -> list[str]:
        times.append(db.raw.info.dbname)
        if len(times) == 2:
            raise psycopg.OperationalError("the connection is lost")
        if len(times) == 3:
            loop.call_soon_threadsafe(tended.set)
        return []

    monkeypatch.setattr(partitions, "make_ahead", make_ahead)
    monkeypatch.setattr(engine_module, "TENDING_SECONDS", 0.01)
    ledger = await PostgresLedger.open(url, create=True)
    async with asyncio.timeout(20):
        await tended.wait()
    await ledger.close()
    assert len(times) >= 3

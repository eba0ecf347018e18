"""Many processes at once on one PostgreSQL database: whatever they do at the same moment, the rules hold.

Each has a ledger of its own, with its own connections; SQLite's writers exclude each other, these do not.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta

import pytest

from ringback.ledger import Keyless, Query, Rate, Registration, Settled, Share, Turn, Work
from ringback.ledger.postgres import PostgresLedger
from ringback.ledger.postgres.connection import connect
from ringback.ledger.sqlite import turn as turns
from ringback.model import DeliveryState, EventType, Outcome, TaskState, Verdict
from ringback.settings import Settings

from .builders import ANY, COMPLETED, FAILED, LONG_AGO, NOW, PROCESSING, at, claimed, fact, reading, sent, worker
from .conftest import Engine
from .server import fresh_database

TASKS = 60
PROCESSES = 4
SHARES = {
    "plain": Share(room=8),
    "few": Share(room=8, concurrency=3),
    "keyed": Share(room=8, keyed=True),
    "ordered": Share(room=8, ordered=True),
    "rated": Share(room=8, rate=Rate(count=1000, period=timedelta(days=1))),
}
LIFE = (TaskState.SUBMITTED, PROCESSING, COMPLETED)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A database with empty tables."""
    with fresh_database() as url:
        yield Engine(Settings(database_url=url))


@pytest.fixture
async def ledgers(engine: Engine) -> AsyncIterator[Sequence[PostgresLedger]]:
    """As many processes."""
    found = [await PostgresLedger.open(engine.settings.database_url, create=False) for _ in range(PROCESSES)]
    yield found
    for ledger in found:
        await ledger.close()


def key_of(work: Work | Keyless) -> str:
    """Name a task by what stays when it turns out to be another one."""
    return (work.task.provider_id if work.task else None) or ""


class Stage:
    """What runs now, watched from outside: nothing may run that is not allowed beside the others."""

    def __init__(self) -> None:
        self.running: dict[str, set[str]] = defaultdict(set)  # keys, by handler
        self.together: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.handed: dict[tuple[str, str], list[TaskState]] = defaultdict(list)  # by handler and task

    def begin(self, work: Work) -> None:
        """Check that this one may begin."""
        handler, task = work.delivery.handler, key_of(work)
        self.together[handler] += 1
        self.most[handler] = max(self.most[handler], self.together[handler])
        if handler in ("keyed", "ordered"):
            assert task not in self.running[handler], f"two of {task} at once in {handler}"
            self.running[handler].add(task)
        assert work.event.status is not None
        self.handed[handler, task].append(work.event.status)

    def end(self, work: Work) -> None:
        """Let the next one begin."""
        self.together[work.delivery.handler] -= 1
        self.running[work.delivery.handler].discard(key_of(work))


async def work(ledger: PostgresLedger, name: str, stage: Stage, seed: int, done: asyncio.Event) -> None:
    """Take turns until all is done; some attempts fail once."""
    chance = random.Random(seed)
    process, settled, keys, idle = worker(name), list[Settled](), dict[str, str](), 0
    while idle < 3 or not done.is_set():
        turn = Turn(process=process, now=now(), settled=settled, keys=keys, shares=SHARES, limit=12, fan_out=12)
        turned = await ledger.turn(turn)
        assert all(turned.settled)
        keys = {one.delivery.id: key_of(one) for one in turned.keyless}
        for one in turned.works:
            stage.begin(one)
        await asyncio.sleep(0)
        settled = [settle(one, chance) for one in turned.works]
        for one in turned.works:
            stage.end(one)
        idle = 0 if turned.works or turned.keyless or turned.more else idle + 1
        if idle:
            await asyncio.sleep(0.01)
    assert not settled


def settle(one: Work, chance: random.Random) -> Settled:
    """End an attempt, mostly well."""
    fails = one.attempt.number == 1 and chance.random() < 0.2
    return Settled(
        attempt=one.attempt,
        outcome=Outcome.FAILED if fails else Outcome.SUCCEEDED,
        state=DeliveryState.PENDING if fails else DeliveryState.SUCCEEDED,
        due_at=now() if fails else None,
        counted=True,
        finished_at=now(),
    )


def now() -> datetime:
    """Give a time at which everything is due."""
    return at(1000)


async def push(ledgers: Sequence[PostgresLedger], number: int, seed: int) -> None:
    """Live one task's life: submitted by one process, its pushes to any of them, several times and in any order."""
    chance = random.Random(seed)
    task_id, provider_id = f"task_{number}", f"p-{number}"
    url = chance.choice([task_id, None])  # without our own, a push may overtake the answer, and make a task of its own
    pushes = [(status, chance.choice(ledgers)) for status in LIFE for _ in range(3)]
    chance.shuffle(pushes)

    async def answer() -> None:
        await chance.choice(ledgers).save_send(sent(task_id, reading=reading(TaskState.SUBMITTED, provider_id)))

    async def tell(status: TaskState, ledger: PostgresLedger) -> Verdict:
        await asyncio.sleep(chance.random() / 50)
        return (await ledger.record(fact(status, url, provider_id))).verdict

    await claimed(ledgers[number % len(ledgers)], task_id)
    verdicts = await asyncio.gather(answer(), *[tell(*one) for one in pushes])
    assert verdicts.count(Verdict.NEW) >= 1


async def test_many_receivers_submitters_and_workers_at_once(ledgers: Sequence[PostgresLedger], engine: Engine) -> None:
    """One fact is one event, each handler runs for each event, and limits, keys and orders hold over all workers."""
    handlers = {name: Registration(patterns=ANY, attempts=5) for name in SHARES}
    for number, ledger in enumerate(ledgers):
        await ledger.beat(worker(f"w{number}"), NOW, LONG_AGO, handlers)
    stage, done = Stage(), asyncio.Event()
    workers = [
        asyncio.create_task(work(ledger, f"w{number}", stage, number, done)) for number, ledger in enumerate(ledgers)
    ]
    for begin in range(0, TASKS, 20):
        await asyncio.gather(*[push(ledgers, number, number) for number in range(begin, begin + 20)])
    done.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*workers)
    tasks = await ledgers[0].tasks(Query(limit=1000))
    assert sorted(task.id for task in tasks) == sorted(f"task_{number}" for number in range(TASKS))
    assert {task.state for task in tasks} == {COMPLETED}
    events = await ledgers[0].events(Query(limit=10_000))
    assert max(Counter((event.task_id, event.status) for event in events).values()) == 1
    accepted = [event for event in events if event.standing == "accepted"]
    assert len([event for event in accepted if event.type is EventType.TASK_COMPLETED]) == TASKS
    assert sum(1 + event.duplicates for event in events) == TASKS * len(LIFE) * 3
    found = await ledgers[0].deliveries(Query(limit=10_000))
    owed = Counter((item.delivery.event_id, item.delivery.handler) for item in found)
    assert set(owed.values()) == {1}
    assert {item.delivery.state for item in found} == {DeliveryState.SUCCEEDED}
    assert {(event.id, name) for event in accepted for name in SHARES} <= set(owed)
    assert stage.most["few"] <= 3
    assert engine.query("SELECT count(*) FROM deliveries WHERE parked = 1 AND state = 'pending'") == [(0,)]


async def test_two_new_processes_register_at_once(ledgers: Sequence[PostgresLedger]) -> None:
    """A handler that asks for past events is owed each once, although others hand out events meanwhile."""
    await ledgers[0].beat(worker("w0"), NOW, LONG_AGO, {"old": Registration(patterns=ANY)})
    stop = asyncio.Event()

    async def hand_out(ledger: PostgresLedger) -> None:
        while not stop.is_set():
            await ledger.turn(Turn(process=worker("w0"), now=now(), fan_out=3))

    async def register(ledger: PostgresLedger, name: str) -> None:
        await asyncio.sleep(0.05)
        new = {"new": Registration(patterns=ANY, since=LONG_AGO)}
        await ledger.beat(worker(name), NOW, LONG_AGO, new)

    handing = [asyncio.create_task(hand_out(ledger)) for ledger in ledgers[2:]]
    pushes = [ledgers[n % 2].record(fact(FAILED, f"task_{n}", f"p-{n}")) for n in range(200)]
    await asyncio.gather(register(ledgers[0], "w0"), register(ledgers[1], "w1"), *pushes)
    stop.set()
    await asyncio.gather(*handing)
    while (await ledgers[0].turn(Turn(process=worker("w0"), now=now(), fan_out=50))).more:
        pass
    found = Counter(item.delivery.handler for item in await ledgers[0].deliveries(Query(limit=1000)))
    assert found == {"old": 200, "new": 200}


async def test_an_adoption_waits_for_a_fan_out(ledgers: Sequence[PostgresLedger], engine: Engine) -> None:
    """What is being fanned out while its task is adopted, and is dropped as a copy, leaves no delivery behind."""
    await ledgers[0].beat(worker(), NOW, LONG_AGO, {"h": Registration(patterns=ANY)})
    await claimed(ledgers[0])
    await ledgers[0].record(fact(PROCESSING, None))
    await ledgers[0].record(fact(PROCESSING, provider_id=None))
    db = connect(engine.settings.database_url, prepare=False)
    db.command("BEGIN")
    ((turned),) = turns.take(db, [Turn(process=worker(), now=at(31), fan_out=10)])  # type: ignore[arg-type]
    assert turned.fanned_out == 2
    adoption = asyncio.create_task(ledgers[1].save_send(sent(reading=reading(TaskState.SUBMITTED, "p-a"))))
    async with asyncio.timeout(2):
        while not engine.query("SELECT 1 FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 -- not ours
            await asyncio.sleep(0.01)
    db.command("COMMIT")
    db.close()
    await adoption
    assert engine.query(
        "SELECT count(*), count(e.seq) FROM deliveries d LEFT JOIN events e ON e.seq = d.event_seq"
    ) == [(1, 1)]

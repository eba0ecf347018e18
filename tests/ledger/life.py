"""One life of a real ledger beside the model: workers, connections and a clock, and what always has to hold.

Each method does one thing to the ledger, has the model do it, and compares. `test_state_machine` says in which order.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from ringback import lifecycle
from ringback.errors import LedgerRejected
from ringback.ledger import (
    Action,
    Keep,
    Keyless,
    Ledger,
    Pattern,
    Process,
    Pruned,
    Query,
    Rate,
    Registration,
    Sent,
    Settled,
    Share,
    Turn,
    Turned,
    Work,
    beat_from_thread,
)
from ringback.model import Arrival, Outcome, Receipt, Source, Task, TaskState, microseconds
from ringback.retry import Policy

from .builders import ANY, LONG_AGO, NOW, at, worker
from .conftest import Engine
from .model_intake import Rejected
from .model_ledger import ModelLedger
from .model_records import RUNNING

Answer = TypeVar("Answer")

SILENT = timedelta(seconds=30)
SET_BACK = timedelta(seconds=8)  # the most that the clock is, all in all
ALL = 10_000
FINAL = (Pattern(event="task.completed"), Pattern(event="task.failed"))
HANDLERS: dict[str, tuple[Registration, dict[str, Any]]] = {
    "few": (Registration(patterns=ANY, attempts=2), {"concurrency": 1}),
    "keyed": (Registration(patterns=ANY, attempts=3, since=LONG_AGO), {"keyed": True}),
    "ordered": (Registration(patterns=ANY, attempts=3), {"ordered": True}),
    "plain": (Registration(patterns=FINAL, attempts=2), {}),
    "rated": (
        Registration(patterns=ANY, attempts=2, since=at(-5)),
        {"rate": Rate(count=2, period=timedelta(seconds=10))},
    ),
    "shifty": (Registration(patterns=ANY, attempts=2), {}),
    "strict": (
        Registration(patterns=ANY, attempts=2),
        {"ordered": True, "concurrency": 2, "rate": Rate(count=1, period=timedelta(seconds=5))},
    ),
}
CHANGING = frozenset({"shifty"})  # each release of its code has other options
RELEASES: tuple[dict[str, Any], ...] = ({"keyed": True}, {"ordered": True}, {})
NAMES = ("w0", "w1", "w2")

# On SQLite, since no method shows what is parked: whatever waits behind its key waits for something that can end.
PARKED_FOR_EVER = """
SELECT id, handler, key FROM deliveries waiting
WHERE state = 'pending' AND parked = 1 AND NOT EXISTS (
    SELECT 1 FROM deliveries before WHERE before.handler = waiting.handler AND before.key = waiting.key
    AND (before.state = 'running' OR (before.state = 'pending' AND before.parked = 0)))
"""


@dataclass(eq=False)
class Worker:
    """A worker process, which does as `receiver.worker` does."""

    name: str
    ledger: int  # which connection it has
    handlers: list[str] = field(default_factory=list)
    release: int = 0
    lives: int = 0
    announced: bool = False
    running: list[Work] = field(default_factory=list)
    keyless: Sequence[Keyless] = ()

    @property
    def process(self) -> Process:
        """Give it as the ledger knows it."""
        return worker(f"{self.name}.{self.lives}")

    def share(self, handler: str, room: int) -> Share:
        """Say how much of a handler may begin."""
        return Share(room=room, **(RELEASES[self.release] if handler in CHANGING else HANDLERS[handler][1]))

    def key(self, keyless: Keyless, key: int) -> str:
        """Give a key; releases do not agree on what that of the changing handler is."""
        if keyless.delivery.handler in CHANGING:
            return f"key-{key}"
        return keyless.event.task_id or keyless.delivery.id


def same(found: Mapping[Any, object], expected: Mapping[Any, object]) -> None:
    """Compare, and name what differs."""
    names = {*found, *expected}
    assert found == expected, {n: (found.get(n), expected.get(n)) for n in names if found.get(n) != expected.get(n)}


class Life:
    """A fresh ledger with two connections, as two processes have them, three workers, and a clock."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.ledgers: list[Ledger] = [self.wait(engine.open()), self.wait(engine.open())]
        self.model = ModelLedger(CHANGING)
        self.now = self.latest = NOW
        self.counter = itertools.count()
        self.urls = [self.new_id(), self.new_id()]  # of tasks that the ledger does not know, at first
        self.shown: list[Task] = []  # tasks as somebody once saw them
        self.sends: list[tuple[str, datetime]] = []  # claimed, without an answer
        self.menu = sorted(HANDLERS)
        self.workers = {name: Worker(name, number % 2) for number, name in enumerate(NAMES)}
        self.ghosts: list[Work] = []  # begun by workers that have died, or seem to

    def wait(self, call: Awaitable[Answer]) -> Answer:
        """Wait for an answer, with an end."""

        async def bounded() -> Answer:
            async with asyncio.timeout(30):
                return await call

        return self.runner.run(bounded())

    def new_id(self) -> str:
        """Make a time-ordered id, the same whenever the same life is lived again."""
        return f"task_{microseconds(self.now) // 1000:012x}{next(self.counter):018x}"

    def pass_time(self, seconds: float) -> None:
        """Let time go by; the clock may also be set back a little."""
        self.now = max(self.now + timedelta(seconds=seconds), self.latest - SET_BACK)
        self.latest = max(self.now, self.latest)

    def record(self, where: int, arrival: Arrival) -> None:
        """Let something arrive."""

        async def record() -> Receipt:
            return await self.ledgers[where].record(arrival)

        receipt = self.wait(record())
        verdict, task, event = self.model.arrive(arrival, receipt.task_id)
        assert receipt.verdict is verdict
        assert (receipt.task_id, receipt.state) == ((task.id, task.state) if task else (None, None))
        if event is not None:
            assert bool(event.id) == receipt.duplicate
            event.id = event.id or receipt.event_id or ""
        assert receipt.event_id == (event and event.id)

    def save_send(self, where: int, sent: Sent) -> None:
        """Store how a sending ended."""
        try:
            event = self.model.save_send(sent)
        except Rejected:
            assert isinstance(self.wait(self._refusal(where, sent)), LedgerRejected)
            return
        stored = self.wait(self.ledgers[where].save_send(sent))
        assert stored.state is self.model.tasks[sent.task_id].state
        if event is not None and not event.id:
            found = self.wait(self.ledgers[where].events(Query(task_id=sent.task_id, limit=ALL)))
            (event.id,) = (e.id for e in found if (e.status, e.source) == (event.status, Source.SUBMISSION))

    async def _refusal(self, where: int, sent: Sent) -> Exception | None:
        try:
            await self.ledgers[where].save_send(sent)
        except LedgerRejected as error:
            return error
        return None

    def beat(self, one: Worker, handlers: Sequence[str], *, leaving: bool = False, thread: bool = False) -> None:
        """Let a worker's heart beat once."""
        found = {handler: HANDLERS[handler][0] for handler in handlers}
        one.announced = (one.announced or bool(handlers)) and not leaving
        one.handlers = sorted({*one.handlers, *handlers})
        dead = self.now - SILENT
        if thread:
            lapsed = beat_from_thread(self.engine.settings, one.process, self.now, dead, found)
        else:
            ledger = self.ledgers[one.ledger]
            lapsed = self.wait(ledger.beat(one.process, self.now, dead, found, leaving=leaving))
        expected = self.model.beat(one.process, self.now, dead, found, leaving)
        assert sorted((d.id, d.state, d.lapses) for d in lapsed) == sorted((d.id, d.state, d.lapses) for d in expected)

    def turn(
        self,
        one: Worker,
        outcomes: Sequence[Outcome],
        *,
        room: int = 50,
        limit: int = 50,
        events: int = 50,
        key: int = 0,
    ) -> Turned:
        """Let a worker take its turn: its oldest attempts end so, others begin."""
        if not one.announced:
            self.beat(one, one.handlers)
        ending, one.running = one.running[: len(outcomes)], one.running[len(outcomes) :]
        alone = any(lifecycle.runs_alone(work.delivery.lapses) for work in one.running)
        turn = Turn(
            process=one.process,
            now=self.now,
            settled=[self.ended(work, outcome) for work, outcome in zip(ending, outcomes, strict=False)],
            keys={keyless.delivery.id: one.key(keyless, key) for keyless in one.keyless},
            shares={handler: one.share(handler, room) for handler in one.handlers},
            limit=0 if alone else limit,
            fan_out=0 if alone else events,
            idle=not one.running,
        )
        turned = self.wait(self.ledgers[one.ledger].turn(turn))
        self.model.turn(turn, turned)
        one.keyless = turned.keyless
        one.running += turned.works
        return turned

    def ended(self, work: Work, outcome: Outcome) -> Settled:
        """Judge an attempt's end as `receiver.settler` does."""
        policy = Policy(attempts=HANDLERS[work.delivery.handler][0].attempts)
        what = lifecycle.settle(work.delivery.attempts, outcome, policy, self.now, 0.5)
        return Settled(
            attempt=work.attempt,
            outcome=outcome,
            state=what.state,
            due_at=what.due_at,
            counted=what.counted,
            finished_at=self.now,
        )

    def die(self, one: Worker) -> None:
        """Let a worker die, and be started again under another name."""
        self.ghosts += one.running
        self.workers[one.name] = Worker(one.name, one.ledger, one.handlers, one.release, one.lives + 1)

    def reopen(self, where: int) -> None:
        """Let a process end, with all its workers, and another one open the database."""
        self.wait(self.ledgers[where].close())
        for one in [one for one in self.workers.values() if one.ledger == where]:
            self.die(one)
        self.ledgers[where] = self.wait(self.engine.open())

    def act(self, where: int, action: Action) -> int:
        """Do all steps of an action; gives how many it made or ended, as its dry run had said."""
        asked = self.wait(self.ledgers[where].act(replace(action, dry_run=True)))
        done = self.wait(self.ledgers[where].act(action))
        count = done.count
        while done.next is not None:
            done = self.wait(self.ledgers[where].act(replace(action, after=done.next)))
            count += done.count
        assert asked.count == count
        return count

    def prune(self, where: int, keep: Keep, states: Sequence[TaskState]) -> None:
        """Take away what is old."""
        wish = keep.at(self.now, states=states)
        tasks = self.wait(self.ledgers[where].tasks(Query(limit=ALL)))
        expected = self.model.prune(wish, frozenset(task.id for task in tasks if task.fetch_at is not None))
        total = Pruned(next=wish.after)
        while total.next is not None:
            total += self.wait(self.ledgers[where].act(replace(wish, after=total.next)))
        assert replace(total, waiting=0) == expected, (total, expected)

    # What always holds.

    def compare(self) -> None:
        """The records are those of the model."""
        owed = self.wait(self.ledgers[0].deliveries(Query(limit=ALL)))
        new = {(d.event.id, d.handler, d.run): d for d in self.model.deliveries if not d.id}
        for one in (item.delivery for item in owed):
            if (made := new.get((one.event_id, one.handler, one.run))) is not None:
                made.id = one.id
        found = {
            one.id: (
                one.event_id, one.handler, one.run, one.state, one.attempts, one.lapses, one.worker, one.settled_at,
                one.due_at, [attempt.outcome for attempt in item.attempts if attempt.outcome],
                [attempt.id for attempt in item.attempts if not attempt.outcome], {step.name for step in item.steps},
            )
            for one, item in ((item.delivery, item) for item in owed)
        }  # fmt: skip
        expected = {
            d.id: (
                d.event.id, d.handler, d.run, d.state, d.attempts, d.lapses, d.worker, d.settled_at,
                d.due_at, d.outcomes,
                [d.attempt] if d.state is RUNNING else [], d.event.steps.get(d.handler, set()),
            )
            for d in self.model.deliveries
        }  # fmt: skip
        same(found, expected)
        self._compare_facts()

    def _compare_facts(self) -> None:
        tasks = self.wait(self.ledgers[0].tasks(Query(limit=ALL)))
        same(
            {t.id: (t.state, t.settled_by, t.provider_id, t.sent_at, t.callbacks) for t in tasks},
            {t.id: (t.state, t.settled_by, t.provider_id, t.sent_at, t.callbacks) for t in self.model.tasks.values()},
        )
        events = self.wait(self.ledgers[0].events(Query(limit=ALL)))
        same(
            {e.id: (e.type, e.task_id, e.standing, e.duplicates, e.fanned_out_at is not None) for e in events},
            {e.id: (e.type, e.task and e.task.id, e.standing, e.duplicates, e.fanned_out) for e in self.model.events},
        )

    def check_parked(self) -> None:
        """Whatever is parked is freed by the end of another one."""
        assert self.engine.query(PARKED_FOR_EVER) == []

    def drain(self, release: int) -> None:
        """Nothing is stuck: one worker with all handlers, who sleeps only as long as it is told, settles all."""
        good = Worker("good", 0, release=release)
        self.beat(good, self.menu)
        self.pass_time(120)  # by now the others are dead
        self.beat(good, [])
        assert all(delivery.state is not RUNNING for delivery in self.model.deliveries)
        open_ones = sum(delivery.open for delivery in self.model.deliveries)
        for _ in range(10 + 4 * (open_ones + len(self.menu) * len(self.model.events))):
            turned = self.turn(good, [Outcome.SUCCEEDED] * len(good.running), room=3, limit=4, events=4)
            self.compare()
            if not (turned.more or good.running):
                if turned.next_due_at is None:
                    break
                self.now = max(turned.next_due_at, self.now + timedelta(seconds=1))
        assert [(delivery.handler, delivery.state) for delivery in self.model.deliveries if delivery.open] == []
        assert not any(event.waits(datetime.max.replace(tzinfo=NOW.tzinfo)) for event in self.model.events)

    def close(self) -> None:
        """Let go of everything."""
        for ledger in self.ledgers:
            self.wait(ledger.close())
        self.runner.close()
        self.engine.drop()

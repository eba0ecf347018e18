"""Whatever happens, in whatever order: the ledger does what a simple model says, and nothing is ever stuck.

Random lives of a ledger, on each engine: tasks are submitted, pushes come and come again, workers with different
handlers claim, settle, crash and come late, connections are dropped, the clock jumps, people replay, cancel and prune.
After each step the records equal those of `model_ledger`; at the end one good worker must be able to settle everything.
RINGBACK_TEST_EXAMPLES says how many lives.
"""

import itertools
import os
import sys
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_state_machine

from ringback.ledger import Cancel, Discard, Keep, Query, Replay, ReplayEvents, Sent, Turn
from ringback.model import (
    Arrival,
    Callback,
    DeliveryState,
    Kind,
    Origin,
    Outcome,
    Reading,
    Source,
    TaskState,
    Trust,
)

from .builders import new_task, worker
from .conftest import Engine
from .life import HANDLERS, NAMES, Life
from .model_records import PENDING, MDelivery

DAY = 86_400

where = st.sampled_from([0, 1])
pick = st.integers(0, 50)
picks = st.lists(st.integers(0, 12), min_size=1, max_size=2)
keys = st.integers(0, 1)
names = st.sampled_from(NAMES)
releases = st.sampled_from([0, 0, 1, 2])
handlers = st.sampled_from([*sorted(HANDLERS), "keyed", "ordered", "shifty"])
urls = st.none() | pick
statuses = st.sampled_from([status for status in TaskState if status is not TaskState.PENDING])
said = st.lists(statuses, min_size=1, max_size=3)
stories = st.just([TaskState.SUBMITTED, TaskState.PROCESSING, TaskState.COMPLETED])
provider_ids = st.sampled_from([f"p-{number}" for number in range(4)])
theirs = st.sampled_from(["own", "own", "own", None, "p-0", "p-2", "p-3"])
event_ids = st.none() | st.sampled_from(["e0", "e1"])
trusts = st.sampled_from([Trust.TOKEN, Trust.SIGNED])
jumps = st.sampled_from([0.25, 1, 5, 5, 10, 10, 31, 31, 60, 120, 3_600, DAY, 40 * DAY, 100 * DAY, -0.5, -4])
ends = st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED, *(end for end in Outcome if end is not Outcome.LAPSED)])
rounds = st.lists(st.tuples(names, ends, keys), min_size=1, max_size=4)
keeps = st.sampled_from(
    [
        Keep(rest=timedelta(days=1)),
        Keep(rest=timedelta(days=30), bodies=timedelta(hours=1)),
        Keep(bodies=timedelta(days=7)),
    ]
)


class LedgerMachine(Life, RuleBasedStateMachine):
    """All that can happen to a ledger."""

    @initialize(
        menu=st.lists(handlers, unique=True, min_size=1, max_size=3),
        known=st.integers(1, 3),
        asked=st.integers(0, 2),
        told=st.lists(st.tuples(pick, stories | said), min_size=2, max_size=4),
        rounds=rounds,
        releases=st.tuples(releases, releases, releases),
    )
    def begin(
        self,
        menu: list[str],
        known: int,
        asked: int,
        told: list[tuple[int, list[TaskState]]],
        rounds: list[tuple[str, Outcome, int]],
        releases: tuple[int, int, int],
    ) -> None:
        """Few handlers are there, so that they meet often, workers with code for them, tasks, and news of these."""
        self.menu = sorted(menu)
        for name, release in zip(NAMES, releases, strict=True):
            self.workers[name].release = release
            self.workers[name].handlers = self.menu
        self.workers["w0"].handlers = self.menu[: max(1, len(menu) - 1)]  # the last one is a newer release's
        for number in range(known + asked):
            self.submit(0)
            self.claim_send(0, 0, fresh=False)
            if number < known:
                self.answer(0, 0, TaskState.SUBMITTED, f"p-{number}", "accepted")
        for url, story in told:
            self.say(0, asked + url % known, "own", story, None, Trust.TOKEN)
        self.work(rounds)

    # Submissions and arrivals.

    @rule(where=where)
    def submit(self, where: int) -> None:
        """Somebody wants a task."""
        task = new_task(self.new_id(), created_at=self.now)
        stored, new = self.wait(self.ledgers[where].add_task(task))
        assert (stored.id, new) == (task.id, True)
        self.model.add(task.id)
        self.urls.append(task.id)
        self.shown.append(stored)

    @precondition(lambda self: self.shown)
    @rule(where=where, pick=pick, fresh=st.booleans())
    def claim_send(self, where: int, pick: int, fresh: bool) -> None:
        """A submitter claims to send a task that it has seen a while ago, or just now."""
        task = self.shown[-1 - pick % len(self.shown)]
        if task.id not in self.model.tasks:
            return
        if fresh:
            (task,) = self.wait(self.ledgers[where].tasks(Query(ids=(task.id,))))
        won = self.wait(self.ledgers[where].claim_send(task, self.now, None))
        assert won == self.model.claim_send(task.id, task.sent_at, self.now)
        if won:
            self.sends.append((task.id, self.now))

    @precondition(lambda self: self.sends)
    @rule(
        where=where,
        pick=pick,
        status=statuses,
        provider_id=st.none() | provider_ids,
        end=st.sampled_from(["accepted", "accepted", "accepted", "refused", "released", "unknown"]),
    )
    def answer(self, where: int, pick: int, status: TaskState, provider_id: str | None, end: str) -> None:
        """A sending ends; without an id it is that of a task which so far is known by its pushes only."""
        task_id, sent_at = self.sends.pop(pick % len(self.sends))
        if task_id not in self.model.tasks:
            return
        unknown = [task.provider_id for task in self.model.tasks.values() if task.origin is Origin.CALLBACK]
        provider_id = provider_id or (unknown[-1] if unknown else None) or "p-2"
        said = {
            "accepted": Reading(status=status, provider_id=provider_id),
            "refused": Reading(status=TaskState.FAILED),
        }
        release, reading = end == "released", said.get(end)
        sent = Sent(task_id=task_id, sent_at=sent_at, now=self.now, note=end, reading=reading, release=release)
        self.save_send(where, sent)

    def say(
        self, where: int, url: int | None, theirs: str | None, said: list[TaskState], event_id: str | None, trust: Trust
    ) -> None:
        """A provider pushes, once or some times, to a task's own URL or to the account's endpoint."""
        task_id = self._url(url)
        if theirs == "own":
            known = self.model.tasks.get(task_id or "")
            theirs = known.provider_id if known else "p-2"
        for status in said:
            reading = Reading(status=status, provider_id=theirs, event_id=event_id)
            self.record(where, self._arrival(Kind.FACT, Source.CALLBACK, task_id, reading, trust))

    @rule(where=where, told=stories | said, trust=trusts)
    def news(self, where: int, told: list[TaskState], trust: Trust) -> None:
        """A task goes its whole way, from the submission to the last push."""
        self.submit(where)
        self.claim_send(where, 0, fresh=False)
        self.sends.insert(0, self.sends.pop())
        self.answer(where, 0, TaskState.SUBMITTED, f"p-{self.urls[-1]}", "accepted")
        self.say(where, 0, "own", told, None, trust)

    push = rule(where=where, url=urls, theirs=theirs, said=stories | said, event_id=event_ids, trust=trusts)(say)
    push_again = rule(where=where, url=pick, theirs=st.just("own"), said=said, event_id=st.none(), trust=trusts)(say)

    @precondition(lambda self: self.model.tasks)
    @rule(where=where, pick=pick, status=statuses, ours=st.booleans())
    def tell(self, where: int, pick: int, status: TaskState, ours: bool) -> None:
        """The poller learns how a task stands, or gives up and presumes."""
        task = list(self.model.tasks.values())[-1 - pick % len(self.model.tasks)]
        if ours:
            status = TaskState.EXPIRED if pick % 2 else TaskState.FAILED
        reading = Reading(status=status, provider_id=task.provider_id)
        source = Source.RINGBACK if ours else Source.POLL
        self.record(where, self._arrival(Kind.FACT, source, task.id, reading, Trust.SIGNED))

    @rule(
        where=where,
        kind=st.sampled_from([Kind.RECEIVED, Kind.UNRECOGNISED, Kind.HINT]),
        url=urls,
        body=st.sampled_from([b"1", b"2"]),
    )
    def push_other(self, where: int, kind: Kind, url: int | None, body: bytes) -> None:
        """Something comes that says nothing about how a task stands."""
        self.record(where, self._arrival(kind, Source.CALLBACK, self._url(url), None, Trust.TOKEN, body))

    def _url(self, url: int | None) -> str | None:
        return None if url is None else self.urls[-1 - url % len(self.urls)]

    def _arrival(
        self, kind: Kind, source: Source, task_id: str | None, said: Reading | None, trust: Trust, body: bytes = b"{}"
    ) -> Arrival:
        callback = Callback(body=body, received_at=self.now)
        return Arrival(
            kind=kind, provider="qingbo", source=source, trust=trust, callback=callback, task_id=task_id, reading=said
        )

    # Workers.

    @rule(name=names, some=st.integers(1, 7), release=releases, thread=st.booleans())
    def join(self, name: str, some: int, release: int, thread: bool) -> None:
        """A worker tells that it lives, and which handlers its release has code for."""
        self.workers[name].release = release
        handlers = [handler for place, handler in enumerate(self.menu) if some >> place & 1]
        self.beat(self.workers[name], handlers, thread=thread)

    @rule(name=names, leaving=st.booleans())
    def keep_alive(self, name: str, leaving: bool) -> None:
        """A worker tells that it lives, or leaves; what it then still holds it can only settle too late."""
        self.beat(self.workers[name], [], leaving=leaving)

    @rule(
        name=names,
        outcomes=st.lists(ends, max_size=4),
        room=st.integers(0, 3),
        limit=st.integers(0, 4),
        events=st.integers(0, 4),
        key=keys,
    )
    def work_a_little(self, name: str, outcomes: list[Outcome], room: int, limit: int, events: int, key: int) -> None:
        """A worker's turn: some attempts end so or so, some begin, some events are fanned out."""
        self.turn(self.workers[name], outcomes, room=room, limit=limit, events=events, key=key)

    def work(self, rounds: list[tuple[str, Outcome, int]]) -> None:
        """Workers begin all they can, and all that they had begun ends so."""
        for name, outcome, key in rounds:
            self.turn(self.workers[name], [outcome] * len(self.workers[name].running), key=key)
            self.holds()

    some_work = rule(rounds=rounds)(work)
    more_work = rule(rounds=rounds)(work)

    @rule(name=names, seconds=st.sampled_from([1, 10, 3_600, DAY, 40 * DAY, 100 * DAY]))
    def calm(self, name: str, seconds: float) -> None:
        """For a while nothing happens but work that goes well."""
        self.beat(self.workers[name], self.menu)
        self.work([(name, Outcome.SUCCEEDED, 0)] * 6)
        self.pass_time(seconds)

    @rule(name=names)
    def crash(self, name: str) -> None:
        """A worker dies, and is started again under another name."""
        self.die(self.workers[name])

    @rule(name=names, lives=st.booleans())
    def take_over(self, name: str, lives: bool) -> None:
        """A worker falls silent, or dies, and the others find out."""
        if not lives:
            self.crash(name)
        self.pass_time(31)
        for other in NAMES:
            if other != name:
                self.beat(self.workers[other], [])

    @precondition(lambda self: self.ghosts)
    @rule(where=where, pick=pick, outcome=ends)
    def come_late(self, where: int, pick: int, outcome: Outcome) -> None:
        """A worker that was believed to be dead settles what it had begun."""
        work = self.ghosts.pop(pick % len(self.ghosts))
        turn = Turn(process=worker("ghost"), now=self.now, settled=[self.ended(work, outcome)])
        self.model.turn(turn, self.wait(self.ledgers[where].turn(turn)))

    @precondition(lambda self: self.ghosts or any(one.running for one in self.workers.values()))
    @rule(where=where, pick=pick, name=st.sampled_from(["charge", "mail"]))
    def finish_step(self, where: int, pick: int, name: str) -> None:
        """A handler has done a part of its work, perhaps too late."""
        works = [*itertools.chain.from_iterable(one.running for one in self.workers.values()), *self.ghosts]
        work = works[pick % len(works)]
        done = self.wait(self.ledgers[where].finish_step(work.attempt, name, self.now))
        owed = self.model.is_current(work.attempt.id)
        assert done == (owed is not None)
        if owed is not None:
            owed.event.steps.setdefault(owed.handler, set()).add(name)

    # Operators, the clock, and connections.

    @rule(seconds=jumps)
    def tick(self, seconds: float) -> None:
        """Time goes by, or is set back a little."""
        self.pass_time(seconds)

    @rule(where=where)
    def restart(self, where: int) -> None:
        """A process ends, with all its workers, and another one opens the database."""
        self.reopen(where)

    @rule(where=where, kind=st.sampled_from([Cancel, Discard]), picks=picks)
    def end_some(self, where: int, kind: type[Cancel | Discard], picks: list[int]) -> None:
        """Somebody ends deliveries that he names."""
        chosen = self._picked(picks, pending=True)
        self._end(where, kind, Query(ids=tuple(delivery.id for delivery in chosen)), chosen)

    @rule(where=where, kind=st.sampled_from([Cancel, Discard]), handler=st.none() | handlers)
    def end_many(self, where: int, kind: type[Cancel | Discard], handler: str | None) -> None:
        """Somebody ends all that waits, or all of one handler."""
        chosen = [delivery for delivery in self.model.deliveries if handler in (None, delivery.handler)]
        self._end(where, kind, Query(handler=handler, limit=2), chosen)

    def _end(self, where: int, kind: type[Cancel | Discard], query: Query, chosen: list[MDelivery]) -> None:
        word = DeliveryState.CANCELLED if kind is Cancel else DeliveryState.DISCARDED
        count = self.act(where, kind(query=query, by="ada", now=self.now))
        assert count == self.model.end(chosen, word, self.now)

    @rule(where=where, picks=picks)
    def replay_some(self, where: int, picks: list[int]) -> None:
        """Somebody replays deliveries that he names."""
        chosen = self._picked(picks, pending=False)
        query = Query(ids=tuple(delivery.id for delivery in chosen))
        count = self.act(where, Replay(query=query, by="ada", now=self.now))
        assert count == self.model.replay(chosen, self.now)

    @rule(where=where, handler=st.none() | handlers, state=st.none() | st.sampled_from(DeliveryState))
    def replay_many(self, where: int, handler: str | None, state: DeliveryState | None) -> None:
        """Somebody replays the latest runs that a filter fits."""
        found = [d for d in self.model.deliveries if handler in (None, d.handler) and state in (None, d.state)]
        chosen = [delivery for delivery in found if delivery is self.model.of(delivery.event, delivery.handler)[-1]]
        count = self.act(where, Replay(query=Query(handler=handler, state=state, limit=2), by="ada", now=self.now))
        assert count == self.model.replay(chosen, self.now)

    def _picked(self, picks: list[int], *, pending: bool) -> list[MDelivery]:
        """Choose among those that can be meant and a few others; first what was tried, since others may wait for it."""
        tried = sorted(self.model.deliveries, key=lambda delivery: -len(delivery.outcomes))
        meant = [delivery for delivery in tried if (delivery.state is PENDING) == pending]
        among = [*meant, *(delivery for delivery in tried if delivery not in meant)][: len(meant) + 2]
        return list({among[number % len(among)]: None for number in picks}) if among else []

    @precondition(lambda self: self.model.handlers)
    @rule(where=where, pick=pick, back=st.sampled_from([5, 120, 10**7]))
    def replay_events(self, where: int, pick: int, back: int) -> None:
        """Somebody has one handler see past events once more."""
        handler = sorted(self.model.handlers)[pick % len(self.model.handlers)]
        since = self.now - timedelta(seconds=back)
        action = ReplayEvents(handler=handler, since=since, until=self.now, by="ada", now=self.now, limit=3)
        assert self.act(where, action) == self.model.replay_events(handler, since, self.now, self.now)

    @rule(where=where, keep=keeps, failed=st.booleans())
    def forget(self, where: int, keep: Keep, failed: bool) -> None:
        """What is old goes, as the settings say; or only what has failed."""
        self.prune(where, keep, [TaskState.FAILED] if failed else [])

    @invariant()
    def holds(self) -> None:
        """What always holds, holds."""
        self.compare()
        self.check_parked()

    def teardown(self) -> None:
        """Let a good worker drain the ledger, unless something has failed before."""
        try:
            if sys.exc_info()[0] is None:
                self.drain(release=len(self.model.events) % 3)
        finally:
            self.close()


def test_any_life_of_a_ledger(engine: Engine) -> None:
    """Random interleavings of all that can happen agree with the model, and a good worker can always finish."""

    def live() -> LedgerMachine:
        return LedgerMachine(engine.another())

    examples = int(os.environ.get("RINGBACK_TEST_EXAMPLES", "15" if engine.settings.embedded else "8"))
    checks = list(HealthCheck)
    chosen = settings(max_examples=examples, stateful_step_count=50, deadline=None, suppress_health_check=checks)
    run_state_machine(live, settings=chosen)  # type: ignore[arg-type]

"""The ledger as simple as it can be said: lists and dictionaries, one thing after another. For `test_state_machine`.

It borrows the pure rules (`lifecycle`, `patterns`, `retention.Prune.level`), which have tests of their own, and says
anew what an engine has to do with them. What a ledger may choose (which due deliveries begin) it only checks; the rest
it foretells. Its methods are told what the ledger was told, and where ids are made also what it answered.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from ringback import lifecycle
from ringback.ledger import Process, Prune, Pruned, Registration, Settled, Share, Turn, Turned, Work
from ringback.ledger.retention import Level
from ringback.model import EPOCH, DeliveryState, Outcome, Standing, microseconds
from ringback.retry import Policy

from .model_intake import Intake
from .model_records import PENDING, RUNNING, MDelivery, MEvent, MHandler, MTask


class ModelLedger(Intake):
    """All of it: what comes in, workers and operators."""

    # Workers.

    def beat(
        self,
        process: Process,
        now: datetime,
        dead_before: datetime,
        handlers: Mapping[str, Registration],
        leaving: bool,
    ) -> list[MDelivery]:
        """Note who lives; gives what is taken from the silent."""
        self.seen_at.pop(process.id, None)
        if not leaving:
            self.seen_at[process.id] = now
        for name, found in handlers.items():
            known = self.handlers.setdefault(
                name, MHandler(registration=found, since=found.since, looks_back=found.since is not None)
            )
            known.registration = found
        lapsed = [d for d in self.deliveries if d.worker and self.seen_at.get(d.worker, EPOCH) < dead_before]
        for delivery in lapsed:
            policy = Policy(attempts=self.handlers[delivery.handler].registration.attempts)
            what = lifecycle.settle(delivery.attempts, Outcome.LAPSED, policy, now, 0.0, lapses=delivery.lapses)
            delivery.end(what.state, what.due_at, what.counted, Outcome.LAPSED, now)
            delivery.lapses += 1
        gone = dead_before - timedelta(minutes=1)
        self.seen_at = {name: seen for name, seen in self.seen_at.items() if seen >= gone}
        return lapsed

    def turn(self, turn: Turn, turned: Turned) -> None:
        """Check what a turn gave, and follow it."""
        assert list(turned.settled) == [self._settle(settled) for settled in turn.settled]
        by_id = {delivery.id: delivery for delivery in self.deliveries}
        for delivery_id, key in turn.keys.items():
            if (owed := by_id.get(delivery_id)) is not None and owed.state is PENDING:
                owed.key = key
        old = [work for work in turned.works if work.delivery.id in by_id]
        begun = Begun(self, turn)
        for work in old:
            begun.check(by_id[work.delivery.id], work)
        for keyless in turned.keyless:
            owed = by_id[keyless.delivery.id]
            assert (owed.state, turn.shares[owed.handler].keyed) == (PENDING, True)
            # A release that asks for order runs what is no fact without the key that another release had given it.
            assert owed.key is None or owed.handler in self.changing
            assert owed.due_at <= turn.now
        new = {(work.event.id, work.delivery.handler): work for work in turned.works if work not in old}
        count = self._fan_out(turn, lambda owed: new.pop((owed.event.id, owed.handler), None), begun)
        assert turned.fanned_out == count
        assert not new
        if any(lifecycle.runs_alone(work.delivery.lapses) for work in turned.works):
            assert (turn.idle, len(turned.works)) == (True, 1)

    def _settle(self, settled: Settled) -> bool:
        delivery = self.is_current(settled.attempt.id)
        if delivery is not None:
            delivery.end(settled.state, settled.due_at, settled.counted, settled.outcome, settled.finished_at)
            delivery.key = None if delivery.key == delivery.id else delivery.key  # no key: the next attempt asks again
        return delivery is not None

    def _fan_out(self, turn: Turn, begins: Callable[[MDelivery], Work | None], begun: "Begun") -> int:
        if turn.fan_out <= 0:
            return 0
        for name, handler in self.handlers.items():
            if handler.looks_back:
                past = [e for e in self.events if self.is_past(e) and handler.since and e.received_at >= handler.since]
                self._owe([e for e in past if not self.of(e, name)], name, turn.now)
                handler.looks_back = False
        waiting = [event for event in self.events if event.waits(turn.now)][: turn.fan_out]
        for event in waiting:
            event.fanned_out = True
            for name in self.handlers:
                for owed in self._owe([event], name, turn.now):
                    if (work := begins(owed)) is not None:
                        owed.id = work.delivery.id
                        assert not turn.shares[name].limited
                        begun.check(owed, work)
        return len(waiting)

    def _owe(self, events: Iterable[MEvent], handler: str, now: datetime) -> list[MDelivery]:
        """Make the next run of each event that the handler wants."""
        wanted = [event for event in events if self.handlers[handler].wants(event)]
        made = [MDelivery(event=e, handler=handler, run=len(self.of(e, handler)) + 1, due_at=now) for e in wanted]
        self.deliveries += made
        return made

    # Operators.

    def replay(self, meant: Iterable[MDelivery], now: datetime) -> int:
        """Run settled deliveries anew."""
        pairs = {(d.event, d.handler): None for d in meant if not d.open and d.event.pruned < Level.KEYS_ONLY}
        free = [pair for pair in pairs if not any(delivery.open for delivery in self.of(*pair))]
        for event, handler in free:
            self.deliveries.append(
                MDelivery(event=event, handler=handler, run=len(self.of(event, handler)) + 1, due_at=now)
            )
        return len(free)

    def replay_events(self, handler: str, since: datetime, until: datetime, now: datetime) -> int:
        """Owe a handler past events once more."""
        past = [e for e in self.events if self.is_past(e) and since <= e.received_at < until]
        return len(self._owe([e for e in past if not any(d.open for d in self.of(e, handler))], handler, now))

    def end(self, meant: Iterable[MDelivery], state: DeliveryState, now: datetime) -> int:
        """Cancel or discard what is pending."""
        pending = [delivery for delivery in meant if delivery.state is PENDING]
        for delivery in pending:
            delivery.state, delivery.settled_at = state, now
        return len(pending)

    def prune(self, wish: Prune, asked: frozenset[str]) -> Pruned:
        """Take away what is old; `asked` are the tasks that are to be fetched."""
        levels: Counter[Level] = Counter()
        for task in [task for task in self.tasks.values() if task.settled_at is not None]:
            if task.id not in asked and not (wish.states and task.state not in wish.states):
                self._prune_task(wish, task, levels)
        for event in [event for event in self.events if event.task is None and not wish.states]:
            while (level := self._ripe(wish, [event], [])) > event.pruned:
                levels[level] += 1
                self._prune([event], level)
                self.kept = [k for k in self.kept if k.event is not event or level < Level.KEYS_ONLY]
        counts = (levels[level] for level in (Level.WITHOUT_BODIES, Level.KEYS_ONLY, Level.GONE))
        bodies, emptied, removed = counts
        return Pruned(bodies=bodies, emptied=emptied, removed=removed, requests=self._prune_requests(wish))

    def _prune_task(self, wish: Prune, task: MTask, levels: Counter[Level]) -> None:
        """Take away what is old of one; what goes may have been the last news, and then more goes."""
        events = [event for event in self.events if event.task is task]
        while True:
            times = [task.settled_at, *(kept.received_at for kept in self.kept if kept.task_id == task.id)]
            if (level := self._ripe(wish, events, times)) <= task.pruned:
                return
            levels[level] += 1
            task.pruned = level
            self._prune(events, level)
            self.kept = [k for k in self.kept if k.task_id != task.id or level < Level.KEYS_ONLY]
            if level is Level.GONE:
                del self.tasks[task.id]

    def _ripe(self, wish: Prune, events: Iterable[MEvent], times: Iterable[datetime | None]) -> Level:
        """Tell how much goes: nothing while anything is still to happen."""
        found = list(times)
        for event in events:
            owed = [delivery for delivery in self.deliveries if delivery.event is event]
            unseen = event.standing is Standing.ACCEPTED and not event.fanned_out
            if unseen or any(delivery.open for delivery in owed):
                return Level.WHOLE
            found += [event.last_seen_at, *(delivery.settled_at for delivery in owed)]
        return wish.level("qingbo", microseconds(max(time for time in found if time is not None)))

    def _prune(self, events: list[MEvent], level: Level) -> None:
        for event in events:
            event.pruned = max(event.pruned, level)
        if level >= Level.KEYS_ONLY:
            self.drop(events, keys_stay=level is Level.KEYS_ONLY)

    def _prune_requests(self, wish: Prune) -> int:
        before = wish.reach(Level.WHOLE)
        if before is None or wish.states:
            return 0
        old = [k for k in self.kept if k.has_body and k.task_id not in self.tasks]
        old = [kept for kept in old if microseconds(kept.received_at) < before]
        self.kept = [kept for kept in self.kept if kept not in old]
        return len(old)


class Begun:
    """Checks one by one that what begins in a turn may."""

    def __init__(self, model: ModelLedger, turn: Turn) -> None:
        self._model = model
        self._turn = turn
        self._taken: Counter[str] = Counter()

    def check(self, owed: MDelivery, work: Work) -> None:
        """Check it, and let it begin."""
        share = self._turn.shares[owed.handler]
        assert owed.state is PENDING
        assert owed.due_at <= self._turn.now
        self._taken[owed.handler] += 1
        assert self._taken[owed.handler] <= share.room
        assert self._taken.total() <= self._turn.limit
        self._check_limits(owed, share)
        self._check_turn_of(owed, share)
        owed.state, owed.attempt, owed.worker = RUNNING, work.attempt.id, self._turn.process.id
        owed.attempts += 1
        assert owed.attempts <= self._model.handlers[owed.handler].registration.attempts
        assert work.attempt.number == len(owed.outcomes) + 1
        assert (work.delivery.attempts, work.delivery.lapses) == (owed.attempts, owed.lapses)
        assert (work.delivery.run, work.event.id, work.delivery.attempt) == (owed.run, owed.event.id, owed.attempt)
        assert (work.task and work.task.id) == (owed.event.task and owed.event.task.id)
        assert work.steps == owed.event.steps.get(owed.handler, set())

    def _check_limits(self, owed: MDelivery, share: Share) -> None:
        running = [d for d in self._model.deliveries if d.handler == owed.handler and d.state is RUNNING]
        assert share.concurrency is None or len(running) < share.concurrency
        if share.rate is not None:
            starts = self._model.starts.setdefault(owed.handler, [])
            starts.append(self._turn.now)
            assert sum(start > self._turn.now - share.rate.period for start in starts) <= share.rate.count

    def _check_turn_of(self, owed: MDelivery, share: Share) -> None:
        """Of a keyed handler one of a key at a time, of an ordered one the first of its task."""
        if owed.handler in self._model.changing:
            return
        others = [d for d in self._model.deliveries if d.handler == owed.handler and d is not owed and d.open]
        if share.keyed:
            assert owed.key is not None
            assert all(d.state is not RUNNING or d.key != owed.key for d in others)
        elif share.ordered and owed.event.status is not None:
            task = [d for d in others if d.event.task is owed.event.task and d.event.status is not None]
            assert all(self._place(d) > self._place(owed) for d in task)

    def _place(self, owed: MDelivery) -> tuple[int, int, int]:
        assert owed.event.status is not None
        return lifecycle.RANK[owed.event.status], self._model.events.index(owed.event), owed.run

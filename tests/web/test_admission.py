"""Who is let in while more callbacks come than can be stored: the rule alone, with clocks made up."""

from collections import deque
from dataclasses import dataclass, field

import pytest

from receiver.web.admission import FIRST, LEAST, MOST, TARGET_SECONDS, Admission


@dataclass
class Machine:
    """A receiver of this capacity in virtual time, which stores in order."""

    per_second: float
    admission: Admission = field(default_factory=Admission)
    now: float = 0.0
    waits: list[float] = field(default_factory=list)
    shed: int = 0
    queue: deque[float] = field(default_factory=deque)
    done: float = 0.0  # how much was stored of the next

    def run(self, seconds: float, per_second: float) -> None:
        """Have so many come, for so long, in steps of a millisecond."""
        due = 0.0
        for _ in range(round(seconds * 1000)):
            self.now += 0.001
            due += per_second / 1000
            while due >= 1:
                due -= 1
                self.come()
            self.store(self.per_second / 1000)

    def come(self) -> None:
        """Have one come."""
        if self.admission.is_full():
            self.shed += 1
            return
        self.admission.enter(self.now)
        self.queue.append(self.now)

    def store(self, count: float) -> None:
        """Store so many."""
        self.done += count
        while self.queue and self.done >= 1:
            self.done -= 1
            self.waits.append(self.now - self.queue.popleft())
            self.admission.leave(self.now)
        self.done = min(self.done, 1)


def test_at_first_a_burst_is_let_in() -> None:
    """A thousand at once are no overload before anything is known; the next one is turned away until one has left."""
    admission = Admission()
    for _ in range(FIRST):
        assert not admission.is_full()
        admission.enter(0.0)
    assert admission.is_full()
    admission.leave(0.01)
    assert not admission.is_full()


@pytest.mark.parametrize("capacity", [6_000, 20_000, 50_000])
def test_beyond_capacity_those_who_are_let_in_wait_no_longer_than_planned(capacity: int) -> None:
    """At thrice the capacity, after a moment of learning, the waits are as planned and the machine is never idle."""
    machine = Machine(capacity)
    machine.run(1, 3 * capacity)
    machine.waits.clear()
    machine.run(5, 3 * capacity)
    assert len(machine.waits) == pytest.approx(5 * capacity, rel=0.01)
    assert max(machine.waits) < 1.25 * TARGET_SECONDS
    assert machine.shed > capacity


def test_below_capacity_nobody_is_turned_away() -> None:
    """Nine tenths of the capacity, with bursts: all are let in."""
    machine = Machine(10_000)
    machine.run(2, 9_000)
    for _ in range(20):
        for _ in range(500):
            machine.come()
        machine.run(0.1, 3_000)
    assert machine.shed == 0


def test_a_slow_machine_lets_in_so_many_all_the_same() -> None:
    """However slow the disk, the first 256 are no crowd: a disk that hangs is no overload."""
    machine = Machine(100)
    machine.run(30, 1_000)
    assert machine.admission.most == LEAST
    assert machine.admission.inside == LEAST


def test_it_learns_of_better_times() -> None:
    """A disk that hung and is well again: within a second as many are let in as before."""
    machine = Machine(20_000)
    machine.run(1, 40_000)
    before = machine.admission.most
    machine.per_second = 100
    machine.run(30, 40_000)
    assert machine.admission.most < before / 2
    machine.per_second = 20_000
    machine.run(1, 40_000)
    assert machine.admission.most == pytest.approx(before, rel=0.1)


def test_there_is_a_bound_for_the_fastest_machine() -> None:
    """One that answers in no time at all lets in ten thousand, and no more."""
    admission = Admission()
    for _ in range(20):
        for _ in range(LEAST):
            admission.enter(1.0)
        for _ in range(LEAST):
            admission.leave(1.0)
    assert admission.most == MOST
    assert admission.inside == 0

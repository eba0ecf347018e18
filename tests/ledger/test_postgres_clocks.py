"""Machines whose clocks disagree by minutes, on one PostgreSQL database: all that is due goes by the server's clock.

So nobody comes too early, and nothing waits for a clock to be right.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from ringback.ledger import Query, postgres
from ringback.ledger.postgres import PostgresLedger
from ringback.ledger.postgres.link import Clock
from ringback.ledger.turns import Share, Turn
from ringback.model import Kind, TaskState

from .builders import (
    COMPLETED,
    LONG_AGO,
    NOW,
    at,
    claim,
    fact,
    new_task,
    other,
    owed,
    reading,
    registered,
    sent,
    submitted,
    worker,
)

LEASE = timedelta(seconds=40)
SOON = timedelta(seconds=2)  # clocks are compared to the second


@contextmanager
def astray(wrong: timedelta) -> Iterator[None]:
    """Set the clock of this process wrong for a block."""
    clock = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: clock() + wrong.total_seconds())
        yield


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[PostgresLedger]:
    """A ledger of a process whose clock is right."""
    opened = await PostgresLedger.open(url, create=False)
    yield opened
    await opened.close()


@pytest.fixture(params=[5, -5], ids=["fast", "slow"])
def wrong(request: pytest.FixtureRequest) -> Iterator[timedelta]:
    """Give how far the other process' clock is ahead; it is the only one while a test runs."""
    minutes = timedelta(minutes=request.param)
    with astray(minutes):
        yield minutes


@pytest.fixture
async def other_ledger(url: str, wrong: timedelta) -> AsyncIterator[PostgresLedger]:  # noqa: ARG001 -- after it
    """A ledger of a process whose clock is wrong."""
    opened = await PostgresLedger.open(url, create=False)
    yield opened
    await opened.close()


@pytest.fixture
def here(ledger: PostgresLedger, wrong: timedelta) -> Callable[[], PostgresLedger]:
    """Give the first ledger its right clock back, which the test's wrong one would be taken for."""

    def right() -> PostgresLedger:
        assert ledger._clock._lead is not None
        ledger._clock._lead += wrong.total_seconds()
        return ledger

    return right


async def test_the_first_beat_takes_nobody_for_dead(
    url: str, here: Callable[[], PostgresLedger], wrong: timedelta
) -> None:
    """A worker that has only just been started knows the server's clock before it says its first word."""
    ledger = here()
    await owed(ledger)
    await ledger.beat(worker(), at(100), at(70), registered({}))
    (work,) = await claim(ledger, seconds=100)
    other = await PostgresLedger.open(url, create=False)
    assert await other.beat(worker("w2"), at(101) + wrong, at(71) + wrong) == []
    assert postgres.beat_from_thread(url, worker("w3"), at(101) + wrong, at(71) + wrong, {}) == []
    assert {process.id for process in await other.processes(at(101) + wrong)} >= {"w1", "w2", "w3"}
    assert (await other.summary(at(101) + wrong)).processes
    turn = Turn(process=worker("w2"), now=at(101) + wrong, shares={"h": Share(room=1)}, limit=1)
    assert not (await other.turn(turn)).works
    (lapsed,) = await other.beat(worker("w2"), at(200) + wrong, at(170) + wrong)
    assert lapsed.id == work.delivery.id
    assert abs(lapsed.due_at - at(200)) < timedelta(minutes=2)
    await other.close()


async def test_a_claim_to_send_is_taken_over_when_it_ends(
    here: Callable[[], PostgresLedger], other_ledger: PostgresLedger, wrong: timedelta
) -> None:
    """Whoever's clock is wrong, the claimer's or the poller's, the claim lasts as long as it was meant to."""
    right = here()
    claims = (("a", right, other_ledger), ("b", other_ledger, right))
    for name, claimer, looker in claims:
        mine, yours = (wrong if one is other_ledger else timedelta() for one in (claimer, looker))
        task, _ = await claimer.add_task(new_task(f"task_{name}", resend_at=NOW + mine + LEASE, key=name))
        assert task.resend_at == NOW + mine + LEASE
        assert await claimer.claim_send(task, NOW + mine, NOW + mine + LEASE)
        early, late = (NOW + yours + LEASE + step for step in (-SOON, SOON))
        assert await looker.due_sends(["qingbo"], early, 10) == []
        again, new = await looker.add_task(new_task("task_new", key=name))
        assert (again.id, new) == (task.id, False)
        assert again.resend_at is not None
        assert early < again.resend_at < late
        (due,) = await looker.due_sends(["qingbo"], late, 10)
        assert due.id == task.id
        assert await looker.claim_send(due, late, None)


async def test_what_was_not_sent_is_due_when_it_was_meant_to(
    here: Callable[[], PostgresLedger], other_ledger: PostgresLedger, wrong: timedelta
) -> None:
    """The next sending, and the first question about a task, are due at the same moment for all."""
    task, _ = await other_ledger.add_task(new_task("task_a"))
    await other_ledger.claim_send(task, NOW + wrong, None)
    end = sent("task_a", sent_at=wrong.total_seconds(), resend_at=NOW + wrong + LEASE, release=True)
    assert (await other_ledger.save_send(end)).resend_at == NOW + wrong + LEASE
    right = here()
    assert await right.due_sends(["qingbo"], NOW + LEASE - SOON, 10) == []
    (due,) = await right.due_sends(["qingbo"], NOW + LEASE + SOON, 10)
    assert await other_ledger.claim_send(due, NOW + wrong, None)
    answered = reading(TaskState.SUBMITTED, "p-a")
    end = sent("task_a", sent_at=wrong.total_seconds(), reading=answered, fetch_at=NOW + wrong + LEASE)
    await other_ledger.save_send(end)
    for early in (-SOON, SOON):
        found = await right.claim_fetches("qingbo", NOW + LEASE + early, NOW + 2 * LEASE, 10)
        assert bool(found) == (early > timedelta())
    assert not await other_ledger.claim_fetches("qingbo", NOW + wrong + 2 * LEASE - SOON, NOW + 3 * LEASE + wrong, 10)
    assert await other_ledger.claim_fetches("qingbo", NOW + wrong + 2 * LEASE + SOON, NOW + 3 * LEASE + wrong, 10)


async def test_what_a_receiver_makes_due(
    here: Callable[[], PostgresLedger], other_ledger: PostgresLedger, wrong: timedelta
) -> None:
    """A hint's task is asked about at once, and an event is held for half a minute, by everybody's clock."""
    right, seconds = here(), wrong.total_seconds()
    await submitted(right)
    await right.plan_fetches({"task_a": at(100_000)})
    await other_ledger.record(other(Kind.HINT, seconds=seconds))
    assert await right.claim_fetches("qingbo", at(6), at(60), 10)
    await right.add_task(new_task("task_pending"))
    await other_ledger.record(fact(COMPLETED, None, "p-unknown", seconds=seconds))
    assert (await right.turn(Turn(process=worker(), now=at(28), fan_out=5))).fanned_out == 0
    assert (await right.turn(Turn(process=worker(), now=at(32), fan_out=5))).fanned_out == 1
    (event,) = await right.events(Query())
    assert abs(event.received_at - NOW) < SOON


async def test_a_clock_that_is_set_while_we_run(ledger: PostgresLedger) -> None:
    """Where our clock jumps, the difference is right at once, not a minute later."""
    await ledger.reject({}, NOW)
    assert ledger._clock.ahead == timedelta()
    for minutes in (5, -5):
        with astray(timedelta(minutes=minutes)):
            assert ledger._clock.ahead == -timedelta(minutes=minutes)
    assert ledger._clock.ahead == timedelta()


async def test_another_server_has_another_clock(ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a new connection the clocks are compared again, however short ago that was."""
    monkeypatch.setattr("ringback.ledger.postgres.link.CLOCK", b"SELECT extract(epoch FROM now())::float8 + 300")
    await ledger.reject({}, NOW)
    assert ledger._clock.ahead == timedelta()
    await ledger._write(lambda link: link.close())
    await ledger.reject({}, NOW)
    assert ledger._clock.ahead == timedelta(minutes=5)
    await ledger.beat(worker(), NOW, LONG_AGO)
    assert Clock().ahead == timedelta()

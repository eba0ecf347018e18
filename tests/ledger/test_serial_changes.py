"""What is parked while a handler's options, its tasks or its workers change: nothing waits for ever."""

import random

import pytest

from ringback.ledger import Cancel, Discard, Ledger, Query, Replay, Settled, Share, Work
from ringback.model import Outcome, TaskState

from .builders import (
    COMPLETED,
    FAILED,
    PROCESSING,
    at,
    claimed,
    ended,
    fact,
    fan_out,
    reading,
    sent,
    worker,
    working,
)
from .hands import (
    DISCARDED,
    FINAL,
    KEYED,
    ORDERED,
    PENDING,
    PLAIN,
    SUCCEEDED,
    Hand,
    body,
    owed,
    states,
    statuses,
    told,
)


@pytest.mark.parametrize("before", [PLAIN, KEYED])
async def test_a_deploy_that_asks_for_order(ledger: Ledger, before: Share) -> None:
    """What old code has running when the order is asked for is waited for all the same; nothing is left behind."""
    await told(ledger, PROCESSING, COMPLETED)
    old, new = Hand(ledger, before, key=lambda _: "mine"), Hand(ledger, ORDERED, name="w2")
    (first,) = await old.begin(limit=1)
    await told(ledger, PROCESSING, task="task_b")
    if before.keyed:
        assert await old.begin(101) == []  # the others are parked under the old key now
    begun = await new.begin(102)
    await new.end(*begun)
    assert COMPLETED not in statuses(begun)
    await old.end(first)
    rest = await new.begin(103)
    await new.end(*rest)
    assert (await states(ledger)) == {SUCCEEDED: 3}


async def test_a_deploy_that_asks_for_order_no_longer(ledger: Ledger) -> None:
    """What was parked before still comes, one after another, to code that knows of no order."""
    await told(ledger, PROCESSING, COMPLETED)
    (first,) = await Hand(ledger, ORDERED).begin()
    plain = Hand(ledger, PLAIN)
    assert await plain.begin() == []
    await plain.end(first)
    assert statuses(await plain.begin()) == [COMPLETED]


async def test_a_deploy_that_asks_for_order_of_what_had_keys(ledger: Ledger) -> None:
    """Where one gets its task for a key, what was parked under its old key is freed, though that one is not due yet."""
    await owed(ledger, "a")
    keyed, ordered = Hand(ledger, key=lambda _: "mine"), Hand(ledger, ORDERED, name="w2")
    (first,) = await keyed.begin(1)
    await ledger.record(fact(PROCESSING, "task_a"))
    await fan_out(ledger, at(10), 1)
    await owed(ledger, "b", begin=11)
    assert await keyed.begin(12) == []
    await keyed.end(first)
    await ledger.record(fact(COMPLETED, "task_a"))
    await fan_out(ledger, at(5), 1)
    assert await ordered.begin(7) == []
    for _ in range(2):
        await ordered.end(*await ordered.begin(20))
    assert (await states(ledger)) == {SUCCEEDED: 4}


async def test_a_key_that_is_the_task_follows_its_adoption(ledger: Ledger) -> None:
    """A delivery that runs under the id of an unknown task holds its place under the id of the submitted one."""
    await working(ledger)
    await claimed(ledger)
    hand = Hand(ledger, key=lambda work: str(work.task.id))
    await ledger.record(fact(PROCESSING, None))
    await fan_out(ledger, at(40), 9)
    (first,) = await hand.begin(50)
    await ledger.save_send(sent(reading=reading(TaskState.SUBMITTED, "p-a")))
    await ledger.record(fact(COMPLETED))
    await fan_out(ledger, at(60), 9)
    assert await hand.begin(70) == []
    await hand.end(first)
    assert statuses(await hand.begin(80)) == [COMPLETED]


@pytest.mark.parametrize("share", [KEYED, ORDERED])
async def test_adoption_frees_what_waits_behind_a_copy(ledger: Ledger, share: Share) -> None:
    """A running delivery of a fact that turns out to be known is dropped, and what was parked behind it begins."""
    await working(ledger)
    await claimed(ledger)
    await ledger.record(fact(PROCESSING, None, body=b"a"))
    await ledger.record(fact(COMPLETED, None, body=b"a"))
    await ledger.record(fact(PROCESSING, body=b"x", provider_id=None))  # the same fact, by the submission's own URL
    await fan_out(ledger, at(40), 9)
    dead = Hand(ledger, share)
    running = await dead.begin(50)
    assert sorted(map(body, running)) == ["a", "x"]
    await ledger.save_send(sent(reading=reading(TaskState.SUBMITTED, "p-a")))
    hand = Hand(ledger, share, name="w2")
    if share.keyed:
        assert statuses(await hand.begin(60)) == [COMPLETED]
    else:
        assert await hand.begin(60) == []  # now a fact of the task whose first one is being handled
        await dead.end(*[work for work in running if body(work) == "x"])
        assert statuses(await hand.begin(61)) == [COMPLETED]


def any_outcome(chance: random.Random, work: Work, seconds: float) -> Settled:
    """End an attempt somehow."""
    if chance.random() < 0.5:
        return ended(work, Outcome.SUCCEEDED, SUCCEEDED, seconds=seconds)
    if chance.random() < 0.3:
        return ended(work, Outcome.FAILED, DISCARDED, seconds=seconds)
    return ended(work, Outcome.FAILED, PENDING, seconds=seconds, due_at=at(seconds + chance.random() * 40))


async def arrive(chance: random.Random, ledger: Ledger, seconds: float) -> None:
    """Let a fact come in, of a submitted task or of one that may turn out to be that."""
    number, by_url = chance.randint(0, 3), chance.random() < 0.5
    task, provider_id = (f"task_{number}", None) if by_url else (None, f"p-{number}")
    status = chance.choice([PROCESSING, COMPLETED, FAILED])
    await ledger.record(fact(status, task, provider_id, body=chance.choice([b"a", b"b"]), seconds=seconds))
    await fan_out(ledger, at(seconds), 9)


async def operate(chance: random.Random, ledger: Ledger, seconds: float) -> None:
    """Let an operator do something to some deliveries."""
    found = await ledger.deliveries(Query(limit=999))
    query = Query(ids=tuple(item.delivery.id for item in chance.sample(found, min(3, len(found)))))
    kinds: tuple[type[Cancel | Discard | Replay], ...] = (Cancel, Discard, Replay)
    await ledger.act(chance.choice(kinds)(query=query, by="me", now=at(seconds)))


async def adopt(chance: random.Random, ledger: Ledger, _: float) -> None:
    """Let the provider tell at last which task a submission has become."""
    if chance.random() < 0.3:
        number = chance.randint(0, 3)
        await ledger.save_send(sent(f"task_{number}", reading=reading(TaskState.SUBMITTED, f"p-{number}")))


async def lapse(chance: random.Random, ledger: Ledger, seconds: float) -> None:
    """Let all workers fall silent."""
    if chance.random() < 0.3:
        await ledger.beat(worker("reaper"), at(seconds), at(seconds))


def any_hand(chance: random.Random, ledger: Ledger) -> Hand:
    """Give a worker whose code may be that before or after some deploy."""
    share, key = chance.choice([KEYED, ORDERED, PLAIN]), chance.choice([body, lambda _: "mine"])
    return Hand(ledger, share, key, name=chance.choice(["w1", "w2"]))


@pytest.mark.parametrize("seed", range(25))
async def test_nothing_waits_for_ever(ledger: Ledger, seed: int) -> None:
    """Whatever workers with changing options, operators, lapses and adoptions do, in the end all is settled."""
    chance = random.Random(seed)
    await working(ledger)
    for number in range(4):
        await claimed(ledger, f"task_{number}")
    running: list[Work] = []
    seconds = 0.0
    for _ in range(100):
        seconds += chance.random() * 8
        hand = any_hand(chance, ledger)
        if chance.random() < 0.5:
            await chance.choice([arrive, arrive, operate, adopt, lapse])(chance, ledger, seconds)
        elif chance.random() < 0.6:
            for _ in range(chance.randint(1, 4)):
                running += (await hand.turn(seconds, limit=chance.randint(1, 4))).works
        else:
            chance.shuffle(running)
            settled = [any_outcome(chance, running.pop(), seconds) for _ in running[:2]]
            await hand.turn(seconds, limit=0, settled=settled)
    hand = any_hand(chance, ledger)
    for _ in range(100):
        seconds += 60
        settled = [ended(work, Outcome.SUCCEEDED, SUCCEEDED, seconds=seconds) for work in running]
        running = list((await hand.turn(seconds, settled=settled, fan_out=9)).works)
    found = await states(ledger)
    assert found.keys() <= FINAL
    assert found.total() > 3

"""One at a time: by key, or by task in the order of its states. What waits is parked, and comes back."""

import random
from collections import Counter

import pytest

from ringback.ledger import Cancel, Discard, Ledger, Query, Replay, Share, Turn, Work
from ringback.model import Source, TaskState

from .builders import (
    COMPLETED,
    NOW,
    PROCESSING,
    at,
    claimed,
    fact,
    fan_out,
    reading,
    sent,
    submitted,
    worker,
    working,
)
from .hands import (
    DISCARDED,
    FINAL,
    KEYED,
    ORDERED,
    PENDING,
    SUCCEEDED,
    Hand,
    Key,
    body,
    owed,
    states,
    statuses,
    told,
)


async def test_one_key_at_a_time(ledger: Ledger) -> None:
    """Of each key one runs, the oldest first, whoever claims; its end lets the next one begin."""
    await owed(ledger, "a", "a", "b", "a", "b")
    one, other = Hand(ledger), Hand(ledger, name="w2")
    first = await one.begin()
    assert [(body(work), work.event.task_id) for work in first] == [("a", "task_0"), ("b", "task_2")]
    assert await other.begin() == []
    await one.end(*first)
    second = await other.begin()
    assert [work.event.task_id for work in second] == ["task_1", "task_4"]
    await other.end(*second)
    assert [work.event.task_id for work in await one.begin()] == ["task_3"]


async def test_keys_of_another_handler_are_others(ledger: Ledger) -> None:
    """Two handlers may run the same key at the same time."""
    await working(ledger, "g", "h")
    await ledger.record(fact(COMPLETED, body=b"a"))
    await fan_out(ledger, NOW, 9)
    for name in ("g", "h"):
        shares = {name: KEYED}
        asked = await ledger.turn(Turn(process=worker(), now=at(1), shares=shares, limit=9))
        keys = {keyless.delivery.id: "a" for keyless in asked.keyless}
        works = (await ledger.turn(Turn(process=worker(), now=at(1), shares=shares, limit=9, keys=keys))).works
        assert [work.delivery.handler for work in works] == [name]


async def test_keyless_come_with_what_a_key_is_made_of(ledger: Ledger) -> None:
    """Before a delivery of a keyed handler begins its key is asked for, with its event and task; only where it may."""
    await submitted(ledger, metadata={"user": 7})
    await working(ledger)
    await ledger.record(fact(COMPLETED, body=b"raw"))
    await fan_out(ledger, NOW, 9)
    hand = Hand(ledger)
    assert (await hand.turn(-1)).keyless == ()
    assert (await hand.turn(100, limit=0)).keyless == ()
    turned = await hand.turn(100)
    (keyless,) = turned.keyless
    assert (turned.works, turned.more) == ((), True)
    assert (keyless.event.body, keyless.task and keyless.task.metadata) == (b"raw", {"user": 7})
    assert (keyless.delivery.state, keyless.delivery.attempts) == (PENDING, 0)
    (work,) = (await hand.turn(100)).works
    assert work.delivery.id == keyless.delivery.id


async def test_many_of_one_key_hide_no_other(ledger: Ledger) -> None:
    """Behind hundreds of one key another one begins while they wait; later turns do not look at those again."""
    await working(ledger)
    for number, text in enumerate([b"a"] * 450 + [b"b"]):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}", body=text))
    await fan_out(ledger, NOW, 999)
    works = await Hand(ledger, Share(room=2, keyed=True)).begin(limit=2)  # with little room it looks as far
    assert [body(work) for work in works] == ["a", "b"]
    quiet = await Hand(ledger).turn(600)
    assert (list(quiet.works), quiet.keyless, quiet.more, quiet.next_due_at) == ([], (), False, None)


async def test_a_poisoned_key_blocks_nobody(ledger: Ledger) -> None:
    """One that fails and waits to be tried again lets the others of its key go on, and is tried again in its time."""
    await owed(ledger, "a", "a", "b")
    hand = Hand(ledger)
    poisoned, good = await hand.begin()
    await hand.end(poisoned, state=PENDING, due_at=at(300))
    await hand.end(good)
    (next_one,) = await hand.begin()
    assert next_one.event.task_id == "task_1"
    assert await hand.begin(400) == []  # due, but one of its key runs
    await hand.end(next_one)
    (again,) = await hand.begin(400)
    assert (again.delivery.id, again.attempt.number) == (poisoned.delivery.id, 2)


@pytest.mark.parametrize("end", ["discarded", "released", "snoozed", "lapsed", "cancel", "discard"])
@pytest.mark.parametrize("share", [KEYED, ORDERED])
async def test_every_end_frees_the_next(ledger: Ledger, share: Share, end: str) -> None:
    """However the one before it ends, what is parked behind it is handed over, as soon as the order allows."""
    if share.keyed:
        await owed(ledger, "a", "a")
    else:
        await told(ledger, PROCESSING, COMPLETED)
    hand = Hand(ledger, share)
    (first,) = await hand.begin()
    ids = Query(ids=(first.delivery.id,))
    if end == "lapsed":
        (lapsed,) = await ledger.beat(worker("w2"), at(200), at(150))
        assert lapsed.id == first.delivery.id
    elif end == "discarded":
        await hand.end(first, state=DISCARDED)
    else:
        await hand.end(first, state=PENDING, due_at=at(101 if end == "released" else 300))
    if end == "cancel":
        await ledger.act(Cancel(query=ids, by="me", now=at(102)))
    elif end == "discard":
        await ledger.act(Discard(query=ids, by="me", now=at(102)))
    waits = share.ordered and end in ("released", "snoozed", "lapsed")
    begun = await hand.begin(250)
    assert len(begun) == (0 if end == "snoozed" and waits else 1)
    if begun:
        assert (begun[0].delivery.id == first.delivery.id) is waits
        await hand.end(*begun)
    for _ in range(2):
        await hand.end(*await hand.begin(400))
    assert (await states(ledger)).keys() <= FINAL


async def test_order_of_states(ledger: Ledger) -> None:
    """Facts of one task come in state order, one at a time, though the later one was due first; others go on."""
    await told(ledger, PROCESSING, COMPLETED)
    await told(ledger, COMPLETED, task="task_b")
    hand = Hand(ledger, ORDERED)
    first = await hand.begin(100, limit=1)
    await hand.end(*first, state=PENDING, due_at=at(200))  # now COMPLETED is due earlier
    second = await hand.begin(150)
    assert [work.event.task_id for work in second] == ["task_b"]
    assert (await hand.turn(151)).next_due_at == at(200)
    retried = await hand.begin(200)
    assert statuses(first + retried) == [PROCESSING, PROCESSING]
    assert await hand.begin(300) == []
    await hand.end(*retried)
    assert statuses(await hand.begin(300)) == [COMPLETED]


async def test_a_later_guess_waits_for_an_earlier_one(ledger: Ledger) -> None:
    """Of two final words, ours and then the provider's, the handler gets the older one first."""
    await working(ledger)
    await submitted(ledger)
    await ledger.record(fact(TaskState.EXPIRED, source=Source.RINGBACK))
    await ledger.record(fact(COMPLETED))
    await fan_out(ledger, NOW, 9)
    hand = Hand(ledger, ORDERED)
    order = []
    for _ in range(2):
        (work,) = await hand.begin()
        order += statuses([work])
        await hand.end(work)
    assert order == [TaskState.EXPIRED, COMPLETED]


async def test_a_cancelled_first_lets_the_later_go(ledger: Ledger) -> None:
    """What never began may be taken away too: the later fact, already parked behind it, is handed over."""
    await told(ledger, PROCESSING, COMPLETED)
    hand = Hand(ledger, ORDERED)
    (first,) = await hand.begin(limit=1)
    await hand.end(first, state=PENDING, due_at=at(500))
    assert await hand.begin(200) == []
    await ledger.act(Cancel(query=Query(ids=(first.delivery.id,)), by="me", now=at(201)))
    assert statuses(await hand.begin(202)) == [COMPLETED]


async def test_a_first_that_never_began_may_be_cancelled(ledger: Ledger) -> None:
    """A fact that was parked behind one which is due later, and is then taken away, is handed over."""
    await working(ledger)
    for status, due in ((PROCESSING, 10), (COMPLETED, 5)):
        await ledger.record(fact(status))
        await fan_out(ledger, at(due), 1)
    hand = Hand(ledger, ORDERED)
    assert await hand.begin(7) == []
    assert (await hand.turn(7)).next_due_at == at(10)
    (first,) = [item for item in await ledger.deliveries(Query()) if item.delivery.due_at == at(10)]
    await ledger.act(Cancel(query=Query(ids=(first.delivery.id,)), by="me", now=at(8)))
    assert statuses(await hand.begin(9)) == [COMPLETED]


async def test_the_earlier_of_two_that_wait_goes_first(ledger: Ledger) -> None:
    """Of what is parked behind a running one the earlier state comes next, though the later one is due before it."""
    await submitted(ledger)
    await told(ledger, PROCESSING)
    hand = Hand(ledger, ORDERED)
    (first,) = await hand.begin(1)
    await hand.end(first)
    await ledger.record(fact(TaskState.EXPIRED, source=Source.RINGBACK))
    await fan_out(ledger, at(2), 1)
    (second,) = await hand.begin(3)
    await ledger.record(fact(COMPLETED))
    await fan_out(ledger, at(5), 1)
    await ledger.act(Replay(query=Query(ids=(first.delivery.id,)), by="me", now=at(10)))
    assert await hand.begin(20) == []
    await hand.end(second)
    (third,) = await hand.begin(21)
    await hand.end(third)
    assert statuses([second, third, *await hand.begin(22)]) == [TaskState.EXPIRED, PROCESSING, COMPLETED]


async def test_order_of_what_an_adoption_brings(ledger: Ledger) -> None:
    """States decide, not when we heard of them: a step that was stored after the end still comes before it."""
    await working(ledger)
    await claimed(ledger)
    await ledger.record(fact(COMPLETED, provider_id=None))
    await ledger.record(fact(PROCESSING, None))
    await fan_out(ledger, at(40), 9)
    await ledger.save_send(sent(reading=reading(TaskState.SUBMITTED, "p-a")))
    hand = Hand(ledger, ORDERED)
    (first,) = await hand.begin()
    await hand.end(first)
    assert statuses([first, *await hand.begin()]) == [PROCESSING, COMPLETED]


async def test_the_first_key_that_is_told_stays(ledger: Ledger) -> None:
    """Workers with different code tell different keys: what is parked under one is not moved to another, and comes."""
    await owed(ledger, "a", "a")
    old, new = Hand(ledger), Hand(ledger, name="w2", key=lambda work: f"new-{body(work)}")
    await old.turn(100)
    await new.turn(100)  # both were asked
    (first,) = await old.begin()
    assert await new.begin() == []
    await old.end(first)
    assert len(await new.begin()) == 1


async def test_no_key_is_asked_for_anew(ledger: Ledger) -> None:
    """Its own id as the key means none: beside any other, and asked for again before the next attempt."""
    await owed(ledger, "a", "a")
    broken = Hand(ledger, key=lambda work: str(work.delivery.id))
    both = await broken.begin()
    assert len(both) == 2
    await broken.end(*both, state=PENDING, due_at=at(200))
    mended = Hand(ledger)
    assert len(await mended.begin(200)) == 1


async def test_a_lapsed_one_that_waits_for_its_key_holds_nobody_up(ledger: Ledger) -> None:
    """While another of its key runs, a delivery that must be alone is parked: others begin, and it comes after."""
    await owed(ledger, "a", "a", "b")
    dead, hand = Hand(ledger, name="dead"), Hand(ledger)
    (lapsing,) = await dead.begin(1, limit=1)
    await ledger.beat(worker("w2"), at(50), at(40))
    others = await hand.begin(60)
    assert [work.event.task_id for work in others] == ["task_1", "task_2"]
    await owed(ledger, "c", begin=60)
    (unrelated,) = await hand.begin(100)
    assert body(unrelated) == "c"
    await hand.end(*others, unrelated)
    (alone,) = await hand.begin(200)
    assert (alone.delivery.id, alone.delivery.lapses) == (lapsing.delivery.id, 1)


@pytest.mark.parametrize("share", [KEYED, ORDERED])
@pytest.mark.parametrize("seed", range(5))
async def test_never_two_of_one_key(ledger: Ledger, share: Share, seed: int) -> None:
    """Under random turns of several workers no two of one key, or of one task, ever run at once; all of them do run."""
    chance = random.Random(seed)
    if share.keyed:
        await owed(ledger, *(chance.choice("abc") for _ in range(25)))
    else:
        for number in range(8):
            await told(ledger, PROCESSING, COMPLETED, task=f"task_{number}")
    place: Key = body if share.keyed else lambda work: str(work.event.task_id)
    hands = [Hand(ledger, share, name=f"w{number}") for number in range(3)]
    running: list[Work] = []
    done = 0
    for step in range(400):
        running += (await chance.choice(hands).turn(100 + step, limit=chance.randint(1, 3))).works
        assert max(Counter(map(place, running)).values(), default=0) <= 1
        if chance.random() < 0.6 and running:
            work = running.pop(chance.randrange(len(running)))
            again = chance.random() < 0.3
            await hands[0].end(work, state=PENDING if again else SUCCEEDED, seconds=100 + step)
            done += not again
    assert done == (25 if share.keyed else 16)

"""What past tasks tell: how long tasks take, and which pushes never came."""

from datetime import timedelta
from typing import Any

import pytest

from ringback.ledger import Expectation, Expected, Learn, Ledger, Pushed, Pushes
from ringback.ledger.expectations import FEWEST, learned
from ringback.ledger.sqlite import expectations
from ringback.model import Form, Kind, Source, TaskState, Trust

from .builders import COMPLETED, FAILED, NOW, PROCESSING, at, fact, new_task, other, reading, sent, submitted
from .conftest import Engine

SECOND = timedelta(seconds=1)
ASKED = 300.0  # when the first question comes


async def accepted(ledger: Ledger, name: str, *, pushed: bool = True, model: str = "m") -> None:
    """Have the provider accept a task at second 1."""
    more: dict[str, Any] = {"form": Form(model=model), "url_key": "key" if pushed else None}
    await submitted(ledger, name, f"p-{name}", **more)


async def asked(ledger: Ledger, name: str, seconds: float = ASKED) -> None:
    """Have the poller ask about a task."""
    await ledger.plan_fetches({name: at(seconds)})
    taken = await ledger.claim_fetches("qingbo", at(seconds), at(seconds + 60), 10)
    assert [task.id for task in taken] == [name]
    await ledger.plan_fetches({name: None})


async def says(
    ledger: Ledger, name: str, source: Source, seconds: float, status: TaskState = COMPLETED, **more: Any
) -> None:
    """Have the provider, or Ringback itself, say how a task stands."""
    trust = {Source.POLL: Trust.SIGNED, Source.RINGBACK: Trust.NONE}.get(source, Trust.TOKEN)
    await ledger.record(fact(status, name, f"p-{name}", source=source, trust=trust, seconds=seconds, **more))


async def took(ledger: Ledger, seconds: list[float], *, prefix: str = "task_t", **more: Any) -> None:
    """Have so many tasks settle by a push, each so long after its acceptance."""
    for number, span in enumerate(seconds):
        await accepted(ledger, f"{prefix}{number}", **more)
        await says(ledger, f"{prefix}{number}", Source.CALLBACK, 1 + span)


async def heard(ledger: Ledger, since: float = 0) -> list[Pushed]:
    """Ask what became of the pushes."""
    return list(await ledger.report(Pushes(since=at(since))))


def test_the_rule_is_nearest_rank_over_enough_tasks() -> None:
    """Median and 95th percentile are times that tasks really took; fewer than twenty tasks teach nothing."""
    second = 1_000_000
    samples = [("a", "m", number * second) for number in range(100, 0, -1)]
    samples += [("b", "m", second)] * (FEWEST - 1)
    (found,) = learned(samples, NOW)
    assert found == Expectation(provider="a", model="m", count=100, median=50 * SECOND, p95=95 * SECOND, learned_at=NOW)


async def test_learning_keeps_what_pushes_took_by_provider_and_model(ledger: Ledger) -> None:
    """From acceptance to the end, of the tasks that completed; what nothing new is known of stays as it is."""
    await took(ledger, [float(n) for n in range(1, 21)])
    await took(ledger, [500.0], prefix="task_other", model="rare")
    found = await ledger.act(Learn(now=at(100)))
    known = await ledger.report(Expected())
    assert known == found.expectations
    assert [(one.model, one.count, one.median, one.p95) for one in known] == [("m", 20, 10 * SECOND, 19 * SECOND)]


async def test_learning_the_same_again_writes_nothing(ledger: Ledger) -> None:
    """An idle poller does not write once a minute; other figures replace the old ones."""
    await took(ledger, [10.0] * FEWEST)
    assert len((await ledger.act(Learn(now=at(100)))).expectations) == 1
    assert (await ledger.act(Learn(now=at(160)))).expectations == ()
    await took(ledger, [30.0] * 2 * FEWEST, prefix="task_slower")
    await ledger.act(Learn(now=at(220)))
    (known,) = await ledger.report(Expected())
    assert (known.count, known.median, known.learned_at) == (3 * FEWEST, 30 * SECOND, at(220))


async def test_the_time_of_our_own_question_teaches_nothing(ledger: Ledger) -> None:
    """Else lost pushes would put the next question off, and that one the one after it, without end.

    What counts is a push, a poll that a hint asked for, and a poll of a provider that does not push. A failure, an end
    before any acceptance, and a clock that ran backwards do not break it.
    """
    for number in range(FEWEST):
        for name, pushed in (("lost", True), ("hinted", True), ("polled", False)):
            await accepted(ledger, f"task_{name}{number}", pushed=pushed, model=name)
        await ledger.record(other(Kind.HINT, f"task_hinted{number}", seconds=5))
        for name, seconds in (("lost", ASKED), ("hinted", 6), ("polled", 11)):
            await says(ledger, f"task_{name}{number}", Source.POLL, seconds)
        await accepted(ledger, f"task_bad{number}", model="bad")
        await says(ledger, f"task_bad{number}", Source.CALLBACK, 2, FAILED)
        await accepted(ledger, f"task_back{number}", model="back")
        await says(ledger, f"task_back{number}", Source.CALLBACK, -5)
    await ledger.record(fact(COMPLETED, None, "stranger"))
    found = (await ledger.act(Learn(now=at(400)))).expectations
    assert {one.model: one.median for one in found} == {
        "hinted": 5 * SECOND, "polled": 10 * SECOND, "back": timedelta(0)
    }  # fmt: skip


async def test_only_the_newest_tasks_are_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many have settled, as many rows are read as the bound says."""
    monkeypatch.setattr(expectations, "SAMPLE", FEWEST)
    await took(ledger, [1.0] * 5)
    await took(ledger, [50.0] * FEWEST, prefix="task_new")
    (found,) = (await ledger.act(Learn(now=at(100)))).expectations
    assert (found.count, found.median) == (FEWEST, 50 * SECOND)


async def test_pushes_are_on_time_late_or_missing(ledger: Ledger) -> None:
    """Each that was expected is counted once, by what became of it."""
    names = ("on_time", "late", "polled", "polled_late", "denied_late", "stepped", "hinted", "hinted_late", "given_up")
    for name in names:
        await accepted(ledger, f"task_{name}")
    await says(ledger, "task_on_time", Source.CALLBACK, 10)
    await ledger.record(other(Kind.HINT, "task_hinted", seconds=10))
    await says(ledger, "task_stepped", Source.CALLBACK, 20, PROCESSING)
    await asked(ledger, "task_hinted", 30)
    await says(ledger, "task_hinted", Source.POLL, 30)
    for name in ("late", "polled", "polled_late", "denied_late", "stepped", "hinted_late", "given_up"):
        await asked(ledger, f"task_{name}")
    await says(ledger, "task_late", Source.CALLBACK, ASKED + 10)
    for name in ("polled", "polled_late", "denied_late", "stepped", "hinted_late"):
        await says(ledger, f"task_{name}", Source.POLL, ASKED)
    await says(ledger, "task_polled_late", Source.CALLBACK, ASKED + 5)
    await says(ledger, "task_denied_late", Source.CALLBACK, ASKED + 5, FAILED)
    await ledger.record(other(Kind.HINT, "task_hinted_late", seconds=ASKED + 5))
    await says(ledger, "task_given_up", Source.RINGBACK, 5000, TaskState.EXPIRED)
    (one,) = await heard(ledger)
    assert (one.expected, one.on_time, one.late, one.missing) == (9, 2, 4, 3)
    assert (one.received, one.recovered, one.expired) == (6, 5, 1)
    assert one.share_missing == pytest.approx(3 / 9)


async def test_a_push_is_expected_only_where_one_could_come(ledger: Ledger) -> None:
    """Not of a task without a callback URL, one that was never accepted, one still open, or one ended by its answer.

    Nor of one that was cancelled, or of an end of which the provider was not asked to tell.
    """
    await accepted(ledger, "task_open")
    await accepted(ledger, "task_urlless", pushed=False)
    await says(ledger, "task_urlless", Source.POLL, 10)
    await accepted(ledger, "task_cancelled")
    await says(ledger, "task_cancelled", Source.POLL, 10, TaskState.CANCELLED)
    untold = Form(model="m", callback_events=("completed",))
    for name, status in (("untold", FAILED), ("told", COMPLETED)):
        await submitted(ledger, f"task_{name}", f"p-task_{name}", form=untold, url_key="key")
        await says(ledger, f"task_{name}", Source.POLL, 10, status)
    assert [one.expected for one in await heard(ledger)] == [1]
    await ledger.record(fact(COMPLETED, "task_told", "p-task_told", seconds=5000))
    await accepted(ledger, "task_guessed")
    await says(ledger, "task_guessed", Source.RINGBACK, 10, FAILED)
    await ledger.add_task(never := new_task("task_never", url_key="key"))
    await says(ledger, never.id, Source.RINGBACK, 10, TaskState.EXPIRED)
    await ledger.add_task(answered := new_task("task_answered", url_key="key"))
    assert await ledger.claim_send(answered, NOW, None)
    await ledger.save_send(sent("task_answered", reading=reading(COMPLETED, "p-answered")))
    assert [(one.expected, one.late) for one in await heard(ledger)] == [(1, 1)]
    assert Pushed(provider="qingbo", since=NOW).share_missing == 0


async def test_an_expired_task_whose_push_comes_after_all_was_late(ledger: Ledger) -> None:
    """The provider's word replaces our presumption, and the count follows."""
    await accepted(ledger, "task_x")
    await asked(ledger, "task_x")
    await says(ledger, "task_x", Source.RINGBACK, 5000, TaskState.EXPIRED)
    assert [(one.missing, one.expired) for one in await heard(ledger)] == [(1, 1)]
    await says(ledger, "task_x", Source.CALLBACK, 6000)
    assert [(one.missing, one.late, one.expired) for one in await heard(ledger)] == [(0, 1, 0)]


async def test_pushes_of_a_time_and_of_the_newest_tasks(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What settled before is left out; where more settled than are looked at, the answer says since when it counts."""
    await took(ledger, [10.0, 20.0, 30.0])
    assert [one.expected for one in await heard(ledger, 15)] == [2]
    monkeypatch.setattr(expectations, "MOST_PUSHES", 2)
    assert [(one.expected, one.since) for one in await heard(ledger)] == [(2, at(11))]


async def test_contradicting_words_take_no_place_among_the_newest(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many tasks are looked at as without them, and the answer still says since when it counts."""
    await took(ledger, [10.0, 20.0, 30.0])
    await says(ledger, "task_t2", Source.CALLBACK, 40, FAILED)
    monkeypatch.setattr(expectations, "MOST_PUSHES", 2)
    assert [(one.expected, one.since) for one in await heard(ledger)] == [(2, at(11))]


async def test_two_processes_learn_the_same(engine: Engine) -> None:
    """Several pollers on one file do not disturb each other."""
    one, two = await engine.open(), await engine.open()
    await took(one, [10.0] * FEWEST)
    await one.act(Learn(now=at(60)))
    assert (await two.act(Learn(now=at(61)))).expectations == ()
    assert len(await two.report(Expected())) == 1

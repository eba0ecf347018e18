"""Missing pushes as people see them: in `status` and `doctor`."""

import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ringback.ledger import Learn, Ledger, Sent
from ringback.ledger.expectations import FEWEST
from ringback.model import Arrival, Callback, Form, Kind, Reading, Source, Task, TaskState, Trust
from ringback.settings import Settings

from .conftest import Ringback, within

pytestmark = pytest.mark.usefixtures("secret")


async def settle(ledger: Ledger, number: int, source: Source, provider: str = "qingbo") -> None:
    """Have a task accepted ten minutes ago and settled now, by a push or by a poll."""
    now = datetime.now(UTC)
    then = now - timedelta(minutes=10)
    name, theirs = f"task_{provider}{number}", f"p-{provider}{number}"
    pushes = provider != "reapi"
    form = Form(model="m")
    task = Task(id=name, provider=provider, created_at=then, form=form, url_key="key" if pushes else None)
    task, _ = await ledger.add_task(task)
    assert await ledger.claim_send(task, then, None)
    reading = Reading(status=TaskState.SUBMITTED, provider_id=theirs)
    await ledger.save_send(Sent(task_id=name, sent_at=then, now=then, note="", reading=reading))
    arrival = Arrival(
        kind=Kind.FACT, provider=provider, source=source, trust=Trust.TOKEN, task_id=name,
        callback=Callback(body=b"{}", received_at=now), reading=Reading(status=TaskState.COMPLETED, provider_id=theirs),
    )  # fmt: skip
    await ledger.record(arrival)


def having(
    pushed: int, polled: int, provider: str = "qingbo"
) -> Callable[[Ledger, Settings], Coroutine[Any, Any, None]]:
    """Have so many tasks settled by a push, and so many by a poll."""

    async def act(ledger: Ledger, _: Settings) -> None:
        for number in range(pushed + polled):
            await settle(ledger, number, Source.CALLBACK if number < pushed else Source.POLL, provider)
        await ledger.act(Learn(now=datetime.now(UTC)))

    return act


def doctors(ringback: Ringback) -> list[str]:
    """Give what `doctor` says about pushes."""
    return re.findall(r"^.*qingbo pushes: .*(?:\n    → .*)?", ringback("doctor").stdout, re.MULTILINE)


def test_status_shows_pushes_and_expected_times(ringback: Ringback) -> None:
    """By provider what became of pushes, and by model how long tasks take and when the first question comes."""
    within(having(FEWEST, 5))
    within(having(0, FEWEST, "reapi"))
    text = ringback("status").stdout
    assert re.search(r"^qingbo +25 +20 +0 +5 +0 +5 +20\.0%$", text, re.MULTILINE)
    assert re.search(r"^qingbo +m +20 +10 min 0 s +10 min 0 s +12 min 30 s$", text, re.MULTILINE)
    assert re.search(r"^reapi +m +20 +10 min 0 s +10 min 0 s +-$", text, re.MULTILINE)
    told = msgspec.json.decode(ringback("status", "--json").stdout)
    (pushes,) = told["pushes"]
    assert (pushes["provider"], pushes["missing"], pushes["share_missing"]) == ("qingbo", 5, 0.2)
    assert [(one["provider"], one["asked_after_seconds"]) for one in told["expectations"]] == [
        ("qingbo", pytest.approx(750, abs=5)),
        ("reapi", None),
    ]


def test_status_without_pushes_shows_neither_table(ringback: Ringback) -> None:
    """Nothing was expected: nothing is said."""
    within(having(0, 0))
    assert "pushes expected" not in ringback("status").stdout
    told = msgspec.json.decode(ringback("status", "--json").stdout)
    assert (told["pushes"], told["expectations"]) == ([], [])


@pytest.mark.parametrize(
    ("pushed", "polled", "said"),
    [
        (3, 0, r"✓ qingbo pushes: all 3 of the last day came"),
        (3, 1, r"! qingbo pushes: 1 of 4 never came in the last day \(25\.0%\)\n    → .*silence\.md"),
        (0, 2, r"! qingbo pushes: none of the 2 that were expected in the last day came\n    → .*PUBLIC_URL"),
    ],
    ids=["all", "some", "none"],
)
def test_doctor_says_where_pushes_do_not_come(ringback: Ringback, pushed: int, polled: int, said: str) -> None:
    """A doubt and no failure: tasks end all the same, only later."""
    within(having(pushed, polled))
    (found,) = doctors(ringback)
    assert re.match(said, found)


def test_doctor_says_nothing_where_no_push_was_expected(ringback: Ringback) -> None:
    """A new ledger, or providers that never push."""
    within(having(0, 3, "reapi"))
    assert doctors(ringback) == []


def test_late_pushes_are_told(ringback: Ringback) -> None:
    """They came, but only after the poller had begun to ask."""

    async def late(ledger: Ledger, _: Settings) -> None:
        await settle(ledger, 1, Source.POLL)
        callback = Callback(body=b"{}", received_at=datetime.now(UTC))
        reading = Reading(status=TaskState.COMPLETED, provider_id="p-qingbo1")
        arrival = Arrival(
            kind=Kind.FACT, provider="qingbo", source=Source.CALLBACK, trust=Trust.TOKEN, task_id="task_qingbo1",
            callback=callback, reading=reading,
        )  # fmt: skip
        await ledger.record(arrival)

    within(late)
    assert doctors(ringback) == ["✓ qingbo pushes: all 1 of the last day came, 1 of them late"]

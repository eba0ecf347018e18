"""Limits, keys, order and past events as they are declared: what is taken, and what is refused where it is written."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import pytest

from receiver import Event, Handlers
from receiver.options import read_key
from ringback.errors import HandlersError
from ringback.ledger import Rate, Share

from .receiver_case import view

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def store(event: Event) -> None:
    """Stand for a user's handler."""


def task(event: Event) -> str:
    """Stand for a user's key."""
    return event.id


async def later(event: Event) -> str:
    """Stand for a key that would have to be awaited."""
    return event.id


def declared(**options: Any) -> Any:
    """Declare a handler with these options, and give it."""
    handlers = Handlers()
    handlers.on("*", **options)(store)
    (handler,) = handlers
    return handler


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency=0: expected a whole number from 1 to 1000000"),
        ({"concurrency": -1}, "concurrency=-1"),
        ({"concurrency": 1_000_001}, "concurrency=1000001"),
        ({"concurrency": 2.0}, "concurrency=2.0"),
        ({"concurrency": True}, "concurrency=True"),
        ({"concurrency": "2"}, "concurrency='2'"),
        ({"rate": 60}, "rate=60: expected a text such as '10/second', '60/minute'"),
        ({"rate": "60"}, "rate='60'"),
        ({"rate": "0/minute"}, "rate='0/minute'"),
        ({"rate": "-1/minute"}, "rate='-1/minute'"),
        ({"rate": "1.5/minute"}, "rate='1.5/minute'"),
        ({"rate": "60/fortnight"}, "rate='60/fortnight'"),
        ({"rate": "60/5m"}, "rate='60/5m'"),
        ({"rate": "60/minute or so"}, "rate='60/minute or so'"),
        ({"rate": "99999999/day"}, "rate='99999999/day'"),
        ({"rate": ""}, "rate=''"),
        ({"key": "task.id"}, "key='task.id': expected a plain function of the event, such as key=lambda event"),
        ({"key": later}, "expected a plain function of the event"),
        ({"key": lambda: "x"}, "expected a plain function of the event"),
        ({"key": lambda _a, _b: "x"}, "expected a plain function of the event"),
        ({"ordered": 1}, "ordered=1: expected True or False"),
        ({"ordered": None}, "ordered=None"),
        ({"ordered": True, "key": task}, "leave key= out"),
        ({"since": "7d"}, "since='7d': expected a datetime with its zone, or a timedelta"),
        ({"since": 7}, "since=7"),
        ({"since": datetime(2026, 7, 1)}, "this time has no zone"),  # noqa: DTZ001 -- that is the mistake
        ({"since": timedelta(0)}, "expected a time span into the past"),
        ({"since": timedelta(days=-1)}, "expected a time span into the past"),
        ({"since": timedelta.max}, "expected a time span into the past"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    """An option that cannot be meant is refused where it is written, with what was expected."""
    with pytest.raises(HandlersError) as caught:
        Handlers().on("*", **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("10/second", 10, 1),
        ("10/s", 10, 1),
        ("5/sec", 5, 1),
        ("60/minute", 60, 60),
        ("60 / min", 60, 60),
        ("60/m", 60, 60),
        ("500/hour", 500, 3600),
        ("1/h", 1, 3600),
        ("9000000/day", 9_000_000, 86_400),
        ("1/d", 1, 86_400),
    ],
)
def test_rates(text: str, count: int, seconds: int) -> None:
    """A rate is a number and a unit of time, short or long."""
    assert declared(rate=text).rate == Rate(count=count, period=timedelta(seconds=seconds))


def test_what_the_ledger_is_told() -> None:
    """A handler's share says what limits it; without options there is nothing to look at."""
    assert declared().share(7) == Share(room=7)
    assert not declared(timeout_seconds=3).share(7).limited
    limited = declared(concurrency=2, rate="1/s", key=task).share(7)
    assert limited == Share(room=7, concurrency=2, rate=Rate(count=1, period=timedelta(seconds=1)), keyed=True)
    assert declared(ordered=True).share(1) == Share(room=1, ordered=True)
    for options in ({"concurrency": 1}, {"rate": "1/s"}, {"key": task}, {"ordered": True}):
        assert declared(**options).share(7).limited


def test_since_when() -> None:
    """A moment stays, a span of time counts back from now, and without either nothing past is wanted."""
    assert declared(since=NOW).since_when(NOW + timedelta(days=9)) == NOW
    assert declared(since=timedelta(days=7)).since_when(NOW) == NOW - timedelta(days=7)
    assert declared().since_when(NOW) is None


@pytest.mark.parametrize("key", [task, lambda event: event.id, attrgetter("id"), lambda *found: found[0].id])
def test_keys(key: Callable[[Event], Any]) -> None:
    """Anything that can be called with an event may tell its key, also what does not tell what it takes."""
    assert declared(key=key).key_of(view(id="evt_7")) == "evt_7"
    assert declared().key_of(view()) is None


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("a", "a"),
        (7, "7"),
        (-7, "-7"),
        ("ü" * 200, "ü" * 200),
        (10**200 - 1, "9" * 200),
        (1 - 10**199, "-" + "9" * 199),
        (None, None),
    ],
)
def test_good_keys(given: Any, key: str | None) -> None:
    """A key is a text or a whole number; None means none."""
    assert read_key("h", given) == key


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x" * 201,
        "a\nb",
        "a\0",
        "\ud800",
        True,
        1.0,
        b"a",
        ["a"],
        object(),
        10**200,
        -(10**199),
        256**1500,
        10**9999,
    ],
    ids=lambda given: type(given).__name__,
)
def test_bad_keys(given: Any) -> None:
    """What cannot be stored, or shown, or is no key at all, is refused with what was expected."""
    with pytest.raises(
        HandlersError, match=r"^h: key= gave .*; expected None, or a whole number or printable text of 1"
    ):
        read_key("h", given)


def test_two_decorators_agree() -> None:
    """On one function an option may be said once or twice alike; what the one leaves out the other may say."""
    handlers = Handlers()
    first = handlers.on("task.failed", concurrency=2, rate="60/minute", key=task)
    again = handlers.on("task.completed", rate="60/min", since=NOW)
    first(again(store))
    (handler,) = handlers
    assert (handler.concurrency, handler.key, handler.since, handler.ordered) == (2, task, NOW, False)
    assert handler.rate == Rate(count=60, period=timedelta(minutes=1))
    ordered = Handlers()
    ordered.on("task.failed", ordered=True)(ordered.on("task.completed")(store))
    assert next(iter(ordered)).ordered is True


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ({"concurrency": 1}, {"concurrency": 2}, "concurrency was given twice, as 1 and as 2"),
        ({"rate": "1/s"}, {"rate": "1/m"}, "rate was given twice"),
        ({"key": task}, {"key": lambda event: event.id}, "key was given twice"),
        ({"since": NOW}, {"since": timedelta(days=1)}, "since was given twice"),
        ({"key": task}, {"ordered": True}, "leave key= out"),
    ],
)
def test_two_decorators_clash(one: dict[str, Any], other: dict[str, Any], message: str) -> None:
    """On one function an option cannot mean two things, and the handler stays as it was."""
    handlers = Handlers()
    handlers.on("task.failed", **one)(store)
    before = next(iter(handlers))
    with pytest.raises(HandlersError, match=message):
        handlers.on("task.completed", **other)(store)
    assert next(iter(handlers)) == before

"""What handlers listen for, and what is refused when they are declared."""

import functools
from collections.abc import Iterator
from datetime import timedelta

import pytest

import receiver
from receiver import Event, Handlers
from ringback.errors import HandlersError
from ringback.ledger import Pattern
from ringback.retry import Policy

NAN, INFINITY = float("nan"), float("inf")


async def store(event: Event) -> None:
    """Stand for a user's handler."""


def plain(event: Event) -> None:
    """Stand for a user's plain handler."""


class Callable:
    async def __call__(self, event: Event) -> None:
        """Stand for a user's object."""


@pytest.mark.parametrize(
    ("pattern", "provider", "model", "fits"),
    [
        ("task.completed", "*", "*", True),
        ("task.*", "*", "*", True),
        ("*", "*", "*", True),
        ("*.completed", "qing*", "grok-*", True),
        ("task.completed", "q*o", "*video*", True),
        ("task.failed", "*", "*", False),
        ("task.completed", "reapi", "*", False),
        ("task.completed", "*", "veo*", False),
        ("task.completed", "*", "grok.video", False),
        ("task.completed", "*", "Grok-video", False),
    ],
)
def test_patterns(pattern: str, provider: str, model: str, fits: bool) -> None:
    """Only `*` is special, and all three patterns must fit."""
    handlers = Handlers()
    handlers.on(pattern, provider=provider, model=model)(store)
    assert bool(handlers.match("task.completed", "qingbo", "grok-video")) is fits


def test_event_without_model() -> None:
    """An event without a model goes to handlers of any model only."""
    handlers = Handlers()
    handlers.on("*")(store)
    handlers.on("*", model="grok*")(plain)
    assert [handler.function for handler in handlers.match("callback.received", "qingbo")] == [store]


def test_several_patterns_make_one_handler() -> None:
    """One function is one handler, however often and with however many events it is declared."""
    handlers = Handlers()
    handlers.on("task.failed", "task.expired", timeout_seconds=3)(
        handlers.on("task.completed", provider="reapi", name="store", retry=Policy(attempts=2))(store)
    )
    (handler,) = handlers
    assert handlers["store"] is handler
    assert (handler.timeout_seconds, handler.policy.attempts) == (3, 2)
    assert handlers.patterns() == {
        "store": (
            Pattern(event="task.completed", provider="reapi"),
            Pattern(event="task.failed"),
            Pattern(event="task.expired"),
        )
    }
    assert len(handlers.match("task.completed", "reapi")) == 1


def test_default_name_and_kind() -> None:
    """A handler is called after its module and function, and runs on a thread unless it is async."""
    handlers = Handlers()
    handlers.on("*")(store)
    handlers.on("*")(plain)
    handlers.on("*", name="object")(Callable())
    handlers.on("*", name="partial")(functools.partial(store))
    assert [(h.name, h.asynchronous) for h in handlers] == [
        (f"{__name__}.store", True),
        (f"{__name__}.plain", False),
        ("object", True),
        ("partial", True),
    ]
    assert len(handlers) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event": "task.complete"}, "did you mean 'task.completed'"),
        ({"event": "completed"}, "did you mean 'task.completed'"),
        ({"event": "zzz"}, "expected one of callback.received, "),
        ({"event": "task.complete?"}, "no event is ever called"),
        ({"event": ""}, "non-empty"),
        ({"event": store}, "write @handlers.on"),
        ({"event": "*", "provider": "Qingbo"}, "lower-case"),
        ({"event": "*", "provider": "qing.bo"}, "lower-case"),
        ({"event": "*", "model": "grok-?"}, "only [*] is special"),
        ({"event": "*", "timeout_seconds": 0}, "more than 0"),
        ({"event": "*", "timeout_seconds": float("nan")}, "more than 0"),
        ({"event": "*", "retry": 3}, "Policy"),
        ({"event": "*", "retry": True}, "or False for one attempt only"),
        ({"event": "*", "retry": Policy(attempts=0)}, "attempts=0: expected a whole number from 1"),
        ({"event": "*", "retry": Policy(attempts=10**20)}, "from 1 to 1000000"),
        ({"event": "*", "retry": Policy(attempts=2.5)}, "attempts=2.5"),  # type: ignore[arg-type]
        ({"event": "*", "retry": Policy(attempts=True)}, "attempts=True"),
        ({"event": "*", "retry": Policy(base_seconds=0)}, "base_seconds=0: expected more than 0"),
        ({"event": "*", "retry": Policy(base_seconds=-1)}, "base_seconds=-1: expected 0 to 2592000"),
        ({"event": "*", "retry": Policy(base_seconds=NAN)}, "base_seconds=nan"),
        ({"event": "*", "retry": Policy(base_seconds=9, cap_seconds=8)}, "cap_seconds=8: expected 9 to 2592000"),
        ({"event": "*", "retry": Policy(cap_seconds=INFINITY)}, "cap_seconds=inf"),
        ({"event": "*", "retry": Policy(cap_seconds=86_400 * 31)}, "cap_seconds=2678400"),
        ({"event": "*", "retry": Policy(factor=0.5)}, "factor=0.5: expected 1 to 1000"),
        ({"event": "*", "retry": Policy(factor=10**400)}, "factor=1000"),
        ({"event": "*", "retry": Policy(jitter=1.5)}, "jitter=1.5: expected 0 to 1"),
        ({"event": "*", "retry": Policy(jitter="0.1")}, "jitter='0.1'"),  # type: ignore[arg-type]
    ],
)
def test_bad_options(arguments: dict[str, object], message: str) -> None:
    """A pattern or option that cannot be meant is refused where it is written."""
    with pytest.raises(HandlersError, match=message):
        Handlers().on(**arguments)  # type: ignore[arg-type]


def test_extreme_policies_are_taken() -> None:
    """The widest policy that is allowed has delays all the same; `retry=False` means one attempt."""
    handlers = Handlers()
    most = Policy(attempts=1_000_000, base_seconds=86_400 * 30, cap_seconds=86_400 * 30, factor=1_000, jitter=1)
    handlers.on("*", retry=most)(store)
    handlers.on("*", retry=False)(plain)
    assert [handler.policy.attempts for handler in handlers] == [1_000_000, 1]
    assert most.delay(1_000_000, 0.999) < timedelta(days=60)


def generator(_event: Event) -> Iterator[None]:
    """Yield, as no handler may."""
    yield


def test_bad_functions() -> None:
    """What cannot be called with an event, or has no name, is refused."""
    register = Handlers().on("*")
    for function in (generator, lambda: None, lambda _a, _b: None, 3):
        with pytest.raises(HandlersError, match=r"generator|one argument"):
            register(function)  # type: ignore[type-var]
    with pytest.raises(HandlersError, match="name="):
        register(Callable())


def test_clashes() -> None:
    """A name means one function, a function has one name, and an option one value."""
    handlers = Handlers()
    handlers.on("*", name="a", timeout_seconds=1)(store)
    with pytest.raises(HandlersError, match="two functions are called 'a'"):
        handlers.on("*", name="a")(plain)
    with pytest.raises(HandlersError, match="cannot be two handlers, 'a' and 'b'"):
        handlers.on("*", name="b")(store)
    with pytest.raises(HandlersError, match="timeout_seconds was given twice"):
        handlers.on("*", timeout_seconds=2)(store)
    assert [handler.name for handler in handlers] == ["a"]


def test_exports() -> None:
    """The package lists what it offers, and nothing else is there."""
    assert receiver.__all__ == sorted(receiver.__all__)
    assert [getattr(receiver, name).__name__ for name in receiver.__all__] == receiver.__all__
    with pytest.raises(AttributeError, match="nothing"):
        receiver.nothing  # noqa: B018

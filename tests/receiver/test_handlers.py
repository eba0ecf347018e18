"""What handlers listen for, and what is refused when they are declared."""

import functools
from collections.abc import Iterator

import pytest

import receiver
from receiver import Event, Handlers
from ringback.errors import HandlersError
from ringback.ledger import Pattern
from ringback.retry import Policy


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
        ({"event": "*", "retry": Policy(attempts=0)}, "at least one attempt"),
    ],
)
def test_bad_options(arguments: dict[str, object], message: str) -> None:
    """A pattern or option that cannot be meant is refused where it is written."""
    with pytest.raises(HandlersError, match=message):
        Handlers().on(**arguments)  # type: ignore[arg-type]


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

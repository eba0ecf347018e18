"""The user's functions and what each of them listens for.

Never runs a handler (that is `attempt`) and never touches the ledger (that is `worker`). User code imports `Handlers`
from `receiver`; the command finds what it made with `Handlers.load("module:name")`.
"""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from receiver import options
from receiver.event import Event
from receiver.options import check_pattern, check_retry, check_timeout, nearest
from ringback.errors import HandlersError
from ringback.ledger import Pattern, Rate, Share, any_fits
from ringback.retry import Policy

__all__ = ["Event", "Handler", "Handlers"]

Lifespan = Callable[["Handlers"], AbstractAsyncContextManager[Any]]
DEFAULT_RETRY = Policy()
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Handler:
    """One function of the user's, with what it listens for and how it is run."""

    name: str
    function: Callable[[Event], Any]
    patterns: tuple[Pattern, ...]
    timeout_seconds: float | None = None  # None: the setting
    retry: Policy | None = None  # None: the default policy
    concurrency: int | None = None  # at once in all workers together; None: any
    rate: Rate | None = None  # in all workers together; None: any
    key: Callable[[Event], Any] | None = None  # of one key, one at a time
    ordered: bool = False  # of one task, one at a time and in the order of its states
    since: datetime | timedelta | None = None  # past events are wanted too, from then on
    stored: bool = False  # not before the results of its event are stored, or storing them was given up
    soonest: bool = False  # first the events whose results' URLs end soonest; for `receiver.storing`

    @cached_property
    def asynchronous(self) -> bool:
        """Tell whether it runs on the event loop (`async def`) or on a thread (`def`)."""
        call = getattr(self.function, "__call__", None)  # noqa: B004 -- an object with `async def __call__`
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call)

    @property
    def policy(self) -> Policy:
        """How often and when it is tried again."""
        return self.retry or DEFAULT_RETRY

    def share(self, room: int) -> Share:
        """Say how much of it may begin, where this worker has so much room."""
        return Share(
            room=room,
            concurrency=self.concurrency,
            rate=self.rate,
            keyed=self.key is not None,
            ordered=self.ordered,
            stored=self.stored,
            soonest=self.soonest,
        )

    def since_when(self, now: datetime) -> datetime | None:
        """Tell from when on past events are wanted."""
        return now - self.since if isinstance(self.since, timedelta) else self.since

    def key_of(self, event: Event) -> str | None:
        """Give the key of an event; None: it runs beside any other.

        Raises:
            HandlersError: the function gave no key.
            Exception: whatever the function raises.
        """
        return None if self.key is None else options.read_key(self.name, self.key(event))

    def matches(self, event_type: str, provider: str, model: str | None) -> bool:
        """Tell whether one of its patterns fits. An event without a model fits `model="*"` only."""
        return any_fits(self.patterns, event_type, provider, model)


class Handlers:
    """A set of handlers, and the lifespan of what they share.

    Args:
        lifespan: makes an async context manager; entered once before the first handler runs, left after the last;
            what it yields is `event.state`.
    """

    def __init__(self, lifespan: Lifespan | None = None) -> None:
        self.lifespan = lifespan
        self._handlers: dict[str, Handler] = {}

    def on(
        self,
        event: str,
        *more_events: str,
        provider: str = "*",
        model: str = "*",
        name: str | None = None,
        timeout_seconds: float | None = None,
        retry: Policy | Literal[False] | None = None,
        concurrency: int | None = None,
        rate: str | None = None,
        key: Callable[[Event], Any] | None = None,
        ordered: bool = False,
        since: datetime | timedelta | None = None,
        stored: bool = False,
    ) -> Callable[[Function], Function]:
        """Make the decorated function a handler of these events; used again on the same function, it adds patterns.

        Args:
            event: an event type such as `task.completed`; `*` stands for any text, here and in the other patterns.
            more_events: further event types.
            provider: which providers.
            model: which models.
            name: what deliveries are owed to; by default `module.qualname`. Keep it when you move the function.
            timeout_seconds: how long one attempt may take; by default RINGBACK_HANDLER_TIMEOUT_SECONDS.
            retry: how often and when to try again; by default 11 attempts in about a day. False: one attempt.
            concurrency: how many attempts may run at once, in all workers together.
            rate: how many attempts may begin within any such time, in all workers together: `10/second`, `60/minute`.
            key: gives each event a key (a text or a whole number); deliveries of one key run one at a time. One that
                waits to be tried again does not hold up the others of its key. None: beside any other.
            ordered: hand the events of one task over one at a time and in the order of its states; one that waits to
                be tried again holds up the later ones of its task.
            since: where this handler is new to the ledger, owe it past events too: those received from then on, or
                within that time span.
            stored: wait until the results of the event are stored, so that each `event.results[i].stored_url` is there,
                or until storing them was given up; without RINGBACK_RESULTS_URL nothing is stored or waited for.

        Raises:
            HandlersError: a pattern or an option cannot be meant, or the name is taken.
        """
        patterns = tuple(Pattern(event=e, provider=provider, model=model) for e in (event, *more_events))
        for pattern in patterns:
            check_pattern(pattern)
        policy = Policy(attempts=1) if retry is False else retry
        check_timeout(timeout_seconds)
        check_retry(policy)
        options.check_concurrency(concurrency)
        options.check_serial(key, ordered)
        options.check_since(since)
        options.check_stored(stored)
        wanted = {
            "timeout_seconds": timeout_seconds, "retry": policy, "concurrency": concurrency,
            "rate": options.read_rate(rate), "key": key, "ordered": ordered or None, "since": since,
            "stored": stored or None,
        }  # fmt: skip

        def register(function: Function) -> Function:
            self._add(function, name, patterns, wanted)
            return function

        return register

    def plus(self, handler: Handler) -> "Handlers":
        """Give these handlers and one more, which is not the user's; the same lifespan is around them.

        Raises:
            HandlersError: the user has one of this name.
        """
        if handler.name in self._handlers:
            raise HandlersError(f"{handler.name!r} is a handler of Ringback's own; give yours another name=")
        both = Handlers(self.lifespan)
        both._handlers = self._handlers | {handler.name: handler}
        return both

    def match(self, event_type: str, provider: str, model: str | None = None) -> tuple[Handler, ...]:
        """Give the handlers of such an event, in the order in which they were declared."""
        return tuple(h for h in self._handlers.values() if h.matches(event_type, provider, model))

    def patterns(self) -> dict[str, tuple[Pattern, ...]]:
        """Give what each handler listens for, by name."""
        return {name: handler.patterns for name, handler in self._handlers.items()}

    def __getitem__(self, name: str) -> Handler:
        return self._handlers[name]

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)

    @staticmethod
    def load(reference: str) -> "Handlers":
        """Import `module:name`, looking in the working directory last.

        Raises:
            HandlersError: there is no such module or name, it is not a Handlers, or the module itself failed.
        """
        module_name, _, name = reference.partition(":")
        if not (module_name and name):
            raise HandlersError(f"expected module:name, for example app:handlers; got {reference!r}")
        module = _import(module_name)
        found = getattr(module, name, None)
        if isinstance(found, Handlers):
            return found
        place = f"module {module_name!r} ({getattr(module, '__file__', None) or 'no file'})"
        problem = (
            f"has no {name!r}" if found is None else f"has {name!r}, but it is no Handlers: {type(found).__name__}"
        )
        raise HandlersError(f"{place} {problem}; {_advice(module, name)}")

    def _add(
        self,
        function: Callable[..., Any],
        name: str | None,
        patterns: tuple[Pattern, ...],
        wanted: Mapping[str, Any],
    ) -> None:
        known = next((h for h in self._handlers.values() if h.function == function), None)  # == for bound methods
        if known is None:
            _check_function(function)
            known = Handler(name=name or _default_name(function), function=function, patterns=())
            if known.name in self._handlers:
                raise HandlersError(f"two functions are called {known.name!r}; give one of them another name=")
        if name not in (None, known.name):
            raise HandlersError(f"one function cannot be two handlers, {known.name!r} and {name!r}; use one name=")
        agreed = {
            option: _agree(known.name, option, getattr(known, option) or None, value)
            for option, value in wanted.items()
        }
        options.check_serial(agreed["key"], agreed["ordered"] or False)
        agreed |= {option: bool(agreed[option]) for option in ("ordered", "stored")}
        patterns = tuple(dict.fromkeys(known.patterns + patterns))
        self._handlers[known.name] = replace(known, patterns=patterns, **agreed)


def _check_function(function: Callable[..., Any]) -> None:
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise HandlersError(f"{function!r} is a generator; a handler is a plain def or async def without yield")
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):
        raise HandlersError(
            f"{function!r} must be a function that can be called with one argument, the event"
        ) from None


def _default_name(function: Callable[..., Any]) -> str:
    qualname = getattr(function, "__qualname__", None)
    if qualname is None:
        raise HandlersError(f"{function!r} has no name of its own; give it one with name=")
    return f"{function.__module__}.{qualname}"


def _agree(name: str, option: str, earlier: Any, later: Any) -> Any:
    if None not in (earlier, later) and earlier != later:
        raise HandlersError(f"{name}: {option} was given twice, as {earlier!r} and as {later!r}")
    return earlier if later is None else later


def _import(name: str) -> ModuleType:
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.append(directory)  # last, so that a file of the user's cannot stand in for an installed package
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise HandlersError(
                f"there is no module {error.name!r}: looked among installed packages, then in {directory}"
            ) from None
        raise HandlersError(f"module {name!r} failed: {type(error).__name__}: {error}; {_last_line(error)}") from error


def _last_line(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}: {frame.line}"


def _advice(module: ModuleType, name: str) -> str:
    handlers = [key for key, value in vars(module).items() if isinstance(value, Handlers)]
    if len(handlers) == 1:
        return f"did you mean {handlers[0]!r}?"
    if handlers:
        return nearest(name, handlers)
    return f"write there: {name} = receiver.Handlers()"

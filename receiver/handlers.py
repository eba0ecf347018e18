"""The user's functions and what each of them listens for.

Never runs a handler (that is `attempt`) and never touches the ledger (that is `worker`). User code imports `Handlers`
from `receiver`; the command finds what it made with `Handlers.load("module:name")`.
"""

import difflib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from receiver.event import Event
from receiver.outcomes import MOST_SECONDS
from ringback.errors import HandlersError
from ringback.ledger import Pattern
from ringback.model import EventType
from ringback.retry import Policy

__all__ = ["Event", "Handler", "Handlers"]

Lifespan = Callable[["Handlers"], AbstractAsyncContextManager[Any]]
DEFAULT_RETRY = Policy()
MOST_ATTEMPTS = 1_000_000
MOST_FACTOR = 1_000
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One function of the user's, with what it listens for and how it is run."""

    name: str
    function: Callable[[Event], Any]
    patterns: tuple[Pattern, ...]
    timeout_seconds: float | None = None  # None: the setting
    retry: Policy | None = None  # None: the default policy

    @property
    def asynchronous(self) -> bool:
        """Tell whether it runs on the event loop (`async def`) or on a thread (`def`)."""
        call = getattr(self.function, "__call__", None)  # noqa: B004 -- an object with `async def __call__`
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call)

    @property
    def policy(self) -> Policy:
        """How often and when it is tried again."""
        return self.retry or DEFAULT_RETRY

    def matches(self, event_type: str, provider: str, model: str | None) -> bool:
        """Tell whether one of its patterns fits. An event without a model fits `model="*"` only."""
        return any(
            _glob(p.event).fullmatch(event_type)
            and _glob(p.provider).fullmatch(provider)
            and (p.model == "*" if model is None else _glob(p.model).fullmatch(model))
            for p in self.patterns
        )


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

        Raises:
            HandlersError: a pattern or an option cannot be meant, or the name is taken.
        """
        patterns = tuple(Pattern(event=e, provider=provider, model=model) for e in (event, *more_events))
        for pattern in patterns:
            _check_pattern(pattern)
        policy = Policy(attempts=1) if retry is False else retry
        _check_timeout(timeout_seconds)
        _check_retry(policy)

        def register(function: Function) -> Function:
            self._add(function, name, patterns, timeout_seconds, policy)
            return function

        return register

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
        timeout_seconds: float | None,
        retry: Policy | None,
    ) -> None:
        known = next((h for h in self._handlers.values() if h.function == function), None)  # == for bound methods
        if known is None:
            _check_function(function)
            known = Handler(name=name or _default_name(function), function=function, patterns=())
            if known.name in self._handlers:
                raise HandlersError(f"two functions are called {known.name!r}; give one of them another name=")
        if name not in (None, known.name):
            raise HandlersError(f"one function cannot be two handlers, {known.name!r} and {name!r}; use one name=")
        self._handlers[known.name] = replace(
            known,
            patterns=tuple(dict.fromkeys(known.patterns + patterns)),
            timeout_seconds=_agree(known.name, "timeout_seconds", known.timeout_seconds, timeout_seconds),
            retry=_agree(known.name, "retry", known.retry, retry),
        )


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def _nearest(word: str, words: list[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(words))}"


def _check_pattern(pattern: Pattern) -> None:
    texts: tuple[Any, ...] = (pattern.event, pattern.provider, pattern.model)
    if not all(isinstance(text, str) and text for text in texts):
        raise HandlersError('patterns are non-empty texts; write @handlers.on("task.completed", provider="*")')
    types = [kind.value for kind in EventType]
    if not any(_glob(pattern.event).fullmatch(kind) for kind in types):
        raise HandlersError(f"no event is ever called {pattern.event!r}: {_nearest(pattern.event, types)}")
    if not re.fullmatch(r"[a-z0-9*]+", pattern.provider):
        raise HandlersError(f"provider={pattern.provider!r}: expected lower-case letters, digits and *")
    if re.search(r"[?\[\]]", pattern.model):  # they would be special to the database's GLOB
        raise HandlersError(f"model={pattern.model!r}: only * is special; write it in place of ?, [ and ]")


def _check_timeout(timeout_seconds: float | None) -> None:
    if timeout_seconds is not None and not 0 < timeout_seconds <= 86_400:
        raise HandlersError(f"timeout_seconds={timeout_seconds!r}: expected more than 0 and at most 86400")


def _check_retry(retry: Any) -> None:
    if retry is None:
        return
    if not isinstance(retry, Policy):
        raise HandlersError(f"retry={retry!r}: expected a ringback.Policy, or False for one attempt only")
    attempts: Any = retry.attempts
    if not (_is_number(attempts) and isinstance(attempts, int) and 1 <= attempts <= MOST_ATTEMPTS):
        raise HandlersError(f"retry: attempts={attempts!r}: expected a whole number from 1 to {MOST_ATTEMPTS}")
    if not retry.base_seconds:
        raise HandlersError("retry: base_seconds=0: expected more than 0, or a failing handler would never pause")
    _check_number("base_seconds", retry.base_seconds, 0, MOST_SECONDS)
    _check_number("cap_seconds", retry.cap_seconds, retry.base_seconds, MOST_SECONDS)
    _check_number("factor", retry.factor, 1, MOST_FACTOR)
    _check_number("jitter", retry.jitter, 0, 1)


def _check_number(name: str, value: Any, least: float, most: float) -> None:
    if not (_is_number(value) and least <= value <= most):  # which neither infinity nor NaN is
        raise HandlersError(f"retry: {name}={value!r}: expected {least:g} to {most:.0f}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
        return _nearest(name, handlers)
    return f"write there: {name} = receiver.Handlers()"

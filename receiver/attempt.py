"""One delivery, run once and classified. Never decides what follows: that is `lifecycle`, asked by `worker`.

Whatever a handler does, its end is told: soon after it, or after being given up for its timeout or the worker's stop.
A handler that goes on regardless (a thread cannot be stopped, a coroutine may swallow its cancellation) is left behind
as a *straggler*.
"""

import asyncio
import inspect
import traceback
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from receiver import handlers, options, threads
from receiver.handlers import Event, Handler
from receiver.outcomes import Discard, Retry, Snooze
from receiver.threads import DaemonPool, Returned
from ringback.logs import ATTEMPT
from ringback.model import Outcome

ERROR_CHARS = 500
TRACEBACK_CHARS = 8_000
CHOICES = (Snooze, Discard, Retry)
LINGER_SECONDS = 1.0  # how long a cancelled coroutine may take to clean up
OUR_FILES = frozenset(
    {__file__, handlers.__file__, options.__file__, threads.__file__}
)  # frames of these are no news to the user


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an attempt ended. A straggler is what is still running of it, done when it has ended at last."""

    outcome: Outcome
    error: str | None = None
    traceback: str | None = None
    after: timedelta | None = None  # when to run again, where the handler said so
    straggler: "asyncio.Future[Any] | None" = field(default=None, compare=False)


class Running:
    """An attempt under way. Tells once how it ended; whoever times it, or stops the worker, gives it up."""

    __slots__ = ("_body", "_given_up", "_linger", "_on_end", "_thread", "over")

    def __init__(
        self,
        handler: Handler,
        event: Event,
        fields: dict[str, Any],
        pool: DaemonPool,
        on_end: Callable[[Ended], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._on_end = on_end
        self._given_up: Ended | None = None
        self._linger: asyncio.TimerHandle | None = None
        self.over = False
        # Tasks and threads copy the context where they are made: what the handler logs carries these ids.
        context = copy_context()
        context.run(ATTEMPT.set, fields)
        self._thread = None if handler.asynchronous else context.run(pool.submit, partial(_call, handler), event)
        self._body = loop.create_task(_body(handler, event, self._thread), name=handler.name, context=context)
        self._body.add_done_callback(self._end)

    def time_out(self, timeout_seconds: float) -> None:
        """Give it up, since its time is over."""
        self._give_up(Ended(outcome=Outcome.TIMED_OUT, error=f"no end after {timeout_seconds:g} s"))

    def release(self) -> None:
        """Give it up, since the worker stops."""
        self._give_up(Ended(outcome=Outcome.RELEASED, error="the worker stopped"))

    def _give_up(self, ended: Ended) -> None:
        if self.over or self._given_up is not None:
            return
        self._given_up = ended
        self._body.cancel()
        self._linger = self._body.get_loop().call_later(LINGER_SECONDS, self._abandon)

    def _abandon(self) -> None:
        assert self._given_up is not None  # noqa: S101 -- only then the timer runs
        self._tell(replace(self._given_up, straggler=self._body))

    def _end(self, body: "Body") -> None:
        if self.over:
            return
        if self._given_up is None:
            self._tell(_classify(body))
            return
        thread = self._thread if self._thread is not None and not self._thread.done() else None
        self._tell(replace(self._given_up, straggler=thread))

    def _tell(self, ended: Ended) -> None:
        self.over = True
        if self._linger is not None:
            self._linger.cancel()
        self._on_end(ended)


def log_fields(event: Event, handler: str) -> dict[str, Any]:
    """Give the ids that every log line about an attempt carries; `event` itself is structlog's word for the message."""
    return {
        "task": event.task.id if event.task else None,
        "event_id": event.id,
        "delivery": event.delivery_id,
        "attempt": event.attempt,
        "handler": handler,
        "provider": event.provider,
    }


Body = asyncio.Task[BaseException | None]
Thread = asyncio.Future[Returned]


async def _body(handler: Handler, event: Event, thread: Thread | None) -> BaseException | None:
    """Wait for the handler's end and give what it raised, or the outcome that it chose by returning it.

    Nothing but a cancellation leaves here as an exception.
    """
    try:
        returned = await (_call(handler, event) if thread is None else _result(thread))
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return error
    return returned if isinstance(returned, CHOICES) else None


def _call(handler: Handler, event: Event) -> Any:
    if handler.key is not None:
        handler.key_of(event)  # where the worker could not tell the key, this says why
    return handler.function(event)


async def _result(thread: Thread) -> Any:
    await asyncio.wait({thread})  # unlike `await thread`, being cancelled here does not cancel the future
    returned, error = thread.result()
    if error is not None:
        raise error
    # A plain function around a coroutine, such as a decorator makes.
    return await returned if inspect.isawaitable(returned) else returned


def _classify(body: Body) -> Ended:
    if body.cancelled():
        return Ended(outcome=Outcome.FAILED, error="CancelledError: the handler cancelled itself")
    match body.result():
        case None:
            return Ended(outcome=Outcome.SUCCEEDED)
        case Snooze() as snooze:
            return Ended(outcome=Outcome.SNOOZED, error=str(snooze), after=timedelta(seconds=snooze.seconds))
        case Discard() as discard:
            return Ended(outcome=Outcome.DISCARDED, error=_storable(discard.reason))
        case Retry() as retry:
            trace = _trace(retry) if retry.__traceback__ else None  # there is none where it was returned
            after = timedelta(seconds=retry.seconds)
            return Ended(outcome=Outcome.FAILED, error=_describe(_behind(retry)), traceback=trace, after=after)
        case error:
            return Ended(outcome=Outcome.FAILED, error=_describe(error), traceback=_trace(error))


def _behind(retry: Retry) -> BaseException:
    """Give what a handler was at when it asked for a retry: that says more than when it is tried again."""
    handled = None if retry.__suppress_context__ else retry.__context__
    return retry.__cause__ or handled or retry


def _describe(error: BaseException) -> str:
    try:
        message = str(error)
    except Exception as broken:
        message = f"(its str() raised {type(broken).__name__})"
    return _storable(f"{type(error).__qualname__}: {message}"[:ERROR_CHARS])


def _trace(error: BaseException) -> str:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in OUR_FILES:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    # Of a long one, the end tells most.
    return _storable(text if len(text) <= TRACEBACK_CHARS else "…" + text[1 - TRACEBACK_CHARS :])


def _storable(text: str) -> str:
    # A lone surrogate or a NUL in an error text must not keep its whole batch out of the database.
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")

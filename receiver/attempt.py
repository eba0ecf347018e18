"""One delivery, run once and classified. Never decides what follows: that is `lifecycle`, asked by `worker`.

Whatever a handler does, `run` comes back: soon after its end, its timeout, or the worker's stop. A handler that goes
on regardless (a thread cannot be stopped, a coroutine may swallow its cancellation) is given up as a *straggler*.
"""

import asyncio
import inspect
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars

from receiver import threads
from receiver.handlers import Event, Handler
from receiver.outcomes import Discard, Retry, Snooze
from receiver.threads import DaemonPool, Returned
from ringback.model import Outcome

ERROR_CHARS = 500
TRACEBACK_CHARS = 8_000
CHOICES = (Snooze, Discard, Retry)
LINGER_SECONDS = 1.0  # how long a cancelled coroutine may take to clean up
OUR_FILES = frozenset({__file__, threads.__file__})  # frames of these are no news to the user

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an attempt ended. A straggler is what is still running of it, done when it has ended at last."""

    outcome: Outcome
    error: str | None = None
    traceback: str | None = None
    after: timedelta | None = None  # when to run again, where the handler said so
    straggler: "asyncio.Future[Any] | None" = field(default=None, compare=False)


async def run(handler: Handler, event: Event, timeout_seconds: float, pool: DaemonPool) -> Ended:
    """Call the handler with the event, for at most so long. Cancelling this releases the attempt."""
    body, thread = _start(handler, event, pool)
    try:
        await asyncio.wait({body}, timeout=timeout_seconds)
    except asyncio.CancelledError:
        if not body.done():
            return await _give_up(body, thread, Outcome.RELEASED, "the worker stopped")
    if not body.done():
        return await _give_up(body, thread, Outcome.TIMED_OUT, f"no end after {timeout_seconds:g} s")
    return _classify(body)


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


def _start(handler: Handler, event: Event, pool: DaemonPool) -> tuple[Body, Thread | None]:
    # Tasks and threads copy the context where they are made: what the handler logs carries these ids.
    with bound_contextvars(**log_fields(event, handler.name)):
        thread = None if handler.asynchronous else pool.submit(handler.function, event)
        return asyncio.create_task(_body(handler, event, thread), name=handler.name), thread


async def _body(handler: Handler, event: Event, thread: Thread | None) -> BaseException | None:
    """Wait for the handler's end and give what it raised, or the outcome that it chose by returning it.

    Nothing but a cancellation leaves here as an exception.
    """
    try:
        returned = await (handler.function(event) if thread is None else _result(thread))
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return error
    return returned if isinstance(returned, CHOICES) else None


async def _result(thread: Thread) -> Any:
    await asyncio.wait({thread})  # unlike `await thread`, being cancelled here does not cancel the future
    returned, error = thread.result()
    if error is not None:
        raise error
    # A plain function around a coroutine, such as a decorator makes.
    return await returned if inspect.isawaitable(returned) else returned


async def _give_up(body: Body, thread: Thread | None, outcome: Outcome, error: str) -> Ended:
    body.cancel()
    with suppress(asyncio.CancelledError):  # stopped while lingering: the outcome stands
        await asyncio.wait({body}, timeout=LINGER_SECONDS)
    straggler = next((f for f in (body, thread) if f is not None and not f.done()), None)
    return Ended(outcome=outcome, error=error, straggler=straggler)


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

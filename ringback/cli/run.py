"""What every subcommand does first and last: settings, logging, the event loop, the ledger, signals."""

import asyncio
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from ringback.errors import RingbackError
from ringback.settings import GENERAL, Settings

if TYPE_CHECKING:
    from ringback.ledger import Ledger

Answer = TypeVar("Answer")
Part = Callable[[asyncio.Event], Coroutine[Any, Any, Any]]  # runs until the event is set

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO_SECONDS = 0.5  # a second signal within this time is the first one, sent twice


def load_settings(*, quiet: bool = False, **options: Any) -> Settings:
    """Read the settings, put given options above them, and set up logging.

    Args:
        quiet: for commands that answer and end: log from warnings up, unless a level was set.
        options: by the names of the settings; None where not given.

    Raises:
        SettingsError: a setting is wrong.
    """
    settings = Settings.from_environ()
    given = {name: _parsed(name, value) for name, value in options.items() if value is not None}
    settings = dataclasses.replace(settings, **given)
    configure_logs(settings, quiet=quiet)
    return settings


def configure_logs(settings: Settings, *, quiet: bool = False) -> None:
    """Set up logging, with every secret of these settings redacted."""
    from ringback import logs

    level = "warning" if quiet and settings.log_level == "info" else settings.log_level
    logs.configure(level=level, style=settings.log_format, secrets=settings.secret_values())


def _parsed(name: str, value: Any) -> Any:
    """Check an option as its setting would be."""
    try:
        return GENERAL[name].metadata["parse"](str(value))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"--{name.replace('_', '-')}") from None


def run(main: Coroutine[Any, Any, Answer]) -> Answer:
    """Run to the end, on uvloop where there is one; Ctrl-C cancels it and raises KeyboardInterrupt."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(main)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@asynccontextmanager
async def opened_ledger(settings: Settings, *, create: bool = False, apart: bool = False) -> AsyncIterator["Ledger"]:
    """Open the ledger for a block; with `apart` what comes in is written by a process of its own.

    Raises:
        LedgerError: it cannot be opened; says why.
    """
    from ringback.ledger import open_ledger

    ledger = await open_ledger(settings, create=create, apart=apart)
    try:
        yield ledger
    finally:
        await ledger.close()


async def run_parts(parts: Sequence[Part], signals: Sequence[signal.Signals] = SIGNALS) -> None:
    """Run the parts of a process side by side until SIGTERM or Ctrl-C; where one fails, all end, in order.

    All are told to stop at the same time: each may take the grace time, and one after the other they would take three
    times as long as a platform waits before it kills.

    Raises:
        RingbackError: a part failed; the log holds the traceback.
    """
    stop = asyncio.Event()
    _hear_signals(stop, signals)
    ends = await asyncio.gather(*(_run_part(part, stop) for part in parts), return_exceptions=True)
    for error in ends:
        if isinstance(error, RingbackError):
            raise error
        if isinstance(error, Exception):
            _log().error("process.failed", exc_info=error)
            raise RingbackError(f"{type(error).__name__}: {error}") from error


async def _run_part(part: Part, stop: asyncio.Event) -> None:
    """Run one part; its end, however it comes, is the end of all."""
    try:
        await part(stop)
    finally:
        stop.set()


def _hear_signals(stop: asyncio.Event, signals: Sequence[signal.Signals]) -> None:
    """Stop in order at the first signal, at once at the second: the ledger loses nothing by it."""
    log, loop = _log(), asyncio.get_running_loop()
    heard_at: float | None = None

    def hear(number: int) -> None:
        nonlocal heard_at
        name = signal.Signals(number).name
        if heard_at is None:
            heard_at = loop.time()
            log.info("process.stopping", signal=name, hint="once more stops at once")
            stop.set()
        # `timeout` and some process managers signal a process and then its group: that is still the first time.
        elif loop.time() - heard_at > ECHO_SECONDS:
            log.warning("process.stopped_at_once", signal=name)
            leave(128 + number)

    for number in signals:
        loop.add_signal_handler(number, hear, number)


def leave(code: int) -> NoReturn:
    """End the process without waiting for anything that still runs in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _log() -> Any:
    import structlog

    return structlog.get_logger("ringback")

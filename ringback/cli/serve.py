"""`ringback up` (receiver, worker and poller in one process) and `ringback serve` (the receiver alone)."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import examples
from ringback.cli.options import handlers_option, host_option, port_option
from ringback.cli.placement import refuse
from ringback.cli.run import Part, configure_logs, leave, load_settings, opened_ledger, run, run_parts
from ringback.cli.storing import alarm, with_storing
from ringback.errors import SettingsError
from ringback.providers.signatures import fingerprint
from ringback.secret_file import ensure_secret, secret_path
from ringback.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from receiver.handlers import Handlers
    from receiver.web.board import Board
    from receiver.web.state import State
    from receiver.worker import Worker
    from ringback.cli.place import Place
    from ringback.ledger import Ledger
    from ringback.outbound import Outbound
    from submitter import Submitter
    from submitter.poller import Poller

MAKE_SECRET = "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"  # noqa: S105 -- a command, not a secret


@click.command(epilog=examples("ringback up --handlers app:handlers", "ringback up --port 9000"))
@host_option
@port_option
@handlers_option
def up(host: str | None, port: int | None, handlers: str | None) -> None:
    """Run receiver, worker and poller in one process.

    Makes the database, and the secret behind the callback URLs, where there are none. SIGTERM or Ctrl-C finishes what
    is running, within RINGBACK_GRACE_SECONDS; once more stops at once.
    """
    settings = load_settings(host=host, port=port, handlers=handlers)
    refuse(settings)
    loaded = load_handlers(settings)
    with listening(settings.host, settings.port) as listener:
        run(_up(settings, loaded, listener))


@click.command(epilog=examples("RINGBACK_SECRET=… ringback serve --host 0.0.0.0", "ringback serve --workers 2"))
@host_option
@port_option
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="How many processes take callbacks, on one socket.",
)
def serve(host: str | None, port: int | None, workers: int) -> None:
    """Run the receiver alone: take callbacks and store them.

    Makes the database where there is none. `ringback work` runs the handlers, `ringback poll` asks about overdue tasks.
    With several processes, one that dies is started again.
    """
    settings = load_settings(host=host, port=port)
    refuse(settings)
    if not settings.secret:
        raise SettingsError(f"RINGBACK_SECRET is not set; make a secret with: {MAKE_SECRET} (or start `ringback up`)")
    with listening(settings.host, settings.port) as listener:
        if workers == 1:
            run(_serve(settings, listener))
        else:
            _serve_together(workers, settings, listener)


def load_handlers(settings: Settings) -> "Handlers | None":
    """Import the user's handlers; None where none are set.

    Raises:
        HandlersError: they cannot be found, or are declared wrongly.
    """
    from receiver.handlers import Handlers

    return Handlers.load(settings.handlers) if settings.handlers else None


def listening(host: str, port: int) -> socket.socket:
    """Bind a socket; port 0 takes a free one.

    Raises:
        RingbackError: it cannot be bound; says what to do.
    """
    from ringback.cli.server import listen

    return listen(host, port)


@asynccontextmanager
async def serving(app: "ASGIApp", sock: socket.socket, settings: Settings) -> AsyncIterator[None]:
    """Serve an application for the length of a block, then finish what is in flight."""
    from ringback.cli.server import Server

    stop, started = asyncio.Event(), asyncio.Event()
    server = asyncio.create_task(Server(app, settings, sock, started.set).run_until(stop))
    ready = asyncio.create_task(started.wait())
    await asyncio.wait({server, ready}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    try:
        if server.done():
            await server
        yield
    finally:
        stop.set()
        await server


async def _serve(settings: Settings, listener: socket.socket) -> None:
    async with opened_ledger(settings, create=True, apart=_has_scribe(settings)) as ledger:
        await enlist_keys(settings, ledger)
        await run_parts([_receiver(settings, ledger, listener)])


def _has_scribe(settings: Settings) -> bool:
    """Tell whether callbacks are stored in a process of its own: on one core it would only take memory."""
    return settings.scribe == "always" or (settings.scribe == "auto" and _cores() > 1)


def _cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def _serve_together(count: int, settings: Settings, listener: socket.socket) -> None:
    import receiver.web.app  # noqa: F401 -- before the processes part: they share it in memory, and start at once
    from receiver.web.board import Board
    from ringback.cli.crew import Crew
    from ringback.cli.server import url_of

    url, board = url_of(listener), Board(count)
    crew = Crew(count, listener, settings.grace_seconds, lambda: _tell_listening(settings, url, processes=count))
    crew.run(lambda place: run(_serve_beside(settings, listener, place, board)))


async def _serve_beside(settings: Settings, listener: socket.socket, place: "Place", board: "Board") -> None:
    from receiver import create_app
    from ringback.cli.server import Server

    async with opened_ledger(settings, create=True) as ledger:
        await enlist_keys(settings, ledger)
        app = create_app(settings, ledger=ledger)
        state: State = app.state.receiver
        state.share(board, place.seat)
        server = Server(app, settings, listener, place.tell_started)
        parts: list[Part] = [server.run_until, place.watch, partial(board.keep_posted, state.counts)]
        await run_parts(parts, signals=[signal.SIGTERM])


async def _up(settings: Settings, handlers: "Handlers | None", listener: socket.socket) -> None:
    from ringback.outbound import Outbound
    from submitter import Submitter

    worker: Worker | None = None
    async with opened_ledger(settings, create=True) as ledger:
        await enlist_keys(settings, ledger)  # before: where a known secret was lost, no new one may take its place
        settings = _with_secret(settings)
        await enlist_keys(settings, ledger)
        async with (
            Outbound(settings) as outbound,  # one door out, so that a provider's limits hold for poller and handlers
            Submitter(settings, ledger=ledger, outbound=outbound) as submitter,
            with_storing(settings, handlers, ledger, outbound) as all_handlers,
        ):
            parts = [_receiver(settings, ledger, listener), make_poller(settings, ledger, outbound).run]
            parts += alarm(settings, ledger)
            if all_handlers is None:
                _log().info("worker.absent", hint="events are stored only; name handlers: --handlers module:name")
            else:
                worker = make_worker(settings, ledger, all_handlers, submitter)
                parts.append(worker.run)
            await run_parts(parts)
    leave_stragglers(worker)


def _with_secret(settings: Settings) -> Settings:
    """Make the secret behind our URLs where none is set, and say where it is."""
    if settings.secret:
        return settings
    if not settings.embedded:
        raise SettingsError("RINGBACK_SECRET: set it; every process on every machine needs the same one")
    ensure_secret(settings.database_path)
    settings = settings.with_secret_file()
    configure_logs(settings)  # it must be redacted, too
    _log().info(
        "secret.generated", path=str(secret_path(settings.database_path)), hint="keep it as you keep the database"
    )
    return settings


async def enlist_keys(settings: Settings, ledger: "Ledger") -> None:
    """Tell the ledger our secrets.

    Raises:
        LedgerMismatch: the newest one that it knows is not among them.
    """
    await ledger.enlist_keys([fingerprint(secret) for secret in settings.secret], datetime.now(UTC))


def _receiver(settings: Settings, ledger: "Ledger", listener: socket.socket) -> Part:
    from receiver import create_app
    from ringback.cli.server import Server, url_of

    started = partial(_tell_listening, settings, url_of(listener))
    return Server(create_app(settings, ledger=ledger), settings, listener, started).run_until


def _tell_listening(settings: Settings, url: str, **more: int) -> None:
    log = _log()
    log.info("receiver.listening", url=url, database=settings.database_place, **more)
    callback_url = f"{settings.public_url or url}/callbacks/qingbo/task_….<mac>"
    log.info("receiver.addressed", public_url=settings.public_url or "none is set", callback_url=callback_url)


@asynccontextmanager
async def open_poller(settings: Settings, ledger: "Ledger") -> AsyncIterator["Poller"]:
    """Make a poller and the door out that it needs."""
    from ringback.outbound import Outbound

    async with Outbound(settings) as outbound:
        yield make_poller(settings, ledger, outbound)


def make_poller(settings: Settings, ledger: "Ledger", outbound: "Outbound") -> "Poller":
    """Make a poller that asks through this door."""
    from ringback.intake import Intake
    from submitter.poller import Poller

    return Poller(settings, ledger, outbound, Intake(ledger, settings))


def make_worker(settings: Settings, ledger: "Ledger", handlers: "Handlers", submitter: "Submitter") -> "Worker":
    """Make a worker that says which handler blocks the event loop, and whose handlers can submit follow-up tasks."""
    from ringback.cli.watchdog import WatchedWorker

    return WatchedWorker(settings, ledger, handlers, submitter.submit)


def leave_stragglers(worker: "Worker | None") -> None:
    """Where a handler goes on after it was given up, end the process without it."""
    if worker is not None and worker.stragglers:
        _log().warning("process.left_handlers", count=worker.stragglers)
        leave(0)


def _log() -> Any:
    import structlog

    return structlog.get_logger("ringback")

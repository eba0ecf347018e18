"""`ringback work`, `poll` and `tick`: the worker and the poller, each by itself, for ever or once."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from ringback.cli.group import examples
from ringback.cli.options import handlers_option, json_option
from ringback.cli.run import load_settings, opened_ledger, run, run_parts
from ringback.cli.serve import enlist_keys, leave_stragglers, load_handlers, make_worker, open_poller
from ringback.cli.storing import alarm, look_once, with_storing
from ringback.errors import SettingsError
from ringback.settings import Settings
from ringback.tuning import tune

if TYPE_CHECKING:
    from receiver.handlers import Handlers
    from receiver.worker import Worker
    from ringback.ledger import Ledger
    from submitter import Submitter

once_option = click.option("--once", is_flag=True, help="Do what is due now, print how much that was, and end.")
time_limit_option = click.option(
    "--time-limit",
    type=click.FloatRange(0.1, 86_400),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="Begin nothing after this.",
)


@click.command(epilog=examples("ringback work --handlers app:handlers", "ringback work --once"))
@handlers_option
@once_option
@time_limit_option
@json_option
def work(handlers: str | None, once: bool, time_limit: float, as_json: bool) -> None:
    """Run the handlers of stored events.

    Needs an existing database and your handlers. Start as many as you like. --time-limit and --json go with --once.
    """
    settings = load_settings(quiet=once, handlers=handlers)
    loaded = load_handlers(settings)
    if loaded is None and settings.results_url is None:
        raise SettingsError("there are no handlers to run: set RINGBACK_HANDLERS=module:name, or give --handlers")
    if once:
        run(_once(settings, loaded, time_limit, poll=False, as_json=as_json))
    else:
        run(_work(settings, loaded))


@click.command(epilog=examples("ringback poll", "ringback poll --once"))
@once_option
@time_limit_option
@json_option
def poll(once: bool, time_limit: float, as_json: bool) -> None:
    """Ask the providers about tasks whose push is overdue, or never comes.

    Also sends again what a crash or a busy provider left unsent. Needs an existing database.
    """
    settings = load_settings(quiet=once)
    if once:
        run(_once(settings, None, time_limit, poll=True, as_json=as_json))
    else:
        run(_poll(settings))


@click.command(epilog=examples("ringback tick --handlers app:handlers --time-limit 50"))
@handlers_option
@time_limit_option
@json_option
def tick(handlers: str | None, time_limit: float, as_json: bool) -> None:
    """Poll once, then work once: for a cron job where no process may stay."""
    settings = load_settings(quiet=True, handlers=handlers)
    loaded = load_handlers(settings)
    if loaded is None and settings.results_url is None:
        click.echo("note: no handlers are set (RINGBACK_HANDLERS), so none are run", err=True)
    run(_once(settings, loaded, time_limit, poll=True, as_json=as_json))


async def _work(settings: Settings, handlers: "Handlers | None") -> None:
    async with opened_ledger(settings) as ledger, _workplace(settings, handlers, ledger) as place:
        assert place is not None  # noqa: S101 -- else there was nothing to start this for
        worker = make_worker(settings, ledger, *place)
        tune()
        await run_parts([worker.run, *alarm(settings, ledger)])
    leave_stragglers(worker)


async def _poll(settings: Settings) -> None:
    async with opened_ledger(settings) as ledger:
        await enlist_keys(settings, ledger)
        async with open_poller(settings, ledger) as poller:
            await run_parts([poller.run])


async def _once(settings: Settings, handlers: "Handlers | None", limit: float, *, poll: bool, as_json: bool) -> None:
    """Poll, then work, all within the limit, and print how much there was."""
    deadline = time.monotonic() + limit
    counts: dict[str, int] = {}
    worker: Worker | None = None
    async with opened_ledger(settings) as ledger:
        if poll:
            await enlist_keys(settings, ledger)
            async with open_poller(settings, ledger) as poller:
                # Slow providers must not take the handlers' time.
                idle = handlers is None and settings.results_url is None
                counts["requests"] = await poller.run_once(limit if idle else limit / 2)
        async with _workplace(settings, handlers, ledger) as place:
            if place is not None:
                worker = make_worker(settings, ledger, *place)
                tune()
                counts["attempts"] = await worker.run_once(max(0.0, deadline - time.monotonic()))
                await look_once(settings, ledger)
    _report(counts, as_json)
    leave_stragglers(worker)


@asynccontextmanager
async def _workplace(
    settings: Settings, handlers: "Handlers | None", ledger: "Ledger"
) -> "AsyncIterator[tuple[Handlers, Submitter] | None]":
    """Open what a worker needs: all handlers, ours included, and what submits for them. None without handlers."""
    from ringback.outbound import Outbound
    from submitter import Submitter  # which enlists the keys where there are any

    async with Outbound(settings) as outbound, with_storing(settings, handlers, ledger, outbound) as all_handlers:
        if all_handlers is None:
            yield None
            return
        async with Submitter(settings, ledger=ledger, outbound=outbound) as submitter:
            yield all_handlers, submitter


def _report(counts: dict[str, int], as_json: bool) -> None:
    if as_json:
        from ringback.cli.show import print_json

        print_json(counts)
    else:
        click.echo(", ".join(f"{count} {noun if count != 1 else noun[:-1]}" for noun, count in counts.items()))

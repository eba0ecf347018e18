"""`ringback reconcile`: compares the ledger with the providers for a time, and says what differed and what was done."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import examples
from ringback.cli.options import json_option, provider_option, read_moment
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import RingbackError
from ringback.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress

    from submitter.reconciling import Compared, Difference, Reconciler, Window

LAST = timedelta(days=7)
COLUMNS = ("task id", "provider", "what", "here", "there", "done")


@dataclass(slots=True, eq=False)
class _Tally:
    """What came of a pass so far."""

    dry_run: bool
    compared: int = 0
    asked: int = 0
    forgotten: int = 0
    found: "list[tuple[Compared, Difference]]" = field(default_factory=list)

    def add(self, compared: "Compared") -> None:
        """Count one task."""
        self.compared += 1
        self.asked += compared.asked
        self.forgotten += compared.forgotten
        self.found += [(compared, difference) for difference in compared.differences]

    @property
    def open(self) -> int:
        """How many differences need a person."""
        return sum(not difference.mended for _, difference in self.found)


@click.command(
    epilog=examples("ringback reconcile --since 24h", "ringback reconcile --provider qingbo --dry-run --json")
)
@click.option(
    "--since", callback=read_moment, metavar="TIME", help="Tasks created from then on: a time, or 24h, 7d, …; 7d."
)
@click.option("--until", callback=read_moment, metavar="TIME", help="Tasks created before then; now.")
@provider_option
@click.option("--dry-run", is_flag=True, help="Ask and compare; change nothing.")
@json_option
def reconcile(
    since: datetime | None, until: datetime | None, provider: str | None, dry_run: bool, as_json: bool
) -> None:
    """Compare the ledger with the providers.

    Asks about every task of the time that can be asked about, the newest first. An end that we missed is taken in, as
    the poller would; a missing charge is filled in; what contradicts what we hold is shown. Done again, it changes
    nothing. Exit code 1 if something is left that needs you.
    """
    settings = load_settings(quiet=True)
    window = _window(settings, since, until, provider)
    tally = _Tally(dry_run)
    passes: list[Reconciler] = []
    try:
        run(_reconcile(settings, window, tally, passes))
    except (RingbackError, KeyboardInterrupt):
        _say_where_to_go_on(window, tally, passes)
        raise
    finally:
        if passes:
            _report(window, tally, as_json)
    if tally.open:
        raise click.exceptions.Exit(1)


def _window(settings: Settings, since: datetime | None, until: datetime | None, provider: str | None) -> "Window":
    from ringback.providers import get_provider
    from submitter.reconciling import Window

    if provider is not None:
        get_provider(provider, settings.catalogue)  # a name that is wrong must not look like a clean ledger
    until = until or datetime.now(UTC)
    since = since or until - LAST
    if since >= until:
        raise click.UsageError("--since must be before --until")
    return Window(since=since, until=until, provider=provider)


async def _reconcile(settings: Settings, window: "Window", tally: _Tally, passes: "list[Reconciler]") -> None:
    from ringback.intake import Intake
    from ringback.outbound import Outbound
    from submitter.reconciling import Reconciler

    async with opened_ledger(settings) as ledger, Outbound(settings) as outbound, _progress() as progress:
        reconciler = Reconciler(settings, ledger, outbound, Intake(ledger, settings))
        passes.append(reconciler)
        async for compared in reconciler.run(window, dry_run=tally.dry_run):
            tally.add(compared)
            progress.update(progress.task_ids[0], completed=tally.compared)


@asynccontextmanager
async def _progress() -> "AsyncIterator[Progress]":
    """Show on a terminal how many tasks were compared; elsewhere nothing. How many there are nobody has counted."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ringback.cli.show import console

    place = console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("comparing: {task.completed:,} tasks"), TimeElapsedColumn())
    with Progress(*columns, console=place, disable=not place.is_terminal, transient=True) as progress:
        progress.add_task("comparing", total=None)
        yield progress


def _say_where_to_go_on(window: "Window", tally: _Tally, passes: "list[Reconciler]") -> None:
    reached = passes[0].reached if passes else None
    if reached is None:
        return
    option = f"--since {window.since.isoformat()} --until {reached.isoformat()}"
    click.echo(f"stopped after {_counted(tally.compared, 'task')}; to go on with the rest: {option}", err=True)


def _report(window: "Window", tally: _Tally, as_json: bool) -> None:
    from ringback.cli import show

    if as_json:
        show.print_json(_shape(window, tally))
        return
    if tally.found:
        show.print_table(COLUMNS, (_row(*found, dry_run=tally.dry_run) for found in tally.found), empty="")
    click.echo(_summary(tally), err=True)


def _row(compared: "Compared", difference: "Difference", *, dry_run: bool) -> tuple[Any, ...]:
    task, done = compared.task, _done(difference, dry_run=dry_run)
    return task.id, task.provider, difference.what.value, difference.here, difference.there, done


def _done(difference: "Difference", *, dry_run: bool) -> str:
    """Say what was done about a difference, or what a person may do."""
    from submitter.reconciling import DONE

    done = DONE[difference.what]
    return f"would be {done}" if dry_run and difference.mended else done


def _summary(tally: _Tally) -> str:
    parts = [f"{_counted(tally.compared, 'task')} compared, {tally.asked:,} of them asked about"]
    if tally.forgotten:
        parts.append(f"{tally.forgotten:,} that have ended are forgotten there")
    if mended := len(tally.found) - tally.open:
        parts.append(f"{_counted(mended, 'difference')} {'would be ' if tally.dry_run else ''}mended")
    if tally.open:
        parts.append(f"{tally.open:,} left for you")
    return "; ".join(parts) + ("" if tally.found else "; no difference")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _shape(window: "Window", tally: _Tally) -> dict[str, Any]:
    kinds = Counter(difference.what.value for _, difference in tally.found)
    counts = {"compared": tally.compared, "asked": tally.asked, "forgotten": tally.forgotten, "need_you": tally.open}
    differences = [
        {
            "task_id": compared.task.id,
            "provider": compared.task.provider,
            "provider_id": compared.task.provider_id,
            "what": difference.what,
            "here": difference.here,
            "there": difference.there,
            "mended": difference.mended and not tally.dry_run,
            "done": _done(difference, dry_run=tally.dry_run),
        }
        for compared, difference in tally.found
    ]
    about = {"since": window.since, "until": window.until, "provider": window.provider, "dry_run": tally.dry_run}
    return about | counts | {"by_kind": kinds, "differences": differences}

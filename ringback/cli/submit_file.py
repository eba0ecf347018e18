"""`ringback submit --file`: many tasks from JSON lines, with a progress bar on a terminal."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import Failure
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import RingbackError
from ringback.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress

    from submitter import Batch, Plan, Submitted

MICRODOLLARS = 1_000_000
IN_DOUBT = (
    "Lines that were just being sent are in doubt: under an idempotency key the poller sends them again after their "
    "lease, about a minute; without one nobody does. Nothing is bought twice"
)


def submit_file(provider: str | None, path: str, options: dict[str, Any], as_json: bool) -> None:
    """Submit every line, or show what that would cost."""
    settings = load_settings(quiet=True)
    batch = _read(provider, path)
    if not len(batch):
        raise Failure(f'{batch.name} holds no lines; each is a JSON object such as {{"prompt": "A dog"}}')
    if options["dry_run"]:
        _dry_run(settings, batch, options["max_cost"], as_json)
        return
    done: list[Submitted] = []
    try:
        run(_submit(settings, batch, options["max_cost"], done))
    except KeyboardInterrupt:
        click.echo(
            f"interrupted after {len(done)} of {len(batch)} lines; the same command goes on with the rest. {IN_DOUBT}",
            err=True,
        )
        raise
    finally:
        _report(batch, done, as_json)
    if any(result.error for result in done):
        raise click.exceptions.Exit(1)


def _read(provider: str | None, path: str) -> "Batch":
    from submitter import Batch

    if path == "-":
        return Batch(sys.stdin.buffer, name="stdin", provider=provider)
    with Path(path).open("rb") as file:
        return Batch(file, name=Path(path).name, provider=provider)


async def _submit(settings: Settings, batch: "Batch", max_cost: Decimal | None, done: "list[Submitted]") -> None:
    from submitter import Submitter

    async with (
        opened_ledger(settings) as ledger,
        Submitter(settings, ledger=ledger) as submitter,
        _progress(len(batch)) as progress,
    ):
        async for result in submitter.submit_many(batch, max_cost=max_cost):
            done.append(result)
            progress.update(progress.task_ids[0], completed=len(done))


@asynccontextmanager
async def _progress(total: int) -> "AsyncIterator[Progress]":
    """Show a bar on a terminal; elsewhere nothing."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ringback.cli.show import console

    place = console(stderr=True)
    columns = (TextColumn("submitting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=place, disable=not place.is_terminal, transient=True) as progress:
        progress.add_task("submitting", total=total)
        yield progress


def _report(batch: "Batch", done: "list[Submitted]", as_json: bool) -> None:
    """Print what became of each line, in the order of the file."""
    from ringback.cli import show

    done.sort(key=lambda result: result.line)
    if as_json:
        lines = [{"line": r.line, "task": r.task, "error": str(r.error) if r.error else None} for r in done]
        show.print_json({"lines": lines})
        return
    rows = [(r.line, r.task.id if r.task else None, r.task.state if r.task else None, r.error) for r in done]
    if rows:
        show.print_table(("line", "task id", "state", "error"), rows, empty="")
        failed = sum(1 for result in done if result.error)
        click.echo(f"{len(done) - failed} of {len(batch)} lines submitted, {failed} refused", err=True)


def _dry_run(settings: Settings, batch: "Batch", max_cost: Decimal | None, as_json: bool) -> None:
    from ringback.cli import show

    plans = list(_plans(settings, batch))
    prices = [plan.price_microdollars for _, plan in plans]
    total, unknown = sum(price or 0 for price in prices), prices.count(None)
    if as_json:
        lines = [
            {
                "line": number,
                "provider": plan.task.provider,
                "url": plan.url,
                "price_microdollars": plan.price_microdollars,
            }
            for number, plan in plans
        ]
        show.print_json({"lines": lines, "price_microdollars": total, "unknown_prices": unknown})
    else:
        rows = ((number, plan.task.provider, show.dollars(plan.price_microdollars)) for number, plan in plans)
        show.print_table(("line", "provider", "price"), rows, empty="")
        more = f", and {unknown} without a known price" if unknown else ""
        click.echo(f"{len(plans)} lines, {show.dollars(total)}{more}; nothing was sent: this was a dry run", err=True)
    if max_cost is not None and (unknown or total > max_cost * MICRODOLLARS):
        raise Failure(f"above the limit of ${max_cost:f}, or not known to be below it: this would be refused")


def _plans(settings: Settings, batch: "Batch") -> "Iterator[tuple[int, Plan]]":
    from submitter import Submitter

    submitter = Submitter(settings)
    for index in range(len(batch)):
        try:
            line = batch[index]
            form = dict(line.form)
            yield line.number, submitter.plan(line.provider, key=line.key, metadata=line.metadata, **form)
        except RingbackError as error:
            raise Failure(f"{batch.place(index)}: {error}") from error

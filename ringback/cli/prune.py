"""`ringback prune`: takes away what has settled and was kept long enough; the poller does the same by itself."""

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ringback.cli.group import examples
from ringback.cli.options import json_option, read_age
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import SettingsError
from ringback.lifecycle import TERMINAL
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Prune, Pruned

SAID = {  # in this order
    "bodies": "without their raw bodies",
    "emptied": "emptied; their keys stay, so that a late copy is still known",
    "removed": "removed",
    "requests": "requests for unknown tasks removed",
    "rejections": "daily counts of rejections removed",
    "waiting": "left alone: something of them is not settled, or no worker has seen it yet",
}


@click.command(
    epilog=examples("ringback prune --dry-run", "ringback prune --older-than 30d --bodies-older-than 7d --yes")
)
@click.option(
    "--older-than", "rest", callback=read_age, metavar="TIME", help="Instead of RINGBACK_RETENTION_DAYS: 30d, 12h, …"
)
@click.option("--bodies-older-than", "bodies", callback=read_age, metavar="TIME", help="Instead of RINGBACK_BODY_DAYS.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(sorted(state.value for state in TERMINAL)),
    help="Only tasks in this state, and nothing that has no task; may be given again.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def prune(
    rest: datetime | None, bodies: datetime | None, states: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Take away what has settled and was last heard of long ago.

    First raw bodies go, then all but the keys, and after RINGBACK_DEDUP_DAYS the keys. Nothing goes that is open, or
    that a handler has not done with. The file does not shrink: what is freed is used again.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json cannot ask: add --yes, or --dry-run")
    settings = load_settings(quiet=True)
    wish = _wish(settings, rest, bodies, states)
    if not yes:
        would = run(_prune(settings, dataclasses.replace(wish, dry_run=True)))
        if dry_run or not would.changed:
            _report(would, as_json, dry_run=dry_run)
            return
        _report(would, as_json, dry_run=True)
        click.confirm("Take this away for good?", abort=True)
    _report(run(_prune(settings, wish)), as_json, dry_run=False)


def _wish(settings: Settings, rest: datetime | None, bodies: datetime | None, states: tuple[str, ...]) -> "Prune":
    """Take the options, and the settings where none are given.

    Raises:
        SettingsError: neither says that anything may go.
    """
    from ringback.model import TaskState
    from submitter.housekeeping import keep_of

    wish = keep_of(settings).at(datetime.now(UTC), states=map(TaskState, states))
    rest, bodies = rest or wish.rest_before, bodies or wish.bodies_before
    if rest is None and bodies is None:
        raise SettingsError(
            "everything is kept for ever: give --older-than or --bodies-older-than, or set RINGBACK_RETENTION_DAYS"
        )
    return dataclasses.replace(wish, rest_before=rest, bodies_before=bodies)


async def _prune(settings: Settings, wish: "Prune") -> "Pruned":
    from submitter.housekeeping import prune as prune_all

    async with opened_ledger(settings) as ledger:
        return await prune_all(ledger, wish)


def _report(pruned: "Pruned", as_json: bool, *, dry_run: bool) -> None:
    counts = {name: getattr(pruned, name) for name in SAID}
    if as_json:
        from ringback.cli.show import print_json

        print_json({"dry_run": dry_run, **counts})
        return
    if dry_run:
        click.echo("This would be taken away:")
    lines = [f"{count:>8} {SAID[name]}" for name, count in counts.items() if count]
    click.echo("\n".join(lines) or "nothing to take away")

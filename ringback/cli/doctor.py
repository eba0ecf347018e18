"""`ringback doctor`: looks at everything that could be wrong, and says what to do about it."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ringback.cli.group import examples, printable
from ringback.cli.options import json_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import LedgerError, LedgerMissing, SettingsError
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.cli.checks import Check

COLOURS = {"✓": "green", "!": "yellow", "✗": "red"}


@click.command(epilog=examples("ringback doctor", "ringback doctor --json"))
@json_option
def doctor(as_json: bool) -> None:
    """Check settings, database, secrets, handlers and processes.

    Each line is ✓ (good), ! (it works, but perhaps not as meant) or ✗ (it does not); exit code 1 if any is ✗.
    """
    from ringback.cli.checks import Mark

    checks = run(_examine())
    if as_json:
        from ringback.cli.show import print_json

        print_json({"ok": all(check.mark is not Mark.BAD for check in checks), "checks": checks})
    else:
        for check in checks:
            _print(check)
    if any(check.mark is Mark.BAD for check in checks):
        raise click.exceptions.Exit(1)


async def _examine() -> "list[Check]":
    from ringback.cli.checks import bad, of_settings

    try:
        settings = load_settings(quiet=True)
    except SettingsError as error:
        return [bad("settings", str(error), "correct this first; the rest was not checked")]
    return [*of_settings(settings), *await _examine_the_rest(settings, datetime.now(UTC))]


async def _examine_the_rest(settings: Settings, now: datetime) -> "list[Check]":
    """Look at providers and ledger; what is open in the ledger decides how much a provider lacks."""
    from ringback.cli.checks import bad, doubtful, of_both, of_ledger, waiting
    from ringback.cli.provider_checks import of_providers
    from ringback.cli.pushes import DAY, of_pushes
    from ringback.cli.rejection_checks import of_rejections
    from ringback.cli.stored import count, of_results
    from ringback.ledger import Pushes, Summary

    try:
        async with opened_ledger(settings) as ledger:
            summary = await ledger.summary(now)
            providers = [*of_providers(settings, now, await waiting(settings, ledger))]
            refusals = [*of_rejections(settings, summary.new_rejections)]
            heard = [*of_pushes(await ledger.report(Pushes(since=now - DAY)))]
            results = await of_results(settings, await count(ledger, now), now)
            return [*providers, *refusals, *heard, *results, *await of_ledger(settings, ledger, summary, now)]
    except LedgerMissing as error:
        database = doubtful("database", str(error), "it is made at the first start")
    except (LedgerError, SettingsError) as error:
        database = bad("database", str(error), "nothing can be stored until this is repaired")
    return [*of_providers(settings, now), *of_both(settings, Summary()), database]


def _print(check: "Check") -> None:
    mark = click.style(check.mark, fg=COLOURS[check.mark]) if _coloured() else str(check.mark)
    click.echo(f"{mark} {check.name}: {printable(check.found)}")
    for name, value in check.details:
        click.echo(f"    {name}: {printable(value)}")
    if check.advice:
        click.echo(f"    → {printable(check.advice)}")


def _coloured() -> bool:
    import os

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")

"""`ringback migrate`: makes the database, or brings an older one up to date, and says what it did."""

from typing import TYPE_CHECKING

import click

from ringback.cli.group import examples
from ringback.cli.options import json_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.providers.signatures import fingerprint
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger.upkeep import Migrated


@click.command(
    epilog=examples(
        "ringback migrate",
        "ringback migrate --forget-secret 0123456789abcdef",
        "ringback migrate --from sqlite:///ringback.db --to postgresql://ringback@db.example/ringback",
    )
)
@click.option(
    "--forget-secret",
    "forgotten",
    metavar="FINGERPRINT",
    help="Go on without this secret, which is lost or has leaked; `ringback doctor` shows fingerprints.",
)
@click.option("--from", "source", metavar="URL", help="Move this ledger, in SQLite, whole: what there is, to --to.")
@click.option("--to", "target", metavar="URL", help="Where to: an empty PostgreSQL database.")
@click.option("--dry-run", is_flag=True, help="With --from and --to: read and check everything, move nothing.")
@json_option
def migrate(forgotten: str | None, source: str | None, target: str | None, dry_run: bool, as_json: bool) -> None:
    """Make the database, or bring an older one to this version.

    Safe to run at any time, and again. Stop the other processes first where the version changes, or a secret is to be
    forgotten.

    With --from and --to, move a ledger from SQLite to PostgreSQL: all or nothing, and proven equal. Stop every process
    first; the old file is only read. Leave a password to PGPASSWORD or ~/.pgpass: others may see the command line.
    """
    from ringback.ledger import upkeep

    settings = load_settings(quiet=True)
    if source is not None or target is not None or dry_run:
        from ringback.cli import moving

        if forgotten is not None:
            raise click.UsageError("--forget-secret is done by itself: move the ledger first, then forget the secret")
        moving.move(moving.read_road(settings, source, target), as_json, dry_run=dry_run)
        return
    migrated = upkeep.migrate(settings, create=forgotten is None)
    run(_open(settings, create=forgotten is None))
    if forgotten is None:
        _report(settings, migrated, as_json)
    else:
        _report_forgotten(settings, forgotten, upkeep.forget_key(settings, forgotten), as_json)


def _report(settings: Settings, migrated: "Migrated", as_json: bool) -> None:
    place, steps = settings.database_place, migrated.steps
    done = "made" if migrated.made else "migrated" if steps else "unchanged"
    if as_json:
        from ringback.cli.show import print_json

        print_json({"database": place, "schema": migrated.version, "done": done, "steps": steps})
        return
    what = {"made": "made", "unchanged": "nothing to do", "migrated": f"ran {', '.join(steps)}"}[done]
    click.echo(f"{place}: {what}; schema {migrated.version}")


def _report_forgotten(settings: Settings, forgotten: str, open_tasks: int, as_json: bool) -> None:
    if as_json:
        from ringback.cli.show import print_json

        print_json(
            {"database": settings.database_place, "done": "forgot", "fingerprint": forgotten, "open_tasks": open_tasks}
        )
    else:
        click.echo(f"{settings.database_place}: forgot the secret {forgotten}")
        click.echo(
            f"{open_tasks} open tasks were sent under it: without it their callbacks are refused (401), and the "
            "poller asks about them when their push is overdue"
        )
    if forgotten in map(fingerprint, settings.secret):
        advice = "take it out of RINGBACK_SECRET, or remove the secret file beside the database, before the next start"
        click.echo(f"note: it is still set here, so the next start takes it up again: {advice}", err=True)


async def _open(settings: Settings, *, create: bool) -> None:
    """Open it as any process would: makes it where there is none, and checks it."""
    async with opened_ledger(settings, create=create):
        pass

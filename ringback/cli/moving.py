"""`ringback migrate --from … --to …`: moves a whole ledger, and tells what was moved and what to do next."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import printable
from ringback.cli.run import configure_logs
from ringback.secret_file import secret_path
from ringback.settings import GENERAL, Settings

if TYPE_CHECKING:
    from ringback.ledger.moving import Moved

DOING = {"copy": "copying", "prove": "comparing", "commit": "committing", "moved": "moved"}
INTERRUPTED = {  # by what was told of last
    "commit": "at the very end: all may be moved, or nothing. "
    "Try again: if all was moved, it says that the database is not empty",
    "moved": "but all was moved before",
}
EXAMPLE = "--from sqlite:///ringback.db --to postgresql://user@host/database"
LOOK_SECONDS = 0.1  # between two lines about how far it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """From where, to where."""

    source: Settings
    target: Settings


def read_road(settings: Settings, source: str | None, target: str | None) -> Road:
    """Read both places.

    Raises:
        click.UsageError: one is missing, or is no place of a ledger.
    """
    if source is None or target is None:
        missing = " and ".join(name for name, value in (("--from", source), ("--to", target)) if value is None)
        raise click.UsageError(f"a ledger is moved with {EXAMPLE}; here is no {missing}")
    return Road(source=_at(settings, "--from", source), target=_at(settings, "--to", target))


def move(road: Road, as_json: bool, *, dry_run: bool) -> None:
    """Do it, and tell.

    Raises:
        RingbackError: nothing was moved; says why.
    """
    from ringback.cli.show import console
    from ringback.ledger import upkeep

    configure_logs(road.target, quiet=True)
    started = time.monotonic()
    progress = _Progress()
    try:
        with console(stderr=True).status("looking at both databases") as status:
            progress.show = status.update
            moved = upkeep.move(road.source, road.target, datetime.now(UTC), progress, dry_run=dry_run)
        if as_json:
            _print_json(road, moved, dry_run)
        else:
            _print(road, moved, dry_run, time.monotonic() - started)
    except KeyboardInterrupt:
        click.echo(f"interrupted: {INTERRUPTED.get(progress.what, 'nothing was moved')}", err=True)
        raise


class _Progress:
    """Tells a terminal how far it is, now and then; `what` is the last that was begun."""

    def __init__(self) -> None:
        self.show: Callable[[str], Any] = str
        self.what = ""
        self._shown_at = 0.0

    def __call__(self, what: str, table: str, count: int) -> None:
        self.what = what
        now = time.monotonic()
        if now - self._shown_at >= LOOK_SECONDS:
            self._shown_at = now
            self.show(f"{DOING[what]} {table}" + (f": {count:,}" if count else ""))


def _at(settings: Settings, option: str, value: str) -> Settings:
    try:
        url = GENERAL["database_url"].metadata["parse"](value)
    except ValueError as error:  # which does not quote it: there may be a password in it
        raise click.UsageError(f"{option}: {error}") from None
    return replace(settings, database_url=url)


def _print_json(road: Road, moved: "Moved", dry_run: bool) -> None:
    from ringback.cli.show import print_json

    print_json(
        {
            "from": road.source.database_place,
            "to": road.target.database_place,
            "schema": moved.version,
            "done": "checked" if dry_run else "moved",
            "rows": moved.rows,
            "tables": [
                {"table": table.table, "rows": table.rows, "checksum": table.checksum} for table in moved.tables
            ],
            "in_use": moved.in_use,
        }
    )


def _print(road: Road, moved: "Moved", dry_run: bool, seconds: float) -> None:
    from ringback.cli.show import print_table

    columns = ("table", "rows", "checksum" if dry_run else "checksum, the same on both sides")
    print_table(columns, [(table.table, f"{table.rows:,}", table.checksum) for table in moved.tables], empty="")
    places = f"{road.source.database_place} to {road.target.database_place}"
    click.echo()
    if dry_run:
        click.echo(f"nothing was moved: this was a dry run. It would move {moved.rows:,} rows from {places}")
        if moved.in_use:
            click.echo(
                f"note: stop every process of it before you move it: {printable('; '.join(moved.in_use))}", err=True
            )
        return
    click.echo(f"moved {moved.rows:,} rows from {places} in {seconds:.1f} s, proven equal, schema {moved.version}")
    click.echo("next:")
    for number, step in enumerate(_next(road), start=1):
        click.echo(f"  {number}. {step}")


def _next(road: Road) -> Iterator[str]:
    """Tell what is left to do."""
    source = road.source.database_path
    yield "set RINGBACK_DATABASE_URL to the new place for every process, and for whatever submits"
    if (secret := secret_path(source)).exists():
        yield f"set RINGBACK_SECRET to what is in {secret}: on PostgreSQL that file is not read"
    away = [f"mv {source} {source}.moved"]
    if source.with_name(f"{source.name}-wal").exists():  # what a process that was killed has left
        away += [f"mv {source}-wal {source}.moved-wal", f"rm -f {source}-shm"]
    yield f"put the old file out of the way, so that nothing starts on it by mistake: {' && '.join(away)}"
    yield "start, and see what `ringback doctor` says"

"""`ringback migrate`: makes the database, or brings an older one up to date, and says what it did."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import click

from ringback.cli.group import examples
from ringback.cli.options import json_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import LedgerUnavailable
from ringback.providers.signatures import fingerprint
from ringback.settings import Settings


@click.command(epilog=examples("ringback migrate", "ringback migrate --forget-secret 0123456789abcdef"))
@click.option(
    "--forget-secret",
    "forgotten",
    metavar="FINGERPRINT",
    help="Go on without this secret, which is lost or has leaked; `ringback doctor` shows fingerprints.",
)
@json_option
def migrate(forgotten: str | None, as_json: bool) -> None:
    """Make the database, or bring an older one to this version.

    Safe to run at any time, and again. Stop the other processes first where the version changes, or a secret is to be
    forgotten.
    """
    settings = load_settings(quiet=True)
    path = settings.database_path
    existed = path.exists()
    steps = _bring_up_to_date(path) if existed else []
    run(_open(settings, create=forgotten is None))
    if forgotten is None:
        _report(path, "migrated" if steps else "unchanged" if existed else "made", steps, as_json)
    else:
        _report_forgotten(settings, forgotten, _forget(path, forgotten), as_json)


def _report(path: Path, done: str, steps: list[str], as_json: bool) -> None:
    from ringback.ledger.schema import schema_version

    if as_json:
        from ringback.cli.show import print_json

        print_json({"database": str(path), "schema": schema_version(), "done": done, "steps": steps})
        return
    what = {"made": "made", "unchanged": "nothing to do", "migrated": f"ran {', '.join(steps)}"}[done]
    click.echo(f"{path}: {what}; schema {schema_version()}")


def _report_forgotten(settings: Settings, forgotten: str, open_tasks: int, as_json: bool) -> None:
    if as_json:
        from ringback.cli.show import print_json

        database = str(settings.database_path)
        print_json({"database": database, "done": "forgot", "fingerprint": forgotten, "open_tasks": open_tasks})
    else:
        click.echo(f"{settings.database_path}: forgot the secret {forgotten}")
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


def _bring_up_to_date(path: Path) -> list[str]:
    """Run the steps that an older database lacks."""
    from ringback.ledger import schema

    if path.is_dir():
        return []  # opening it says what is wrong
    with _held(path, "migrated") as connection:
        known = 0 < schema.stored_version(connection) < schema.schema_version()
        return schema.migrate(connection) if known else []


def _forget(path: Path, forgotten: str) -> int:
    """Take a secret off the ledger's list; gives how many open tasks were sent under it."""
    from ringback.ledger.sqlite import keys

    with _held(path, "changed") as connection:
        return keys.forget(connection, forgotten)


@contextlib.contextmanager
def _held(path: Path, verb: str) -> Iterator[sqlite3.Connection]:
    """Hold the database under the lock that every writer takes, the closing included, since that checkpoints.

    Raises:
        LedgerUnavailable: it cannot be used; says why.
    """
    from ringback.ledger.sqlite.lock import FileLock

    path = path.resolve()  # two names of one file must share one lock
    lock: FileLock | None = None
    try:
        lock = FileLock(path.with_name(path.name + ".lock"))
        with lock.held(), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            yield connection
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailable(f"{path}: cannot be {verb} ({error})") from error
    finally:
        if lock is not None:
            lock.close()

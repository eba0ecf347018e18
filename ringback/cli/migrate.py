"""`ringback migrate`: makes the database, or brings an older one up to date, and says what it did."""

import sqlite3
from pathlib import Path

import click

from ringback.cli.group import examples
from ringback.cli.options import json_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import LedgerUnavailable
from ringback.settings import Settings


@click.command(epilog=examples("ringback migrate"))
@json_option
def migrate(as_json: bool) -> None:
    """Make the database, or bring an older one to this version.

    Safe to run at any time, and again. Stop the other processes first where the version changes.
    """
    settings = load_settings(quiet=True)
    path = settings.database_path
    existed = path.exists()
    steps = _bring_up_to_date(path) if existed else []
    run(_open(settings))
    from ringback.ledger.schema import schema_version

    done = "migrated" if steps else "unchanged" if existed else "made"
    if as_json:
        from ringback.cli.show import print_json

        print_json({"database": str(path), "schema": schema_version(), "done": done, "steps": steps})
        return
    what = {"made": "made", "unchanged": "nothing to do", "migrated": f"ran {', '.join(steps)}"}[done]
    click.echo(f"{path}: {what}; schema {schema_version()}")


async def _open(settings: Settings) -> None:
    """Open it as any process would: makes it where there is none, and checks it."""
    async with opened_ledger(settings, create=True):
        pass


def _bring_up_to_date(path: Path) -> list[str]:
    """Run the steps that an older database lacks, under the lock that every writer takes."""
    from ringback.ledger import schema
    from ringback.ledger.sqlite.lock import FileLock

    if path.is_dir():
        return []  # opening it says what is wrong
    lock: FileLock | None = None
    connection: sqlite3.Connection | None = None
    try:
        lock = FileLock(path.with_name(path.name + ".lock"))
        connection = sqlite3.connect(path, isolation_level=None)
        with lock.held():
            known = 0 < schema.stored_version(connection) < schema.schema_version()
            return schema.migrate(connection) if known else []
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailable(f"{path}: cannot be migrated ({error})") from error
    finally:
        if connection is not None:
            connection.close()
        if lock is not None:
            lock.close()

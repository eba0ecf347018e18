"""What a person does to a ledger from outside, on either engine. Called by `ringback migrate`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ringback.errors import LedgerError, SettingsError
from ringback.ledger import schema
from ringback.ledger.sqlite import upkeep as sqlite
from ringback.logs import Redactor
from ringback.settings import Settings
from ringback.settings_values import database_url

if TYPE_CHECKING:
    from ringback.ledger.moving import Moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What was done; a file that was not there is still to be made, by opening it."""

    made: bool
    steps: list[str]  # taken by a ledger that was there
    version: int  # of the schema that this program needs


def migrate(settings: Settings, *, create: bool) -> Migrated:
    """Bring an older ledger to this version; one on a server is made where there is none and `create` allows it.

    Raises:
        LedgerError: it cannot be used; says why.
    """
    if not settings.embedded:
        require_driver()
        from ringback.ledger.postgres import schema as tables
        from ringback.ledger.postgres import upkeep as postgres

        made, steps = postgres.migrate(settings.database_url, create=create)
        return Migrated(made=made, steps=[] if made else steps, version=tables.version())
    path = settings.database_path
    existed = path.exists()
    steps = sqlite.migrate(path) if existed else []
    return Migrated(made=not existed, steps=steps, version=schema.schema_version())


def forget_key(settings: Settings, fingerprint: str) -> int:
    """Take a secret off the ledger's list; gives how many open tasks were sent under it.

    Raises:
        NotFound: no such secret is known; names those that are.
        LedgerError: it cannot be used; says why.
    """
    if not settings.embedded:
        require_driver()
        from ringback.ledger.postgres import upkeep as postgres

        return postgres.forget_key(settings.database_url, fingerprint)
    return sqlite.forget_key(settings.database_path, fingerprint)


def move(
    source: Settings, target: Settings, now: datetime, tell: Callable[[str, str, int], None], *, dry_run: bool
) -> "Moved":
    """Move a whole ledger from one place to another; see `moving.move`.

    Raises:
        SettingsError: it cannot be moved between these two places.
        LedgerError: nothing was moved; says why.
    """
    if not source.embedded or target.embedded:
        raise SettingsError(_other_way(source, target))
    require_driver()
    from ringback.ledger import moving

    try:
        database_url(target.database_url)
    except ValueError as error:
        raise SettingsError(f"--to: {error}") from None
    redact = Redactor(target.secret_values())
    try:
        return moving.move(source.database_path, target.database_url, now, tell, dry_run=dry_run)
    except LedgerError as error:
        raise type(error)(redact(str(error))) from None


def _other_way(source: Settings, target: Settings) -> str:
    """Say what to do instead."""
    only = "only a ledger in SQLite is moved, to PostgreSQL"
    if source.embedded:
        return f"{only}, but --to names a file: to move one, stop everything, and copy it as for a backup"
    if target.embedded:
        return f"{only}; the way back is not supported. Are --from and --to the wrong way round?"
    return f"{only}, but --from names PostgreSQL: between two of them, use pg_dump and pg_restore"


def require_driver() -> None:
    """Make sure that PostgreSQL's driver is there.

    Raises:
        SettingsError: it is not.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"RINGBACK_DATABASE_URL: PostgreSQL needs: pip install 'ringback[postgres]' ({error})"
        ) from None

"""What a person does to a ledger from outside, on either engine. Called by `ringback migrate`."""

from dataclasses import dataclass

from ringback.errors import SettingsError
from ringback.ledger import schema
from ringback.ledger.sqlite import upkeep as sqlite
from ringback.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What was found and done; a ledger that was not there is still to be made, by opening it."""

    existed: bool
    steps: list[str]  # taken
    version: int  # of the schema that this program needs


def migrate(settings: Settings) -> Migrated:
    """Bring an older ledger to this version.

    Raises:
        LedgerError: it cannot be used; says why.
    """
    if not settings.embedded:
        require_driver()
        from ringback.ledger.postgres import schema as tables
        from ringback.ledger.postgres import upkeep as postgres

        existed, steps = postgres.migrate(settings.database_url)
        return Migrated(existed=existed, steps=steps, version=tables.version())
    path = settings.database_path
    existed = path.exists()
    steps = sqlite.migrate(path) if existed else []
    return Migrated(existed=existed, steps=steps, version=schema.schema_version())


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

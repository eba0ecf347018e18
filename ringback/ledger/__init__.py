"""The durable record. `open_ledger` picks the engine; callers know only the protocol."""

from ringback.ledger.protocol import (
    IntakeLedger,
    KeptCallback,
    Ledger,
    OperatorLedger,
    Owed,
    Pattern,
    PollerLedger,
    Process,
    Query,
    Sent,
    Settled,
    Story,
    SubmitterLedger,
    Summary,
    Waiter,
    Work,
    WorkerLedger,
)
from ringback.ledger.sqlite import SqliteLedger
from ringback.settings import Settings

__all__ = [
    "IntakeLedger",
    "KeptCallback",
    "Ledger",
    "OperatorLedger",
    "Owed",
    "Pattern",
    "PollerLedger",
    "Process",
    "Query",
    "Sent",
    "Settled",
    "Story",
    "SubmitterLedger",
    "Summary",
    "Waiter",
    "Work",
    "WorkerLedger",
    "open_ledger",
]


async def open_ledger(settings: Settings, *, create: bool = False) -> Ledger:
    """Open the ledger that the settings name, making it first where `create` allows it.

    Raises:
        LedgerMissing: there is none at that place; names the absolute path.
        LedgerMismatch: it has another schema version.
        LedgerUnavailable: it cannot be opened right now.
    """
    return await SqliteLedger.open(settings.database_path, create=create, dedup_days=settings.dedup_days)

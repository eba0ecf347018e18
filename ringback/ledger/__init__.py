"""The durable record. `open_ledger` picks the engine; callers know only the protocol."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from ringback.ledger.actions import Action, Cancel, Discard, Done, Query, Replay, ReplayEvents
from ringback.ledger.patterns import Pattern, any_fits, fits
from ringback.ledger.protocol import (
    DoneStep,
    IntakeLedger,
    KeptCallback,
    Ledger,
    OperatorLedger,
    Owed,
    PollerLedger,
    Queue,
    Sent,
    Story,
    SubmitterLedger,
    Summary,
    Waiter,
    WorkerLedger,
)
from ringback.ledger.retention import Keep, Prune, Pruned
from ringback.ledger.sqlite import SqliteLedger, heart
from ringback.ledger.turns import Keyless, Process, Rate, Registration, Settled, Share, Turn, Turned, Work
from ringback.model import Delivery
from ringback.settings import Settings

__all__ = [
    "Action",
    "Cancel",
    "Discard",
    "Done",
    "DoneStep",
    "IntakeLedger",
    "Keep",
    "KeptCallback",
    "Keyless",
    "Ledger",
    "OperatorLedger",
    "Owed",
    "Pattern",
    "PollerLedger",
    "Process",
    "Prune",
    "Pruned",
    "Query",
    "Queue",
    "Rate",
    "Registration",
    "Replay",
    "ReplayEvents",
    "Sent",
    "Settled",
    "Share",
    "Story",
    "SubmitterLedger",
    "Summary",
    "Turn",
    "Turned",
    "Waiter",
    "Work",
    "WorkerLedger",
    "any_fits",
    "beat_from_thread",
    "fits",
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


def beat_from_thread(
    settings: Settings, process: Process, now: datetime, dead_before: datetime, handlers: Mapping[str, Registration]
) -> Sequence[Delivery]:
    """Do what `Ledger.beat` does, and block meanwhile: for a thread whose process' event loop may be blocked.

    Raises:
        LedgerUnavailable: nothing was written; try again.
        LedgerRejected: this can never be written.
    """
    return heart.beat(settings.database_path, process, now, dead_before, handlers)

"""The durable record. `open_ledger` picks the engine; callers know only the protocol."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ringback.ledger.actions import Action, Cancel, Discard, Done, Query, Replay, ReplayEvents
from ringback.ledger.awaited import Awaited
from ringback.ledger.budgets import Budget, budget_of
from ringback.ledger.costs import By, Cost, Costs, Counted, Differing, Recount, Spending, Spent, Sums
from ringback.ledger.expectations import Expectation, Expected, Learn, Learned, Pushed, Pushes
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
from ringback.ledger.results import (
    EXPIRES_SOON,
    STORE_RESULTS,
    CountResults,
    KeptResult,
    ListResults,
    ResultCounts,
    ResultRow,
    runs_alone,
    url_ends_at,
)
from ringback.ledger.retention import Keep, Prune, Pruned
from ringback.ledger.sqlite import SqliteLedger, heart
from ringback.ledger.turns import Keyless, Process, Rate, Registration, Settled, Share, Turn, Turned, Work, silence_of
from ringback.ledger.upkeep import require_driver
from ringback.ledger.wire import Order
from ringback.model import Delivery
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger.postgres import PostgresLedger

__all__ = [
    "EXPIRES_SOON",
    "STORE_RESULTS",
    "Action",
    "Awaited",
    "Budget",
    "By",
    "Cancel",
    "Cost",
    "Costs",
    "CountResults",
    "Counted",
    "Differing",
    "Discard",
    "Done",
    "DoneStep",
    "Expectation",
    "Expected",
    "IntakeLedger",
    "Keep",
    "KeptCallback",
    "KeptResult",
    "Keyless",
    "Learn",
    "Learned",
    "Ledger",
    "ListResults",
    "OperatorLedger",
    "Owed",
    "Pattern",
    "PollerLedger",
    "Process",
    "Prune",
    "Pruned",
    "Pushed",
    "Pushes",
    "Query",
    "Queue",
    "Rate",
    "Recount",
    "Registration",
    "Replay",
    "ReplayEvents",
    "ResultCounts",
    "ResultRow",
    "Sent",
    "Settled",
    "Share",
    "Spending",
    "Spent",
    "Story",
    "SubmitterLedger",
    "Summary",
    "Sums",
    "Turn",
    "Turned",
    "Waiter",
    "Work",
    "WorkerLedger",
    "any_fits",
    "beat_from_thread",
    "budget_of",
    "fits",
    "open_ledger",
    "runs_alone",
    "silence_of",
    "url_ends_at",
]


async def open_ledger(settings: Settings, *, create: bool = False, apart: bool = False) -> Ledger:
    """Open the ledger that the settings name, making it first where `create` allows it.

    With `apart` what comes in is written by a process of its own, which ends with this ledger.

    Raises:
        LedgerMissing: there is none at that place; names the absolute path.
        LedgerMismatch: it has another schema version.
        LedgerUnavailable: it cannot be opened right now.
    """
    ledger = await _opened(settings, create)
    if apart:
        ledger.employ(
            Order(
                database_url=settings.database_url,
                path=str(settings.database_path) if settings.embedded else None,
                dedup_days=settings.dedup_days,
                log_level=settings.log_level,
                log_format=settings.log_format,
                secrets=tuple(settings.secret_values()),
            )
        )
    return ledger


async def _opened(settings: Settings, create: bool) -> "SqliteLedger | PostgresLedger":
    if not settings.embedded:
        require_driver()
        from ringback.ledger.postgres import PostgresLedger

        return await PostgresLedger.open(settings.database_url, create=create, dedup_days=settings.dedup_days)
    return await SqliteLedger.open(settings.database_path, create=create, dedup_days=settings.dedup_days)


def beat_from_thread(
    settings: Settings, process: Process, now: datetime, dead_before: datetime, handlers: Mapping[str, Registration]
) -> Sequence[Delivery]:
    """Do what `Ledger.beat` does, and block meanwhile: for a thread whose process' event loop may be blocked.

    Raises:
        LedgerUnavailable: nothing was written; try again.
        LedgerRejected: this can never be written.
    """
    if not settings.embedded:
        from ringback.ledger import postgres

        return postgres.beat_from_thread(settings.database_url, process, now, dead_before, handlers)
    return heart.beat(settings.database_path, process, now, dead_before, handlers)

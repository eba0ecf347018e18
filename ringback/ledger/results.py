"""What is known of results that are stored in a place of the user's own, and what people ask about them. Values only.

Which results there are, their events say; the table `results` holds those that are stored. `protocol.WorkerLedger`
takes a `KeptResult`, `protocol.OperatorLedger.report` the questions.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from ringback import lifecycle
from ringback.model import Result

STORE_RESULTS = "ringback.store_results"  # the built-in handler
LIFE_UNKNOWN = timedelta(hours=24)  # of a URL whose end neither the provider nor our reading of it tells
EXPIRES_SOON = timedelta(hours=1)


def runs_alone(handler: str, lapses: int) -> bool:
    """Tell whether nothing else may run in a worker beside such a delivery.

    Our own handler is under no suspicion, and may take half an hour in which everybody else's would wait.
    """
    return handler != STORE_RESULTS and lifecycle.runs_alone(lapses)


def url_ends_at(result: Result, received_at: datetime) -> datetime:
    """Say when a result's URL ends: as told, else supposed, from when its event was received."""
    return result.expires_at or received_at + LIFE_UNKNOWN


class KeptResult(Struct, frozen=True, kw_only=True):
    """A result that was stored."""

    event_id: str
    position: int  # among the results of its event, from 0
    stored_url: str
    size: int
    sha256: str
    content_type: str | None
    stored_at: datetime


class ResultRow(Struct, frozen=True, kw_only=True):
    """One result as shown to people: whose it is, and what was stored."""

    seq: int  # its event's row: where a list goes on
    event_id: str
    task_id: str
    provider: str
    position: int
    result: Result
    expires_at: datetime  # told, or supposed
    kept: KeptResult | None = None


class ListResults(Struct, frozen=True, kw_only=True):
    """List the results of completed tasks, newest first; `limit` counts events, all results of each are given.

    With `below`, of events before this row only: how a long list is read in parts.
    """

    task_id: str | None = None
    limit: int = 50
    below: int | None = None


class CountResults(Struct, frozen=True, kw_only=True):
    """Count what is stored, and what waits to be."""

    now: datetime


class ResultCounts(Struct, frozen=True, kw_only=True):
    """The answer. What waits is counted where storing was ever on, else nothing does.

    `expiring` are those not stored whose URL ends within an hour, soonest first, `lost` those whose has ended. What was
    given up waits no more, but is listed in `expiring` while there is time to do something about it.
    """

    stored: int = 0
    stored_bytes: int = 0
    waiting: int = 0
    given_up: int = 0  # not stored, and nothing will be tried any more
    expiring: tuple[ResultRow, ...] = ()
    lost: int = 0

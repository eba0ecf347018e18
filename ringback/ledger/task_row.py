"""PURE. The part of a task that arrivals can change, and what a fact or a hint does to it. Called by `fold` alone."""

from msgspec import Struct

from ringback import lifecycle
from ringback.model import Origin, Reading, Source, TaskState

SECOND = 1_000_000  # in the microseconds of all times here
FETCH_SPACING = 5 * SECOND  # hints cause at most one fetch per task in this time


class TaskRow(Struct, array_like=True, kw_only=True):
    """The part of a task that arrivals can change. Times are microseconds, as stored.

    An array in JSON: engines read and write whole batches of them so, in this order of the fields. `was` is the state
    in the database, the guard of the UPDATE; None where the row is new.
    """

    seq: int | None  # its row in the database; None where it is new
    id: str
    was: TaskState | None
    state: TaskState
    provider: str
    provider_id: str | None
    origin: Origin
    settled_by: Source | None
    settled_event: str | None
    settled_at: int | None
    progress: int | None
    charged_microdollars: int | None
    fetch_at: int | None
    fetched_at: int | None
    callbacks: int
    kept: int
    created_at: int
    changed: bool = False
    learnt: bool = False  # its provider id came with this batch


def advance(task: TaskRow, reading: Reading, step: lifecycle.Advance, event_id: str, now: int) -> None:
    """Move a task by a fact that counts."""
    task.state, task.changed = step.state, True
    note_progress(task, reading)
    if reading.charged_microdollars is not None:
        task.charged_microdollars = reading.charged_microdollars
    if lifecycle.is_terminal(step.state):
        task.settled_by, task.settled_event = step.settled_by, event_id
        task.settled_at, task.fetch_at = now, None


def note_progress(task: TaskRow, reading: Reading) -> None:
    """Keep how far it has come."""
    if reading.progress is not None and reading.progress != task.progress and not lifecycle.is_terminal(task.state):
        task.progress = reading.progress
        task.changed = True


def note_charge(task: TaskRow, reading: Reading) -> None:
    """Fill in what the first word on its end left out; what was said once stands.

    But what is told to have ended without a result and then to have completed may well have to be paid: there the
    larger charge counts.
    """
    charge, known = reading.charged_microdollars, task.charged_microdollars
    if charge is None or not lifecycle.is_terminal(task.state):
        return
    completed_all_the_same = reading.status is TaskState.COMPLETED and task.state is not TaskState.COMPLETED
    if (reading.status is task.state and known is None) or (completed_all_the_same and charge > (known or 0)):
        task.charged_microdollars, task.changed = charge, True


def make_due(task: TaskRow, now: int) -> None:
    """Let the poller ask now, but not more than once per task in FETCH_SPACING; what we only presumed is open, too."""
    if lifecycle.is_terminal(task.state) and not lifecycle.is_presumed(task.state, task.settled_by):
        return
    soon = max(now, task.fetched_at + FETCH_SPACING) if task.fetched_at else now
    if task.fetch_at is None or task.fetch_at > soon:
        task.fetch_at = soon
        task.changed = True

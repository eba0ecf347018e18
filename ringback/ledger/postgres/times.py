"""Moves times between a process' clock and the server's, by which all processes agree on what is due.

Pure. Nothing moves where the clocks agree, which is nearly always.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import structs

from ringback.model import Arrival, Task


def moved(at: datetime | None, by: timedelta) -> datetime | None:
    """Move a time, where there is one."""
    return at and at + by


def moved_task(task: Task, by: timedelta) -> Task:
    """Move the times at which somebody is to do something about a task."""
    if not by:
        return task
    return structs.replace(task, resend_at=moved(task.resend_at, by), fetch_at=moved(task.fetch_at, by))


def moved_arrivals(arrivals: Sequence[Arrival], by: timedelta) -> Sequence[Arrival]:
    """Move the times at which these came: what they make due is counted from them."""
    if not by:
        return arrivals
    return [
        structs.replace(one, callback=structs.replace(one.callback, received_at=one.callback.received_at + by))
        for one in arrivals
    ]

"""Between what `fold` reads and decides and the rows of `schema.sql`. No SQL here, no rules."""

from typing import Any

import msgspec

from ringback.ledger.fold import EventRow, Kept, Sighting
from ringback.ledger.sqlite.rows import plain, text
from ringback.ledger.task_row import TaskRow
from ringback.model import microseconds

_task_rows = msgspec.json.Decoder(list[TaskRow]).decode
_event_rows = msgspec.json.Decoder(list[EventRow]).decode


def task_rows(found: str) -> list[TaskRow]:
    """Read the part of tasks that arrivals can change, from the one JSON array that `tasks_by_id` gives."""
    return _task_rows(found)


def event_rows(found: str) -> list[EventRow]:
    """Read what decides about copies of events, from the one JSON array that `events_by_key` gives."""
    return _event_rows(found)


def unknown_task(value: TaskRow) -> tuple[Any, ...]:
    """Write a task that is known from a callback only; in the order of `insert_unknown_tasks`."""
    return (
        value.id,
        value.state._value_,
        value.provider,
        value.provider_id,
        value.origin._value_,
        *_settlement(value),
        value.fetch_at,
        value.callbacks,
        value.kept,
        value.created_at,
    )


def advanced_task(value: TaskRow) -> tuple[Any, ...]:
    """Write the part of a task that arrivals can change; in the order of `advance_tasks`."""
    assert value.was is not None  # noqa: S101 -- a known task has a state in the database
    return (
        value.seq,
        value.was._value_,
        value.state._value_,
        *_settlement(value),
        value.fetch_at,
        value.callbacks,
        value.kept,
    )


def _settlement(value: TaskRow) -> tuple[Any, ...]:
    by = value.settled_by._value_ if value.settled_by else None
    return by, value.settled_event, value.settled_at, value.progress, value.charged_microdollars


def new_event(value: EventRow) -> tuple[Any, ...]:
    """Write a new event; in the order of `insert_events`."""
    arrival = value.arrival
    assert arrival is not None  # noqa: S101 -- new events are made of an arrival
    reading = arrival.reading if value.fact_key else None
    said = reading or arrival.notice
    received_at = microseconds(arrival.callback.received_at)
    return (
        value.id,
        value.type._value_,
        arrival.provider,
        value.task_id,
        reading.status._value_ if reading else None,
        arrival.source._value_,
        arrival.trust._value_,
        value.standing._value_,
        value.conflict or plain(arrival.reason),
        said.event_id if said else None,
        value.event_key,
        value.fact_key,
        text(reading.results) if reading and reading.results else "[]",
        text(reading.error) if reading and reading.error else None,
        arrival.callback.body,
        _headers(arrival.callback.headers),
        received_at,
        received_at,
        value.hold_until,
    )


def sighting(value: Sighting) -> tuple[Any, ...]:
    """Write further requests of a known event; in the order of `count_duplicates`."""
    return value.event_id, value.count, value.last_seen_at, value.newest.callback.body if value.newest else None


def kept(value: Kept) -> tuple[Any, ...]:
    """Write a request that is kept beside the events; in the order of `insert_callbacks`."""
    arrival = value.arrival
    return (
        arrival.provider,
        value.task_id,
        value.event_id,
        value.verdict._value_,
        plain(value.reason),
        arrival.trust._value_,
        microseconds(arrival.callback.received_at),
        _headers(arrival.callback.headers),
        arrival.callback.body if value.with_body else None,
    )


def _headers(found: tuple[tuple[str, str], ...]) -> str:
    return text(found) if found else "[]"

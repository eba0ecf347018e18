"""Between the records of `model` and the rows of `schema.sql`; an intake has its own in `decided`. No SQL, no rules."""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

import msgspec

from ringback.ledger.protocol import DoneStep, KeptCallback
from ringback.ledger.turns import Process
from ringback.model import (
    Attempt,
    Callback,
    Delivery,
    DeliveryState,
    Event,
    EventType,
    Form,
    Origin,
    Outcome,
    Result,
    Source,
    Standing,
    Task,
    TaskError,
    TaskState,
    Trust,
    microseconds,
    moment,
)

# By value: calling an enum costs ten times as much as looking its member up.
TASK_STATES: Mapping[str, TaskState] = {state.value: state for state in TaskState}
SOURCES: Mapping[str, Source] = {source.value: source for source in Source}
ORIGINS: Mapping[str, Origin] = {origin.value: origin for origin in Origin}
EVENT_TYPES: Mapping[str, EventType] = {kind.value: kind for kind in EventType}
TRUSTS: Mapping[str, Trust] = {trust.value: trust for trust in Trust}
STANDINGS: Mapping[str, Standing] = {standing.value: standing for standing in Standing}

NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # not the text \u0000 that stands in a JSON text of its own
_encode = msgspec.json.Encoder().encode
_form = msgspec.json.Decoder(Form).decode
_results = msgspec.json.Decoder(tuple[Result, ...]).decode
_error = msgspec.json.Decoder(TaskError).decode
_headers = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode


class EventsWithTasks:
    """Reads `SELECT e.*, t.*`: by place, since to find a column of a row by its name costs more than to read it."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        names = [column[0] for column in cursor.description]
        second = names.index("seq", 1)
        self._event = itemgetter(*(names.index(name) for name in EVENT))
        self._task = itemgetter(*(names.index(name, second) for name in TASK))

    def event(self, row: Sequence[Any]) -> Event:
        """Read the event."""
        return _event(*self._event(row))

    def task(self, row: Sequence[Any]) -> Task | None:
        """Read its task, if it has one."""
        values = self._task(row)
        return None if values[0] is None else _task(*values)


def text(value: Any) -> str:
    """Write a value as JSON text."""
    return _encode(value).decode()


def parameter(value: Any) -> str:
    """Write rows as the one JSON parameter of a statement.

    Raises:
        ValueError: a text holds a NUL, at which SQLite would silently cut it off.
    """
    written = text(value)
    if r"\u0000" in written and NUL.search(written):
        raise ValueError("a text holds a NUL")
    return written


def when(value: int | None) -> datetime | None:
    """Read a time that may be absent."""
    return None if value is None else moment(value)


def micros(value: datetime | None) -> int | None:
    """Write a time that may be absent."""
    return None if value is None else microseconds(value)


def plain(value: str | None) -> str | None:
    """Bound a text that was written for people."""
    return None if value is None else value[:500].replace("\0", "\ufffd")


TASK = (
    "id", "provider", "provider_id", "origin", "state", "settled_by", "settled_event", "form", "key", "request_hash",
    "metadata", "url_key", "parent", "created_at", "sent_at", "sends", "resend_at", "send_note", "accepted_at",
    "settled_at", "progress", "fetch_at", "fetched_at", "fetches", "callbacks", "price_microdollars",
    "charged_microdollars",
)  # fmt: skip
EVENT = (
    "id", "type", "provider", "task_id", "status", "source", "trust", "standing", "conflict", "provider_event_id",
    "results", "error", "body", "headers", "received_at", "last_seen_at", "duplicates", "fanned_out_at",
)  # fmt: skip


_task_of = itemgetter(*TASK)
_event_of = itemgetter(*EVENT)


def task(row: sqlite3.Row) -> Task:
    """Read a whole task."""
    return _task(*_task_of(row))


def event(row: sqlite3.Row) -> Event:
    """Read a whole event."""
    return _event(*_event_of(row))


def _task(
    task_id: str,
    provider: str,
    provider_id: str | None,
    origin: str,
    state: str,
    settled_by: str | None,
    settled_event: str | None,
    form: str | None,
    key: str | None,
    request_hash: str | None,
    metadata: str,
    url_key: str | None,
    parent: str | None,
    created_at: int,
    sent_at: int | None,
    sends: int,
    resend_at: int | None,
    send_note: str | None,
    accepted_at: int | None,
    settled_at: int | None,
    progress: int | None,
    fetch_at: int | None,
    fetched_at: int | None,
    fetches: int,
    callbacks: int,
    price_microdollars: int | None,
    charged_microdollars: int | None,
) -> Task:
    return Task(
        id=task_id,
        provider=provider,
        provider_id=provider_id,
        origin=ORIGINS[origin],
        state=TASK_STATES[state],
        settled_by=SOURCES[settled_by] if settled_by else None,
        settled_event=settled_event,
        form=_form(form) if form else None,
        key=key,
        request_hash=request_hash,
        metadata={} if metadata == "{}" else msgspec.json.decode(metadata),
        url_key=url_key,
        parent_id=parent,
        created_at=moment(created_at),
        sent_at=when(sent_at),
        sends=sends,
        resend_at=when(resend_at),
        send_note=send_note,
        accepted_at=when(accepted_at),
        settled_at=when(settled_at),
        progress=progress,
        fetch_at=when(fetch_at),
        fetched_at=when(fetched_at),
        fetches=fetches,
        callbacks=callbacks,
        price_microdollars=price_microdollars,
        charged_microdollars=charged_microdollars,
    )


def _event(
    event_id: str,
    kind: str,
    provider: str,
    task_id: str | None,
    status: str | None,
    source: str,
    trust: str,
    standing: str,
    conflict: str | None,
    provider_event_id: str | None,
    results: str,
    error: str | None,
    body: bytes,
    kept_headers: str,
    received_at: int,
    last_seen_at: int,
    duplicates: int,
    fanned_out_at: int | None,
) -> Event:
    return Event(
        id=event_id,
        type=EVENT_TYPES[kind],
        provider=provider,
        task_id=task_id,
        status=TASK_STATES[status] if status else None,
        source=SOURCES[source],
        trust=TRUSTS[trust],
        standing=STANDINGS[standing],
        conflict=conflict,
        provider_event_id=provider_event_id,
        results=() if results == "[]" else _results(results),
        error=_error(error) if error else None,
        body=bytes(body),
        headers=() if kept_headers == "[]" else _headers(kept_headers),
        received_at=moment(received_at),
        last_seen_at=moment(last_seen_at),
        duplicates=duplicates,
        fanned_out_at=when(fanned_out_at),
    )


def new_task(value: Task) -> dict[str, Any]:
    """Write a task that is about to be submitted."""
    return {
        "id": value.id,
        "provider": value.provider,
        "origin": value.origin,
        "state": value.state,
        "form": text(value.form) if value.form else None,
        "key": value.key,
        "request_hash": value.request_hash,
        "metadata": text(value.metadata),
        "url_key": value.url_key,
        "parent": value.parent_id,
        "created_at": microseconds(value.created_at),
        "sent_at": micros(value.sent_at),
        "sends": value.sends,
        "resend_at": micros(value.resend_at),
        "fetch_at": micros(value.fetch_at),
        "price_microdollars": value.price_microdollars,
    }


def kept_callback(row: sqlite3.Row) -> KeptCallback:
    """Read a request that was kept beside the events."""
    return KeptCallback(
        verdict=row["verdict"],
        reason=row["reason"],
        trust=Trust(row["trust"]),
        task_id=row["task_id"],
        event_id=row["event_id"],
        callback=Callback(
            body=bytes(row["body"]), headers=_headers(row["headers"]), received_at=moment(row["received_at"])
        ),
    )


def delivery(row: sqlite3.Row) -> Delivery:
    """Read a delivery, joined with its event's id."""
    return Delivery(
        id=row["id"],
        event_id=row["event_id"],
        handler=row["handler"],
        run=row["run"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        lapses=row["lapses"],
        attempt=row["attempt"],
        worker=row["worker"],
        due_at=moment(row["due_at"]),
        created_at=moment(row["created_at"]),
        settled_at=when(row["settled_at"]),
        reason=row["reason"],
        replayed_by=row["replayed_by"],
        replay_reason=row["replay_reason"],
    )


def attempt(row: sqlite3.Row) -> Attempt:
    """Read an attempt, joined with its delivery's id."""
    return Attempt(
        id=row["id"],
        delivery_id=row["delivery_id"],
        number=row["number"],
        worker=row["worker"],
        started_at=moment(row["started_at"]),
        finished_at=when(row["finished_at"]),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        error=row["error"],
        traceback=row["traceback"],
    )


def step(row: sqlite3.Row) -> DoneStep:
    """Read a step that was done."""
    return DoneStep(name=row["name"], attempt=row["attempt"], done_at=moment(row["done_at"]))


def process(row: sqlite3.Row) -> Process:
    """Read a worker or poller."""
    return Process(
        id=row["id"],
        role=row["role"],
        host=row["host"],
        pid=row["pid"],
        started_at=moment(row["started_at"]),
        silence=timedelta(microseconds=row["dead_at"] - row["seen_at"]),
    )

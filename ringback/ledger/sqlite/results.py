"""Results that are stored: written down, shown with their events, and what waits for them. One place for its SQL.

`turn` and `claims` ask here in their transaction, `reports` on the connection that cannot write.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from ringback.ledger.queries import load
from ringback.ledger.results import (
    EXPIRES_SOON,
    STORE_RESULTS,
    CountResults,
    KeptResult,
    ListResults,
    ResultCounts,
    ResultRow,
    url_ends_at,
)
from ringback.ledger.sqlite import rows
from ringback.model import Event, Result, microseconds, moment

SQL = load("sqlite/results.sql")
END = 1 << 62  # above every row
CHUNK = 10_000  # rows looked at in one statement

_results = msgspec.json.Decoder(tuple[Result, ...]).decode


def keep(db: sqlite3.Connection, kept: Sequence[KeptResult]) -> Sequence[bool]:
    """Write down what was stored; False for each whose event is gone. Inside the writer's transaction."""
    data = [_written(item) for item in {(item.event_id, item.position): item for item in kept}.values()]
    known = {row[0] for row in db.execute(SQL["keep_results"], {"rows": rows.parameter(data)}).fetchall()}
    return [item.event_id in known for item in kept]


def _written(kept: KeptResult) -> list[Any]:
    """Write one, in the order of `keep_results`."""
    stored_at = microseconds(kept.stored_at)
    return [kept.event_id, kept.position, kept.stored_url, kept.size, kept.sha256, kept.content_type, stored_at]


def with_stored(db: sqlite3.Connection, events: Mapping[int, Event]) -> dict[int, Event]:
    """Give these events, by row, each result with where it is stored."""
    given = dict(events)
    kept = _kept(db, {seq: event.id for seq, event in events.items() if event.results})
    for seq in {seq for seq, _ in kept}:
        event = given[seq]
        told = tuple(_told(result, kept.get((seq, place))) for place, result in enumerate(event.results))
        given[seq] = structs.replace(event, results=told)
    return given


def ends(db: sqlite3.Connection, events: Collection[int], *, last: bool) -> dict[int, int]:
    """Tell when the first (or the last) URL of each of these events ends; in microseconds."""
    choose = max if last else min
    found = db.execute(SQL["lives_of_events"], {"events": rows.text(list(events))})
    return {
        seq: choose((microseconds(url_ends_at(result, moment(received_at))) for result in _results(results)), default=0)
        for seq, received_at, results in found
    }


def unstored(db: sqlite3.Connection, events: Collection[int], now: int) -> set[int]:
    """Give those of these events whose results somebody is still to store, and can: a URL of them has not ended."""
    values = {"events": rows.text(list(events)), "handler": STORE_RESULTS}
    waiting = {row[0] for row in db.execute(SQL["being_stored"], values)}
    return {seq for seq, end in ends(db, waiting, last=True).items() if end > now} if waiting else set()


def postpone(db: sqlite3.Connection, deliveries: Sequence[int], until: int) -> None:
    """Look at these again later; `nudge` makes it sooner."""
    db.execute(SQL["postpone"], {"deliveries": rows.text(deliveries), "until": until})


def nudge(db: sqlite3.Connection, events: Collection[int], now: int) -> None:
    """Let go what waits for the results of these events."""
    db.execute(SQL["nudge"], {"events": rows.text(sorted(events)), "now": now})


def listed(db: sqlite3.Connection, ask: ListResults) -> tuple[ResultRow, ...]:
    """List results, newest event first."""
    below = END if ask.below is None else ask.below
    if ask.task_id is not None:
        found = db.execute(SQL["event_with_results"], {"task_id": ask.task_id, "below": below}).fetchall()
    else:
        found = db.execute(SQL["events_with_results"], {"limit": ask.limit, "below": below}).fetchall()
    return tuple(_rows(db, found))


def counted(db: sqlite3.Connection, ask: CountResults) -> ResultCounts:
    """Count what is stored, and what waits to be."""
    stored, size = db.execute(SQL["count_stored"]).fetchone()
    handler = {"handler": STORE_RESULTS}
    if not db.execute(SQL["storing_is_known"], handler).fetchone()[0]:
        return ResultCounts(stored=stored, stored_bytes=size)
    given_up: dict[int, bool] = dict(db.execute(SQL["events_to_store"], handler).fetchall())
    waiting, lost, ended = 0, 0, 0
    expiring: list[ResultRow] = []
    for row in _missing(db, list(given_up)):
        waiting += not given_up[row.seq]
        ended += given_up[row.seq]
        if row.expires_at <= ask.now:
            lost += 1
        elif row.expires_at <= ask.now + EXPIRES_SOON:
            expiring.append(row)
    expiring.sort(key=lambda row: (row.expires_at, row.seq, row.position))
    return ResultCounts(
        stored=stored, stored_bytes=size, waiting=waiting, given_up=ended, expiring=tuple(expiring), lost=lost
    )


def _missing(db: sqlite3.Connection, events: Sequence[int]) -> Iterable[ResultRow]:
    for start in range(0, len(events), CHUNK):
        found = db.execute(SQL["events_by_seq"], {"events": rows.text(events[start : start + CHUNK])}).fetchall()
        yield from (row for row in _rows(db, found) if row.kept is None)


def _rows(db: sqlite3.Connection, found: Sequence[Sequence[Any]]) -> list[ResultRow]:
    """Make the rows of events, each with what was stored of it."""
    kept = _kept(db, {row[0]: row[1] for row in found})
    return [
        ResultRow(
            seq=seq,
            event_id=event_id,
            task_id=task_id,
            provider=provider,
            position=position,
            result=_told(result, kept.get((seq, position))),
            expires_at=url_ends_at(result, moment(received_at)),
            kept=kept.get((seq, position)),
        )
        for seq, event_id, task_id, provider, received_at, results in found
        for position, result in enumerate(_results(results))
    ]


def _told(result: Result, kept: KeptResult | None) -> Result:
    if kept is None:
        return result
    return structs.replace(result, stored_url=kept.stored_url, size=kept.size, sha256=kept.sha256)


def _kept(db: sqlite3.Connection, events: Mapping[int, str]) -> dict[tuple[int, int], KeptResult]:
    if not events:
        return {}
    found = db.execute(SQL["stored_of_events"], {"events": rows.text(list(events))})
    return {
        (seq, position): KeptResult(
            event_id=events[seq],
            position=position,
            stored_url=stored_url,
            size=size,
            sha256=sha256,
            content_type=content_type,
            stored_at=moment(stored_at),
        )
        for seq, position, stored_url, size, sha256, content_type, stored_at in found
    }

"""Arrivals, written as one batch: what `fold` decides, in a handful of set-based statements."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ringback import lifecycle
from ringback.ledger import fold, identity
from ringback.ledger.queries import Statement, execute_many, load
from ringback.ledger.sqlite import decided, rows
from ringback.ledger.task_row import TaskRow
from ringback.model import Arrival, Kind, Origin, Receipt, Source, microseconds

SQL = load("sqlite/intake.sql")


def record(db: sqlite3.Connection, arrivals: Sequence[Arrival], dedup: timedelta) -> Sequence[Receipt]:
    """Store arrivals; the receipts are in their order."""
    ids = list({arrival.task_id for arrival in arrivals if arrival.task_id})
    if ids and (pairs := _pairs(arrival for arrival in arrivals if arrival.task_id is None)):
        db.execute(SQL["lock_named"], {"ids": rows.text(ids), "pairs": rows.text(pairs)})
    found = _found(db, SQL["tasks_by_id"], ids=ids) if ids else {}
    if all(_is_usual(arrival, found) for arrival in arrivals):
        folding = fold.Fold(found.values(), frozenset(), dedup, {})
    else:
        known = _tasks(db, arrivals, found)
        folding = fold.Fold(known, _waiting(db, arrivals, known), dedup, _strays(db, arrivals, known))
    resolved = folding.resolve(arrivals)
    folding.know(_events(db, resolved))
    batch = folding.run(resolved)
    _write(db, batch)
    return batch.receipts


def reject(db: sqlite3.Connection, counts: Sequence[tuple[Mapping[tuple[str, str], int], datetime]]) -> Sequence[None]:
    """Add to the counts of rejected requests, and write one row in any case, where callbacks could be written, too."""
    data = [
        [provider, reason, now.date().isoformat(), count]
        for group, now in counts
        for (provider, reason), count in group.items()
    ]
    execute_many(db, SQL["count_rejections"], data)
    db.execute(SQL["reach_tables"])
    db.execute(SQL["probe"], {"now": microseconds(max(now for _, now in counts))})
    return [None] * len(counts)


def _is_usual(arrival: Arrival, found: Mapping[str, TaskRow]) -> bool:
    """Tell whether it is about a submitted task of ours whose id at the provider is known: nothing more to look up."""
    task = found.get(arrival.task_id or "")
    return task is not None and task.origin is Origin.SUBMISSION and _is_named(task, arrival)


def _tasks(db: sqlite3.Connection, arrivals: Iterable[Arrival], found: dict[str, TaskRow]) -> list[TaskRow]:
    """Add the tasks that bodies name, where their URLs do not say it all."""
    if pairs := _pairs(a for a in arrivals if not _is_named(found.get(a.task_id or ""), a)):
        found = found | _found(db, SQL["tasks_by_provider_id"], pairs=pairs)
    return list(found.values())


def _pairs(arrivals: Iterable[Arrival]) -> list[tuple[str, str]]:
    """Give each provider and id of a task there that the arrivals name."""
    return list({(a.provider, a.reading.provider_id) for a in arrivals if a.reading and a.reading.provider_id})


def _found(db: sqlite3.Connection, query: Statement, **parameters: Any) -> dict[str, TaskRow]:
    (text,) = db.execute(query, {name: rows.text(value) for name, value in parameters.items()}).fetchone()
    return {task.id: task for task in decided.task_rows(text)}


def _is_named(task: TaskRow | None, arrival: Arrival) -> bool:
    """Tell whether the arrival's own task already has the id that its body names: the usual case, one query less."""
    return task is not None and arrival.reading is not None and task.provider_id == arrival.reading.provider_id


def _waiting(db: sqlite3.Connection, arrivals: Iterable[Arrival], known: Iterable[TaskRow]) -> frozenset[str]:
    ours = {task.id for task in known if task.origin is Origin.SUBMISSION}
    providers = list({a.provider for a in arrivals if a.kind is Kind.FACT and a.task_id not in ours})
    if not providers:
        return frozenset()
    found = db.execute(SQL["waiting_providers"], {"providers": rows.parameter(providers)})
    return frozenset(row[0] for row in found)


def _strays(db: sqlite3.Connection, arrivals: Iterable[Arrival], known: Iterable[TaskRow]) -> dict[str, int]:
    """Count what is kept for tasks that URLs name and nobody knows; there are at most fold.KEPT_PER_TASK of each."""
    unknown = {arrival.task_id for arrival in arrivals if arrival.task_id} - {task.id for task in known}
    if not unknown:
        return {}  # the usual case
    return dict(db.execute(SQL["count_strays"], {"ids": rows.text(list(unknown))}).fetchall())


def _events(
    db: sqlite3.Connection, resolved: Iterable[tuple[Arrival, TaskRow | None, str | None]]
) -> Iterable[fold.EventRow]:
    facts, keys = set(), set()
    for arrival, task, problem in resolved:
        if arrival.kind is Kind.FACT and problem is None and task is not None and arrival.reading is not None:
            if arrival.source is Source.RINGBACK or not lifecycle.is_news(task.state, arrival.reading.status):
                facts.add(identity.fact_key(task.id, arrival.reading.status, arrival.source))
            if key := identity.event_key(arrival, task.id):
                keys.add(key)
        elif arrival.kind is Kind.RECEIVED:
            keys.add(identity.received_key(arrival))
        elif arrival.kind is not Kind.HINT:
            keys.add(identity.unrecognised_key(arrival))
    if not (facts or keys):
        return ()  # the usual case
    parameters = {"facts": rows.parameter(list(facts)), "keys": rows.parameter(list(keys))}
    (found,) = db.execute(SQL["events_by_key"], parameters).fetchone()
    return decided.event_rows(found)


def _write(db: sqlite3.Connection, batch: fold.Batch) -> None:
    new: list[TaskRow] = []
    known: list[TaskRow] = []
    for task in batch.tasks:
        (known if task.was else new).append(task)
    execute_many(db, SQL["insert_unknown_tasks"], map(decided.unknown_task, new))
    execute_many(db, SQL["advance_tasks"], map(decided.advanced_task, known))
    execute_many(db, SQL["learn_provider_ids"], ((task.id, task.provider_id) for task in known if task.learnt))
    execute_many(db, SQL["insert_events"], map(decided.new_event, batch.events))
    execute_many(db, SQL["count_duplicates"], map(decided.sighting, batch.sightings.values()))
    execute_many(db, SQL["insert_callbacks"], map(decided.kept, batch.kept))

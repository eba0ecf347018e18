"""What operators do: look up what is meant on the reading connection, then do a small step of it in the writer's.

So a filter that walks through a large table never holds up callbacks, and what a worker did in between is respected.
Called by `Methods.act`, on both engines.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from ringback.errors import NotFound
from ringback.ledger.actions import Action, Cancel, Discard, Done, Replay, ReplayEvents
from ringback.ledger.queries import load
from ringback.ledger.sqlite import fan_out, matching, rows, settling
from ringback.model import DeliveryState, microseconds

SQL = load("sqlite/operations.sql")
SHOWN = 5  # how many a dry run names
UNFINISHED = frozenset({DeliveryState.PENDING, DeliveryState.RUNNING})


@dataclass(frozen=True, slots=True)
class Found:
    """What is meant, by row, and what is known of the end before anything is done."""

    meant: tuple[int, ...]
    done: Done


def look(db: sqlite3.Connection, action: Action) -> Found:
    """Find what the next step is about; in a dry run what all steps are about."""
    if isinstance(action, ReplayEvents):
        return _look_for_events(db, action)
    return _look_for_deliveries(db, action)


def do(db: sqlite3.Connection, steps: Sequence[tuple[Action, Found]]) -> Sequence[Done]:
    """Do a step each; inside the writer's transaction."""
    return [replace(found.done, **_did(_apply(db, action, found.meant))) for action, found in steps]


def _did(ids: tuple[str, ...]) -> dict[str, Any]:
    return {"count": len(ids), "ids": ids}


def _apply(db: sqlite3.Connection, action: Action, meant: Sequence[int]) -> tuple[str, ...]:
    told = {"now": microseconds(action.now), "by": action.by, "reason": rows.plain(action.reason)}
    match action:
        case Replay():
            still = rows.text(_replayable(db, action, meant))
            return _again(db, db.execute(SQL["replay"], told | {"deliveries": still}), action.fresh)
        case Cancel() | Discard():
            word = DeliveryState.CANCELLED if isinstance(action, Cancel) else DeliveryState.DISCARDED
            why = f"{word} by {action.by}" + (f": {action.reason}" if action.reason else "")
            values = {"deliveries": rows.text(meant), "state": word, "now": told["now"], "reason": rows.plain(why)}
            ended = db.execute(SQL["end_pending"], values).fetchall()
            settling.lock(db, {handler for _, handler, _ in ended})
            settling.free(db, {(handler, key) for _, handler, key in ended if key is not None})
            return tuple(row[0] for row in ended)
        case ReplayEvents():
            values = told | {"events": rows.text(meant), "handler": action.handler}
            return _again(db, db.execute(SQL["replay_events"], values), action.fresh)
        case _ as unreachable:
            assert_never(unreachable)


def _again(db: sqlite3.Connection, made: Iterable[tuple[str]], fresh: bool) -> tuple[str, ...]:
    """Give the ids of the new runs; where they are to be fresh, forget the steps of those before."""
    ids = tuple(row[0] for row in made)
    if fresh and ids:
        db.execute(SQL["forget_steps"], {"deliveries": rows.text(ids)})
    return ids


def _look_for_deliveries(db: sqlite3.Connection, action: Replay | Cancel | Discard) -> Found:
    query = action.query
    named, replaying = query.ids is not None, isinstance(action, Replay)
    if replaying and not named:
        query = replace(query, latest=True)
    everything = named or action.dry_run
    # A settled one that a filter happens to fit is nothing to be told of when ending some, one that was named is.
    within = frozenset(DeliveryState) if named or replaying else UNFINISHED
    limit = None if everything else query.limit
    found = matching.deliveries(db, query, limit, below=action.after, within=within)
    if query.ids is not None:
        _check_known(query.ids, {match.id for match in found})
    if isinstance(action, Replay):
        meant = set(_replayable(db, action, [match.seq for match in found]))
    else:
        meant = {match.seq for match in found if match.state is DeliveryState.PENDING}
    left = Counter(match.state for match in found if match.seq not in meant)
    ids = tuple(match.id for match in found if match.seq in meant)
    more = found[-1].seq if found and not everything and len(found) == query.limit else None
    return Found(tuple(sorted(meant)), _first(action.dry_run, ids, left, more))


def _first(dry_run: bool, ids: tuple[str, ...], left: Mapping[DeliveryState, int], more: int | None) -> Done:
    """Tell what would be done; the writer puts what was done in its place."""
    if dry_run:
        return Done(count=len(ids), skipped=left, ids=ids[:SHOWN])
    return Done(skipped=left, next=more)


def _check_known(ids: Sequence[str], known: set[str]) -> None:
    if missing := [name for name in ids if name not in known]:
        raise NotFound(f"no delivery {missing[0]}; see: ringback deliveries list")


def _replayable(db: sqlite3.Connection, action: Replay, seqs: Sequence[int]) -> list[int]:
    values = {"deliveries": rows.text(seqs), "latest": action.query.ids is None}
    return [row[0] for row in db.execute(SQL["replayable"], values)]


def _look_for_events(db: sqlite3.Connection, action: ReplayEvents) -> Found:
    handlers = {handler.name: handler for handler in fan_out.handlers(db)}
    if (handler := handlers.get(action.handler)) is None:
        known = ", ".join(sorted(handlers)) or "none yet; start its worker first"
        raise NotFound(f"no handler {action.handler!r} was ever registered; known: {known}")
    since = microseconds(action.since)
    first = fan_out.first_event(db, since)
    if first is None:
        return Found((), Done())
    values = {
        "handler": action.handler, "since": since, "until": microseconds(action.until), "status": action.status,
        "provider": action.provider, "type": action.type, "limit": -1 if action.dry_run else action.limit,
        "from_seq": first if action.after is None else max(first, action.after + 1),
    }  # fmt: skip
    found: list[tuple[Any, ...]] = db.execute(SQL["matching_events"], values).fetchall()
    wanted = [row[:3] for row in found if handler.wants(*row[3:])]
    left = Counter(DeliveryState(state) for _, _, state in wanted if state is not None)
    meant = [(seq, name) for seq, name, state in wanted if state is None]
    more = found[-1][0] if len(found) == action.limit else None
    return Found(tuple(seq for seq, _ in meant), _first(action.dry_run, tuple(name for _, name in meant), left, more))

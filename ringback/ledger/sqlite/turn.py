"""A worker's turn, in one transaction: store what ended, claim what is due, fan out what is new."""

import sqlite3
from collections.abc import Sequence

from ringback.ledger.sqlite import claims, fan_out, rows, settling
from ringback.ledger.sqlite.seats import Seats
from ringback.ledger.turns import Turn, Turned, Work


def take(db: sqlite3.Connection, turns: Sequence[Turn]) -> Sequence[Turned]:
    """Take turns, one after another."""
    return [_take(db, turn) for turn in turns]


def _take(db: sqlite3.Connection, turn: Turn) -> Turned:
    claims.lock(db, turn)
    settled = settling.settle(db, turn.settled)
    claims.store_keys(db, turn)
    # What was due before comes first; what is new begins where there is room left.
    seats = Seats(db, turn)
    claimed = claims.claim(db, turn, seats)
    looking_back, fanned_out = False, 0
    begun: list[Work] = []
    if turn.fan_out > 0:
        wanted = fan_out.handlers(db)
        looking_back = fan_out.look_back(db, turn, wanted)
        fanned_out, begun = fan_out.fan_out(db, turn, wanted, seats.take_new)
    seats.count_starts(db)
    works = (*claimed.works, *begun)
    moments = [*seats.next_at, claimed.next_due_at, None if works else claims.next_event(db)]
    return Turned(
        settled=settled,
        works=works,
        keyless=claimed.keyless,
        fanned_out=fanned_out,
        more=bool(works or claimed.keyless or claimed.parked or fanned_out or looking_back),
        next_due_at=None if works else rows.when(min((one for one in moments if one is not None), default=None)),
    )

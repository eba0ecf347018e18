"""How many attempts may begin in one turn: the worker's own room, and each handler's limits over all workers.

Called by `turn`, in its transaction.
"""

import sqlite3
from collections import Counter
from datetime import timedelta

from ringback.ledger.queries import execute_many, load
from ringback.ledger.turns import Rate, Share, Turn
from ringback.model import microseconds

SQL = load("sqlite/claims.sql")
MICROSECOND = timedelta(microseconds=1)
GRAINS = 1000  # a period's starts are counted in so many parts: a few rows, however many a rate allows
LATE = 10_000_000  # microseconds that a turn may wait for the database, and clocks of workers may differ


class Seats:
    """What is left of them. Taken one by one; at the end what began is counted where there is a rate."""

    def __init__(self, db: sqlite3.Connection, turn: Turn) -> None:
        self.left = max(0, turn.limit)
        self.closed = False  # nothing that is due later may begin: what lapsed waits to be alone
        self.next_at: list[int] = []  # when rates let the next attempts begin
        self._now = microseconds(turn.now)
        self._shares = turn.shares
        self._rooms = {name: self._room(db, name, share) for name, share in turn.shares.items()} if self.left else {}
        self._begun: Counter[str] = Counter()

    def room(self, handler: str) -> int:
        """Tell how many of a handler may still begin."""
        return min(self.left, self._rooms.get(handler, 0))

    def take(self, handler: str) -> None:
        """Let one begin."""
        self.left -= 1
        self._rooms[handler] -= 1
        self._begun[handler] += 1

    def take_new(self, handler: str) -> bool:
        """Let one begin that was just fanned out, where nothing but the room has to be looked at."""
        if self.closed or self.room(handler) <= 0 or self._shares[handler].limited:
            return False
        self.take(handler)
        return True

    def count_starts(self, db: sqlite3.Connection) -> None:
        """Write down what began, for those handlers that have a rate."""
        begun = [
            (name, self._start(rate), count)
            for name, count in self._begun.items()
            if (rate := self._shares[name].rate) is not None
        ]
        execute_many(db, SQL["count_starts"], begun)

    def _room(self, db: sqlite3.Connection, name: str, share: Share) -> int:
        room = share.room
        if room > 0 and share.concurrency is not None:
            running = db.execute(SQL["count_running"], {"handler": name}).fetchone()[0]
            room = min(room, share.concurrency - running)
        if room > 0 and share.rate is not None:
            room = min(room, self._allowed(db, name, share.rate))
        return room

    def _allowed(self, db: sqlite3.Connection, name: str, rate: Rate) -> int:
        """Tell how many may begin now, so that no period sees more than the rate."""
        period = rate.period // MICROSECOND
        since = self._now - period
        db.execute(SQL["forget_starts"], {"handler": name, "before": since - LATE})
        # What lies far ahead was written under a clock that was wrong: it must not hold the handler up until then.
        span = {"handler": name, "since": since, "until": self._start(rate) + LATE}
        starts: list[tuple[int, int]] = db.execute(SQL["starts"], span).fetchall()
        left = rate.count - sum(count for _, count in starts)
        if left <= 0:
            self.next_at.append(starts[0][0] + period)
        return left

    def _start(self, rate: Rate) -> int:
        """Give the time under which a start is counted: never too early, or a period might see too many."""
        grain = max(1, rate.period // MICROSECOND // GRAINS)
        return -(-self._now // grain) * grain

"""The numbers that events and attempts have in PostgreSQL, where each is made of its time. Pure.

So a row lies in the partition of its week, in the order of what came before and after. It is the old number that tells
apart what has the same millisecond.
"""

from collections.abc import Mapping

from ringback.ledger.retention import Level

SHIFT = 20  # as in `postgres.partitions`, which makes the spans
LATEST = 1 << 42  # milliseconds since 1970: in 2109
LOWERED = 1 << 62  # an event of which only the keys are left lies by so much lower, out of the way of the weeks


class Numbers:
    """Those of one table. `places` are of rows that would have the number of another one: each gives way so many ms."""

    def __init__(self, places: Mapping[int, int]) -> None:
        self._places = places

    def of_attempt(self, finished_at: int, seq: int) -> int | None:
        """Give the number of an attempt; None where its time is out of range."""
        milliseconds = finished_at // 1000 + self._places.get(seq, 0)
        return milliseconds << SHIFT | seq % (1 << SHIFT) if 0 < milliseconds < LATEST else None

    def of_event(self, received_at: int | None, seq: int, pruned: int) -> int | None:
        """Give the number of an event; None where its time is out of range, or it is not there."""
        number = None if received_at is None else self.of_attempt(received_at, seq)
        return number - LOWERED if number is not None and pruned == Level.KEYS_ONLY else number

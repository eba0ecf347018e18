"""Reads a table for its proof: how many rows it has, and a checksum of all that they say. The same on both engines.

The checksum is the sum of the hashes of its rows, so their order does not matter, and nothing is held in memory. What
is left out is what a move changes: the numbers of events and attempts, and where they are referred to.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import msgspec

BYTES = 16
SEQ = frozenset({"seq"})
EVENT_SEQ = frozenset({"event_seq"})
# `seq` of url_keys is their rowid on SQLite, where `*` does not give it.
CHANGED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "tasks": frozenset({"stage"}),  # which PostgreSQL makes of the state
        "events": SEQ,
        "attempts": SEQ,
        "url_keys": SEQ,
        "deliveries": EVENT_SEQ,
        "steps": EVENT_SEQ,
        "results": EVENT_SEQ,
        "handlers": frozenset({"catch_up"}),
    }
)

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Proof:
    """What one side has of a table."""

    table: str
    rows: int
    checksum: str


def prove(table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Proof:
    """Read all rows of a table, whose columns may stand in any order."""
    left_out = CHANGED.get(table, frozenset())
    names = sorted(set(columns) - left_out)
    pick = itemgetter(*(columns.index(name) for name in names))
    count = total = 0
    for row in rows:
        total += int.from_bytes(blake2b(_encode(pick(row)), digest_size=BYTES).digest())
        count += 1
    seal = blake2b(_encode((names, count)) + (total % (1 << 8 * BYTES)).to_bytes(BYTES), digest_size=BYTES)
    return Proof(table, count, seal.hexdigest())

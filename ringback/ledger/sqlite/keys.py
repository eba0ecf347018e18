"""The secrets behind our callback URLs, known by fingerprint."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from ringback.errors import LedgerMismatch, NotFound
from ringback.ledger.queries import load
from ringback.model import microseconds

SQL = load("sqlite/keys.sql")


def enlist(db: sqlite3.Connection, wishes: Sequence[tuple[Sequence[str], datetime]]) -> Sequence[Exception | None]:
    """Remember secrets, given newest first."""
    return [_enlist(db, *wish) for wish in wishes]


def _enlist(db: sqlite3.Connection, fingerprints: Sequence[str], now: datetime) -> Exception | None:
    newest = db.execute(SQL["newest_key"]).fetchone()
    if newest is not None and newest[0] not in fingerprints:
        return LedgerMismatch(
            f"RINGBACK_SECRET lacks the newest secret that this ledger was used with (fingerprint {newest[0]}); "
            "add it to the list, or callbacks of its open tasks would be turned away; "
            f"if it is lost or has leaked: ringback migrate --forget-secret {newest[0]}"
        )
    for fingerprint in reversed(fingerprints):  # oldest first, so that the newest is the last one seen
        db.execute(SQL["insert_key"], {"fingerprint": fingerprint, "now": microseconds(now)})
    return None


def forget(db: sqlite3.Connection, fingerprint: str) -> int:
    """Take a secret off the list, under the caller's lock; gives how many open tasks were sent under it.

    Raises:
        NotFound: no such secret is known; names those that are.
    """
    name = {"fingerprint": fingerprint}
    if not db.execute(SQL["forget_key"], name).rowcount:
        known = ", ".join(row[0] for row in db.execute(SQL["known_keys"])) or "none"
        raise NotFound(f"this ledger knows no secret {fingerprint!r}; by fingerprint, newest first, it knows: {known}")
    return int(db.execute(SQL["open_tasks_of_key"], name).fetchone()[0])

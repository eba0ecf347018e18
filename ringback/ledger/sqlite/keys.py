"""The secrets behind our callback URLs, known by fingerprint."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from ringback.errors import LedgerMismatch, NotFound
from ringback.model import microseconds

# The newest is the one first seen last; a process that lacks it would turn away the callbacks of tasks sent under it.
NEWEST = "SELECT fingerprint FROM url_keys ORDER BY first_seen_at DESC, rowid DESC LIMIT 1"
INSERT = "INSERT INTO url_keys (fingerprint, first_seen_at) VALUES (?, ?) ON CONFLICT DO NOTHING"
KNOWN = "SELECT fingerprint FROM url_keys ORDER BY first_seen_at DESC, rowid DESC"
DELETE = "DELETE FROM url_keys WHERE fingerprint = ?"
OPEN_TASKS = "SELECT count(*) FROM tasks WHERE url_key = ? AND settled_at IS NULL"


def enlist(db: sqlite3.Connection, wishes: Sequence[tuple[Sequence[str], datetime]]) -> Sequence[Exception | None]:
    """Remember secrets, given newest first."""
    return [_enlist(db, *wish) for wish in wishes]


def _enlist(db: sqlite3.Connection, fingerprints: Sequence[str], now: datetime) -> Exception | None:
    newest = db.execute(NEWEST).fetchone()
    if newest is not None and newest[0] not in fingerprints:
        return LedgerMismatch(
            f"RINGBACK_SECRET lacks the newest secret that this ledger was used with (fingerprint {newest[0]}); "
            "add it to the list, or callbacks of its open tasks would be turned away; "
            f"if it is lost or has leaked: ringback migrate --forget-secret {newest[0]}"
        )
    for fingerprint in reversed(fingerprints):  # oldest first, so that the newest is the last one seen
        db.execute(INSERT, (fingerprint, microseconds(now)))
    return None


def forget(db: sqlite3.Connection, fingerprint: str) -> int:
    """Take a secret off the list, under the caller's lock; gives how many open tasks were sent under it.

    Raises:
        NotFound: no such secret is known; names those that are.
    """
    if not db.execute(DELETE, (fingerprint,)).rowcount:
        known = ", ".join(row[0] for row in db.execute(KNOWN)) or "none"
        raise NotFound(f"this ledger knows no secret {fingerprint!r}; by fingerprint, newest first, it knows: {known}")
    return int(db.execute(OPEN_TASKS, (fingerprint,)).fetchone()[0])

"""The secrets behind our callback URLs, known by fingerprint."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from ringback.errors import LedgerMismatch
from ringback.model import microseconds

# The newest is the one first seen last; a process that lacks it would turn away the callbacks of tasks sent under it.
NEWEST = "SELECT fingerprint FROM url_keys ORDER BY first_seen_at DESC, rowid DESC LIMIT 1"
INSERT = "INSERT INTO url_keys (fingerprint, first_seen_at) VALUES (?, ?) ON CONFLICT DO NOTHING"


def enlist(db: sqlite3.Connection, wishes: Sequence[tuple[Sequence[str], datetime]]) -> Sequence[Exception | None]:
    """Remember secrets, given newest first."""
    return [_enlist(db, *wish) for wish in wishes]


def _enlist(db: sqlite3.Connection, fingerprints: Sequence[str], now: datetime) -> Exception | None:
    newest = db.execute(NEWEST).fetchone()
    if newest is not None and newest[0] not in fingerprints:
        return LedgerMismatch(
            f"RINGBACK_SECRET lacks the newest secret that this ledger was used with (fingerprint {newest[0]}); "
            "add it to the list, or callbacks of its open tasks would be turned away"
        )
    for fingerprint in reversed(fingerprints):  # oldest first, so that the newest is the last one seen
        db.execute(INSERT, (fingerprint, microseconds(now)))
    return None

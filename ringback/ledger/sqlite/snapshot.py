"""Several statements that read see one state of the ledger. Called on a connection that cannot write."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """Have one snapshot for a block."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")

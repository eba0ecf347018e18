"""A heartbeat from a thread of its own, which goes on while a handler blocks the event loop and with it the writer.

It opens a connection for each beat: once in some seconds that costs nothing, nothing has to be kept whole in between,
and after trouble with the file the next beat begins anew. Called through `ledger.beat_from_thread`.
"""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from ringback.ledger.sqlite import settling
from ringback.ledger.sqlite.commits import trouble, verdict
from ringback.ledger.sqlite.lock import FileLock
from ringback.ledger.turns import Process, Registration
from ringback.model import Delivery

SETUP = "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA busy_timeout = 2000;"


def beat(
    path: Path, process: Process, now: datetime, dead_before: datetime, handlers: Mapping[str, Registration]
) -> Sequence[Delivery]:
    """Do what `Ledger.beat` does, and block meanwhile.

    Raises:
        LedgerUnavailable: nothing was written; try again.
        LedgerRejected: this can never be written.
    """
    path = Path(os.path.realpath(path))  # two names of one file must share one lock
    lock = FileLock.beside(path)
    try:
        with lock.held(), closing(sqlite3.connect(_uri(path), uri=True, isolation_level=None)) as db:
            db.executescript(SETUP)
            db.execute("BEGIN IMMEDIATE")  # without the COMMIT, closing undoes it
            (lapsed,) = settling.beat(db, [(process, now, dead_before, handlers, False)])
            db.execute("COMMIT")
            return lapsed
    except sqlite3.Error as error:
        raise trouble(error) or verdict(error) from error
    finally:
        lock.close()


def _uri(path: Path) -> str:
    return f"file:{quote(str(path))}?mode=rw"

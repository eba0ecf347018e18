"""Batches of PostgreSQL: each is one transaction, tried again where somebody else was there at the same moment.

What is read to decide on is locked by the statement that reads it; where two insert the same fact, the second one's
batch fails and is decided anew, with what the first one wrote. Where the connection is lost in a COMMIT, the server is
asked what became of it.
"""

import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import psycopg
import structlog
from psycopg.pq import TransactionStatus

from ringback.errors import LedgerUnavailable, RingbackError
from ringback.ledger.postgres import faults
from ringback.ledger.postgres.connection import Connection
from ringback.ledger.postgres.link import Clock, Link, transaction
from ringback.ledger.postgres.pipeline import Pipeline
from ringback.ledger.sqlite.commits import Commits, Operation, Operations, Request, Tell

log = structlog.get_logger("ringback.ledger")

CHANNEL = "ringback"
TRIES = 5
PROOF_SECONDS = 2.0  # how long to ask what became of a commit
PROOF_PAUSE_SECONDS = 0.1
DOUBTS = 100  # commits to ask about later: what was promised in more of them, nobody takes back
HELD_SECONDS = 2.0  # how long to try for what somebody else holds
PAUSE_SECONDS = 0.02
LOST = "lost"  # with the server that knew it
# The limits are less than what who waits for an answer waits. The plans are made before there are statistics: each of
# these statements has its index.
FIRST = (
    b"BEGIN ISOLATION LEVEL READ COMMITTED",
    b"SELECT set_config('statement_timeout', '2s', true), set_config('lock_timeout', '300ms', true), "
    b"set_config('idle_in_transaction_session_timeout', '5s', true), set_config('enable_seqscan', 'off', true), "
    b"set_config('jit', 'off', true)",
)
# No limit for the commit: one that waits for a standby which has to have it, too, would then count as done without.
PATIENT = b"SELECT set_config('statement_timeout', '0', true)"
TELLING = PATIENT + f", pg_notify('{CHANNEL}', '%s')".encode()
# The same where they go in one text; `Pipeline` takes one statement at a time.
BEGIN = b"; ".join(FIRST).decode()
COMMIT = f"{PATIENT.decode()}; COMMIT"
NOTIFY = f"{PATIENT.decode()}; NOTIFY {CHANNEL}, '%s'; COMMIT"
MEASURED = 8  # of so many batches that are sent together with their commit, one waits for it by itself, to time it

Undo = Callable[[Connection, Sequence[Any]], None]


class Doubt(LedgerUnavailable):
    """Nobody can say now whether a batch was committed."""


class PostgresCommits(Commits):
    """The work of the writer's thread.

    `harmless` are operations that may be done twice, or be lost: after a doubtful commit nothing is asked about them.
    `undo` takes back what the answers of a batch have promised to somebody who never got them.
    """

    def __init__(
        self,
        clock: Clock,
        harmless: Sequence[Operation],
        undo: Undo,
        token: str,
        waiting: deque[Request],
        tell: Tell,
    ) -> None:
        super().__init__(waiting, tell)
        self._clock = clock
        self._harmless = frozenset(harmless)
        self._undo = undo
        self._telling = TELLING % token.encode()
        self._commit = NOTIFY % token
        self._batches = 0
        self._doubts: deque[tuple[str, str, Sequence[Any]]] = deque()  # server, transaction, answers

    def transaction(self, link: Link, operations: Operations) -> tuple[list[Sequence[Any]], bool]:
        """Run one batch; tells also whether it changed anything."""
        end = time.monotonic() + HELD_SECONDS
        for tries in count(1):
            try:
                return self._try(link, operations)
            except psycopg.Error as error:
                link.learn(error)
                if error.sqlstate in faults.HELD and time.monotonic() < end:
                    time.sleep(random.random() * PAUSE_SECONDS)  # noqa: S311 -- so that two do not meet again
                elif tries >= TRIES or not (faults.is_lost(error) or error.sqlstate in faults.TRANSIENT):
                    if faults.is_records_fault(error) or faults.is_misuse(error):
                        raise  # each is tried alone: it may be one's alone
                    raise faults.trouble(error) from error
        raise AssertionError  # pragma: no cover -- it returns or raises

    def _take(self, most: int) -> list[Request]:
        """Take requests of one kind: in one transaction with others they would hold rows that those wait for."""
        taken = super()._take(most)
        others = [request for request in taken if request.operation != taken[0].operation]
        if not others:
            return taken
        self._waiting.extendleft(reversed(others))
        return [request for request in taken if request.operation == taken[0].operation]

    def verdict(self, error: Exception) -> RingbackError:
        """Say what becomes of a record that failed alone."""
        return faults.verdict(error)

    def end(self, link: Link) -> None:
        """Close the connection."""
        link.close()

    def _try(self, link: Link, operations: Operations) -> tuple[list[Sequence[Any]], bool]:
        db = self._connected(link)
        if self._harmless.issuperset(operations):
            return self._together(db, operations)
        before = db.total_changes
        with transaction(db, BEGIN):
            given = [op(db, [request.item for request in requests]) for op, requests in operations.items()]
            changed = db.total_changes != before
            xid = _one(db, "SELECT pg_current_xact_id()::text") if changed else None
            began = time.perf_counter()
            try:
                with committing(db):
                    db.command(self._commit if changed else COMMIT)
                self.commit_seconds = time.perf_counter() - began
            except psycopg.Error as error:
                if (
                    xid is None
                    or not faults.is_lost(error)
                    or not self._was_committed(link, (db.server, xid), given, error)
                ):
                    raise
        return given, changed

    def _together(self, db: Connection, operations: Operations) -> tuple[list[Sequence[Any]], bool]:
        """Run one batch of what may be done twice, in as few packets as can be."""
        before = db.total_changes
        pipeline = Pipeline(db, FIRST)
        self._batches += 1
        try:
            given = [op(pipeline, [request.item for request in requests]) for op, requests in operations.items()]
            if self._batches % MEASURED == 0:
                pipeline.send()
            began = time.perf_counter()
            wrote = pipeline.writes or db.total_changes != before
            with committing(db):
                pipeline.send(self._telling if wrote else PATIENT, b"COMMIT")
            if self._batches % MEASURED == 0:
                self.commit_seconds = time.perf_counter() - began
        except BaseException:
            with contextlib.suppress(psycopg.Error):  # the first error is the one to tell
                db.command("ROLLBACK")
            raise
        return given, wrote

    def _connected(self, link: Link) -> Connection:
        """Give a connection; one that is new is told first what is still in doubt."""
        try:
            db = link.get()
        except psycopg.Error as error:
            raise faults.trouble(error) from error
        self._clock.measure(db)
        while self._doubts:
            server, xid, given = self._doubts[0]
            status = _status(db, xid) if server == db.server else LOST
            if status == "in progress":
                break  # it may still be committed
            if status != "aborted":
                with transaction(db, BEGIN):
                    self._undo(db, given)
                    with committing(db):
                        db.command(self._commit)
            self._doubts.popleft()
        return db

    def _was_committed(self, link: Link, xid: tuple[str, str], given: Sequence[Any], error: psycopg.Error) -> bool:
        """Ask the server what became of a transaction.

        One that has crashed since, or another one, does not know: what was not written there may be the number of
        another transaction by now.

        Raises:
            Doubt: it does not say.
        """
        server, number = xid
        end = time.monotonic() + PROOF_SECONDS
        while time.monotonic() < end:
            try:
                db = link.get()
                status = _status(db, number) if db.server == server else LOST
            except psycopg.Error:
                link.close()
                status = "unknown"
            if status in ("committed", "aborted"):
                return status == "committed"
            if status == LOST:
                break
            time.sleep(PROOF_PAUSE_SECONDS)
        if len(self._doubts) >= DOUBTS:
            *_, forgotten = self._doubts.popleft()
            log.warning("ledger.doubt_forgotten", answers=sum(map(len, forgotten)))
        self._doubts.append((server, number, given))
        log.warning("ledger.doubtful_commit", error=str(error))
        raise Doubt("the connection was lost in a commit") from error


@contextlib.contextmanager
def committing(db: Connection) -> Iterator[None]:
    """Have no record blamed for a COMMIT in this block: it fails where, say, the queue of notifications is full.

    A statement that fails before it, in the same packet, leaves the transaction open.

    Raises:
        LedgerUnavailable: the COMMIT failed with what would be the record's fault elsewhere.
    """
    try:
        yield
    except psycopg.Error as error:
        if faults.is_records_fault(error) and db.raw.info.transaction_status is not TransactionStatus.INERROR:
            raise faults.trouble(error) from error
        raise


def _one(db: Connection, query: str, *values: Any) -> str:
    row = db.ask(query.encode(), values).fetchone()
    return "" if row is None else str(row[0])


def _status(db: Connection, xid: str) -> str:
    """Tell what became of a transaction: committed, aborted, or in progress."""
    return _one(db, "SELECT pg_xact_status(%s::xid8)", xid)

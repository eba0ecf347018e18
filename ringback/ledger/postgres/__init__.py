"""The ledger on PostgreSQL: any number of processes, on any number of machines.

One writer connection per process with group commit, as on SQLite; a few connections that read; one that listens.
"""

import asyncio
import dataclasses
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self, TypeVar

import psycopg
import structlog
from msgspec import structs

from ringback.errors import LedgerUnavailable
from ringback.ledger.budgets import Budget
from ringback.ledger.postgres import faults, partitions, schema
from ringback.ledger.postgres.commits import BEGIN, CHANNEL, PostgresCommits, committing
from ringback.ledger.postgres.connection import WRITABLE, Connection, wishes_for
from ringback.ledger.postgres.link import Clock, Link, transaction
from ringback.ledger.postgres.readers import Readers
from ringback.ledger.postgres.times import moved, moved_arrivals, moved_task
from ringback.ledger.protocol import Sent, Summary
from ringback.ledger.retention import Prune, Pruned
from ringback.ledger.sqlite import costs, intake, reports, settling, tasks
from ringback.ledger.sqlite.methods import Methods
from ringback.ledger.sqlite.writer import Writer
from ringback.ledger.turns import NO_HANDLERS, Process, Registration, Settled, Turn, Turned
from ringback.model import Arrival, Delivery, DeliveryState, Outcome, Receipt, Task

log = structlog.get_logger("ringback.ledger")

Answer = TypeVar("Answer")

POLL_SECONDS = 5.0  # behind every NOTIFY: a pooler may drop it
RECONNECT_SECONDS = 1.0
TENDING_SECONDS = 3600.0  # then it is looked again whether there are partitions for the weeks to come
LISTENING_SECONDS = 3.0  # how long to wait for an answer on the connection that listens
SESSION = b"SELECT pg_backend_pid()"
ASKED = 3  # times which session it is: one answer may miss what is shared
POOLED = "behind a pooler in transaction mode nothing is heard: changes are looked for instead"
POOLED_SECONDS = 3600.0  # then it is asked again
# What the parts of a process ask again and again; the rest is asked by people, and may take its time.
BRIEF = frozenset({tasks.due_sends, tasks.has_due_fetches, costs.count_alone, reports.processes})


class PostgresLedger(Methods):
    """See `protocol.Ledger` for what each method promises."""

    def __init__(self, url: str, link: Link, clock: Clock, thread: ThreadPoolExecutor, dedup: timedelta) -> None:
        super().__init__(dedup)
        self._url = url
        self._link = link
        self._thread = thread
        self._clock = clock
        self._token = secrets.token_hex(8)  # by which our own notifications are known
        self._readers = Readers(url)
        harmless = (self._record, intake.reject, settling.beat)
        commits = partial(PostgresCommits, self._clock, harmless, _release, self._token)
        self._writer = Writer(self._write, commits, self._tell)
        self._tending = asyncio.create_task(self._tend(), name="ringback-tend")

    @classmethod
    async def open(cls, url: str, *, create: bool, dedup_days: int = 90) -> Self:
        """Open the database, making its tables first where `create` allows it.

        Raises:
            LedgerMissing: there are none.
            LedgerMismatch: they have another schema version.
            LedgerUnavailable: it cannot be opened right now.
        """
        link, clock = Link(url, prepare=True, writes=True), Clock()
        thread = ThreadPoolExecutor(1, thread_name_prefix="ringback-write")
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(thread, _prepare, link, clock, url, create)
        except BaseException as error:
            await loop.run_in_executor(thread, link.close)
            thread.shutdown(wait=False)
            if isinstance(error, psycopg.Error):
                raise schema.unopened(url, error) from error
            raise
        return cls(url, link, clock, thread, timedelta(days=dedup_days))

    async def close(self) -> None:
        """Finish what was begun, then let go of the database."""
        if self._closed:
            return
        self._tending.cancel()
        await self._stop_watching()
        await self._readers.close()
        await self._writer.close()
        self._thread.shutdown(wait=False)

    def _record(self, db: Any, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        return super()._record(db, moved_arrivals(arrivals, self._clock.ahead))

    async def add_task(self, task: Task, budget: Budget | None = None) -> tuple[Task, bool]:
        """Store a new pending task."""
        ahead = self._clock.ahead
        added, new = await super().add_task(moved_task(task, ahead), budget)
        return moved_task(added, -ahead), new

    async def claim_send(self, task: Task, now: datetime, resend_at: datetime | None) -> bool:
        """Claim a sending; when it was claimed is a mark by which it is known again, and stays as it is."""
        return await super().claim_send(task, now, moved(resend_at, self._clock.ahead))

    async def save_send(self, sent: Sent) -> Task:
        """Save how a sending ended."""
        ahead = self._clock.ahead
        at_servers = dataclasses.replace(
            sent, resend_at=moved(sent.resend_at, ahead), fetch_at=moved(sent.fetch_at, ahead)
        )
        return moved_task(await super().save_send(at_servers), -ahead)

    async def due_sends(self, providers: Sequence[str], now: datetime, limit: int) -> Sequence[Task]:
        """List what is to be sent."""
        ahead = self._clock.ahead
        return [moved_task(task, -ahead) for task in await super().due_sends(providers, now + ahead, limit)]

    async def beat(
        self,
        process: Process,
        now: datetime,
        dead_before: datetime,
        handlers: Mapping[str, Registration] = NO_HANDLERS,
        *,
        leaving: bool = False,
    ) -> Sequence[Delivery]:
        """Tell that the process lives, and take from silent workers what they hold."""
        ahead = self._clock.ahead
        return await super().beat(process, now + ahead, dead_before + ahead, handlers, leaving=leaving)

    async def turn(self, turn: Turn) -> Turned:
        """Take a worker's turn."""
        if not (ahead := self._clock.ahead):
            return await super().turn(turn)
        settled = [structs.replace(one, due_at=one.due_at and one.due_at + ahead) for one in turn.settled]
        turned = await super().turn(structs.replace(turn, now=turn.now + ahead, settled=settled))
        return structs.replace(turned, next_due_at=turned.next_due_at and turned.next_due_at - ahead)

    async def claim_fetches(self, provider: str, now: datetime, lease_until: datetime, limit: int) -> Sequence[Task]:
        """Take due tasks to ask about."""
        ahead = self._clock.ahead
        return await super().claim_fetches(provider, now + ahead, lease_until + ahead, limit)

    async def plan_fetches(self, plan: Mapping[str, datetime | None]) -> None:
        """Set when to ask next."""
        ahead = self._clock.ahead
        await super().plan_fetches({task_id: at and at + ahead for task_id, at in plan.items()})

    async def summary(self, now: datetime) -> Summary:
        """Count everything."""
        return await super().summary(now + self._clock.ahead)

    async def processes(self, now: datetime) -> Sequence[Process]:
        """List the workers and pollers that were seen within the last minute."""
        return await super().processes(now + self._clock.ahead)

    async def _prune(self, wish: Prune) -> Pruned:
        """Do one step; the last one also drops what is empty."""
        pruned = await super()._prune(wish)
        if pruned.next is None and not wish.dry_run:
            await asyncio.to_thread(_tend, self._url, partitions.drop_empty)
        return pruned

    async def _tend(self) -> None:
        """Have partitions made for the weeks to come, now and then."""
        while True:
            await asyncio.sleep(TENDING_SECONDS)
            await asyncio.to_thread(_tend, self._url, partitions.make_ahead)

    async def _write(self, function: Callable[[Link], Answer]) -> Answer:
        """Call a function with the write connection, in that one's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, self._link)

    async def _read(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        return await self._readers.read(function, *arguments, brief=function in BRIEF)

    async def _watch(self) -> None:
        """Listen for commits of other processes; now and then tell of them unheard."""
        told = ""
        while True:
            looks, pause_seconds = 1, RECONNECT_SECONDS
            try:
                await self._listen()
                trouble, looks, pause_seconds = POOLED, int(POOLED_SECONDS / POLL_SECONDS), POLL_SECONDS
            except (psycopg.Error, OSError) as error:  # a TimeoutError is one
                trouble = str(error) or "the server does not answer"
            if trouble != told:  # once, not at every try
                told = trouble
                log.warning("ledger.not_listening", error=trouble)
            for _ in range(looks):
                self._tell()
                await asyncio.sleep(pause_seconds)

    async def _listen(self) -> None:
        """Tell of what is heard; returns where nothing would be, since the session is not ours alone."""
        wishes = wishes_for(self._url, WRITABLE)  # a standby hears nothing
        # The next LISTEN may be another server connection's, of a pooler: nothing that was prepared is there.
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, prepare_threshold=None, **wishes)
        try:
            if await self._is_pooled(connection):
                return
            while True:
                async with asyncio.timeout(LISTENING_SECONDS):  # again and again: it shows whether anybody is there
                    await connection.execute(f"LISTEN {CHANNEL}".encode())
                self._tell()  # what was written before may not have been seen
                async for notice in connection.notifies(timeout=POLL_SECONDS):
                    if notice.payload != self._token:
                        self._tell()
        finally:
            await connection.close()

    async def _is_pooled(self, connection: "psycopg.AsyncConnection[Any]") -> bool:
        """Tell whether a pooler gives the sessions of the server to several connections in turn.

        Then LISTEN would stay with a session that nobody hears, and the pooler complains there of each commit. It is
        asked by turns on this connection and on the one that writes: a free session mostly goes to who comes next.
        """
        ours, others = set[int](), set[int]()
        for _ in range(ASKED):
            async with asyncio.timeout(LISTENING_SECONDS):
                ours.update(*await (await connection.execute(SESSION)).fetchall())
                others.add(await self._write(_session))
        return len(ours) > 1 or not ours.isdisjoint(others)


def beat_from_thread(
    url: str, process: Process, now: datetime, dead_before: datetime, handlers: Mapping[str, Registration]
) -> Sequence[Delivery]:
    """Do what `Ledger.beat` does, and block meanwhile, on a connection of its own.

    Raises:
        LedgerUnavailable: nothing was written; try again.
        LedgerRejected: this can never be written.
    """
    link, clock = Link(url, prepare=False, writes=True), Clock()
    try:
        db = link.get()
        clock.measure(db)
        with transaction(db, BEGIN):
            beat = (process, now + clock.ahead, dead_before + clock.ahead, handlers, False)
            (lapsed,) = settling.beat(db, [beat])  # type: ignore[arg-type]
        with committing(db):
            db.command(f"NOTIFY {CHANNEL}; COMMIT" if lapsed else "COMMIT")
    except psycopg.Error as error:
        raise faults.verdict(error) from error
    finally:
        link.close()
    return lapsed


def _prepare(link: Link, clock: Clock, url: str, create: bool) -> None:
    db = link.get()
    schema.prepare(db, url, create=create)
    partitions.make_ahead(db)
    clock.measure(db)  # before anything is compared with what others wrote


def _session(link: Link) -> int:
    try:
        (session,) = link.get().ask(SESSION, prepare=False).fetchall()[0]
    except psycopg.Error as error:
        link.learn(error)
        raise
    return int(session)


def _tend(url: str, change: Callable[[Connection], Sequence[str]]) -> None:
    """See to the partitions on a connection of its own; nobody waits for that."""
    link = Link(url, prepare=False, writes=True)
    try:
        change(link.get())
    except psycopg.Error as error:
        log.warning("ledger.partitions_not_tended", reason=str(faults.trouble(error)))
    finally:
        link.close()


def _release(db: Connection, answers: Sequence[Any]) -> None:
    """Give back what a turn has claimed whose answer was lost with the connection: nobody runs it."""
    works = [work for group in answers for one in group if isinstance(one, Turned) for work in one.works]
    settled = [
        Settled(
            attempt=work.attempt,
            outcome=Outcome.RELEASED,
            state=DeliveryState.PENDING,
            due_at=work.attempt.started_at,
            counted=False,
            finished_at=work.attempt.started_at,
        )
        for work in works
    ]
    settling.settle(db, settled)  # type: ignore[arg-type]

"""The ledger on PostgreSQL: any number of processes, on any number of machines.

One writer connection per process with group commit, as on SQLite; a few connections that read; one that listens.
"""

import asyncio
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
from ringback.ledger.postgres import faults, schema
from ringback.ledger.postgres.commits import BEGIN, CHANNEL, PostgresCommits
from ringback.ledger.postgres.connection import DEFAULTS, Connection
from ringback.ledger.postgres.link import Clock, Link, transaction
from ringback.ledger.postgres.readers import Readers
from ringback.ledger.protocol import Summary
from ringback.ledger.sqlite import intake, settling
from ringback.ledger.sqlite.methods import Methods
from ringback.ledger.sqlite.writer import Writer
from ringback.ledger.turns import NO_HANDLERS, Process, Registration, Settled, Turn, Turned
from ringback.model import Delivery, DeliveryState, Outcome, Task

log = structlog.get_logger("ringback.ledger")

Answer = TypeVar("Answer")

POLL_SECONDS = 5.0  # behind every NOTIFY: a pooler may drop it
RECONNECT_SECONDS = 1.0
STUCK_SECONDS = 4.0  # longer than any statement may take: the server has ended it, or answers no more
LOOK_SECONDS = 0.5


class PostgresLedger(Methods):
    """See `protocol.Ledger` for what each method promises."""

    def __init__(self, url: str, link: Link, thread: ThreadPoolExecutor, dedup: timedelta) -> None:
        super().__init__(dedup)
        self._url = url
        self._link = link
        self._thread = thread
        self._clock = Clock()
        self._token = secrets.token_hex(8)  # by which our own notifications are known
        self._readers = Readers(url)
        harmless = (self._record, intake.reject, settling.beat)
        commits = partial(PostgresCommits, self._clock, harmless, _release, self._token)
        self._writer = Writer(self._write, commits, self._tell)

    @classmethod
    async def open(cls, url: str, *, create: bool, dedup_days: int = 90) -> Self:
        """Open the database, making its tables first where `create` allows it.

        Raises:
            LedgerMissing: there are none.
            LedgerMismatch: they have another schema version.
            LedgerUnavailable: it cannot be opened right now.
        """
        link = Link(url, prepare=True, writes=True)
        thread = ThreadPoolExecutor(1, thread_name_prefix="ringback-write")
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(thread, _prepare, link, url, create)
        except BaseException as error:
            await loop.run_in_executor(thread, link.close)
            thread.shutdown(wait=False)
            if isinstance(error, psycopg.Error):
                raise schema.unopened(url, error) from error
            raise
        return cls(url, link, thread, timedelta(days=dedup_days))

    async def close(self) -> None:
        """Finish what was begun, then let go of the database."""
        if self._closed:
            return
        await self._stop_watching()
        await self._readers.close()
        await self._writer.close()
        self._thread.shutdown(wait=False)

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

    async def _write(self, function: Callable[[Link], Answer]) -> Answer:
        """Call a function with the write connection, in that one's thread."""
        working = asyncio.get_running_loop().run_in_executor(self._thread, function, self._link)
        while not (await asyncio.wait({working}, timeout=LOOK_SECONDS))[0]:
            if self._link.cut(STUCK_SECONDS):
                log.warning("ledger.stuck", hint="the server did not answer; the connection was cut")
        return working.result()

    async def _read(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        return await self._readers.read(function, *arguments)

    async def _watch(self) -> None:
        """Listen for commits of other processes; now and then tell of them unheard."""
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError) as error:
                log.warning("ledger.not_listening", error=str(error))
                self._tell()
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, **_wishes(self._url))
        try:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            self._tell()  # what was written before may not have been seen
            while True:
                async for notice in connection.notifies(timeout=POLL_SECONDS):
                    if notice.payload != self._token:
                        self._tell()
                self._tell()
        finally:
            await connection.close()


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
        clock.measure(db.raw)
        with transaction(db, BEGIN):
            beat = (process, now + clock.ahead, dead_before + clock.ahead, handlers, False)
            (lapsed,) = settling.beat(db, [beat])  # type: ignore[arg-type]
        db.command(f"NOTIFY {CHANNEL}; COMMIT" if lapsed else "COMMIT")
    except psycopg.Error as error:
        raise faults.verdict(error) from error
    finally:
        link.close()
    return lapsed


def _prepare(link: Link, url: str, create: bool) -> None:
    schema.prepare(link.get(), url, create=create)


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


def _wishes(url: str) -> dict[str, Any]:
    given = psycopg.conninfo.conninfo_to_dict(url)
    return {name: wish for name, wish in DEFAULTS.items() if name not in given}

"""Reads beside the writer: a few threads, each with a connection of its own, made when it is first needed."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg

from ringback.errors import LedgerUnavailable
from ringback.ledger.postgres import faults
from ringback.ledger.postgres.link import Link, transaction

Answer = TypeVar("Answer")

CONNECTIONS = 3
WAITING_BOUND = 200
BRIEF_SECONDS = 2
LONG_SECONDS = 30  # what people ask may take longer than what callbacks or a poller wait for
SLACK_SECONDS = 1.0  # the server ends a statement by itself, unless it answers no more
BEGIN = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL statement_timeout = '%ds'; "
    "SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL jit = off"
)


class Readers:
    """Connections that cannot write. Each read is one snapshot."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="ringback-read")
        self._own = threading.local()
        self._links: list[Link] = []
        self._asked = 0

    async def read(self, function: Callable[..., Answer], *arguments: Any, brief: bool = False) -> Answer:
        """Call a function with a connection; `brief`: one that somebody waits for who has more to do.

        Raises:
            LedgerUnavailable: it cannot be read now.
        """
        if self._asked >= WAITING_BOUND:
            raise LedgerUnavailable("too many questions wait for the ledger")
        self._asked += 1
        seconds = BRIEF_SECONDS if brief else LONG_SECONDS
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._read, seconds, function, arguments)
        finally:
            self._asked -= 1

    async def close(self) -> None:
        """Wait for the reads that were begun, and close the connections."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        for link in self._links:
            link.close()

    def _read(self, seconds: int, function: Callable[..., Answer], arguments: tuple[Any, ...]) -> Answer:
        link = self._link()
        for left in (1, 0):
            try:
                db = link.get()
                db.patience_seconds = seconds + SLACK_SECONDS
                with transaction(db, BEGIN % seconds):
                    answer = function(db, *arguments)
                db.command("COMMIT")
            except psycopg.Error as error:
                link.learn(error)
                if left and faults.is_lost(error):
                    continue
                raise faults.trouble(error) from error
            else:
                return answer
        raise AssertionError  # pragma: no cover -- the last try returns or raises

    def _link(self) -> Link:
        link: Link | None = getattr(self._own, "link", None)
        if link is None:
            link = self._own.link = Link(self._url, prepare=False, writes=False)
            self._links.append(link)
        return link

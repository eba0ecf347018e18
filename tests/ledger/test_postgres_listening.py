"""How a process hears of what others commit, and what it does behind a pooler that lets it hear nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from ringback.ledger import postgres
from ringback.ledger.postgres import PostgresLedger
from ringback.ledger.postgres.connection import Connection

from .test_postgres_faults import Proxy

LISTEN = b"LISTEN ringback\0"
# In place of asking for its session, a connection asks for something of the same length.
SHARED, CHANGING = b"SELECT 7777 AS sessions", b"SELECT txid_current()  "


class Ear(Proxy):
    """A network that keeps what was sent; as a pooler, it has all connections share a session, or change it."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = postgres.SESSION
        self.sent = b""

    def passed(self, data: bytes) -> bytes:
        """Note it, and perhaps ask for something else."""
        self.sent += data
        return data.replace(postgres.SESSION, self.sessions)

    def count(self, text: bytes) -> int:
        """Tell how often something was sent."""
        return self.sent.count(text)


@pytest.fixture
def ear() -> Ear:
    """What is between us and the server."""
    return Ear()


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    """What was logged."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
async def ledger(ear: Ear, url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresLedger]:
    """A ledger behind that network, which looks often."""
    monkeypatch.setattr(postgres, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(postgres, "POOLED_SECONDS", 0.3)
    async with ear.before(url) as through:
        opened = await PostgresLedger.open(through, create=False)
        yield opened
        await opened.close()


async def until(ledger: PostgresLedger, reached: Callable[[], bool]) -> None:
    """Wait for something that comes with a look; the ledger tells of a change at each."""
    seen = 0
    async with asyncio.timeout(20):
        while not reached():
            seen = await ledger.changed(seen, 1)


def told(logs: list[EventDict]) -> list[str]:
    """Give why it was said that nobody listens."""
    return [line["error"] for line in logs if line["event"] == "ledger.not_listening"]


async def test_listening_prepares_nothing(ledger: PostgresLedger, ear: Ear, logs: list[EventDict]) -> None:
    """However often it asks: behind a pooler, the next connection may not know what was prepared, or have its name."""
    await until(ledger, lambda: ear.count(LISTEN) > 8)
    assert b"\0" + LISTEN not in ear.sent  # behind the name of a statement
    assert told(logs) == []


@pytest.mark.parametrize("sessions", [SHARED, CHANGING])
async def test_pooler_that_drops_notifications_is_survived(
    ledger: PostgresLedger, ear: Ear, logs: list[EventDict], sessions: bytes
) -> None:
    """Who would hear nothing subscribes to nothing, says so once, looks all the same, and asks again later."""
    ear.sessions = sessions
    await until(ledger, lambda: ear.count(postgres.SESSION) > 2 * 2 * postgres.ASKED)
    assert ear.count(LISTEN) == 0
    assert told(logs) == [postgres.POOLED]
    seen = await ledger.changed(0, 5)
    assert await ledger.changed(seen, 5) != seen


async def test_who_is_not_pooled_any_more_listens(ledger: PostgresLedger, ear: Ear, logs: list[EventDict]) -> None:
    """Where a later question finds a session of its own, it is kept."""
    ear.sessions = SHARED
    await until(ledger, lambda: bool(told(logs)))
    ear.sessions = postgres.SESSION
    await until(ledger, lambda: ear.count(LISTEN) > 2)


async def test_question_that_fails_is_told_and_asked_again(
    ledger: PostgresLedger, ear: Ear, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the connection that writes was lost, it listens as soon as there is another one."""
    ask = Connection.ask

    def refuse(db: Connection, query: bytes, values: Any = None, prepare: bool | None = None) -> Any:
        if query != postgres.SESSION or told(logs):
            return ask(db, query, values, prepare)
        raise psycopg.OperationalError("the connection was lost")

    monkeypatch.setattr(Connection, "ask", refuse)
    await until(ledger, lambda: ear.count(LISTEN) > 0)
    assert told(logs) == ["the connection was lost"]

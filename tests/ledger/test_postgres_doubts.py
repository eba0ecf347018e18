"""What a PostgreSQL ledger cannot know, and does not wait for: lost commits, and servers that answer no more."""

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ringback.errors import LedgerUnavailable
from ringback.ledger import Query, postgres
from ringback.ledger.postgres import PostgresLedger, commits, faults, guard, link, readers, schema
from ringback.ledger.postgres.connection import Connection, connect
from ringback.ledger.postgres.link import Link
from ringback.model import DeliveryState, Verdict
from tests.acceptance.cluster import Cluster
from tests.acceptance.standing import make_tables

from .builders import COMPLETED, LONG_AGO, NOW, claim, fact, owed, submitted, worker
from .server import server
from .test_postgres_faults import Proxy, execute, lose_commits


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[PostgresLedger]:
    """An empty ledger."""
    opened = await PostgresLedger.open(url, create=True)
    yield opened
    await opened.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait long for a server."""
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(Link.__init__, "__kwdefaults__", {"patience_seconds": 0.5})


async def test_a_server_that_crashed_in_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had not written is lost, its number is given away anew, and nobody takes the one for the other."""
    command = Connection.command
    crashed: list[str] = []
    with Cluster() as cluster:
        make_tables(cluster)
        cluster.set(wal_writer_delay="10s")
        ledger = await PostgresLedger.open(cluster.url, create=False)
        await owed(ledger)

        def crash(db: Connection, text: str) -> None:
            if "NOTIFY" not in text or crashed:
                command(db, text)
                return
            crashed.append(text)
            cluster.stop("immediate")
            cluster.start()
            for _ in range(3):
                cluster.rows("UPDATE probe SET written_at = 1")  # by a transaction of the same number
            raise psycopg.OperationalError("the connection was lost")

        monkeypatch.setattr(Connection, "command", crash)
        with pytest.raises(LedgerUnavailable, match="lost in a commit"):
            await claim(ledger)
        assert crashed
        (work,) = await claim(ledger)
        (found,) = await ledger.deliveries(Query())
        assert (found.delivery.attempt, found.delivery.attempts) == (work.attempt.id, 1)
        await ledger.close()


async def test_a_number_that_the_server_does_not_know_yet(ledger: PostgresLedger) -> None:
    """A doubt about a transaction of a server that is gone holds up nobody and has nothing rejected."""
    await owed(ledger)
    with pytest.MonkeyPatch.context() as patch:
        lose_commits(patch, committed=False)
        patch.setattr(link, "SERVER", b"SELECT 'another one'")
        patch.setattr(commits, "_status", lambda *_: "committed")
        with pytest.raises(LedgerUnavailable, match="lost in a commit"):
            await claim(ledger)
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.NEW
    assert len(await claim(ledger, seconds=200)) == 1


async def test_a_commit_that_is_still_under_way_stays_in_doubt(ledger: PostgresLedger) -> None:
    """As long as the server has not decided, nothing is taken back; what it has decided then is."""
    await owed(ledger)
    answers = ["in progress"] * 2
    with pytest.MonkeyPatch.context() as patch:
        lose_commits(patch, committed=True, reachable=False)
        with pytest.raises(LedgerUnavailable):
            await claim(ledger)
    ask = commits._status
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commits, "_status", lambda *given: answers.pop() if answers else ask(*given))
        for _ in range(2):
            assert not await claim(ledger, seconds=200)
        (work,) = await claim(ledger, seconds=200)
    (found,) = await ledger.deliveries(Query())
    assert (found.delivery.state, found.delivery.attempt) == (DeliveryState.RUNNING, work.attempt.id)


@pytest.mark.usefixtures("impatient")
async def test_reads_that_are_not_answered(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads is not kept for ever by a network that swallows everything: the next connection is another one."""
    monkeypatch.setattr(readers, "LONG_SECONDS", 1)
    monkeypatch.setattr(readers, "BRIEF_SECONDS", 1)
    monkeypatch.setattr(readers, "SLACK_SECONDS", -0.5)
    proxy = Proxy()
    async with proxy.before(url) as through:
        ledger = await PostgresLedger.open(through, create=False)
        await submitted(ledger)
        for _ in range(readers.CONNECTIONS):
            assert len(await ledger.tasks(Query())) == 1
        proxy.swallow()
        async with asyncio.timeout(20):
            assert len(await ledger.tasks(Query())) == 1
            assert await ledger.due_sends(["qingbo"], NOW, 1) == []
        await ledger.close()


@pytest.mark.usefixtures("impatient")
async def test_clocks_that_cannot_be_compared(ledger: PostgresLedger, url: str) -> None:
    """The first question after a quiet minute is not waited for any longer than others, nor is a heartbeat's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link, "CLOCK", b"SELECT 0.0 FROM pg_sleep(30)")
        patch.setattr(commits, "TRIES", 1)
        await ledger._write(lambda held: held.close())
        with pytest.raises(LedgerUnavailable):
            await asyncio.wait_for(ledger.record(fact(COMPLETED)), 10)
        with pytest.raises(LedgerUnavailable):
            await asyncio.to_thread(postgres.beat_from_thread, url, worker(), NOW, LONG_AGO, {})
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.NEW


async def test_listening_begins_anew_where_nothing_comes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that listens and hears nothing is asked whether it still is one."""
    monkeypatch.setattr(postgres, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(postgres, "LISTENING_SECONDS", 0.3)
    monkeypatch.setattr(postgres, "RECONNECT_SECONDS", 0.1)
    proxy = Proxy()
    async with proxy.before(url) as through:
        ledger = await PostgresLedger.open(through, create=False)
        seen = await ledger.changed(0, 5)
        async with asyncio.timeout(10):
            while len(proxy.ways) < 2:
                seen = await ledger.changed(seen, 5)
            proxy.swallow()
            before = len(proxy.ways)
            while len(proxy.ways) == before:
                seen = await ledger.changed(seen, 5)
        await ledger.close()


def test_migrations_may_take_their_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is not cut, however long the server is busy with it."""
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(schema, "steps", lambda: iter([(99, "0099_slow.sql", "SELECT pg_sleep(0.5)")]))
    db = connect(url, prepare=False, patience_seconds=0.2)
    assert schema.migrate(db, url) == ["0099_slow.sql"]
    assert db.patience_seconds == 0.2
    with pytest.raises(psycopg.OperationalError):
        db.command("SELECT pg_sleep(5)")
    db.close()
    execute(url, "DELETE FROM ringback_migrations WHERE version = 99")


async def test_reads_of_several_hosts(url: str) -> None:
    """Reads go to the server that takes writes; where none does, any other will do."""
    host = str(conninfo_to_dict(url)["host"])
    several = url.replace(host, f"{host},{host}")
    ledger = await PostgresLedger.open(several, create=False)
    await submitted(ledger)
    name = conninfo_to_dict(url)["dbname"]
    execute(server(), f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        assert len(await ledger.tasks(Query())) == 1
    finally:
        execute(server(), f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await ledger.close()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("connection failed: session is read-only", "the server, or this user or database, is set to read-only"),
        ("FATAL: sorry, too many clients already", "the server has no connection left"),
        ("FATAL: remaining connection slots are reserved", "the server has no connection left"),
        ("FATAL: the database system is starting up", "the server is starting up"),
        ("connection refused", "the database cannot be used right now"),
    ],
)
def test_connections_that_cannot_be_made(said: str, told: str) -> None:
    """What has no state is known by its words."""
    assert str(faults.trouble(psycopg.OperationalError(said))).startswith(f"{told} (")


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_never_comes(url: str) -> None:
    """Who waits for an answer is cut off after its patience; who waits for none is not."""
    db = connect(url, prepare=False, patience_seconds=0.3)
    assert not db.cut()
    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError):
        db.ask(b"SELECT pg_sleep(30)")
    assert time.monotonic() - began < 20
    db.close()
    assert db not in guard.GUARD._watched


@pytest.mark.usefixtures("impatient")
def test_a_process_that_stood_still_itself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where we were stopped for a while, the server is not blamed: its answer has come meanwhile."""
    db = connect(url, prepare=False, patience_seconds=0.2)
    monkeypatch.setattr(guard, "STILL_SECONDS", -1.0)  # each look comes too late
    assert db.ask(b"SELECT 7 FROM pg_sleep(1)").fetchone() == (7,)
    monkeypatch.setattr(guard, "STILL_SECONDS", 60.0)
    with pytest.raises(psycopg.OperationalError):
        db.ask(b"SELECT pg_sleep(30)")
    db.close()

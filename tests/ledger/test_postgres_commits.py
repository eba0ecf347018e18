"""Where a batch fails on PostgreSQL: a statement may fail for its record's sake, a COMMIT never does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from structlog.testing import capture_logs

from ringback.errors import LedgerRejected, LedgerUnavailable
from ringback.ledger import Query, postgres
from ringback.ledger.postgres import PostgresLedger, commits
from ringback.ledger.postgres.connection import Connection
from ringback.model import DeliveryState, Verdict

from .builders import COMPLETED, LONG_AGO, NOW, at, claim, claims, fact, new_task, owed, worker
from .test_postgres_faults import execute, lose_commits

FULL = """
CREATE FUNCTION full_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000';
END $$
"""
AT_COMMIT = "DEFERRABLE INITIALLY DEFERRED"
AT_ONCE = "NOT DEFERRABLE"
TABLES = ("events", "tasks", "deliveries", "processes")


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[PostgresLedger]:
    """An empty ledger."""
    opened = await PostgresLedger.open(url, create=True)
    yield opened
    await opened.close()


@contextlib.contextmanager
def full_queue(url: str, when: str = AT_COMMIT) -> Iterator[None]:
    """Let whatever is written fail as it does where the queue of notifications is full."""
    execute(url, FULL)
    try:
        for table in TABLES:
            trigger = f"AFTER INSERT OR UPDATE ON {table} {when} FOR EACH ROW EXECUTE FUNCTION full_queue()"
            execute(url, f"CREATE CONSTRAINT TRIGGER full_queue {trigger}")
        yield
    finally:
        execute(url, "DROP FUNCTION full_queue CASCADE")  # the database is the next test's, too


async def test_a_full_queue_has_nothing_rejected(ledger: PostgresLedger, url: str) -> None:
    """Who tells of a fact, asks for work, submits or shows a sign of life comes again, and then it is as ever."""
    await owed(ledger)
    with full_queue(url):
        told = await asyncio.gather(
            *(ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}")) for number in range(20)),
            claim(ledger),
            ledger.add_task(new_task("task_new")),
            ledger.beat(worker("w9"), at(1), LONG_AGO),
            return_exceptions=True,
        )
    assert {type(answer) for answer in told} == {LedgerUnavailable}
    assert "too many notifications" in str(told[0])
    assert (await ledger.record(fact(COMPLETED, "task_9", "p-9"))).verdict is Verdict.NEW
    assert len(await claim(ledger)) == 1
    assert (await ledger.add_task(new_task("task_new")))[1]
    assert list(await ledger.beat(worker("w9"), at(1), LONG_AGO)) == []


async def test_a_limit_that_a_row_meets_is_its_own(ledger: PostgresLedger, url: str) -> None:
    """The same error of a statement is the record's: a key that is too long for its index stays so."""
    with full_queue(url, AT_ONCE):
        calls = (ledger.record(fact(COMPLETED)), ledger.add_task(new_task("task_new")))
        told = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in told} == {LedgerRejected}


async def test_a_heartbeat_from_a_thread_is_not_rejected(url: str) -> None:
    """It is as little to blame for its COMMIT, and the next one may well succeed."""
    with full_queue(url), pytest.raises(LedgerUnavailable, match="too many notifications"):
        await asyncio.to_thread(postgres.beat_from_thread, url, worker(), NOW, LONG_AGO, {})
    assert await asyncio.to_thread(postgres.beat_from_thread, url, worker(), NOW, LONG_AGO, {}) == []


async def test_what_fails_just_before_the_commit_leaves_nothing_open(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stood still has its time run out there; the next batch begins anew."""
    await owed(ledger)
    command = Connection.command
    stopped: list[str] = []

    def stop(db: Connection, text: str) -> None:
        if "NOTIFY" in text and not stopped:
            stopped.append(text)
            text = f"SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(9); {text}"
        command(db, text)

    monkeypatch.setattr(Connection, "command", stop)
    with pytest.raises(LedgerUnavailable, match="took too long"):
        await claim(ledger)
    assert len(await claim(ledger)) == 1


async def test_a_doubt_that_is_forgotten_is_told(ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more of them are kept than there is room for; the log says how many answers nobody will take back."""
    monkeypatch.setattr(commits, "DOUBTS", 1)
    await owed(ledger, 2)
    with capture_logs() as logs:
        for _ in range(2):
            with monkeypatch.context() as patch:
                lose_commits(patch, committed=True, reachable=False)
                patch.setattr(commits, "_status", lambda *_: "in progress")
                with pytest.raises(LedgerUnavailable):
                    await claims(ledger, worker(), {"h": 1}, at(100), 1)
    assert [line["answers"] for line in logs if line["event"] == "ledger.doubt_forgotten"] == [1]
    assert len(await claim(ledger, seconds=200)) == 1  # the first stays with who never learnt of it
    states = [item.delivery.state for item in await ledger.deliveries(Query())]
    assert states == [DeliveryState.RUNNING] * 2

"""Whatever goes wrong between us and a PostgreSQL server: nothing acknowledged is lost, and it heals by itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ringback.errors import LedgerRejected, LedgerUnavailable
from ringback.ledger import Query, postgres
from ringback.ledger.postgres import PostgresLedger, commits, guard, readers
from ringback.ledger.postgres.connection import Command, Connection
from ringback.ledger.postgres.link import Link
from ringback.ledger.postgres.pipeline import Pipeline
from ringback.ledger.queries import Statement
from ringback.ledger.turns import Share, Turn
from ringback.model import DeliveryState, Receipt, Verdict

from .builders import (
    COMPLETED,
    FAILED,
    LONG_AGO,
    NOW,
    at,
    claim,
    fact,
    new_task,
    owed,
    submitted,
    worker,
    working,
)
from .server import server
from .test_sqlite_writer import POISON, nested


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[PostgresLedger]:
    """An empty ledger."""
    opened = await PostgresLedger.open(url, create=True)
    yield opened
    await opened.close()


def execute(url: str, text: str) -> list[tuple[Any, ...]]:
    """Do something behind the ledger's back."""
    with psycopg.connect(url, autocommit=True) as db:
        cursor = db.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def end_connections(url: str) -> None:
    """End every connection to a database, as a server that restarts does."""
    name = conninfo_to_dict(url)["dbname"]
    ended = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"  # noqa: S608
    )
    execute(server(), ended)


@dataclass
class Way:
    """One connection through the network."""

    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    passing: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """A network between us and the server, which can be cut, and can swallow what is sent."""

    def __init__(self) -> None:
        self.ways: list[Way] = []

    @contextlib.asynccontextmanager
    async def before(self, url: str) -> AsyncIterator[str]:
        """Give the URL that leads through it."""
        given = conninfo_to_dict(url)

        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            host, port = str(given["host"]), given.get("port") or 5432
            if host.startswith("/"):
                far = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            else:
                far = await asyncio.open_connection(host, int(port))
            way = Way((writer, far[1]))
            way.passing.set()
            self.ways.append(way)
            await asyncio.gather(self._pass(way, reader, far[1]), self._pass(way, far[0], writer))

        listening = await asyncio.start_server(meet, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        try:
            yield f"postgresql://{given.get('user')}@127.0.0.1:{port}/{given['dbname']}"
        finally:
            listening.close()
            self.cut()

    async def _pass(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await way.passing.wait()
                writer.write(self.passed(data))
        writer.close()

    def passed(self, data: bytes) -> bytes:
        """Give what comes out of it."""
        return data

    def swallow(self) -> None:
        """Keep what is sent on every connection there is; who makes a new one is served."""
        for way in self.ways:
            way.passing.clear()

    def cut(self) -> None:
        """End every connection."""
        for way in self.ways:
            way.passing.set()
            for end in way.ends:
                end.close()
        self.ways.clear()


@pytest.mark.parametrize("name", POISON)
async def test_poison_harms_only_its_own_caller(ledger: PostgresLedger, name: str) -> None:
    """What cannot be stored is rejected; its neighbours in the batch are stored, in order."""
    arrivals = [fact(COMPLETED), POISON[name](), fact(FAILED), fact(COMPLETED, "task_b", "p-b")]
    receipts = await asyncio.gather(*map(ledger.record, arrivals), return_exceptions=True)
    verdicts = [receipt.verdict for receipt in receipts if isinstance(receipt, Receipt)]
    assert verdicts == [Verdict.NEW, Verdict.CONTRADICTED, Verdict.NEW]
    assert isinstance(receipts[1], LedgerRejected)
    assert {task.id for task in await ledger.tasks(Query())} == {"task_a", "task_b"}


@pytest.mark.parametrize("poison", [{"key": "a\0b"}, {"metadata": nested(10_000)}, {"price_microdollars": 2**70}])
async def test_poisonous_task_is_rejected(ledger: PostgresLedger, poison: dict[str, Any]) -> None:
    """A submission that cannot be stored is told so, and the one beside it is stored."""
    tasks = [new_task("task_bad", **poison), new_task("task_good"), new_task("task_good")]
    bad, good, again = await asyncio.gather(*map(ledger.add_task, tasks), return_exceptions=True)
    assert isinstance(bad, LedgerRejected)
    assert good == (tasks[1], True)
    assert isinstance(again, LedgerRejected)


async def test_lost_connections_are_made_anew(ledger: PostgresLedger, url: str) -> None:
    """A server that ends all connections costs nobody anything: reading, writing and listening go on."""
    await working(ledger)
    seen = await ledger.changed(0, 5)
    end_connections(url)
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.NEW
    assert len(await ledger.events(Query())) == 1
    end_connections(url)
    (work,) = (
        await ledger.turn(Turn(process=worker(), now=at(1), shares={"h": Share(room=1)}, limit=1, fan_out=1))
    ).works
    assert work.event.task_id == "task_a"
    assert await ledger.changed(seen, 5) != seen


async def test_connection_lost_in_a_batch_is_one_more_try(ledger: PostgresLedger, url: str) -> None:
    """Where the connection ends between two statements, the batch is written once, on another one."""
    execute_ = Pipeline.execute
    ended: list[str] = []

    def execute_once(batch: Pipeline, statement: Statement, values: Any = ()) -> Any:
        if statement.key == "intake.insert_events" and not ended:
            ended.append(url)
            end_connections(url)
        return execute_(batch, statement, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "execute", execute_once)
        assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.NEW
    assert ended
    assert len(await ledger.events(Query())) == 1


def lose_commits(patch: pytest.MonkeyPatch, *, committed: bool, reachable: bool = True) -> list[str]:
    """Lose the connection once in a COMMIT, before or after the server did it; and then perhaps the server, too."""
    command = Connection.command
    lost: list[str] = []

    def lose(db: Connection, text: str) -> None:
        if "NOTIFY" not in text or lost:
            command(db, text)
            return
        lost.append(text)
        if committed:
            command(db, text)
        db.raw.close()
        raise psycopg.OperationalError("the connection was lost")

    def status(db: Connection, xid: str) -> str:
        return ask(db, xid) if reachable or len(lost) > 1 else "unknown"

    ask = commits._status
    patch.setattr(Connection, "command", lose)
    patch.setattr(commits, "_status", status)
    patch.setattr(commits, "PROOF_SECONDS", 0.3)
    return lost


@pytest.mark.parametrize("committed", [True, False])
async def test_connection_lost_in_a_commit_is_asked_about(ledger: PostgresLedger, committed: bool) -> None:
    """Whether or not the server did it: the claim is given once, to who asked, and counts as one attempt."""
    await owed(ledger)
    with pytest.MonkeyPatch.context() as patch:
        lost = lose_commits(patch, committed=committed)
        (work,) = await claim(ledger)
    assert lost
    (found,) = await ledger.deliveries(Query())
    assert (found.delivery.state, found.delivery.attempts) == (DeliveryState.RUNNING, 1)
    assert found.delivery.attempt == work.attempt.id


@pytest.mark.parametrize("committed", [True, False])
async def test_what_a_lost_answer_promised_is_given_back(ledger: PostgresLedger, committed: bool) -> None:
    """Where nobody can be asked, the claim fails; as soon as somebody can, what it took is due again."""
    await owed(ledger)
    with pytest.MonkeyPatch.context() as patch:
        lost = lose_commits(patch, committed=committed, reachable=False)
        with pytest.raises(LedgerUnavailable):
            await claim(ledger)
        lost.append("and found again")
        (work,) = await claim(ledger, seconds=200)
    (found,) = await ledger.deliveries(Query())
    assert (found.delivery.attempt, found.delivery.attempts) == (work.attempt.id, 1)


async def test_read_only_server_is_told_and_heals(ledger: PostgresLedger, url: str) -> None:
    """A standby, or a server made read-only, takes nothing; once it takes writes again, they go on."""
    name = conninfo_to_dict(url)["dbname"]
    execute(server(), f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    end_connections(url)
    with pytest.raises(LedgerUnavailable, match=r"^the server, or this user or database, is set to read-only"):
        await ledger.record(fact(COMPLETED))
    execute(server(), f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.NEW


async def test_write_on_what_became_read_only_meanwhile(ledger: PostgresLedger) -> None:
    """A connection that turns out to be read-only is given up for another one at once."""
    together = Connection.together

    def demote(db: Connection, sent: Sequence[Command]) -> Any:
        patch.undo()
        return together(db, [*sent[:2], (b"SET TRANSACTION READ ONLY", ()), *sent[2:]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "together", demote)
        assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.NEW


async def test_lock_held_too_long_is_told_and_heals(ledger: PostgresLedger, url: str) -> None:
    """Who waits for a row that somebody else holds learns of it in time; neighbours about other rows are not harmed."""
    await submitted(ledger)
    with psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM tasks FOR UPDATE")
        with pytest.raises(LedgerUnavailable, match="somebody else holds"):
            await ledger.record(fact(COMPLETED))
    assert (await ledger.record(fact(COMPLETED))).verdict is Verdict.NEW


@pytest.mark.parametrize("table", ["tasks", "events", "facts", "waiting"])
async def test_readiness_tries_what_callbacks_write(ledger: PostgresLedger, url: str, table: str) -> None:
    """While somebody keeps a table from callbacks, the try fails as they do: not ready."""
    with psycopg.connect(url) as other:
        other.execute(f"LOCK TABLE {table} IN SHARE MODE")
        with pytest.raises(LedgerUnavailable, match="somebody else holds"):
            await ledger.reject({}, NOW)
    await ledger.reject({}, NOW)


async def test_server_that_hangs_is_left(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is swallowed on its way is not waited for: who asks is told, the connection cut, and the next one works."""
    monkeypatch.setattr(Link.__init__, "__kwdefaults__", {"patience_seconds": 0.5})
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.1)
    proxy = Proxy()
    async with proxy.before(url) as through:
        ledger = await PostgresLedger.open(through, create=False)
        await submitted(ledger)
        proxy.swallow()
        with pytest.raises(LedgerUnavailable, match="did not commit in time"):
            await ledger.record(fact(COMPLETED), timeout_seconds=0.1)
        assert (await ledger.record(fact(COMPLETED))).verdict in (Verdict.NEW, Verdict.DUPLICATE)
        await ledger.close()


async def test_cut_network_is_told_and_heals(url: str) -> None:
    """Connections that end under way are made anew."""
    proxy = Proxy()
    async with proxy.before(url) as through:
        ledger = await PostgresLedger.open(through, create=False)
        for number in range(3):
            proxy.cut()
            assert (await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}"))).verdict is Verdict.NEW
            assert len(await ledger.events(Query())) == number + 1
        await ledger.close()


async def test_no_connection_left_is_told(url: str) -> None:
    """A server that gives no more connections is named as what it is."""
    role = f"few_{conninfo_to_dict(url)['dbname']}"
    execute(url, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1")
    execute(url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    poor = url.replace("postgres@", f"{role}@")
    try:
        ledger = await PostgresLedger.open(poor, create=False)
        await ledger.reject({}, NOW)
        with pytest.raises(LedgerUnavailable, match="too many connections"):
            await ledger.events(Query())
        await ledger.close()
    finally:
        execute(url, f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_pooler_that_forgets_statements_is_survived(ledger: PostgresLedger) -> None:
    """Where prepared statements vanish, they are done without."""
    for number in range(6):
        await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}"))
    await ledger._write(lambda held: held.get().command("DEALLOCATE ALL"))
    receipts = [await ledger.record(fact(COMPLETED, f"task_{number}", f"p-{number}")) for number in range(6)]
    assert {receipt.verdict for receipt in receipts} == {Verdict.DUPLICATE}


async def test_too_many_questions_are_refused(ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be read is bounded."""
    monkeypatch.setattr(readers, "WAITING_BOUND", 2)
    asked = await asyncio.gather(*[ledger.events(Query()) for _ in range(5)], return_exceptions=True)
    assert [isinstance(answer, LedgerUnavailable) for answer in asked] == [False, False, True, True, True]


async def test_closed_ledger_says_so(url: str) -> None:
    """After closing nothing is read or written, and to close it again does nothing."""
    ledger = await PostgresLedger.open(url, create=False)
    await ledger.close()
    await ledger.close()
    for call in (ledger.events(Query()), ledger.add_task(new_task()), ledger.changed(0, 1)):
        with pytest.raises(LedgerUnavailable, match="closed"):
            await call


async def test_beat_from_a_thread_tells_what_is_wrong(url: str) -> None:
    """A heartbeat that cannot be written says so."""
    with pytest.raises(LedgerUnavailable):
        postgres.beat_from_thread("postgresql://nobody@127.0.0.1:1/none", worker(), NOW, LONG_AGO, {})
    with pytest.raises(LedgerRejected):
        postgres.beat_from_thread(url, worker("a\0b"), NOW, LONG_AGO, {})

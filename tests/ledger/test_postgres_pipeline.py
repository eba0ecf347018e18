"""What goes to the PostgreSQL server together: its answers, its errors, and its end."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import psycopg
import pytest
from psycopg.pq.abc import PGresult

from ringback.ledger.postgres import commits, faults
from ringback.ledger.postgres.connection import Command, Connection, connect
from ringback.ledger.postgres.pipeline import Pipeline
from ringback.ledger.sqlite import intake
from ringback.model import Verdict

from .builders import COMPLETED, fact

ONE = (b"SELECT $1::text", (b"one",))
WRONG = (b"SELECT 1 / $1::int", (b"0",))
END = (b"SELECT pg_terminate_backend(pg_backend_pid())", ())


@pytest.fixture(params=[True, False], ids=["prepared", "unprepared"])
def db(request: pytest.FixtureRequest, url: str) -> Iterator[Connection]:
    """A connection that has its statements prepared, and one behind a pooler that forgets them."""
    connection = connect(url, prepare=request.param)
    yield connection
    connection.close()


def sessions_names(db: Connection) -> list[str]:
    """Tell which statements the server holds for us."""
    found = db.raw.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'ringback%'", prepare=False)
    return [name for (name,) in found]


def test_answers_are_those_of_the_commands(db: Connection) -> None:
    """Each command has its answer, the last one last, however often they are sent; a statement is prepared once."""
    for _ in range(3):
        found = db.together([ONE, (b"SELECT $1::text || $2::text", (b"t", b"wo")), ONE, (b"SELECT 'three'", ())])
        values = [result.get_value(0, 0) for result in found if result.ntuples]
        assert values == [b"one", b"two", b"one", b"three"]
    assert len(sessions_names(db)) == (3 if db.raw.prepare_threshold is not None else 0)


def test_first_error_is_the_one_that_is_told(db: Connection) -> None:
    """What follows a failed command is left out, and the connection goes on; what was prepared stays known."""
    for _ in range(3):
        with pytest.raises(psycopg.errors.DivisionByZero):
            db.together([(b"BEGIN", ()), (b"UPDATE probe SET written_at = 7", ()), WRONG, (b"COMMIT", ())])
        db.command("ROLLBACK")
        assert db.together([ONE])[-1].get_value(0, 0) == b"one"
    assert db.ask(b"SELECT written_at FROM probe").fetchone() == (0,)


def test_connection_that_ends_under_way(db: Connection) -> None:
    """Why the server has ended it is told, and then that it is gone: both mean that another one may work."""
    with pytest.raises(psycopg.OperationalError) as caught:
        db.together([ONE, END, ONE])
    assert faults.is_lost(caught.value)
    with pytest.raises(psycopg.OperationalError) as caught:
        db.together([ONE])
    assert faults.is_lost(caught.value)


def test_batch_waits_twice(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch about tasks of ours goes in two packets: up to what it reads, and from what it writes to its commit."""
    made = "INSERT INTO tasks (id, provider, provider_id, origin, state, created_at) VALUES (%s, %s, %s, %s, %s, 0)"
    arrivals = [fact(COMPLETED, f"task_{number}", f"p-{number}") for number in range(3)]
    for arrival in arrivals:
        assert arrival.reading is not None
        values = (arrival.task_id, arrival.provider, arrival.reading.provider_id, "submission", "submitted")
        db.ask(made.encode(), values)
    together, sent = Connection.together, []

    def noted(db: Connection, given: Sequence[Command]) -> Sequence[PGresult]:
        sent.append([query for query, _ in given])
        return together(db, given)

    monkeypatch.setattr(Connection, "together", noted)
    before = db.total_changes
    batch = Pipeline(db, commits.FIRST)
    receipts = intake.record(batch, arrivals, timedelta(days=1))  # type: ignore[arg-type]
    assert (batch.writes, db.total_changes) == (True, before)  # it is still here
    batch.send(commits.PATIENT, b"COMMIT")
    assert [receipt.verdict for receipt in receipts] == [Verdict.NEW] * 3
    assert db.total_changes > before
    assert [len(queries) for queries in sent] == [3, 4]
    assert (sent[0][0], sent[1][-1]) == (commits.FIRST[0], b"COMMIT")

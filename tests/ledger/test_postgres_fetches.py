"""How a callback updates its task in place on PostgreSQL, and how `fetches` says when to ask about which."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import psycopg
import pytest

from ringback.ledger.postgres import schema
from ringback.ledger.postgres.connection import QUERIES, Connection
from ringback.ledger.queries import load
from ringback.ledger.sqlite import tasks

from .server import bare_database

INTAKE = load("sqlite/intake.sql")
# Submitted and accepted, to be asked about at 1000; as usual tasks are when their callbacks come.
FILL = """
INSERT INTO tasks (id, provider, provider_id, origin, state, created_at, sent_at, accepted_at, fetch_at)
SELECT 'task_' || number, 'qingbo', 'p-' || number, 'submission', 'submitted', 0, 0, 0, 1000
FROM generate_series(1, 20) number
"""
ENDED = ["completed", "callback", "evt_1", 5, 100, None, None, 1, 0]
PROGRESSED = ["processing", None, None, None, 40, None, 700, 1, 0]


@pytest.fixture
def url() -> Iterator[str]:
    """A ledger with tasks that the provider works on."""
    with bare_database() as url, psycopg.connect(url, autocommit=True) as raw:
        db = Connection(raw)
        schema.migrate(db, url)
        db.command(FILL)
        yield url


@pytest.fixture
def db(url: str) -> Iterator[Connection]:
    """A connection to it."""
    with psycopg.connect(url, autocommit=True) as raw:
        yield Connection(raw)


def advance(db: Connection, number: int, news: Sequence[object]) -> None:
    """Write what a callback changes about a task."""
    db.ask(QUERIES["intake.advance_tasks"], {"rows": json.dumps([[number, "submitted", *news]])})


def due(db: Connection) -> dict[int, int]:
    """Give when to ask about which task."""
    return dict(db.raw.execute("SELECT task_seq, due_at FROM fetches"))


def claim(db: Connection, now: int, limit: int = 50) -> set[str]:
    """Take what is due, as a poller does."""
    at, until = (datetime.fromtimestamp(micros / 1e6, UTC) for micros in (now, now + 500))
    (given,) = tasks.claim_fetches(db, [("qingbo", at, until, limit)])  # type: ignore[arg-type]  # it speaks as sqlite3
    return {task.id for task in given}


@pytest.mark.parametrize("news", [ENDED, [*PROGRESSED[:6], 1000, *PROGRESSED[7:]]], ids=["an end", "no news"])
def test_a_callback_updates_its_task_in_place(db: Connection, news: Sequence[object]) -> None:
    """A usual end rewrites no entry of any index of tasks; a first step on the way enters that of stages."""
    with db.raw.transaction():
        advance(db, 7, news)
        counts = db.raw.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'tasks'"
        ).fetchone()
    assert counts == (1, int(news is ENDED))


def test_a_callback_that_ends_a_task_takes_it_off_the_list(db: Connection) -> None:
    """Nobody has to look at it again; one that is worked on stays."""
    advance(db, 1, ENDED)
    advance(db, 2, PROGRESSED)
    assert due(db) == {2: 700} | dict.fromkeys(range(3, 21), 1000)


def test_what_ended_otherwise_is_not_asked_about_again(db: Connection) -> None:
    """It keeps its place among what is due until somebody looks for that, who does not get it."""
    db.command("UPDATE tasks SET fetch_at = NULL WHERE seq < 16")
    assert claim(db, 999) == set()
    assert len(due(db)) == 20
    assert claim(db, 1000, limit=3) <= {f"task_{number}" for number in range(16, 21)}
    assert len(due(db)) == 5
    assert sorted(due(db).values()) == [1000, 1000, 1500, 1500, 1500]


def test_a_new_wish_is_in_time(db: Connection) -> None:
    """A time that comes nearer, or comes anew for an ended task, is found; one of a deleted task goes."""
    advance(db, 1, PROGRESSED)
    advance(db, 2, ENDED)
    db.command("UPDATE tasks SET fetch_at = 800 WHERE seq = 2; DELETE FROM tasks WHERE seq = 3")
    assert claim(db, 799) == {"task_1"}
    assert claim(db, 800) == {"task_2"}
    assert claim(db, 1000) == {f"task_{number}" for number in range(4, 21)}
    assert 3 not in due(db)


def test_many_that_ended_hide_nothing(db: Connection) -> None:
    """Whoever is given less than asked for because of tasks that have ended looks again at once, and nobody twice."""
    db.command("UPDATE tasks SET fetch_at = NULL WHERE seq < 20")
    assert claim(db, 1000, limit=5) == {"task_20"}
    assert due(db) == {20: 1500}


def test_a_wish_that_comes_while_one_clears_up_stays(db: Connection, url: str) -> None:
    """What another transaction is writing is neither waited for nor taken away: a hint may have made it due again."""
    db.command("UPDATE tasks SET fetch_at = NULL WHERE seq < 20")
    with psycopg.connect(url, autocommit=True) as raw:
        other = Connection(raw)
        with db.raw.transaction():
            db.command("UPDATE tasks SET fetch_at = 900 WHERE seq = 1")
            assert claim(other, 1000) == {"task_20"}
        assert due(other) == {1: 900, 20: 1500}
        assert claim(other, 1000) == {"task_1"}


def test_tables_are_found_whatever_the_search_path_is(db: Connection) -> None:
    """A restore of data alone, for one, comes without any."""
    with db.raw.transaction():
        db.command("SET LOCAL search_path = ''; UPDATE public.tasks SET fetch_at = 777 WHERE seq = 1")
    assert due(db)[1] == 777

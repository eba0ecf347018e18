"""A PostgreSQL server in trouble under a running receiver, as those who push and who watch it see it.

Whatever breaks, a callback gets 503 with Retry-After in time, readiness turns red, and all heals by itself; what got
200 is stored and handled. One server, one receiver and one worker live through all of it, one fault after the other.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest

from ringback.patience import LOOK_SECONDS
from ringback.settings import Settings
from tests.acceptance.processes import wait_until
from tests.acceptance.pushes import body_of, get, post
from tests.acceptance.standing import PROMISED_SECONDS, Standing, standing

pytestmark = pytest.mark.slow

Fault = Callable[[Standing], AbstractContextManager[None]]
NAPPING = """
CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN new; END';
CREATE TRIGGER nap BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION nap();
CREATE TRIGGER nap BEFORE UPDATE ON probe FOR EACH ROW EXECUTE FUNCTION nap()
"""
FAILING = """
CREATE SEQUENCE trials;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS '
BEGIN
    IF nextval(''trials'') %% 3 > 0 THEN
        RAISE EXCEPTION USING errcode = ''%s'';
    END IF;
    RETURN NULL;
END';
CREATE TRIGGER fail BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION fail()
"""
UNDO = "DROP FUNCTION {} CASCADE; DROP SEQUENCE IF EXISTS trials"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """Start everything once."""
    with standing(tmp_path_factory.mktemp("faults")) as made:
        yield made
        made.close()


@contextlib.contextmanager
def stopped(place: Standing) -> Iterator[None]:
    """Stop the server in order."""
    place.cluster.stop("fast")
    yield
    place.cluster.start()


@contextlib.contextmanager
def crashed(place: Standing) -> Iterator[None]:
    """Let the server crash."""
    place.cluster.stop("immediate")
    yield
    place.cluster.start()


@contextlib.contextmanager
def hanging(place: Standing) -> Iterator[None]:
    """Let the server hang."""
    place.cluster.freeze()
    yield
    place.cluster.thaw()


@contextlib.contextmanager
def silent(place: Standing) -> Iterator[None]:
    """Let nothing pass, in both directions."""
    place.network.silence()
    yield
    place.network.heal()


@contextlib.contextmanager
def silent_for_good(place: Standing) -> Iterator[None]:
    """Let nothing pass, and then only on new connections, as behind a router that has forgotten the others."""
    place.network.silence()
    yield
    place.network.cut()
    place.network.heal()


@contextlib.contextmanager
def unanswering(place: Standing) -> Iterator[None]:
    """Let all reach the server, and none of its answers come back."""
    place.network.silence(there=False)
    yield
    place.network.heal()


@contextlib.contextmanager
def cut(place: Standing) -> Iterator[None]:
    """End all connections, and each new one."""
    place.network.refuse()
    yield
    place.network.heal()


@contextlib.contextmanager
def read_only(place: Standing) -> Iterator[None]:
    """Let the server take no writes, on the connections that there are, too."""
    place.cluster.set(default_transaction_read_only="on")
    yield
    with psycopg.connect(place.cluster.url, options="-c default_transaction_read_only=off", autocommit=True) as db:
        db.execute("ALTER SYSTEM RESET default_transaction_read_only")
        db.execute("SELECT pg_reload_conf()")


@contextlib.contextmanager
def full(place: Standing) -> Iterator[None]:
    """Take all connections that the server has."""
    ((most,),) = place.cluster.rows("SELECT current_setting('max_connections')::int")
    with contextlib.ExitStack() as taken:
        first = taken.enter_context(psycopg.connect(place.cluster.url, autocommit=True))
        place.network.refuse()
        first.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(most):
                taken.enter_context(psycopg.connect(place.cluster.url))
        place.network.heal()
        yield


@contextlib.contextmanager
def held(place: Standing) -> Iterator[None]:
    """Hold the tables, as a careless ALTER TABLE does."""
    with psycopg.connect(place.cluster.url) as other:
        other.execute("LOCK TABLE tasks, events, probe")
        yield


@contextlib.contextmanager
def slow(place: Standing) -> Iterator[None]:
    """Let each statement that writes take longer than anybody waits."""
    place.cluster.rows(NAPPING)
    yield
    place.cluster.rows(UNDO.format("nap"))


@contextlib.contextmanager
def unreplicated(place: Standing) -> Iterator[None]:
    """Let commits wait for a standby that is not there: they are done here, and nowhere else."""
    place.cluster.set(synchronous_standby_names="nobody")
    wait_until("it waits", lambda: place.cluster.rows("SHOW synchronous_standby_names") == [("nobody",)])
    yield
    with psycopg.connect(place.cluster.url, options="-c synchronous_commit=local", autocommit=True) as db:
        db.execute("ALTER SYSTEM RESET synchronous_standby_names")
        db.execute("SELECT pg_reload_conf()")


FAULTS = (
    stopped,
    crashed,
    hanging,
    silent,
    silent_for_good,
    unanswering,
    cut,
    read_only,
    full,
    held,
    slow,
    unreplicated,
)


def test_the_default_keeps_the_promise() -> None:
    """A callback is told within 3 s: its own timeout, and the timer's step."""
    assert Settings().commit_timeout_seconds + LOOK_SECONDS < PROMISED_SECONDS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_told_in_time_and_heals(place: Standing, fault: Fault, capsys: pytest.CaptureFixture[str]) -> None:
    """While it lasts callbacks get 503 and readiness is red; then all is green, and nothing acknowledged is lost."""
    with fault(place):
        tasks = place.is_refusing()
        slowest = max(place.seconds)
    began = time.monotonic()
    place.heals(tasks)
    with capsys.disabled():
        healed = time.monotonic() - began
        print(
            f"\n{fault.__name__}: 503 after {slowest:.2f} s at most, well again after {healed:.1f} s", file=sys.stderr
        )


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_what_two_do_at_once_is_tried_again(place: Standing, state: str) -> None:
    """A serialization failure and a deadlock are nobody's trouble: who pushes gets 200, if a little later."""
    place.cluster.rows(FAILING % state)
    try:
        tasks = [place.task() for _ in range(20)]
        assert {answer.status for answer in place.together(tasks)} == {200}
        ((trials,),) = place.cluster.rows("SELECT last_value FROM trials")
        assert trials > 2
    finally:
        place.cluster.rows(UNDO.format("fail"))
    place.heals(tasks)


def test_a_backend_that_crashes(place: Standing) -> None:
    """Where one process of the server is killed, all connections end, and the server comes back by itself."""
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(lambda: [place.push(place.task()).status for _ in range(200)])
        place.cluster.crash_a_backend()
        assert set(pushing.result(60)) <= {200, 503}
    place.heals([place.task()])


def test_what_no_database_takes(place: Standing) -> None:
    """NUL bytes, half a surrogate and numbers out of any range harm nobody, and what comes beside them is stored."""
    bodies = {
        "nul": body_of("their-nul", error={"message": "a\\0b"}, note="a\0b"),
        "surrogate": body_of("their-surrogate").replace(b"completed", b"completed\\ud800", 1),
        "huge": body_of("their-huge", progress=2**70, charge=1e400),
        "digits": body_of("their-digits").replace(b"{", b'{"progress": ' + b"9" * 400 + b", ", 1),
        "bytes": b"\xff\x00" * 100,
    }
    fine = [place.task() for _ in range(5)]
    with ThreadPoolExecutor(10) as pool:
        odd = [pool.submit(post, place.site.port, f"task_odd_{name}", body) for name, body in bodies.items()]
        assert {answer.status for answer in pool.map(place.push, fine)} == {200}
        events = {answer.result().event for answer in odd}
    assert len(events) == len(bodies)
    assert {event for (event,) in place.cluster.rows("SELECT id FROM events")} >= events
    assert get(place.site.port, "/readyz").status == 200


def test_many_copies_of_one_fact_at_once(place: Standing) -> None:
    """However many copies come in one batch, there is one event, and one answer says that it was new."""
    task = place.task()
    answers = place.together([task] * 30)
    assert len({answer.event for answer in answers}) == 1
    assert [answer.duplicate for answer in answers].count(False) == 1
    assert dict(place.cluster.rows("SELECT task_id, duplicates FROM events"))[task] == 29


def test_notifications_that_are_dropped(tmp_path: Path) -> None:
    """Behind a pooler that subscribes to nothing, a worker finds what there is all the same, some seconds later."""
    with standing(tmp_path, deaf=True) as place:
        for _ in range(3):
            place.push(place.task())
            place.keeps(place.cluster)
        place.close()

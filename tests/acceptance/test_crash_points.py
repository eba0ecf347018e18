"""`kill -9` between every two ledger steps of the three journeys: after a restart nothing is lost, twice, or stuck.

Each journey is begun again and again, and dies at its first step, at its second, and so on, until one comes through.
What must be true after a crash is told from the trail of steps that the dead one left, not from the ledger alone. On
PostgreSQL one of six steps is a sample of them; RINGBACK_TEST_KILLS, set to anything (`make torture`), has them all.
"""

import hashlib
import http.client
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ringback.ledger.protocol import IntakeLedger, Ledger, PollerLedger, SubmitterLedger, WorkerLedger
from tests.acceptance.crashing import BEAT, PHASES, READS, TRAIL, is_step, public, writes
from tests.acceptance.forking import Forked, Zygote
from tests.acceptance.processes import Site, wait_until
from tests.acceptance.pushes import Answer, body_of, get, path_of, post
from tests.acceptance.stages import KILLED, WHOLE, At, Crashes, Stage, is_postgres
from tests.ledger.server import bare_database
from tests.results.films import films

pytestmark = pytest.mark.slow

SEND_LEASE = 40.0  # seconds: more than the request's 2 and the slack of 30, after which a claim may be taken over
SUBMISSION = writes(SubmitterLedger) - {"claim_send"} | {"enlist_keys"}  # a new task is stored as claimed
WORKER_LEASE = 31.0  # more than six heartbeats of 5 s, after which a worker is dead


@pytest.fixture(params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Give an empty site on each engine."""
    with ExitStack() as stack:
        made = stack.enter_context(Site(tmp_path, scribe="never"))  # whose steps no hook would see
        if request.param == "postgres":
            made.set(database_url=stack.enter_context(bare_database()))
        yield made


@pytest.fixture
def books(site: Site) -> str:
    """Start the sandbox and make an empty database; gives the sandbox's URL."""
    site.set(request_timeout_seconds=2, push_deadline_seconds=1)
    url = site.sandbox("--delay", "0.01..0.02")
    site.json("migrate")
    return url


def _bought(url: str, prompt: str) -> int:
    """Count in the provider's own books what was bought with this prompt."""
    tasks = get(int(url.rpartition(":")[2]), "/_sandbox/tasks").body["tasks"]
    return sum(task["prompt"] == prompt for task in tasks)


def _submission(provider: str, prompt: str, key: str) -> tuple[str, ...]:
    return ("submit", provider, "--prompt", prompt, "--duration", "6", "--key", key)


def _poll_until_told(stage: Stage, wanted: int) -> None:
    """Poll, each time a lease later, until as many tasks have ended."""
    for lease in range(2, 7):
        stage.finish("poll", "--once", ahead=lease * SEND_LEASE)
        if len(stage.rows("SELECT 1 FROM tasks WHERE state = 'completed'")) == wanted:
            return
    raise AssertionError(stage.rows("SELECT * FROM tasks"))


def _check_told_once(stage: Stage, tasks: int) -> None:
    """Each task has ended, by one event each."""
    told = stage.rows("SELECT t.id, t.state, e.type FROM tasks t LEFT JOIN events e ON e.task_id = t.id")
    assert len({row["id"] for row in told}) == len(told) == tasks
    assert {(row["state"], row["type"]) for row in told} == {("completed", "task.completed")}


def _is_in_doubt(trail: list[str]) -> bool:
    return "add_task: committed" in trail and "save_send: committed" not in trail  # stored as claimed


def test_the_hook_knows_the_ledger() -> None:
    """What the hook leaves out is part of the protocol: under another name a method would be hooked in again."""
    assert public(Ledger) >= READS


def test_a_submission_dies_at_every_step(
    site: Site, books: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an idempotency key, whatever dies where, the poller goes on with what is stored, and one task is bought."""

    def play(stage: Stage, at: At) -> bool:
        prompt = f"a crash at {at} [fault:lost_push]"
        submission = _submission("qingbo", prompt, "mine")
        died = stage.died(stage.start(*submission, crash_at=at), at)
        trail, stored = stage.trail, len(stage.rows("SELECT 1 FROM tasks"))
        assert stored == ("add_task: committed" in trail)
        assert _bought(books, prompt) == ("save_send: called" in trail)
        _poll_until_told(stage, stored)
        assert _bought(books, prompt) == stored
        stage.finish(*submission)  # as a user does who saw no answer
        _poll_until_told(stage, 1)
        assert _bought(books, prompt) == 1
        _check_told_once(stage, 1)
        return died

    crashes = Crashes.of(play, tmp_path / "stages", site, SUBMISSION)
    _print(capsys, f"a submission to qingbo: {crashes}")


def test_a_submission_without_idempotency_dies_at_every_step(
    site: Site, books: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A request that may have been accepted is shown as an unknown end and never sent again; all others are, once."""

    def play(stage: Stage, at: At) -> bool:
        prompt = f"a crash at {at} [fault:lost_push]"
        submission = _submission("reapi", prompt, "mine")
        died = stage.died(stage.start(*submission, crash_at=at), at)
        trail = stage.trail
        answered = "save_send: called" in trail
        if not _is_in_doubt(trail):
            _poll_until_told(stage, "add_task: committed" in trail)
            stage.finish(*submission)
            _poll_until_told(stage, 1)
            assert _bought(books, prompt) == 1
            _check_told_once(stage, 1)
            return died
        stage.finish("poll", "--once", ahead=SEND_LEASE)
        again = stage.start(*submission)
        assert stage.code(again) == 1
        assert "its end is unknown" in again.log
        ((state, sent, resend_at),) = stage.rows("SELECT state, sent_at IS NOT NULL, resend_at FROM tasks")
        assert (state, sent, resend_at) == ("pending", 1, None)
        assert _bought(books, prompt) == answered
        return died

    crashes = Crashes.of(play, tmp_path / "stages", site, SUBMISSION)
    assert sum(map(_is_in_doubt, crashes.trails)) >= (len(PHASES) if WHOLE or not is_postgres(site) else 1)
    _print(capsys, f"a submission to reapi: {crashes}, {sum(map(_is_in_doubt, crashes.trails))} of them in doubt")


def test_a_poller_dies_at_every_step(
    site: Site, books: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that sends what a crash left unsent, and asks about another task, may itself die anywhere."""
    prompts = {key: f"{key} [fault:lost_push]" for key in ("unsent", "sent", "asked in vain")}
    providers = {"unsent": "qingbo", "sent": "qingbo", "asked in vain": "reapi"}
    submissions = {key: _submission(providers[key], prompt, key) for key, prompt in prompts.items()}
    with Zygote() as zygote:
        begun = Stage(tmp_path / "begun", zygote, site)
        assert begun.died(begun.start(*submissions["unsent"], crash_at="add_task: done"), "add_task: done")
        begun.finish(*submissions["sent"])
        begun.finish(*submissions["asked in vain"])

    def play(stage: Stage, at: At) -> bool:
        nowhere = "http://127.0.0.1:9"  # so that it has to plan another question
        died = stage.died(stage.start("poll", "--once", crash_at=at, ahead=SEND_LEASE, reapi_base_url=nowhere), at)
        _poll_until_told(stage, 3)
        # The same task is sent at each crash, under the same idempotency key.
        assert [_bought(books, prompt) for prompt in prompts.values()] == [1, 1, 1]
        _check_told_once(stage, 3)
        return died

    assert not begun.rows("SELECT 1 FROM tasks WHERE state = 'completed'")
    methods = writes(PollerLedger) | {"claim_send", "save_send", "record", "beat", "enlist_keys"}
    crashes = Crashes.of(play, tmp_path / "stages", begun.site, methods)
    _print(capsys, f"a poller: {crashes}")


PUSHES = (
    *(("task_a", "completed"), ("task_a", "completed"), ("task_b", "processing")),
    *(("task_b", "failed"), ("task_a", "completed")),
)
NOTE = """
from receiver import Handlers

handlers = Handlers()

@handlers.on("task.*")
async def note(event):
    with open("handled", "a") as file:
        file.write(event.id + "\\n")
"""


def test_a_receiver_dies_at_every_step(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every 200 is stored, one event per fact, and its handler runs, wherever the receiver dies."""
    site.handlers(NOTE)

    def play(stage: Stage, at: At) -> bool:
        events: dict[tuple[str, str], set[str]] = {push: set() for push in PUSHES}
        receiver = stage.start("serve", crash_at=at, port=0)
        answered = _push(stage, receiver, PUSHES, events)
        died = stage.died(receiver, at)
        committed = stage.trail.count("record_for: committed")
        assert answered <= committed
        stored = {row["id"] for row in stage.rows("SELECT id FROM events")} if committed else set()
        assert stored >= set().union(*events.values())
        assert len(stored) == len(set(PUSHES[:committed]))
        receiver = stage.start("serve", port=0)
        assert _push(stage, receiver, PUSHES[answered:], events) == len(PUSHES) - answered  # as providers do
        assert stage.code(receiver) == 0, receiver.log
        rows = stage.rows("SELECT id, task_id, status FROM events")
        assert {(row["task_id"], row["status"]): {row["id"]} for row in rows} == events
        assert len(rows) == len(events)
        stage.finish("work", "--once")
        assert Counter(stage.site.lines("handled")) == Counter(row["id"] for row in rows)
        return died

    crashes = Crashes.of(play, tmp_path / "stages", site, writes(IntakeLedger) - {"record", "reject"} | {"enlist_keys"})
    opening = {"open: begin", "open: commit"} | (set() if is_postgres(site) else {"open: committed"})
    assert opening <= {trail[-1] for trail in crashes.trails} or (is_postgres(site) and not WHOLE)
    _print(capsys, f"a receiver: {crashes}")


def _push(
    stage: Stage, receiver: Forked, pushes: tuple[tuple[str, str], ...], events: dict[tuple[str, str], set[str]]
) -> int:
    """Send one after the other until the receiver dies, and tell how many were answered; or ask it to end."""
    wait_until("it listens or is dead", lambda: receiver.address or stage.code(receiver, 0) is not None)
    if receiver.address is None:
        return 0
    for done, (task, status) in enumerate(pushes):
        try:
            answer = _post_whole(receiver.address, task, body_of(f"their-{task}", status))
        except (OSError, http.client.HTTPException):
            assert stage.code(receiver) == KILLED
            return done
        events[task, status].add(answer.event)
    os.kill(receiver.pid, signal.SIGTERM)  # a dead one, too, keeps its number until its code is asked for
    return len(pushes)


def _post_whole(address: tuple[str, int], task: str, body: bytes) -> Answer:
    """Send head and body in one piece: only then they are sure to come that way, which is the hot path's."""
    head = f"POST {path_of(task)} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(address, timeout=15) as connection:
        connection.sendall(head.encode() + body)
        with closing(http.client.HTTPResponse(connection, method="POST")) as response:
            response.begin()
            return Answer(response.status, json.loads(response.read()), None)


FACTS = (("task_a", "completed"), ("task_b", "failed"))
OWED = (("charge", "task_a"), ("publish", "task_a"), ("publish", "task_b"), ("refund", "task_b"))
WORK = f"""
import asyncio, os
from receiver import Handlers

handlers = Handlers()
TRAIL = os.environ.get("{TRAIL}")

def note(name, event):
    with open(name, "a") as file:
        file.write(event.id + "\\n")

@handlers.on("task.completed")
async def charge(event):
    note("begun-charge", event)
    async with event.once("charge") as first:
        if first:
            note("charged", event)
    while TRAIL and "{BEAT}: done" not in open(TRAIL).read():
        await asyncio.sleep(0.01)
    note("ended-charge", event)

@handlers.on("task.*")
def publish(event):
    note("begun-publish", event)
    note("ended-publish", event)

@handlers.on("task.failed")
async def refund(event):
    note("begun-refund", event)
    if TRAIL:
        raise RuntimeError("not today")
    note("ended-refund", event)
"""


def test_a_worker_dies_at_every_step(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another one finishes, within one lease, all that the dead one left, and repeats nothing that was recorded."""
    site.handlers(WORK)
    receiver = site.serve()
    ids = {task: post(site.port, task, body_of(f"their-{task}", status)).event for task, status in FACTS}
    assert receiver.stop() == 0
    owed = {(name, ids[task]) for name, task in OWED}

    def play(stage: Stage, at: At) -> bool:
        died = stage.died(stage.start("work", "--once", crash_at=at, heartbeat_seconds=0.1), at)
        recorded = {pair: state for pair, state in _deliveries(stage).items() if state == "succeeded"}
        before = _ran(stage, "ended")
        assert before.keys() >= recorded.keys()
        stage.finish("work", "--once", ahead=WORKER_LEASE)
        assert _deliveries(stage) == dict.fromkeys(owed, "succeeded")
        ended, begun = _ran(stage, "ended"), _ran(stage, "begun")
        assert ended.keys() == owed
        assert {pair: ended[pair] for pair in recorded} == {pair: before[pair] for pair in recorded}
        assert set(begun.values()) <= {1, 2}
        charged = len(stage.site.lines("charged"))
        assert charged == 1 or (charged == 2 and "finish_step: done" not in stage.trail)
        outcomes = [row["outcome"] for row in stage.rows("SELECT outcome FROM attempts")]
        assert outcomes.count("succeeded") == len(owed)
        assert set(outcomes) <= {"succeeded", "failed", "lapsed"}
        return died

    methods = writes(WorkerLedger) - {"keep_result"} | {BEAT, "enlist_keys"}  # which has a journey of its own
    crashes = Crashes.of(play, tmp_path / "stages", site, methods)
    _print(capsys, f"a worker: {crashes}")


def test_storing_a_result_dies_at_every_step(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The next worker stores what is not stored, and what is written down lies there whole; nothing is left over."""
    with films(3 << 20) as film:
        result = {"result": {"videos": [{"url": [film.url]}]}}
        receiver = site.serve()
        post(site.port, "task_film", json.dumps(json.loads(body_of("p-1")) | result).encode())
        assert receiver.stop() == 0
        whole = b"".join(film.content())

        def play(stage: Stage, at: At) -> bool:
            kept = stage.site.folder / "kept"
            stage.site.set(results_url=f"file://{kept}", allow_private="127.0.0.1")
            died = stage.died(stage.start("work", "--once", crash_at=at, heartbeat_seconds=0.1), at)
            path = kept / "task_film" / "0.mp4"
            written = stage.rows("SELECT stored_url, size FROM results")
            # The heartbeat, on a thread of its own, may die while the other waits for the answer to its COMMIT.
            assert not written or any(is_step(step, "keep_result: commit") for step in stage.trail)
            assert written or "keep_result: done" not in stage.trail
            assert not path.exists() or path.read_bytes() == whole
            assert path.exists() or not written
            stage.finish("work", "--once", ahead=WORKER_LEASE)
            assert path.read_bytes() == whole
            (row,) = stage.rows("SELECT stored_url, size, sha256 FROM results")
            assert tuple(row) == (f"file://{path}", len(whole), hashlib.sha256(whole).hexdigest())
            assert [row["state"] for row in stage.rows("SELECT state FROM deliveries")] == ["succeeded"]
            assert not list((kept / ".parts").iterdir())
            return died

        crashes = Crashes.of(play, tmp_path / "stages", site, frozenset({"keep_result", "turn", "beat"}))
    _print(capsys, f"storing a result: {crashes}")


def _deliveries(stage: Stage) -> dict[tuple[str, str], str]:
    """Give the state of each delivery, by handler and event; there is one run of each."""
    query = "SELECT d.handler, e.id, d.state FROM deliveries d JOIN events e ON e.seq = d.event_seq"
    rows = stage.rows(query)
    states = {(row["handler"].removeprefix("app."), row["id"]): row["state"] for row in rows}
    assert len(states) == len(rows)
    return states


def _ran(stage: Stage, word: str) -> Counter[tuple[str, str]]:
    """Count by handler and event what the handlers wrote themselves."""
    return Counter((name, event) for name in dict(OWED) for event in stage.site.lines(f"{word}-{name}"))


def _print(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\nkill -9 at every step of {text}", file=sys.stderr)

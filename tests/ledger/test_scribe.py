"""The scribe: what it stores and answers, and what becomes of it when the receiver is gone.

It runs in a thread here, on real databases and sockets; as a process it is in test_courier.py.
"""

import fcntl
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest

from ringback.errors import LedgerError, LedgerMismatch, LedgerMissing, LedgerRejected, LedgerUnavailable
from ringback.ledger import Query, scribe, wire
from ringback.ledger.sqlite import commits
from ringback.model import Arrival, Receipt, Verdict

from .builders import COMPLETED, FAILED, fact
from .conftest import Engine
from .server import bare_database

PATIENCE_SECONDS = 60.0


def order_for(url: str, path: object = None) -> wire.Order:
    """Say where to store."""
    return wire.Order(
        database_url=url,
        path=None if path is None else str(path),
        dedup_days=90,
        log_level="info",
        log_format="json",
        secrets=("a-very-secret-thing",),
    )


def order_of(engine: Engine) -> wire.Order:
    """Say where to store: in the engine's database."""
    settings = engine.settings
    return order_for(settings.database_url, settings.database_path if settings.embedded else None)


class Receiver:
    """The other end of the socket."""

    def __init__(self, order: wire.Order) -> None:
        self.end, theirs = socket.socketpair()
        self.line = scribe.Line(self.end)
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._serve, args=(theirs,), name="scribe")
        self._thread.start()
        self.line.send(wire.write_order(order))

    def _serve(self, theirs: socket.socket) -> None:
        with theirs:
            try:
                scribe.serve(scribe.Line(theirs))
            except LedgerError as error:
                self.error = error

    def hear(self) -> bytes | None:
        """Wait for a frame."""
        return self.line.receive(PATIENCE_SECONDS)

    def give(self, *arrivals: Arrival) -> None:
        """Send a list, and wait for nothing."""
        self.line.send(wire.write_arrivals(arrivals))

    def reply(self) -> wire.Reply:
        """Wait for the answer to a list."""
        content = self.hear()
        assert content is not None
        return wire.read_reply(content)

    def ask(self, *arrivals: Arrival) -> Sequence[Receipt | Exception]:
        """Have a list stored."""
        self.give(*arrivals)
        reply = self.reply()
        pairs = enumerate(reply.receipts)
        return [reply.failures[place].error() if receipt is None else receipt for place, receipt in pairs]

    def leave(self) -> None:
        """Close our end, and wait until the scribe has ended."""
        self.end.close()
        self.ended()

    def ended(self) -> None:
        """Wait until the scribe has ended."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()


Hire = Callable[[wire.Order], Receiver]


@pytest.fixture
def hire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hire]:
    """Start scribes, and leave none behind. What tunes a process is not done to that of the tests."""
    monkeypatch.setattr(scribe, "tune", lambda: None)
    hired: list[Receiver] = []

    def start(order: wire.Order) -> Receiver:
        hired.append(Receiver(order))
        return hired[-1]

    yield start
    for receiver in hired:
        receiver.leave()


@contextmanager
def held_elsewhere(engine: Engine) -> Iterator[None]:
    """Hold the write lock of a file as another process would."""
    handle = os.open(f"{engine.settings.database_path}.lock", os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


async def test_stores_and_answers(engine: Engine, hire: Hire) -> None:
    """It says when it is ready, and then what became of each arrival, in their order; the ledger has them."""
    ledger = await engine.open()
    receiver = hire(order_of(engine))
    assert receiver.hear() == wire.READY
    answers = receiver.ask(fact(COMPLETED), fact(COMPLETED), fact(FAILED), fact(COMPLETED, "task_b", "p-b"))
    verdicts = [answer.verdict for answer in answers if isinstance(answer, Receipt)]
    assert verdicts == [Verdict.NEW, Verdict.DUPLICATE, Verdict.CONTRADICTED, Verdict.NEW]
    receiver.give(fact(COMPLETED))
    receiver.give(fact(COMPLETED, "task_c", "p-c"))
    assert [receiver.reply().receipts[0].verdict for _ in range(2)] == [Verdict.DUPLICATE, Verdict.NEW]  # type: ignore[union-attr]
    assert {event.task_id for event in await ledger.events(Query())} == {"task_a", "task_b", "task_c"}


async def test_one_at_fault_harms_no_other(engine: Engine, hire: Hire) -> None:
    """What the database refuses is rejected alone; what is no arrival that we know comes again, as after an upgrade."""
    await engine.open()
    receiver = hire(order_of(engine))
    receiver.hear()
    refused, stored = receiver.ask(fact(COMPLETED, "task_bad", event_id="a\0b"), fact(COMPLETED))
    assert isinstance(refused, LedgerRejected)
    assert isinstance(stored, Receipt)
    odd = msgspec.msgpack.decode(wire.write_arrivals([fact(FAILED), fact(FAILED), fact(COMPLETED, "task_b", "p-b")]))
    odd[1]["kind"] = "gossip"
    receiver.line.send(msgspec.msgpack.encode(odd))
    reply = receiver.reply()
    assert [receipt and receipt.verdict for receipt in reply.receipts] == [Verdict.CONTRADICTED, None, Verdict.NEW]
    assert (reply.failures[1].final, reply.changed) == (False, True)
    receiver.line.send(msgspec.msgpack.encode([odd[1]]))
    assert not receiver.reply().changed


async def test_what_was_given_is_stored_though_the_receiver_is_gone(engine: Engine, hire: Hire) -> None:
    """A receiver dies with answers unread and lists unanswered: all of them are stored, and nothing of half a list."""
    ledger = await engine.open()
    receiver = hire(order_of(engine))
    receiver.hear()
    for number in range(20):
        receiver.give(fact(COMPLETED, f"task_{number}", None), fact(FAILED, f"task_{number}", None))
    receiver.end.sendall(wire.frame(wire.write_arrivals([fact(COMPLETED, "task_half", None)]))[:-1])
    receiver.leave()
    assert receiver.error is None
    events = await ledger.events(Query(limit=100))
    assert {event.task_id for event in events} == {f"task_{number}" for number in range(20)}
    assert len(events) == 40


async def test_receiver_that_leaves_at_once(engine: Engine, hire: Hire) -> None:
    """Without an order it ends, and with one that nobody waits for, too."""
    await engine.open()
    hire(order_of(engine)).leave()
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        scribe.serve(scribe.Line(theirs))


async def test_pauses_are_used(engine: Engine, hire: Hire, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing comes the WAL is put into the database; a list that comes in two pieces, with a pause, is whole."""
    monkeypatch.setattr(commits, "CHECKPOINT_IDLE_SECONDS", 0.02)
    await engine.open()
    receiver = hire(order_of(engine))
    receiver.hear()
    receiver.ask(fact(COMPLETED, body=b"x" * 200_000))
    if engine.settings.embedded:
        before = engine.settings.database_path.stat().st_size
        content = wire.frame(wire.write_arrivals([fact(FAILED)]))
        receiver.end.sendall(content[:9])
        while engine.settings.database_path.stat().st_size < before + 200_000:
            assert receiver._thread.is_alive()
        receiver.end.sendall(content[9:])
        assert isinstance(receiver.reply().receipts[0], Receipt)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_lock_that_somebody_holds_is_told(engine: Engine, hire: Hire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked for too long: all are told that it may go better later, and it does."""
    monkeypatch.setattr(commits, "WAIT_SECONDS", 0.1)
    await engine.open()
    receiver = hire(order_of(engine))
    receiver.hear()
    with held_elsewhere(engine):
        answers = receiver.ask(fact(COMPLETED), fact(FAILED))
        assert [type(answer) for answer in answers] == [LedgerUnavailable, LedgerUnavailable]
        assert "another process" in str(answers[0])
    assert isinstance(receiver.ask(fact(COMPLETED))[0], Receipt)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_ledger_that_does_not_fit(engine: Engine, hire: Hire) -> None:
    """A database of another version is not written to."""
    await engine.open()
    with closing(sqlite3.connect(engine.settings.database_path)) as file:
        file.execute("PRAGMA user_version = 99")
    receiver = hire(order_of(engine))
    assert receiver.hear() is None
    assert isinstance(receiver.error, LedgerMismatch)


def test_database_without_tables(hire: Hire) -> None:
    """The receiver makes the tables; where there are none, it is no ledger."""
    with bare_database() as url:
        receiver = hire(order_for(url))
        assert receiver.hear() is None
        receiver.leave()
    assert isinstance(receiver.error, LedgerMissing)


@pytest.mark.parametrize(
    "order",
    [order_for("sqlite:////nowhere/x.db", "/nowhere/x.db"), order_for("postgresql://postgres@/x?host=/nowhere")],
)
def test_ledger_that_cannot_be_reached(hire: Hire, order: wire.Order) -> None:
    """Where there is no database to be had it ends, and says why."""
    receiver = hire(order)
    assert receiver.hear() is None
    assert isinstance(receiver.error, LedgerUnavailable)


def run(said: bytes | None) -> "subprocess.CompletedProcess[str]":
    """Run it as the process that it is, with this on its standard input; None: a file."""
    command: list[Any] = [sys.executable, "-P", "-m", "ringback.ledger.scribe"]
    if said is None:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(said)
        ours.shutdown(socket.SHUT_WR)
        return subprocess.run(command, stdin=theirs.fileno(), capture_output=True, text=True, timeout=30)


def test_process_that_cannot_work_says_why_and_no_secret() -> None:
    """As a process it ends with 1 where it cannot store, or does not understand; the log holds no secret."""
    url = "postgresql://postgres:a-very-secret-thing@/x?host=/nowhere"
    done = run(wire.frame(wire.write_order(order_for(url))))
    assert (done.returncode, "scribe.failed" in done.stderr) == (1, True)
    garbled = run(wire.frame(b"a-very-secret-thing"))
    assert (garbled.returncode, "scribe.failed" in garbled.stderr + garbled.stdout) == (1, True)
    strange = run(None)
    assert strange.returncode == 1
    assert "a-very-secret-thing" not in done.stderr + done.stdout + garbled.stderr + garbled.stdout


def test_process_ends_with_its_receiver() -> None:
    """As a process it ends with 0 where nothing was asked of it."""
    assert run(b"").returncode == 0

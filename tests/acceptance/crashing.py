"""A fault hook at the ledger boundary: a process that kills itself at its n-th step there, as a power cut would.

Steps are, on each connection that writes, the moments before BEGIN, before COMMIT and after COMMIT, around a checkpoint
of SQLite, and before each statement of PostgreSQL: before it is kept for a packet, and before it travels. Of a packet
in which the process dies, the server has done what comes before that step. Steps are numbered. Those with a name only
are the call and the return of every method of the ledger that may write, where nothing changes that was not so at the
step before. Each is written into a trail before anything dies, so that a test can tell where that was. Nothing here
knows one method from another, but for those that only read. `forking` calls `prepare` in every process that it makes;
without the variables it does nothing.
"""

import functools
import inspect
import os
import signal
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine

from ringback.ledger import Ledger, postgres
from ringback.ledger.postgres import connection, link, schema
from ringback.ledger.postgres.commits import BEGIN
from ringback.ledger.postgres.pipeline import Pipeline
from ringback.ledger.sqlite import SqliteLedger, heart
from ringback.model import Receipt

TRAIL = "RINGBACK_TEST_TRAIL"  # the file that the steps are written into
CRASH_AT = "RINGBACK_TEST_CRASH_AT"  # the number of a step; or "method: phase", for the first of that name
AHEAD_SECONDS = "RINGBACK_TEST_AHEAD_SECONDS"  # how far the clock of this process is ahead, and the server's with it
ASTRAY_SECONDS = "RINGBACK_TEST_ASTRAY_SECONDS"  # how far it is ahead of all others

READS = frozenset({"changed", "deliveries", "due_sends", "events", "processes", "report", "story", "summary", "tasks"})
BEAT = "beat_from_thread"
PHASES = ("called", "begin", "commit", "committed", "done")  # of everything that is written
NUMBERED = frozenset({"begin", "kept", "statement", "commit", "committed", "checkpoint", "checkpointed"})
PACKET = {b"BEGIN": "begin", b"COMMIT": "commit"}  # the first words of these; all else is a statement
Method = Callable[..., Any]


def public(protocol: type) -> frozenset[str]:
    """Give the names of a protocol's methods."""
    return frozenset(name for name in dir(protocol) if not name.startswith("_"))


def writes(protocol: type) -> frozenset[str]:
    """Give the names of those that may write."""
    return public(protocol) - READS


def numbered(trail: list[str]) -> int:
    """Count the steps that have a number."""
    return sum(step.rpartition(": ")[2] in NUMBERED for step in trail)


def is_step(step: str, wanted: str | None) -> bool:
    """Tell whether a step, at which several methods may be under way, is this one of this method."""
    (names, _, phase), (name, _, wanted_phase) = step.partition(": "), (wanted or "").partition(": ")
    return phase == wanted_phase and name in names.split("+")


def prepare(environ: Mapping[str, str]) -> None:
    """Move the clock and lay the mines, as far as the environment wants it."""
    if seconds := environ.get(AHEAD_SECONDS) or environ.get(ASTRAY_SECONDS):
        time_machine.travel(datetime.now(UTC) + timedelta(seconds=float(seconds)), tick=True).start()
    if AHEAD_SECONDS in environ:
        link.Clock.ahead = timedelta()  # type: ignore[assignment, method-assign]
    if trail := environ.get(TRAIL):
        _Steps(trail, environ.get(CRASH_AT)).watch()


class _Steps:
    """The steps of this process so far, and the one at which it dies."""

    def __init__(self, trail: str, crash_at: str | None) -> None:
        self._trail = os.open(trail, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._crash_at = crash_at
        self._lock = threading.Lock()
        self._count = 0
        self._under_way: list[str] = []  # methods that were called and have not come back
        self._thread = threading.local()  # what a thread does by itself

    def watch(self) -> None:
        """Put the hooks in."""
        for name in writes(Ledger):
            for engine in (SqliteLedger, postgres.PostgresLedger):
                setattr(engine, name, self._wrapped(name, getattr(engine, name)))
        heart.beat = self._wrapped_in_thread(heart.beat)
        postgres.beat_from_thread = self._wrapped_in_thread(postgres.beat_from_thread)
        self._watch_postgres()
        watched = type("_WatchedConnection", (_Watched,), {"reach": staticmethod(self._reach)})
        sqlite3.connect = functools.partial(sqlite3.connect, factory=watched)  # type: ignore[assignment]

    def _watch_postgres(self) -> None:
        command, execute, take = connection.Connection.command, connection.Connection.execute, schema._take
        writing = threading.local()  # whether this thread is in a transaction that writes

        def commanded(db: connection.Connection, text: str) -> None:
            commits = getattr(writing, "now", False) and text.endswith("COMMIT")
            if text == BEGIN:
                self._reach("begin")
                writing.now = True
            if commits:
                self._reach("commit")
            command(db, text)
            if commits:
                self._reach("committed")
                writing.now = False

        def executed(db: connection.Connection, statement: str, values: Any = ()) -> connection.Cursor:
            if getattr(writing, "now", False):
                self._reach("statement")
            return execute(db, statement, values)

        def taken(*arguments: Any) -> bool:
            self._reach("begin")
            done = take(*arguments)
            self._reach("commit")
            return done

        connection.Connection.command = commanded  # type: ignore[method-assign, assignment]
        connection.Connection.execute = executed  # type: ignore[method-assign, assignment]
        schema._take = taken  # type: ignore[assignment]
        self._watch_packets(writing)

    def _watch_packets(self, writing: threading.local) -> None:
        together, keep = connection.Connection.together, Pipeline.execute

        def kept(batch: Pipeline, statement: Any, values: Any = ()) -> Any:
            self._reach("kept")
            return keep(batch, statement, values)

        def sent(db: connection.Connection, commands: Sequence[connection.Command]) -> Any:
            phases = [PACKET.get(query.partition(b" ")[0], "statement") for query, _ in commands]
            for place, phase in enumerate(phases):
                self._reach(phase, first=functools.partial(together, db, commands[:place]) if place else None)
            writing.now = True
            found = together(db, commands)
            if phases[-1] == "commit":
                self._reach("committed")
                writing.now = False
            return found

        connection.Connection.together = sent  # type: ignore[method-assign, assignment]
        Pipeline.execute = kept  # type: ignore[method-assign, assignment]

    def _reach(self, phase: str, method: str | None = None, first: Callable[[], Any] | None = None) -> None:
        """Note a step, and die there if it is the one, after what is still to be done first."""
        with self._lock:
            name = method or getattr(self._thread, "method", None) or "+".join(sorted({*self._under_way})) or "open"
            step = f"{name}: {phase}"
            self._count += phase in NUMBERED
            os.write(self._trail, f"{step}\n".encode())
            if is_step(step, self._crash_at) or (phase in NUMBERED and self._crash_at == str(self._count)):
                if first is not None:
                    first()
                os.kill(os.getpid(), signal.SIGKILL)

    def _wrapped(self, name: str, method: Method) -> Method:
        """Watch a method in the form in which it gives its answer: to a waiter, by a coroutine, or by a future."""
        if "waiter" in inspect.signature(method).parameters:

            @functools.wraps(method)
            def telling(ledger: SqliteLedger, waiter: Any, *arguments: Any, **options: Any) -> None:
                self._begin(name)
                method(ledger, _Waiter(waiter, lambda: self._end(name)), *arguments, **options)

            return telling
        if inspect.iscoroutinefunction(method):

            @functools.wraps(method)
            async def awaited(*arguments: Any, **options: Any) -> Any:
                self._begin(name)
                try:
                    return await method(*arguments, **options)
                finally:
                    self._end(name)

            return awaited

        @functools.wraps(method)
        def promised(*arguments: Any, **options: Any) -> Awaitable[Any]:
            self._begin(name)
            future = method(*arguments, **options)
            future.add_done_callback(lambda _: self._end(name))  # the first one: before whoever waits goes on
            return future  # type: ignore[no-any-return]

        return promised

    def _wrapped_in_thread(self, beat: Method) -> Method:
        @functools.wraps(beat)
        def watched(*arguments: Any, **options: Any) -> Any:
            self._thread.method = BEAT
            try:
                self._reach("called")
                lapsed = beat(*arguments, **options)
                self._reach("done")
            finally:
                self._thread.method = None
            return lapsed

        return watched

    def _begin(self, name: str) -> None:
        self._reach("called", name)
        self._under_way.append(name)

    def _end(self, name: str) -> None:
        self._under_way.remove(name)
        self._reach("done", name)


class _Waiter:
    """Stands before a `protocol.Waiter`, and learns first."""

    def __init__(self, waiter: Any, learn: Callable[[], None]) -> None:
        self._waiter = waiter
        self._learn = learn

    def done(self) -> bool:
        return bool(self._waiter.done())

    def set_result(self, receipt: Receipt) -> None:
        self._learn()
        self._waiter.set_result(receipt)

    def set_exception(self, error: Exception) -> None:
        self._learn()
        self._waiter.set_exception(error)


class _Watched(sqlite3.Connection):
    """A connection that tells of its transactions."""

    reach: Callable[[str], None]

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        before, after = {"BEGIN IMMEDIATE": ("begin", None), "COMMIT": ("commit", "committed")}.get(sql, (None, None))
        if "wal_checkpoint(" in sql:
            before, after = "checkpoint", "checkpointed"
        if before:
            self.reach(before)
        cursor = super().execute(sql, *arguments)
        if after:
            self.reach(after)
        return cursor

    def executescript(self, sql: str) -> sqlite3.Cursor:
        statements, commit, rest = sql.rpartition("COMMIT;")
        if not commit:
            return super().executescript(sql)
        self.reach("begin")
        super().executescript(statements)
        self.execute("COMMIT")
        return super().executescript(rest)

"""Far more callbacks than can be stored, and what becomes of them: 200 in time, or 503; none is accepted and lost.

A crowd of thousands of connections sends without waiting for anybody: a while at half of what the receiver can store
(which is measured first, by 64 who do wait), ten seconds at a multiple of it, and at half again. Sender and receiver
share the machine. Meanwhile the receiver's memory is read from /proc, that of all its processes. Afterwards the ledger
is asked whether it holds every callback that got a 200, and none twice.

    .venv/bin/python -m bench.overload               # a minute; writes docs/benchmarks/overload.md, .json and .svg
    .venv/bin/python -m bench.overload --seconds 3 --rounds 1 --no-write
    .venv/bin/python -m bench.overload --fsync-ms 10 # on a slow disk
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import uvloop

from bench.backlog import new_tasks, push_of
from bench.chart import Panel, svg
from bench.figures import Figure, Part
from bench.flood import Book, Crowd, Sent, request_of
from bench.latency import percentile
from bench.machine import describe
from bench.running import RINGBACK, ROOT, await_port, end, environment, free_port
from bench.shim import compiled, slowed
from ringback.model import Task

PAGES = ROOT / "docs" / "benchmarks"
CAPACITY_SECONDS = 3
CAPACITY_CONNECTIONS = 64
CALM_SECONDS = 3  # before and after
CALM_SHARE = 0.5
SAMPLE_SECONDS = 0.1
STEP_SECONDS = 0.5  # of the plot
SETTLE_SECONDS = 10.0
GOAL_MS = 250
GOAL_RECOVERY_SECONDS = 1
GOAL_GROWN_MIB = 10
MOST_PER_SECOND = 32_000  # nobody stores more; so many are prepared to find out
MEBI = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one round gave; times in seconds since the overload began."""

    capacity: float
    seconds: float
    sent: Sequence[Sent]  # in the overload, their times counted from its beginning
    before: Sequence[Sent]  # since the receiver's memory is watched
    after: Sequence[Sent]
    unsent: int
    lost: int
    memory: Sequence[tuple[float, int]]
    untrue: int  # answered by 200, and not in the ledger
    stored_unanswered: int  # in the ledger, though answered by anything else

    @property
    def accepted_ms(self) -> list[float]:
        """How long those waited who got a 200."""
        return [(each.answered - each.at) * 1000 for each in self.sent if each.status == 200]

    @property
    def refused_ms(self) -> list[float]:
        """How long those waited who got a 503."""
        return [(each.answered - each.at) * 1000 for each in self.sent if each.status == 503]

    @property
    def others(self) -> int:
        """How many got another answer, or none."""
        return sum(each.status not in (200, 503) for each in (*self.sent, *self.after))

    @property
    def recovery_seconds(self) -> float:
        """How long after the overload's end the last one came that was turned away, or waited for too long."""
        slow = [e.at for e in self.after if e.status != 200 or e.answered - e.at > GOAL_MS / 1000]
        return max([0.0, *(at - self.seconds for at in slow)])

    @property
    def grown_mib(self) -> float:
        """How much memory the second half of the overload took."""
        half = max(size for at, size in self.memory if at <= self.seconds / 2)
        return (max(size for at, size in self.memory if at <= self.seconds) - half) / MEBI


def main() -> int:
    """Run the rounds, print the page, and write it."""
    options = _options(sys.argv[1:])
    results = []
    for number in range(1, options.rounds + 1):
        with tempfile.TemporaryDirectory(prefix="ringback-bench-") as name:
            results.append(_round(Path(name), options))
        result = results[-1]
        rate = len(result.accepted_ms) / result.seconds
        print(
            f"round {number}: can store {result.capacity:,.0f}/s, sent {len(result.sent) / result.seconds:,.0f}/s,"
            f" accepted {rate:,.0f}/s, p99 {percentile(result.accepted_ms, 0.99):.0f} ms, unsent {result.unsent:,},"
            f" recovery {result.recovery_seconds:.2f} s",
            file=sys.stderr,
            flush=True,
        )
    part = _part(results, options)
    print(part.json() if options.json else part.markdown(1))
    if not options.no_write:
        _write(part, results[-1])
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of overload")
    parser.add_argument("--connections", type=int, default=2_000)
    parser.add_argument("--times", type=float, default=3.0, help="of what can be stored are sent")
    parser.add_argument("--fsync-ms", type=float, default=0.0, help="how long the disk takes; needs a C compiler")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the page")
    parser.add_argument("--no-write", action="store_true")
    return parser.parse_args(arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a crowd tells; times on its own clock."""

    capacity: float
    book: Book
    tasks: Sequence[Task]
    began: float
    ended: float
    memory: Sequence[tuple[float, int]]


def _round(folder: Path, options: argparse.Namespace) -> Result:
    url, port = f"sqlite:///{folder}/bench.db", free_port()
    environ = environment(url, RINGBACK_PORT=str(port), RINGBACK_LOG_LEVEL="error")
    if options.fsync_ms:
        environ |= slowed(compiled(folder), options.fsync_ms)
    os.sync()  # so that nobody pays for what another has written
    process = subprocess.Popen((*RINGBACK, "serve"), cwd=ROOT, env=environ)
    try:
        await_port(port, [process])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            told = runner.run(_flood(port, process.pid, options))
    finally:
        end(process, signal.SIGTERM)
    return _result(told, _stored(folder / "bench.db"))


async def _flood(port: int, pid: int, options: argparse.Namespace) -> _Told:
    """Find out what can be stored, then send half of it, too much, and half again."""
    capacity = await _capacity(port)
    rates = (CALM_SHARE * capacity, options.times * capacity, CALM_SHARE * capacity)
    spans = (CALM_SECONDS, options.seconds, CALM_SECONDS)
    tasks = new_tasks(1 + int(sum(rate * span for rate, span in zip(rates, spans, strict=True))))
    crowd, memory = Crowd(port, [request_of(*push_of(task)) for task in tasks]), list[tuple[float, int]]()
    await crowd.open(options.connections)
    watch = asyncio.create_task(_watch(pid, memory))
    moments = []
    for rate, span in zip(rates, spans, strict=True):
        moments.append(time.perf_counter())
        await crowd.send(rate, span)
    await crowd.settle(SETTLE_SECONDS)
    watch.cancel()
    crowd.close()
    return _Told(capacity=capacity, book=crowd.book, tasks=tasks, began=moments[1], ended=moments[2], memory=memory)


async def _capacity(port: int) -> float:
    """Measure how many a second are stored where nobody sends before he has his answer."""
    tasks = new_tasks(CAPACITY_SECONDS * MOST_PER_SECOND)
    crowd = Crowd(port, [request_of(*push_of(task)) for task in tasks])
    await crowd.open(CAPACITY_CONNECTIONS)
    per_second = await crowd.keep_busy(CAPACITY_SECONDS)
    await crowd.settle(SETTLE_SECONDS)
    crowd.close()
    return per_second


async def _watch(pid: int, memory: list[tuple[float, int]]) -> None:
    while True:
        memory.append((time.perf_counter(), memory_of(pid)))
        await asyncio.sleep(SAMPLE_SECONDS)


def memory_of(pid: int) -> int:
    """Give the bytes in memory of a process and of all that it has started."""
    root = psutil.Process(pid)
    return sum(int(process.memory_info().rss) for process in (root, *root.children(recursive=True)))


def _stored(path: Path) -> set[str]:
    """Give the tasks whose fact is in the ledger; it must be there once."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        found = [row[0] for row in db.execute("SELECT task_id FROM events")]
    if len(set(found)) != len(found):
        raise SystemExit(f"not a valid round: {len(found) - len(set(found))} facts are stored twice")
    return set(found)


def _result(told: _Told, stored: set[str]) -> Result:
    answered = {told.tasks[sent.number].id for sent in told.book.sent if sent.status == 200}
    others = {told.tasks[sent.number].id for sent in told.book.sent if sent.status != 200}
    seconds = told.ended - told.began
    moved = [replace(sent, at=sent.at - told.began, answered=sent.answered - told.began) for sent in told.book.sent]
    return Result(
        capacity=told.capacity,
        seconds=seconds,
        sent=[sent for sent in moved if 0 <= sent.at < seconds],
        before=[sent for sent in moved if told.memory[0][0] - told.began <= sent.at < 0],
        after=[sent for sent in moved if sent.at >= seconds],
        unsent=told.book.unsent,
        lost=told.book.lost,
        memory=[(at - told.began, size) for at, size in told.memory],
        untrue=len(answered - stored),
        stored_unanswered=len(stored & others),
    )


def _part(results: Sequence[Result], options: argparse.Namespace) -> Part:
    def figure(name: str, unit: str, value: Callable[[Result], float], **more: Any) -> Figure:
        return Figure(name=name, unit=unit, values=tuple(map(value, results)), **more)

    return Part(
        title="Overload",
        settings={
            "rounds": f"{options.rounds} of {options.seconds:g} s",
            "connections": f"{options.connections:,}",
            "sent": f"{options.times:g} × what can be stored",
            "disk": f"an fsync of {options.fsync_ms:g} ms" if options.fsync_ms else "as it is",
        },
        figures=(
            figure("stored, 64 connections that wait", "/s", lambda r: r.capacity),
            figure("sent in the overload", "/s", lambda r: len(r.sent) / r.seconds),
            figure("answered 200", "/s", lambda r: len(r.accepted_ms) / r.seconds),
            figure("answered 503", "/s", lambda r: len(r.refused_ms) / r.seconds),
            figure("200 after, p50", "ms", lambda r: percentile(r.accepted_ms, 0.5)),
            figure("200 after, p99", "ms", lambda r: percentile(r.accepted_ms, 0.99), at_most=GOAL_MS),
            figure("200 after, at most", "ms", lambda r: max(r.accepted_ms)),
            figure("503 after, p99", "ms", lambda r: percentile(r.refused_ms or [0.0], 0.99)),
            figure("recovered after", "s", lambda r: r.recovery_seconds, at_most=GOAL_RECOVERY_SECONDS),
            figure("memory, at most", "MiB", lambda r: max(size for _, size in r.memory) / MEBI),
            figure("memory, second half over first", "MiB", lambda r: r.grown_mib, at_most=GOAL_GROWN_MIB),
            figure("answered 200 and not stored", "", lambda r: r.untrue, at_most=0),
            figure("stored and not answered 200", "", lambda r: r.stored_unanswered),
            figure("other answers, or none", "", lambda r: r.others, at_most=0),
            figure("connections lost", "", lambda r: r.lost, at_most=0),
            figure("not sent: no connection was free", "", lambda r: r.unsent),
        ),
        notes=(
            "Receiver and senders share the machine; a connection has one callback under way at most.",
            "Tasks are unknown to the ledger before their callback, so each makes a task and an event.",
            "Recovered: from the overload's end to the last callback that got no 200, or not within "
            f"{GOAL_MS} ms. The rate before and after is {CALM_SHARE:g} of what can be stored.",
        ),
    )


def _write(part: Part, result: Result) -> None:
    where = "; ".join(f"{name}: {value}" for name, value in describe().items())
    page = f"{part.markdown(1)}\n![Answers and memory over the seconds of one round](overload.svg)\n\n"
    (PAGES / "overload.md").write_text(
        f"{page}`python -m bench.overload` writes this page and its plot. {where}.\n", encoding="utf-8"
    )
    (PAGES / "overload.json").write_text(part.json(), encoding="utf-8")
    (PAGES / "overload.svg").write_text(_plot(result), encoding="utf-8")


def _plot(result: Result) -> str:
    """Draw what was answered in each half second, and the receiver's memory."""
    first = min(at for at, _ in result.memory)
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, status in (("200", 200), ("503", 503)):
        counts = Counter(
            int((each.answered - first) / STEP_SECONDS)
            for each in (*result.before, *result.sent, *result.after)
            if each.status == status
        )
        lines[name] = [(step * STEP_SECONDS, count / STEP_SECONDS) for step, count in sorted(counts.items())]
    memory = [(at - first, size / MEBI) for at, size in result.memory]
    return svg(
        [
            Panel(title="Answers per second", across="seconds", lines=lines, is_linear=True),
            Panel(title="Memory of the receiver, MiB", across="seconds", lines={"memory": memory}, is_linear=True),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

"""From a push to its handler's start, and what a callback waits while a handler blocks the event loop.

One sender pushes so many callbacks a second, each about another task, on an open loop: it never waits for an answer
before it sends the next. A push's moment is when the sender comes to it, so waiting for a free connection counts; a
handler says by the same clock when it begins. Both shapes are measured, round by round: `ringback up`, and `ringback
serve` with `ringback work` beside it. Afterwards the same again, while one handler calls `time.sleep`: in `up` it
stops the callbacks too, in a process of its own it does not. Nothing is pinned: sender and receiver share the machine.

    make bench                                  # 500 pushes/s, 3 rounds of 10 s each, then 5 s blocked
    .venv/bin/python -m bench.latency --rounds 1 --seconds 5 --rate 200
"""

import argparse
import asyncio
import math
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.backlog import push_of, submit_tasks
from bench.running import environment, free_port, started
from bench.sender import Push, Sender
from ringback.model import Task

WARM_UP_SECONDS = 2
AFTER_SECONDS = 3  # pushes go on after the block: what it held up is worked off meanwhile
HANDLED_SECONDS = 60.0  # after the last push every handler must have begun
HANDLERS = ("--handlers", "bench.handlers:stamped")
SHAPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "ringback up": (("up", *HANDLERS),),
    "ringback serve + work": (("serve",), ("work", *HANDLERS)),
}
GOALS_MS = {"ringback up": "p50 5 ms, p99 30 ms", "ringback serve + work": "p99 250 ms"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """When a handler began, and ended, on the sender's clock."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one round gave, in milliseconds; `answer` is what the sender waited for its 200."""

    handler: Sequence[float]
    answer: Sequence[float]
    unanswered: int  # or answered by anything but 200
    lag: float  # how late the sender itself was, p99


def main() -> int:
    """Run the rounds and print the tables."""
    options = _options(sys.argv[1:])
    rows: dict[str, list[Result]] = {shape: [] for shape in SHAPES}
    blocked: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="ringback-bench-") as name:
        for number in range(1, options.rounds + 1):
            for shape, results in rows.items():
                results.append(_round(Path(name), shape, options))
                p50, p99 = percentile(results[-1].handler, 0.5), percentile(results[-1].handler, 0.99)
                print(f"round {number}: {shape}: p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
        for shape in SHAPES:
            blocked[shape] = _blocked(Path(name), shape, options)
    _report(options, rows, blocked)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rate", type=int, default=500, help="pushes per second")
    parser.add_argument("--connections", type=int, default=128, help="kept alive by the sender")
    parser.add_argument("--block-seconds", type=float, default=5.0)
    return parser.parse_args(arguments)


def _round(folder: Path, shape: str, options: argparse.Namespace) -> Result:
    """Push for so long, and take all pushes after the warm-up."""
    count = options.rate * (WARM_UP_SECONDS + options.seconds)
    tasks, pushes, stamps = _run(folder, shape, count, options)
    return _result(tasks, pushes, stamps, pushes[0].at + WARM_UP_SECONDS, math.inf)


def _blocked(folder: Path, shape: str, options: argparse.Namespace) -> Result:
    """Let the handler of one push block, and take all pushes that were due while it did."""
    first = options.rate * WARM_UP_SECONDS
    count = first + int(options.rate * (options.block_seconds + AFTER_SECONDS))
    tasks, pushes, stamps = _run(folder, shape, count, options, block=first)
    block = stamps[tasks[first].id]
    if block.ended - block.began < options.block_seconds:
        raise SystemExit(f"not a valid round: blocked for {block.ended - block.began:.2f} s only")
    result = _result(tasks, pushes, stamps, block.began, block.ended)
    # A callback that was under way when the block began is its victim, too.
    return replace(result, unanswered=sum(push.status != 200 for push in pushes))


def _run(
    folder: Path, shape: str, count: int, options: argparse.Namespace, *, block: int | None = None
) -> tuple[list[Task], list[Push], dict[str, Stamp]]:
    """Push so many callbacks at a new ledger; gives what was sent and which handler began when."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path, stamps, port = Path(name, "bench.db"), Path(name, "stamps"), free_port()
        tasks = asyncio.run(submit_tasks(path, count))
        environ = environment(path, RINGBACK_PORT=str(port), BENCH_STAMPS=str(stamps))
        environ["RINGBACK_PUBLIC_URL"] = "https://hooks.example.com"  # else each start warns that there is none
        if block is not None:
            environ |= {"BENCH_BLOCK_TASK": tasks[block].id, "BENCH_BLOCK_SECONDS": str(options.block_seconds)}
        os.sync()
        stamps.touch()
        with started(SHAPES[shape], environ, port):
            pushes = asyncio.run(
                Sender(port, options.connections).send([push_of(task) for task in tasks], options.rate)
            )
            answered = {task.id for task, push in zip(tasks, pushes, strict=True) if push.status == 200}
            return tasks, pushes, _await_stamps(stamps, answered)


def _await_stamps(path: Path, answered: set[str]) -> dict[str, Stamp]:
    """Wait until the handler of every push that got a 200 has begun."""
    deadline = time.monotonic() + HANDLED_SECONDS
    while missing := answered - (stamps := read_stamps(path.read_text())).keys():
        if time.monotonic() > deadline:
            raise SystemExit(f"not a valid round: {len(missing)} of {len(answered)} were answered, and never handled")
        time.sleep(0.2)
    return stamps


def read_stamps(text: str) -> dict[str, Stamp]:
    """Read what the handlers wrote, by task; of a handler that ran twice, the first."""
    stamps: dict[str, Stamp] = {}
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):  # else it is still being written
            task_id, began, ended = line.split()
            stamps.setdefault(task_id, Stamp(began=float(began), ended=float(ended)))
    return stamps


def _result(
    tasks: Sequence[Task], pushes: Sequence[Push], stamps: Mapping[str, Stamp], since: float, until: float
) -> Result:
    taken = [(task, push) for task, push in zip(tasks, pushes, strict=True) if since <= push.at < until]
    stored = [(stamps[task.id], push) for task, push in taken if push.status == 200]
    return Result(
        handler=[(stamp.began - push.at) * 1000 for stamp, push in stored],
        answer=[(push.answered - push.at) * 1000 for _, push in stored],
        unanswered=len(taken) - len(stored),
        lag=percentile([push.lag * 1000 for _, push in taken], 0.99),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that so large a share of all does not exceed; NaN where there are none."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else math.nan


def _report(options: argparse.Namespace, rows: Mapping[str, Sequence[Result]], blocked: Mapping[str, Result]) -> None:
    print(
        f"\n{options.rate} pushes/s, {options.rounds} rounds of {options.seconds} s, {os.cpu_count()} cores, ", end=""
    )
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; ms, medians of rounds (min–max)\n")
    print("| | push to handler, p50 | p99 | push to 200, p50 | p99 | not 200 | sender late, p99 | goal for handlers |")
    print("|---|---|---|---|---|---|---|---|")
    for shape, results in rows.items():
        cells = [
            _spread([percentile(values, share) for values in found])
            for found in ([r.handler for r in results], [r.answer for r in results])
            for share in (0.5, 0.99)
        ]
        late = statistics.median(result.lag for result in results)
        unanswered = sum(result.unanswered for result in results)
        print(f"| {shape} | {' | '.join(cells)} | {unanswered} | {late:.1f} | {GOALS_MS[shape]} |")
    print(f"\nPushes while an async handler blocks its event loop for {options.block_seconds:g} s, ms\n")
    print(
        "| | answered 200 | push to 200, p50 | p99 | most | not 200, before and after too |\n|---|---|---|---|---|---|"
    )
    for shape, result in blocked.items():
        p50, p99, most = (percentile(result.answer, share) for share in (0.5, 0.99, 1))
        print(f"| {shape} | {len(result.answer):,} | {p50:.1f} | {p99:.1f} | {most:.1f} | {result.unanswered} |")


def _spread(each: Sequence[float]) -> str:
    return f"{statistics.median(each):.1f} ({min(each):.1f}–{max(each):.1f})"


if __name__ == "__main__":
    sys.exit(main())

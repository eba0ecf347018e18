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
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.backlog import push_of, submit_tasks
from bench.figures import Figure, Part
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
GOALS_MS: dict[str, tuple[float | None, float]] = {  # from push to handler, p50 and p99
    "ringback up": (5.0, 30.0),
    "ringback serve + work": (None, 250.0),
}
COLUMNS = (
    "to handler, p50",
    "to handler, p99",
    "to 200, p50",
    "to 200, p99",
    "to 200, most",
    "not 200",
    "sender late",
)


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
                print(f"round {number}: {shape}: p50 {p50:.1f} ms, p99 {p99:.1f} ms", file=sys.stderr, flush=True)
        for shape in SHAPES:
            blocked[shape] = _blocked(Path(name), shape, options)
    part = _part(options, rows, blocked)
    print(part.json() if options.json else "\n" + part.markdown())
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rate", type=int, default=500, help="pushes per second")
    parser.add_argument("--connections", type=int, default=128, help="kept alive by the sender")
    parser.add_argument("--block-seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true", help="print the figures for `python -m bench`")
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
        url, stamps, port = f"sqlite:///{name}/bench.db", Path(name, "stamps"), free_port()
        tasks = asyncio.run(submit_tasks(url, count))
        environ = environment(url, RINGBACK_PORT=str(port), BENCH_STAMPS=str(stamps))
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


def _part(options: argparse.Namespace, rows: Mapping[str, Sequence[Result]], blocked: Mapping[str, Result]) -> Part:
    blocking = f"while a handler blocks its event loop for {options.block_seconds:g} s"
    figures = [
        *(figure for shape, results in rows.items() for figure in _usual(shape, results)),
        *(figure for shape, result in blocked.items() for figure in _during(shape, result, blocking)),
    ]
    return Part(
        title="From a push to its handler",
        figures=tuple(figures),
        settings={
            "pushes": f"{options.rate}/s, an open loop",
            "rounds": f"{options.rounds} of {options.seconds} s",
            "SQLite": sqlite3.sqlite_version,
        },
        notes=(
            "`to handler`: from when the sender comes to a push to its handler's first line. `to 200`: to its answer.",
            "`sender late`: how long after its due time the sender came to a push, p99; in nobody's latency.",
            "Not answered by 200, while the loop was blocked, counts pushes before and after it, too.",
        ),
        columns=COLUMNS,
    )


def _usual(shape: str, results: Sequence[Result]) -> list[Figure]:
    def figure(name: str, unit: str, value: Callable[[Result], float], at_most: float | None = None) -> Figure:
        values = tuple(value(result) for result in results)
        return Figure(name=name, unit=unit, values=values, subject=shape, setting="undisturbed", at_most=at_most)

    p50, p99 = GOALS_MS[shape]
    return [
        figure("to handler, p50", "ms", lambda result: percentile(result.handler, 0.5), p50),
        figure("to handler, p99", "ms", lambda result: percentile(result.handler, 0.99), p99),
        figure("to 200, p50", "ms", lambda result: percentile(result.answer, 0.5)),
        figure("to 200, p99", "ms", lambda result: percentile(result.answer, 0.99)),
        figure("not 200", "", lambda result: result.unanswered, 0),
        figure("sender late", "ms", lambda result: result.lag),
    ]


def _during(shape: str, result: Result, blocking: str) -> list[Figure]:
    values = {
        ("to 200, p50", "ms"): percentile(result.answer, 0.5),
        ("to 200, p99", "ms"): percentile(result.answer, 0.99),
        ("to 200, most", "ms"): percentile(result.answer, 1),
        ("not 200", ""): float(result.unanswered),
    }
    return [
        Figure(name=name, unit=unit, values=(value,), subject=shape, setting=blocking)
        for (name, unit), value in values.items()
        if not math.isnan(value)  # none was answered
    ]


if __name__ == "__main__":
    sys.exit(main())

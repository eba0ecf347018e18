"""Deliveries per second from a backlog of events, beside huey and procrastinate; and what waiting deliveries cost.

Each does the same in turn, alone on one core with all that it starts: it works off a backlog that was stored
beforehand with handlers that do nothing, every step durable. Ringback runs as `ringback work --once`, so every feature
of the worker is on; it is timed from when the worker has started up until all is settled, fan-out included. huey is
one worker thread on SQLite with fsync; procrastinate runs async jobs on a PostgreSQL which shares its core. Whoever is
not done after --most-seconds is stopped and judged by what it has done: the backlog stays as deep for all.
After each round the ledger is asked whether every event has one delivery that succeeded in one closed attempt.

    make bench                                    # 3 rounds, a backlog of 100,000; the other tools go to .venv/peers
    .venv/bin/python -m bench.process --events 20000 --rounds 1 --peers huey
    .venv/bin/python -m bench.process --claims    # a delivery's cost while 1,000,000 others wait, and while none does
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bench.backlog import fill_waiting, record_events, submit_tasks
from bench.running import RINGBACK, ROOT, environment, run
from ringback.settings import Settings

PEERS = {"huey": "bench.peers.with_huey", "procrastinate": "bench.peers.with_procrastinate"}
PEERS_PYTHON = ROOT / ".venv/peers/bin/python"
BATCH = 500  # what the worker settles at once at most
LONGEST_SECONDS = 7200.0
GOAL_PER_SECOND = 15_000
GOAL_OVER_HUEY = 3
GOAL_OVER_NO_OTHERS = 1.3
NOTES = """
- ringback: fan-out, claim, fence, a closed attempt each, heartbeat, timeout and the watchdog are in the figure; all
  states stay in the ledger. Handlers are `async`.
- huey deletes a job as it takes it: what a crash interrupts is lost, and nothing tells that it ran. Handlers are plain
  functions, one thread; no history.
- procrastinate keeps jobs and their states as Ringback does; it fetches and finishes each by itself. Jobs are `async`.
"""
COUNTS = """
SELECT (SELECT count(*) FROM events WHERE fanned_out_at IS NOT NULL) AS fanned_out,
       (SELECT count(*) FROM deliveries) AS deliveries,
       (SELECT count(*) FROM deliveries WHERE state = 'succeeded') AS succeeded,
       (SELECT count(*) FROM deliveries d WHERE state = 'succeeded' AND
          (SELECT group_concat(coalesce(outcome, 'open')) FROM attempts a WHERE a.delivery_seq = d.seq) = 'succeeded')
       AS in_one_attempt
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one round gave; `count` of the `expected` were done in the time."""

    name: str
    count: int
    expected: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """How many were done per second."""
        return self.count / self.seconds

    @property
    def cpu_per_thousand(self) -> float:
        """CPU seconds for a thousand."""
        return self.cpu_seconds * 1000 / self.count


def main() -> int:
    """Run what was asked for and print its table."""
    options = _options(sys.argv[1:])
    if options.peers and not options.claims and not PEERS_PYTHON.exists():
        print(f"{PEERS_PYTHON} is missing: `make peers` makes it, --peers with nothing does without", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="ringback-bench-") as name:
        if options.claims:
            _claims(Path(name), options)
        else:
            _backlog(Path(name), options)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=100_000, help="the backlog")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=1, help="for each, with all that it starts")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[Settings().concurrency, BATCH], metavar="N")
    parser.add_argument("--peers", nargs="*", choices=tuple(PEERS), default=tuple(PEERS))
    parser.add_argument(
        "--most-seconds", type=int, default=60, help="for one round of another tool; 3600 lets each finish 100,000"
    )
    parser.add_argument("--claims", action="store_true", help="measure what waiting deliveries cost instead")
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--claimed", type=int, default=20_000, help="deliveries per round of --claims")
    return parser.parse_args(arguments)


def _backlog(folder: Path, options: argparse.Namespace) -> None:
    print(f"preparing {options.events:,} events each …", flush=True)
    asyncio.run(_prepare(folder / "backlog.db", options.events))
    for peer in options.peers:
        _peer(peer, "prepare", folder, options.events, options.cores)
    rows: dict[str, list[Result]] = {}
    for number in range(1, options.rounds + 1):
        results = [_ours(folder, options.events, concurrency, options.cores) for concurrency in options.concurrency]
        for peer in options.peers:
            found = _peer(peer, "drain", folder, options.most_seconds, options.cores)
            results.append(_checked(Result(**json.loads(found.splitlines()[-1])), options.events))
        for result in results:
            rows.setdefault(result.name, []).append(result)
        print(f"round {number}: " + "; ".join(f"{r.name} {r.per_second:,.0f}/s" for r in results), flush=True)
    print(_head(options) + f", a backlog of {options.events:,}\n")
    print(table(rows))
    print(f"\ngoal: {GOAL_PER_SECOND:,} per second on one core, and {GOAL_OVER_HUEY} × huey")
    print(NOTES)


async def _prepare(path: Path, count: int) -> None:
    await record_events(path, await submit_tasks(path, count))


def _peer(peer: str, action: str, folder: Path, number: int, cores: int) -> str:
    command = [str(PEERS_PYTHON), "-W", "ignore", "-m", PEERS[peer], action, str(folder), str(number)]
    return run(command, cores, LONGEST_SECONDS)


def _checked(result: Result, events: int) -> Result:
    """Refuse a round that did not begin with the whole backlog, or in which nothing was done."""
    if result.expected != events or result.count < 1:
        raise SystemExit(f"not a valid round: {result.name} did {result.count:,} of {result.expected:,}")
    return result


def _ours(folder: Path, events: int, concurrency: int, cores: int) -> Result:
    (place := folder / "round").mkdir()
    path = Path(shutil.copy(folder / "backlog.db", place))
    arguments = ["--handlers", "bench.handlers:noop", "--once", "--time-limit", str(LONGEST_SECONDS)]
    measured = _work(path, arguments, cores, RINGBACK_CONCURRENCY=str(concurrency))
    if wrong := complaint(counts(path), events):
        raise SystemExit(f"not a valid round: {wrong}")
    shutil.rmtree(place)
    return Result(name=f"ringback work, {concurrency} at once", count=events, expected=events, **measured)


def _work(path: Path, arguments: Sequence[str], cores: int, **environ: str) -> dict[str, float]:
    """Run `ringback work` to its end; gives the wall-clock and CPU seconds that its lifespan has measured."""
    result = path.with_suffix(".json")
    result.unlink(missing_ok=True)  # no round may be judged by what an earlier one left
    environ |= {"BENCH_RESULT": str(result)}
    run([*RINGBACK, "work", *arguments], cores, LONGEST_SECONDS, environment(path, **environ))
    measured: dict[str, float] = json.loads(result.read_text())
    return measured


def counts(path: Path) -> dict[str, int]:
    """Count what `complaint` goes by."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return dict(db.execute(COUNTS).fetchone())


def complaint(found: Mapping[str, int], events: int) -> str | None:
    """Say what is wrong with a ledger in which so many events were to be handled once each; None if nothing is."""
    wrong = [f"{count:,} {name.replace('_', ' ')}" for name, count in found.items() if count != events]
    return f"of {events:,} events: {', '.join(wrong)}" if wrong else None


def _claims(folder: Path, options: argparse.Namespace) -> None:
    """Work off as many deliveries in each ledger, and compare what one of them took."""
    cases = {
        "no others": (0, timedelta()),
        f"{options.waiting:,} others, due in a year": (options.waiting, timedelta(days=365)),
        f"{options.waiting:,} others, due before": (options.waiting, timedelta()),
    }
    paths = {name: folder / f"{number}.db" for number, name in enumerate(cases)}
    for name, (waiting, due_in) in cases.items():
        print(f"preparing: {name} …", flush=True)
        asyncio.run(fill_waiting(paths[name], waiting, due_in))
    rounds: list[dict[str, list[Result]]] = []
    for number in range(1, options.rounds + 1):
        rounds.append({name: [] for name in paths})
        for concurrency in options.concurrency:
            for name, path in paths.items():
                found = _claim_round(name, path, concurrency, options)
                rounds[-1][name].append(found)
                each = 1e6 / found.per_second
                print(f"round {number}: {name}, {concurrency} at once: {each:.1f} µs each", flush=True)
    print(_head(options) + f", {options.claimed:,} deliveries a round, fanned out beforehand\n")
    for index, concurrency in enumerate(options.concurrency):
        print(f"{concurrency} at once, µs per delivery, medians of rounds; over no others in the same round\n")
        print(claims_table([{name: found[index] for name, found in one.items()} for one in rounds]) + "\n")
    print(f"goal: at most {GOAL_OVER_NO_OTHERS}")


def _claim_round(name: str, path: Path, concurrency: int, options: argparse.Namespace) -> Result:
    """Add deliveries that are due, last of all, then work until as many have run."""
    asyncio.run(fill_waiting(path, options.claimed, timedelta()))
    before = _settled(path)
    environ = {"BENCH_STOP_AFTER": str(options.claimed), "RINGBACK_CONCURRENCY": str(concurrency)}
    measured = _work(path, ["--handlers", "bench.handlers:counted"], options.cores, **environ)
    count = _settled(path) - before
    if not options.claimed <= count <= options.claimed + 2 * concurrency:
        raise SystemExit(f"not a valid round: {count:,} settled instead of {options.claimed:,}")
    return Result(name=name, count=count, expected=options.claimed, **measured)


def _settled(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        (count,) = db.execute("SELECT count(*) FROM deliveries WHERE state = 'succeeded'").fetchone()
        return int(count)


def _head(options: argparse.Namespace) -> str:
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return f"\n{options.cores} of {os.cpu_count()} cores each, {options.rounds} rounds, {versions}"


def table(rows: Mapping[str, Sequence[Result]]) -> str:
    """Draw the results as Markdown; beside huey, each round is compared with its own."""
    lines = ["| | per second, median | min–max | CPU s per 1,000 | done | over huey |", "|---|---|---|---|---|---|"]
    huey = next((results for name, results in rows.items() if name.startswith("huey")), None)
    for name, results in rows.items():
        each = [result.per_second for result in results]
        cpu = statistics.median(result.cpu_per_thousand for result in results)
        done = f"{statistics.median_low([result.count for result in results]):,} of {results[0].expected:,}"
        spread = f"{statistics.median(each):,.0f} | {min(each):,.0f}–{max(each):,.0f}"
        ratios = [rate / its.per_second for rate, its in zip(each, huey, strict=True)] if huey else []
        over = f"{statistics.median(ratios):.2f}" if ratios else ""
        lines.append(f"| {name} | {spread} | {cpu:.3f} | {done} | {over} |")
    return "\n".join(lines)


def claims_table(rounds: Sequence[Mapping[str, Result]]) -> str:
    """Draw what a delivery costs as Markdown; the first of each round is what the others are compared with."""
    lines = ["| waiting | wall clock | min–max | over no others | CPU | over no others |", "|---|---|---|---|---|---|"]
    nobody = next(iter(rounds[0]))
    for name in rounds[0]:
        wall = [1e6 / one[name].per_second for one in rounds]
        cpu = [1000 * one[name].cpu_per_thousand for one in rounds]
        slower = statistics.median(one[nobody].per_second / one[name].per_second for one in rounds)
        dearer = statistics.median(one[name].cpu_per_thousand / one[nobody].cpu_per_thousand for one in rounds)
        spread = f"{statistics.median(wall):.1f} | {min(wall):.1f}–{max(wall):.1f}"
        lines.append(f"| {name} | {spread} | {slower:.2f} | {statistics.median(cpu):.1f} | {dearer:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

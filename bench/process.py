"""Deliveries per second from a backlog of events, beside huey and procrastinate; and what waiting deliveries cost.

Each does the same in turn, alone on one core with all that it needs: it works off a backlog that was stored
beforehand with handlers that do nothing, every step durable. Ringback runs as `ringback work --once`, so every feature
of the worker is on; it is timed from when the worker has started up until all is settled, fan-out included. huey is
one worker thread on SQLite with fsync. procrastinate runs async jobs on PostgreSQL: on the same server as Ringback on
PostgreSQL, which is as durable for both and shares the core. Whoever is not done after --most-seconds is stopped and
judged by what it has done: the backlog stays as deep for all.
After each round the ledger is asked whether every event has one delivery that succeeded in one closed attempt.

    make bench                                    # 3 rounds, a backlog of 100,000; the other tools go to .venv/peers
    .venv/bin/python -m bench.process --events 20000 --rounds 1 --ledger sqlite --peers huey
    .venv/bin/python -m bench.process --events 20000 --rounds 1 --ledger postgres --peers procrastinate
    .venv/bin/python -m bench.process --claims    # a delivery's cost while 1,000,000 others wait, and while none does
"""

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bench.backlog import fill_waiting, record_events, settle_down, submit_tasks
from bench.engines import KINDS, Engine, Postgres, Sqlite, connected, engines
from bench.figures import Figure, Part, ratio
from bench.running import RINGBACK, ROOT, environment, run
from ringback.settings import Settings

PEERS = {"huey": "bench.peers.with_huey", "procrastinate": "bench.peers.with_procrastinate"}
PEERS_PYTHON = ROOT / ".venv/peers/bin/python"
BATCH = 500  # what the worker settles at once at most
LONGEST_SECONDS = 7200.0
GOAL_PER_SECOND = 15_000
GOALS_OVER = {"huey": ("sqlite", 3), "procrastinate": ("postgres", 20)}
GOAL_OVER_NO_OTHERS = 1.3
NOTES = """
- ringback: fan-out, claim, fence, a closed attempt each, heartbeat, timeout and the watchdog are in the figure; all
  states stay in the ledger. Handlers are `async`.
- huey deletes a job as it takes it: what a crash interrupts is lost, and nothing tells that it ran. Handlers are plain
  functions, one thread; no history.
- procrastinate keeps jobs and their states as Ringback does; it fetches and finishes each by itself. Jobs are `async`.
"""
COUNTS = """
SELECT (SELECT count(DISTINCT event_seq) FROM deliveries) AS fanned_out,
       (SELECT count(*) FROM deliveries) AS deliveries,
       (SELECT count(*) FROM deliveries WHERE state = 'succeeded') AS succeeded,
       (SELECT count(*) FROM deliveries d WHERE state = 'succeeded' AND
          (SELECT sum(CASE outcome WHEN 'succeeded' THEN 1 ELSE 2 END) FROM attempts WHERE delivery_seq = d.seq) = 1)
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
            needed = {*options.ledger, *(GOALS_OVER[peer][0] for peer in options.peers)}
            with engines(sorted(needed), Path(name), options.cores, options.postgres) as found:
                _backlog(Path(name), {engine.kind: engine for engine in found}, options)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=100_000, help="the backlog")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=1, help="for each, with all that it starts")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[Settings().concurrency, BATCH], metavar="N")
    parser.add_argument("--ledger", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--postgres", metavar="URL", help="a server to use instead of one that is started for this")
    parser.add_argument("--peers", nargs="*", choices=tuple(PEERS), default=tuple(PEERS))
    parser.add_argument(
        "--most-seconds", type=int, default=60, help="for one round of another tool; 3600 lets each finish 100,000"
    )
    parser.add_argument("--json", action="store_true", help="print the figures of a backlog for `python -m bench`")
    parser.add_argument("--claims", action="store_true", help="measure what waiting deliveries cost instead")
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--claimed", type=int, default=20_000, help="deliveries per round of --claims")
    return parser.parse_args(arguments)


def _backlog(folder: Path, found: Mapping[str, Engine], options: argparse.Namespace) -> None:
    print(f"preparing {options.events:,} events each …", file=sys.stderr, flush=True)
    ours = [found[kind] for kind in dict.fromkeys(options.ledger)]
    for engine in ours:
        asyncio.run(_prepare(engine.fresh("backlog"), options.events))
    for peer in options.peers:
        _peer(peer, "prepare", folder, found, options.events, options)
    rows: dict[str, list[Result]] = {}
    for number in range(1, options.rounds + 1):
        results = [_ours(engine, concurrency, options) for engine in ours for concurrency in options.concurrency]
        for peer in options.peers:
            told = _peer(peer, "drain", folder, found, options.most_seconds, options)
            results.append(_checked(Result(**json.loads(told.splitlines()[-1])), options.events))
        for result in results:
            rows.setdefault(result.name, []).append(result)
        told = "; ".join(f"{result.name} {result.per_second:,.0f}/s" for result in results)
        print(f"round {number}: {told}", file=sys.stderr, flush=True)
    if options.json:
        print(part(rows, ours, options).json())
        return
    print(_head(options, ours) + f", a backlog of {options.events:,}\n")
    print(table(rows))
    goals = [f"{over} × {peer} on {found[kind].name}" for peer, (kind, over) in GOALS_OVER.items() if kind in found]
    print(f"\ngoals: {GOAL_PER_SECOND:,} per second on SQLite on one core; " + "; ".join(goals))
    print(NOTES)


async def _prepare(url: str, count: int) -> None:
    await record_events(url, await submit_tasks(url, count))
    settle_down(url)


def _peer(
    peer: str, action: str, folder: Path, found: Mapping[str, Engine], number: int, options: argparse.Namespace
) -> str:
    command = [str(PEERS_PYTHON), "-W", "ignore", "-m", PEERS[peer], action, str(folder), str(number)]
    postgres = found.get("postgres")
    given = (
        {"BENCH_SERVER": postgres.server, "BENCH_SERVER_PID": str(postgres.pid or "")}
        if isinstance(postgres, Postgres)
        else {}
    )
    return run(command, options.cores, LONGEST_SECONDS, {**os.environ, **given})


def _checked(result: Result, events: int) -> Result:
    """Refuse a round that did not begin with the whole backlog, or in which nothing was done."""
    if result.expected != events or result.count < 1:
        raise SystemExit(f"not a valid round: {result.name} did {result.count:,} of {result.expected:,}")
    return result


def _ours(engine: Engine, concurrency: int, options: argparse.Namespace) -> Result:
    url = engine.copy("backlog", "round")
    arguments = ["--handlers", "bench.handlers:noop", "--once", "--time-limit", str(LONGEST_SECONDS)]
    measured = work_off(engine, url, arguments, options.cores, RINGBACK_CONCURRENCY=str(concurrency))
    if wrong := complaint(counts(url), options.events):
        raise SystemExit(f"not a valid round: {wrong}")
    engine.drop("round")
    name = f"ringback work on {engine.name}, {concurrency} at once"
    return Result(name=name, count=options.events, expected=options.events, **measured)


def work_off(engine: Engine, url: str, arguments: Sequence[str], cores: int | None, **environ: str) -> dict[str, float]:
    """Run `ringback work` to its end; gives the wall-clock and CPU seconds that its lifespan has measured.

    The CPU seconds are with those of the server, which has nobody else to serve.
    """
    with tempfile.NamedTemporaryFile(prefix="ringback-bench-") as file:  # a new one: no round is judged by an earlier
        spent = engine.cpu_seconds()
        run(
            [*RINGBACK, "work", *arguments], cores, LONGEST_SECONDS, environment(url, **environ, BENCH_RESULT=file.name)
        )
        spent = engine.cpu_seconds() - spent
        measured: dict[str, float] = json.loads(Path(file.name).read_text())
    return measured | {"cpu_seconds": measured["cpu_seconds"] + spent}


def counts(url: str) -> dict[str, int]:
    """Count what `complaint` goes by."""
    with connected(url) as db:
        cursor = db.execute(COUNTS)
        return dict(zip((column[0] for column in cursor.description), cursor.fetchone(), strict=True))


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
    engine = Sqlite(folder)
    urls = {name: engine.fresh(str(number)) for number, name in enumerate(cases)}
    for name, (waiting, due_in) in cases.items():
        print(f"preparing: {name} …", flush=True)
        asyncio.run(fill_waiting(urls[name], waiting, due_in))
    rounds: list[dict[str, list[Result]]] = []
    for number in range(1, options.rounds + 1):
        rounds.append({name: [] for name in urls})
        for concurrency in options.concurrency:
            for name, url in urls.items():
                found = _claim_round(engine, name, url, concurrency, options)
                rounds[-1][name].append(found)
                each = 1e6 / found.per_second
                print(f"round {number}: {name}, {concurrency} at once: {each:.1f} µs each", flush=True)
    print(_head(options, [engine]) + f", {options.claimed:,} deliveries a round, fanned out beforehand\n")
    for index, concurrency in enumerate(options.concurrency):
        print(f"{concurrency} at once, µs per delivery, medians of rounds; over no others in the same round\n")
        print(claims_table([{name: found[index] for name, found in one.items()} for one in rounds]) + "\n")
    print(f"goal: at most {GOAL_OVER_NO_OTHERS}")


def _claim_round(engine: Engine, name: str, url: str, concurrency: int, options: argparse.Namespace) -> Result:
    """Add deliveries that are due, last of all, then work until as many have run."""
    asyncio.run(fill_waiting(url, options.claimed, timedelta()))
    before = _succeeded(url)
    environ = {"BENCH_STOP_AFTER": str(options.claimed), "RINGBACK_CONCURRENCY": str(concurrency)}
    measured = work_off(engine, url, ["--handlers", "bench.handlers:counted"], options.cores, **environ)
    count = _succeeded(url) - before
    if not options.claimed <= count <= options.claimed + 2 * concurrency:
        raise SystemExit(f"not a valid round: {count:,} settled instead of {options.claimed:,}")
    return Result(name=name, count=count, expected=options.claimed, **measured)


def _succeeded(url: str) -> int:
    with connected(url) as db:
        return int(db.execute("SELECT count(*) FROM deliveries WHERE state = 'succeeded'").fetchone()[0])


def _head(options: argparse.Namespace, found: Sequence[Engine]) -> str:
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{one.name} {one.version}" for one in found)])
    return f"\n{options.cores} of {os.cpu_count()} cores each, {options.rounds} rounds, {versions}"


def table(rows: Mapping[str, Sequence[Result]]) -> str:
    """Draw the results as Markdown; each round is compared with the other tools in the same round."""
    others = {peer: results for name, results in rows.items() for peer in PEERS if name.startswith(peer)}
    lines = [
        "".join(
            ["| | per second, median | min–max | CPU s per 1,000 | done |", *(f" over {peer} |" for peer in others)]
        )
    ]
    lines.append("|---" * (5 + len(others)) + "|")
    for name, results in rows.items():
        each = [result.per_second for result in results]
        cpu = statistics.median(result.cpu_per_thousand for result in results)
        done = f"{statistics.median_low([result.count for result in results]):,} of {results[0].expected:,}"
        cells = [name, f"{statistics.median(each):,.0f}", f"{min(each):,.0f}–{max(each):,.0f}", f"{cpu:.3f}", done]
        for theirs in others.values():
            ratios = [rate / their.per_second for rate, their in zip(each, theirs, strict=True)]
            cells.append(f"{statistics.median(ratios):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def part(rows: Mapping[str, Sequence[Result]], ours: Sequence[Engine], options: argparse.Namespace) -> Part:
    """Give all figures; the goals are for the most at once."""
    judged = {f"ringback work on {engine.name}, {options.concurrency[-1]} at once": engine.kind for engine in ours}
    rates = {}
    figures = []
    for name, results in rows.items():
        goal = GOAL_PER_SECOND if judged.get(name) == "sqlite" else None
        values = tuple(result.per_second for result in results)
        rates[name] = Figure(name="deliveries", unit="/s", values=values, subject=name, at_least=goal)
        cpu = tuple(result.cpu_per_thousand * 1000 for result in results)
        figures += [rates[name], Figure(name="CPU", unit="µs", values=cpu, subject=name)]
    for peer, (kind, goal) in GOALS_OVER.items():
        theirs = next((rate for name, rate in rates.items() if name.startswith(peer)), None)
        mine = [rates[name] for name, its in judged.items() if its == kind]
        figures += [ratio(f"over {peer}", each, theirs, at_least=goal) for each in mine if theirs]
    return Part(
        title="Deliveries from a backlog",
        figures=tuple(figures),
        settings={
            "backlog": f"{options.events:,} events, or what is done of it in {options.most_seconds} s",
            "rounds": str(options.rounds),
            "pinned": f"{options.cores} of {os.cpu_count()} cores for each, with its server",
            **{engine.name: engine.version for engine in ours},
        },
        notes=tuple(note.removeprefix("- ") for note in re.split(r"\n(?=- )", NOTES.strip())),
        columns=("deliveries", "CPU"),
    )


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

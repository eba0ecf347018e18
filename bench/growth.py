"""What a ledger with a long past costs: intake, deliveries, start, pages and pruning, beside an empty one.

For each number of stored events a ledger is filled by SQL (`bench.history`). Then, in turn with one that is empty: it
is started and asked for its pages, wrk sends callbacks about new tasks as in `bench.ingest`, and a worker works off
what has come in. At the end the oldest part of the past is pruned while callbacks come in at a steady rate.

    .venv/bin/python -m bench.growth                 # 1, 5 and (SQLite) 10 million; writes the page and its plot
    .venv/bin/python -m bench.growth --ledger postgres --events 300000 --rounds 2 --no-write
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from bench import questions
from bench.backlog import FORM_OF_TASKS, new_tasks
from bench.chart import Panel, svg
from bench.engines import KINDS, Engine, connected, engines, marked, row
from bench.figures import Figure, Part, ratio
from bench.history import DAYS, fill, make
from bench.latency import percentile
from bench.loading import MISSING, load
from bench.machine import ROOT, describe
from bench.pacing import paced
from bench.process import BATCH, work_off
from bench.pushes import Auth, Load, prepare
from bench.receivers import Running, ours, serving
from bench.running import RINGBACK, end, environment
from ringback.model import Task

PAGES = ROOT / "docs" / "benchmarks"
USUAL = {"sqlite": (1_000_000, 5_000_000, 10_000_000), "postgres": (1_000_000, 5_000_000)}
MOST_PER_SECOND = 32_000  # so many tasks are prepared for each second of load
BYTES_PER_EVENT = 3_500
ASKED_AFTER = timedelta(hours=1)  # about a task of which no push has come
PRUNED_DAYS = 5  # of the oldest
PRUNE_SECONDS = 10
LEAST_OVER_EMPTY, MOST_OVER_EMPTY = 0.8, 1.3
PAGE_MS, START_SECONDS, PRUNE_P99_MS = 50.0, 1.0, 50.0
INTAKE, DELIVERY = "callbacks", "CPU per delivery"
SUBMITTED = """
INSERT INTO tasks (id, provider, provider_id, origin, state, form, url_key, created_at, fetch_at, accepted_at)
VALUES (?, ?, ?, 'submission', 'submitted', ?, ?, ?, ?, 1)
"""
NOTES = (
    f"Filled by SQL with a past of {DAYS} days: tasks that have settled, one event each (one in 20 came twice), one "
    "delivery each that succeeded, one attempt each and a second one for one delivery in 50.",
    "Each round: the ledger is started and asked for its pages, takes callbacks as fast as wrk sends them over "
    "{connections} connections for {seconds} s, and a worker works off what has come in. In every second round the "
    "full ledger comes before the empty one, which is made anew for each.",
    "`over empty` compares with the empty ledger in the same round. The CPU of a delivery is the worker's and the "
    "PostgreSQL server's.",
    f"Pages are asked for over HTTP, {questions.ASKED} times in each round, of which the median counts. A command's "
    "time is what it takes longer than on the empty ledger: the interpreter's start is not in it.",
    f"The oldest {PRUNED_DAYS} days are pruned by `ringback prune` while callbacks come in at a steady rate of "
    "{rate} a second; `calm` is the same without.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round gave on one ledger."""

    start_seconds: float
    per_second: float
    p99_ms: float
    delivery_us: float
    pages_ms: Mapping[str, float]
    commands_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """How long callbacks waited while nothing else was done, and while the past was pruned."""

    calm_ms: float
    busy_ms: float
    refused: int  # or not answered at all
    pruned: int
    still_pruning: bool  # when the last callback was sent


def main() -> int:
    """Measure, print the page, and write it with its plot."""
    options = _options(sys.argv[1:])
    if MISSING:
        print(f"missing: {MISSING}", file=sys.stderr)
        return 1
    figures: list[Figure] = []
    with (
        tempfile.TemporaryDirectory(prefix="ringback-bench-", dir=options.folder) as name,
        engines(options.ledger, Path(name), None, options.postgres_url) as found,
    ):
        for engine in found:
            for count in options.events or USUAL[engine.kind]:
                figures += Growth(engine, count, Path(name), options).measure()
        versions = {engine.name: engine.version for engine in found}
    part = _part(figures, versions, options)
    print(part.json() if options.json else part.markdown())
    if not options.no_write:
        PAGES.mkdir(exist_ok=True)
        (PAGES / "growth.md").write_text(page(part), encoding="utf-8")
        (PAGES / "growth.svg").write_text(plot(part), encoding="utf-8")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ledger", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--events", type=int, nargs="+", metavar="N", help="how many are stored")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=int, default=1000, help="callbacks per second while the past is pruned")
    parser.add_argument("--folder", type=Path, help="where the ledgers are to lie; else with all temporary files")
    parser.add_argument("--postgres-url", help="of a server to use; without it one is started")
    parser.add_argument("--json", action="store_true", help="print the figures for `python -m bench`")
    parser.add_argument("--no-write", action="store_true")
    return parser.parse_args(arguments)


class Growth:
    """One ledger with so many events, beside an empty one."""

    def __init__(self, engine: Engine, count: int, folder: Path, options: argparse.Namespace) -> None:
        self._engine = engine
        self._count = count
        self._folder = folder
        self._options = options
        self._receiver = ours(Auth.TOKEN, engine.kind)

    def measure(self) -> list[Figure]:
        """Fill it, run all rounds, prune it, and remove it."""
        free = shutil.disk_usage(self._folder).free
        if free < self._count * BYTES_PER_EVENT * 1.5:
            raise SystemExit(f"{free / 2**30:.0f} GiB of disk are not enough for {self._count:,} events; see --folder")
        self._tell("filling")
        fill(self._engine.fresh("full"), self._count)
        bytes_each = self._engine.size("full") / self._count
        rounds: dict[str, list[Round]] = {"empty": [], "full": []}
        for number in range(1, self._options.rounds + 1):
            for name in ("empty", "full") if number % 2 else ("full", "empty"):
                if name == "empty":
                    asyncio.run(make(self._engine.fresh(name)))
                rounds[name].append(self._round(name))
            empty, full = rounds["empty"][-1], rounds["full"][-1]
            self._tell(f"round {number}: {full.per_second:,.0f}/s beside {empty.per_second:,.0f}/s empty")
        pruning = self._prune()
        self._tell(f"pruning: p99 {pruning.busy_ms:.1f} ms beside {pruning.calm_ms:.1f} ms")
        self._engine.drop("empty")
        self._engine.drop("full")
        return [
            *self._figures(rounds["empty"], rounds["full"], pruning),
            self._figure("size", "bytes each", [bytes_each]),
        ]

    def _round(self, name: str) -> Round:
        url = self._engine.url(name)
        tasks, requests = self._submitted(url, self._options.seconds * MOST_PER_SECOND)
        os.sync()
        began = time.perf_counter()
        with self._serving(url) as running:
            start_seconds = time.perf_counter() - began
            pages = {label: questions.asked(running.site.port, path) for label, path in questions.pages(url).items()}
            result = load(
                running.site.port,
                requests,
                connections=self._options.connections,
                seconds=self._options.seconds,
                again=False,
                spent=lambda: 0.0,
            )
        stored = _settled_since(url, tasks[0])
        if result.errors or stored < result.answers:
            raise SystemExit(f"not a valid round: {result.answers} answers, {result.errors} errors, {stored} stored")
        worked = work_off(
            self._engine, url, ("--handlers", "bench.handlers:noop", "--once", "--time-limit", "600"), None,
            RINGBACK_CONCURRENCY=str(BATCH),
        )  # fmt: skip
        return Round(
            start_seconds=start_seconds,
            per_second=result.per_second,
            p99_ms=result.p99_ms,
            delivery_us=worked["cpu_seconds"] / stored * 1e6,
            pages_ms=pages,
            commands_ms={
                " ".join(command[:2]): questions.command_ms(url, command) for command in questions.commands(url)
            },
        )

    def _submitted(self, url: str, count: int) -> tuple[list[Task], Load]:
        """Add tasks that wait for their callbacks, and write down these."""
        tasks = new_tasks(count)
        add_submitted(url, tasks)
        return tasks, prepare(self._folder / "requests", tasks, Auth.TOKEN)

    @contextlib.contextmanager
    def _serving(self, url: str) -> Iterator[Running]:
        folder = self._folder / "round"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with serving(self._receiver, folder, url, {"RINGBACK_ADMIN_TOKEN": questions.ADMIN_TOKEN}) as running:
            yield running

    def _prune(self) -> Pruning:
        url, rate = self._engine.url("full"), self._options.rate
        _, requests = self._submitted(url, 2 * PRUNE_SECONDS * rate)
        rest = requests.requests()
        os.sync()
        with self._serving(url) as running:
            calm = paced(running.site.port, list(islice(rest, PRUNE_SECONDS * rate)), rate=rate, connections=16)
            command = (*RINGBACK, "prune", "--older-than", f"{DAYS - PRUNED_DAYS}d", "--yes")
            pruning = subprocess.Popen(command, cwd=ROOT, env=environment(url), stdout=subprocess.DEVNULL)
            try:
                busy = paced(running.site.port, list(rest), rate=rate, connections=16)
                still = pruning.poll() is None
            finally:
                end(pruning, signal.SIGTERM)
        if calm.errors:
            raise SystemExit(
                f"not a valid run: {calm.errors} callbacks were not answered well before anything was pruned"
            )
        (pruned,) = row(url, "SELECT count(*) FROM tasks WHERE seq <= ? AND pruned > 0", self._count)
        calm_ms, busy_ms = (percentile(sent.waits, 0.99) for sent in (calm, busy))
        return Pruning(calm_ms=calm_ms, busy_ms=busy_ms, refused=busy.errors, pruned=int(pruned), still_pruning=still)

    def _figures(self, empty: Sequence[Round], full: Sequence[Round], pruning: Pruning) -> list[Figure]:
        intake = [self._figure(INTAKE, "/s", [one.per_second for one in rounds]) for rounds in (empty, full)]
        delivery = [self._figure(DELIVERY, "µs", [one.delivery_us for one in rounds]) for rounds in (empty, full)]
        found = [
            intake[1],
            ratio("callbacks over empty", intake[1], intake[0], at_least=LEAST_OVER_EMPTY),
            self._figure("p99", "ms", [one.p99_ms for one in full]),
            delivery[1],
            ratio("CPU per delivery over empty", delivery[1], delivery[0], at_most=MOST_OVER_EMPTY),
            self._figure("start", "s", [one.start_seconds for one in full], START_SECONDS),
        ]
        found += [
            self._figure(label, "ms", [one.pages_ms[label] for one in full], PAGE_MS) for label in full[0].pages_ms
        ]
        for label in full[0].commands_ms:
            times = [(big.commands_ms[label], small.commands_ms[label]) for big, small in zip(full, empty, strict=True)]
            more = [max(0.0, big - small) for big, small in times]
            found += [self._figure(f"`ringback {label}`, more than empty", "ms", more, PAGE_MS)]
        notes = f"{pruning.pruned:,} tasks pruned" + ("" if pruning.still_pruning else "; was done before the end")
        found += [
            self._figure("p99 at a steady rate, calm", "ms", [pruning.calm_ms]),
            self._figure("p99 at a steady rate, pruning", "ms", [pruning.busy_ms], PRUNE_P99_MS, notes),
            self._figure("not answered well while pruning", "", [pruning.refused], 0.0),
        ]
        return found

    def _figure(
        self, name: str, unit: str, values: Sequence[float], at_most: float | None = None, notes: str = ""
    ) -> Figure:
        return Figure(
            name=name, unit=unit, values=tuple(values), subject=self._engine.name, setting=setting_of(self._count),
            at_most=at_most, notes=notes,
        )  # fmt: skip

    def _tell(self, what: str) -> None:
        print(f"{self._engine.name}, {setting_of(self._count)}: {what}", file=sys.stderr, flush=True)


def setting_of(count: int) -> str:
    """Name the size."""
    return f"{count:,} events"


def add_submitted(url: str, tasks: Sequence[Task]) -> None:
    """Add tasks that the provider has accepted, in one transaction, untimed."""
    values = [
        (
            task.id,
            task.provider,
            f"task-wave{task.id[-20:]}",
            FORM_OF_TASKS,
            task.url_key,
            *(int(at.timestamp() * 1e6) for at in (task.created_at, task.created_at + ASKED_AFTER)),
        )
        for task in tasks
    ]
    with connected(url) as db:
        db.execute("BEGIN")
        cursor = db.cursor()
        cursor.executemany(marked(url, SUBMITTED), values)
        db.execute("COMMIT")


def _settled_since(url: str, first: Task) -> int:
    """Count the tasks that have completed, from this one on: ids are in the order of their time."""
    (count,) = row(url, "SELECT count(*) FROM tasks WHERE id >= ? AND state = 'completed'", first.id)
    return int(count)


def _part(figures: Sequence[Figure], versions: Mapping[str, str], options: argparse.Namespace) -> Part:
    rounds = f"{options.rounds} of {options.seconds} s, interleaved"
    notes = (note.format(connections=options.connections, seconds=options.seconds, rate=options.rate) for note in NOTES)
    return Part(title="Growth", figures=tuple(figures), settings={"rounds": rounds, **versions}, notes=tuple(notes))


def page(part: Part) -> str:
    """Draw the page."""
    machine = "\n".join(f"- {name}: {value}" for name, value in describe().items())
    command = " ".join(["python -m bench.growth", *sys.argv[1:]])
    return PAGE.format(command=command, date=f"{datetime.now(UTC):%Y-%m-%d}", machine=machine, part=part.markdown())


def plot(part: Part) -> str:
    """Draw callbacks per second and the cost of a delivery over the number of stored events."""
    panels = ((INTAKE, "Callbacks per second"), (DELIVERY, "CPU per delivery, µs"))
    return svg([Panel(title=title, across="stored events", lines=_lines(part, name)) for name, title in panels])


def _lines(part: Part, name: str) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for figure in part.of(name):
        stored = float(figure.setting.split()[0].replace(",", ""))
        lines.setdefault(figure.subject, []).append((stored, figure.median))
    return lines


PAGE = """\
# What a long past costs

A ledger that has taken callbacks for months beside an empty one, on the same machine in the same run. `{command}` wrote
this page and its plot on {date}.

![Two plots over the number of stored events: callbacks per second, and the CPU time of a delivery](growth.svg)

{machine}

{part}"""


if __name__ == "__main__":
    sys.exit(main())

"""Durable, authenticated callbacks per second, over a bare Starlette route that reads the body and answers 204.

All run in this run, in turn, each alone with the load generator (wrk). Every callback is about another task, submitted
beforehand; what proves whence it comes is checked, and its event and its task's advance are on disk before the 200.
After each round the ledger is asked whether it holds as many events as there were answers.

    .venv/bin/python -m bench.ingest                      # ours and the bare route; 5 rounds of 6 s, 64 connections
    .venv/bin/python -m bench.ingest --rounds 3 --seconds 4 --connections 16 --auth signed --ledger postgres
    .venv/bin/python -m bench.ingest --everyone           # beside the peers, on both ledgers, both ways
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import alone, judging
from bench.backlog import new_tasks, submit
from bench.engines import KINDS, Engine, engines
from bench.figures import Figure, Part
from bench.loading import MISSING, Result, cpu_seconds, load
from bench.pushes import Auth, Load, prepare, provider_of
from bench.receivers import PEERS, Receiver, bare, check, ours, serving
from ringback.model import Task

MOST_PER_SECOND = 32_000  # so many tasks are prepared for each second of load
TRIES = 3
LATE_SECONDS = 1.0
NOTES = (
    "Each figure is the median of the rounds (min–max). In a round each runs alone, one after the other, in every "
    "second round backwards.",
    "CPU is user and system time of the receiver and all that it starts, the PostgreSQL server included, per answer.",
    "ringback: verifies, stores body and headers once per fact, advances the task, finds conflicts; all of it on disk "
    "before the 200. `over bare Starlette` compares it with the bare route that was sent the same requests.",
)


def main() -> int:
    """Run the rounds and print the tables."""
    options = _options(sys.argv[1:])
    if MISSING:
        print(f"missing: {MISSING}", file=sys.stderr)
        if options.json:
            print(Part(title=_title(options), figures=(), missing=(MISSING,)).json())
        return 0 if options.json else 1
    kinds = KINDS if options.everyone else (options.ledger,)
    with (
        tempfile.TemporaryDirectory(prefix="ringback-bench-") as name,
        engines(kinds, Path(name), None, options.postgres_url) as found,
    ):
        bench = Bench(options, Path(name), {engine.kind: engine for engine in found})
        bench.run()
    part = bench.part()
    print(part.json() if options.json else "\n" + part.markdown())
    if not (options.everyone or options.json):
        for over in part.of("over bare Starlette"):
            least, most = min(over.values), max(over.values)
            print(f"ratio, median of rounds: {over.median:.2f} (min {least:.2f}, max {most:.2f}), {over.setting}")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--connections", type=int, nargs="+", default=[64])
    parser.add_argument("--ledger", choices=KINDS, default="sqlite")
    parser.add_argument("--auth", choices=(Auth.TOKEN.value, Auth.SIGNED.value), default=Auth.TOKEN.value)
    parser.add_argument("--everyone", action="store_true", help="the peers, and ours on both ledgers and both ways")
    parser.add_argument("--postgres-url", help="of a server to use; without it one is started")
    parser.add_argument("--json", action="store_true", help="print the figures for `python -m bench`")
    return parser.parse_args(arguments)


def _title(options: argparse.Namespace) -> str:
    counts = [str(number) for number in options.connections]
    several = " and ".join(part for part in (", ".join(counts[:-1]), counts[-1]) if part)
    return f"Intake at {several} connections"


def _receivers(options: argparse.Namespace) -> list[Receiver]:
    auth = Auth(options.auth)
    if not options.everyone:
        return [bare(auth), ours(auth, options.ledger)]
    mine = [ours(each, kind) for kind in KINDS for each in (Auth.TOKEN, Auth.SIGNED)]
    return [PEERS[0], bare(), bare(Auth.SIGNED), *PEERS[1:], *mine]


class Bench:
    """The rounds, and in `results` what they gave, by connections and the receiver's name."""

    def __init__(self, options: argparse.Namespace, folder: Path, engines: Mapping[str, Engine]) -> None:
        self._options = options
        self._folder = folder
        self._engines = engines
        wanted = _receivers(options)
        self._receivers = [receiver for receiver in wanted if receiver.missing is None]
        self._missing = [receiver.missing for receiver in wanted if receiver.missing]
        self._tasks: dict[Auth, list[Task]] = {}
        self.results: dict[int, dict[str, list[Result]]] = {
            connections: {receiver.name: [] for receiver in self._receivers} for connections in options.connections
        }

    def run(self) -> None:
        """Prepare, and run all rounds."""
        self._submit()
        for number in range(1, self._options.rounds + 1):
            loads = {auth: prepare(self._folder / auth, tasks, auth) for auth, tasks in self._tasks.items()}
            for connections, results in self.results.items():
                for receiver in self._receivers if number % 2 else reversed(self._receivers):
                    results[receiver.name].append(self._round(receiver, loads[receiver.auth], connections))
                told = ", ".join(f"{name} {found[-1].per_second:,.0f}/s" for name, found in results.items())
                print(f"round {number}: {told}", file=sys.stderr if self._options.json else sys.stdout, flush=True)

    def _submit(self) -> None:
        """Submit tasks, as far as the ledgers are concerned: in one of each kind, which every round copies."""
        for auth in dict.fromkeys(receiver.auth for receiver in self._receivers):
            self._tasks[auth] = new_tasks(self._options.seconds * MOST_PER_SECOND, provider_of(auth))
        for kind, auth in dict.fromkeys((receiver.engine, receiver.auth) for receiver in self._receivers):
            if kind is not None:
                asyncio.run(submit(self._engines[kind].fresh(_prepared(auth)), self._tasks[auth]))

    def _round(self, receiver: Receiver, requests: Load, connections: int) -> Result:
        """Run one round; once more where the load generator took far longer than it was told: the machine stood still.

        Raises:
            SystemExit: it did so each time.
        """
        for _ in range(TRIES):
            result = self._once(receiver, requests, connections)
            if result.seconds <= self._options.seconds + LATE_SECONDS:
                return result
            print(f"{receiver.name}: {result.seconds:.1f} s instead of {self._options.seconds}; again", file=sys.stderr)
        raise SystemExit("the machine stands still for seconds: nothing can be measured on it")

    def _once(self, receiver: Receiver, requests: Load, connections: int) -> Result:
        (folder := self._folder / "round").mkdir()
        engine = self._engines[receiver.engine] if receiver.engine else None
        url = engine.copy(_prepared(receiver.auth), "round") if engine else f"sqlite:///{folder}/none.db"
        with serving(receiver, folder, url) as running:
            result = load(
                running.site.port,
                requests,
                connections=connections,
                seconds=self._options.seconds,
                again=receiver.stored is None,
                spent=lambda: cpu_seconds(running.pid) + (engine.cpu_seconds() if engine else 0.0),
            )
        check(receiver, running.site, result.answers, result.errors)
        if engine:
            engine.drop("round")
        shutil.rmtree(folder)
        return result

    def part(self) -> Part:
        """Give all figures."""
        lacks = [f"{receiver.name}: {receiver.lacks}." for receiver in self._receivers if receiver.lacks]
        settings = {
            "rounds": f"{self._options.rounds} of {self._options.seconds} s, interleaved",
            "load": "wrk, one thread, on the same machine",
            **{engine.name: engine.version for engine in self._engines.values()},
        }
        found = [judging.figures(self._receivers, rounds, connections) for connections, rounds in self.results.items()]
        return Part(
            title=_title(self._options),
            figures=(*(figure for figures in found for figure in figures), *self._over_parts()),
            settings=settings,
            notes=(*NOTES, *lacks),
            missing=tuple(self._missing),
            columns=judging.COLUMNS,
        )

    def _over_parts(self) -> list[Figure]:
        rounds = self.results.get(judging.GOALS_AT)
        if not self._options.everyone or rounds is None:
            return []
        count = self._options.rounds
        row, verifications = alone.row(count), {auth: alone.verification(auth, count) for auth in judging.OVER_BARE}
        return [row, *verifications.values(), *judging.over_parts(rounds, row, verifications)]


def _prepared(auth: Auth) -> str:
    return f"prepared_{auth}"


if __name__ == "__main__":
    sys.exit(main())

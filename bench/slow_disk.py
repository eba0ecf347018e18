"""Callbacks per second where the disk is slow: an fsync of 2, 5 and 10 ms, at 64 and 256 connections.

`bench.shim` stands before fsync and fdatasync of the receiver and makes each take so long; it is compiled for the run
with the machine's own C compiler. Ringback beside the naive receiver (`bench.naive`), which has one commit per request
and so can do no more than one in each fsync. Ringback's bound is the rate on the machine's own disk, or what all
connections can do who wait one and a half fsyncs for each answer: half of the one that is being done when a callback
comes, and its own. Each is checked after each round as in `bench.ingest`.

    .venv/bin/python -m bench.slow_disk             # two minutes; writes docs/benchmarks/slow-disk.md, .json and .svg
    .venv/bin/python -m bench.slow_disk --rounds 1 --seconds 1 --fsync-ms 5 --no-write
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.backlog import new_tasks, submit
from bench.chart import Panel, svg
from bench.engines import Sqlite
from bench.figures import Figure, Part
from bench.loading import MISSING, load
from bench.machine import describe
from bench.pushes import Auth, Load, prepare
from bench.receivers import NAIVE, PEERS, Receiver, check, ours, serving
from bench.running import ROOT
from bench.shim import compiled, slowed
from ringback.model import Task

PAGES = ROOT / "docs" / "benchmarks"
MOST_PER_SECOND = 32_000  # so many tasks are prepared for each second of load
OURS = ours(Auth.TOKEN, "sqlite")
OTHER = next(peer for peer in PEERS if peer.name == NAIVE)
GOAL = 0.8
WAITED = 1.5  # fsyncs, by who comes at any moment and shares the next one


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A disk and a crowd."""

    fsync_ms: float  # 0: the machine's own disk
    connections: int

    def __str__(self) -> str:
        disk = f"an fsync of {self.fsync_ms:g} ms" if self.fsync_ms else "the disk as it is"
        return f"{disk}, {self.connections} connections"

    def bound(self, fast: float) -> float:
        """Give what can be expected of one who does `fast` on the machine's own disk."""
        return min(fast, self.connections / (WAITED * self.fsync_ms / 1000)) if self.fsync_ms else fast


@dataclass(slots=True)
class Rates:
    """Requests per second, a value for each round, by place and receiver."""

    found: dict[tuple[Place, str], list[float]] = field(default_factory=dict)

    def add(self, place: Place, receiver: Receiver, per_second: float) -> None:
        """Note one round."""
        self.found.setdefault((place, receiver.name), []).append(per_second)

    def bounds(self, place: Place) -> list[float]:
        """Give Ringback's bound in each round."""
        fast = self.found[Place(fsync_ms=0, connections=place.connections), OURS.name]
        return [place.bound(each) for each in fast]

    def places(self) -> list[Place]:
        """Give all places, in order."""
        return list(dict.fromkeys(place for place, _ in self.found))


def main() -> int:
    """Run the rounds, print the page, and write it with its plot."""
    options = _options(sys.argv[1:])
    if MISSING:
        print(f"missing: {MISSING}", file=sys.stderr)
        return 1
    rates = Rates()
    with tempfile.TemporaryDirectory(prefix="ringback-bench-") as name:
        folder = Path(name)
        library, engine = compiled(folder), Sqlite(folder / "ledgers")
        tasks = new_tasks(options.seconds * MOST_PER_SECOND)
        asyncio.run(submit(engine.fresh("prepared"), tasks))
        for number in range(1, options.rounds + 1):
            for place, receiver in _turns(options):
                per_second = _round(folder, library, engine, place, receiver, tasks, options.seconds)
                rates.add(place, receiver, per_second)
                print(f"round {number}: {place}: {receiver.name} {per_second:,.0f}/s", file=sys.stderr, flush=True)
    part = _part(options, rates)
    print(part.json() if options.json else part.markdown(1))
    if not options.no_write:
        _write(part, rates)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--fsync-ms", type=float, nargs="+", default=[2.0, 5.0, 10.0])
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--json", action="store_true", help="print JSON instead of the page")
    parser.add_argument("--no-write", action="store_true")
    return parser.parse_args(arguments)


def _turns(options: argparse.Namespace) -> Iterator[tuple[Place, Receiver]]:
    """Give who is measured where, in the order of one round."""
    for connections in options.connections:
        for fsync_ms in (0.0, *options.fsync_ms):
            for receiver in (OURS, OTHER):
                yield Place(fsync_ms=fsync_ms, connections=connections), receiver


def _round(
    folder: Path, library: Path, engine: Sqlite, place: Place, receiver: Receiver, tasks: Sequence[Task], seconds: int
) -> float:
    requests: Load = prepare(folder / "requests", tasks, Auth.TOKEN)
    (there := folder / "round").mkdir()
    more = slowed(library, place.fsync_ms) if place.fsync_ms else None
    url = engine.copy("prepared", "round") if receiver.engine else f"sqlite:///{there}/none.db"
    with serving(receiver, there, url, more) as running:
        result = load(
            running.site.port, requests, connections=place.connections, seconds=seconds, again=False, spent=lambda: 0.0
        )
    check(receiver, running.site, result.answers, result.errors)
    engine.drop("round")
    shutil.rmtree(there)
    return result.per_second


def _part(options: argparse.Namespace, rates: Rates) -> Part:
    figures: list[Figure] = []
    for place in rates.places():
        for receiver in (OURS, OTHER):
            values = tuple(rates.found[place, receiver.name])
            figures.append(Figure(name="requests", unit="/s", subject=receiver.name, setting=str(place), values=values))
        if place.fsync_ms:
            mine, bounds = rates.found[place, OURS.name], rates.bounds(place)
            shares = tuple(each / bound for each, bound in zip(mine, bounds, strict=True))
            over = "over min(own disk, connections ÷ 1.5 fsyncs)"
            figures.append(
                Figure(name=over, unit="", subject=OURS.name, setting=str(place), values=shares, at_least=GOAL)
            )
            alone = tuple(each * place.fsync_ms / 1000 for each in rates.found[place, OTHER.name])
            figures.append(Figure(name="over 1 ÷ fsync", unit="", subject=OTHER.name, setting=str(place), values=alone))
    return Part(
        title="Slow disks",
        settings={"rounds": f"{options.rounds} of {options.seconds} s, interleaved", "load": "wrk, one thread"},
        figures=tuple(figures),
        notes=(
            "A preload shim has each fsync and fdatasync of the receiver take so long at least; nothing else changes.",
            f"{OTHER.name}: {OTHER.lacks}.",
        ),
    )


def _write(part: Part, rates: Rates) -> None:
    where = "; ".join(f"{name}: {value}" for name, value in describe().items())
    alt = "Requests per second over the length of an fsync, a panel for each number of connections"
    page = f"{part.markdown(1)}\n![{alt}](slow-disk.svg)\n\n`python -m bench.slow_disk` writes this page and its plot. "
    (PAGES / "slow-disk.md").write_text(f"{page}{where}.\n", encoding="utf-8")
    (PAGES / "slow-disk.json").write_text(part.json(), encoding="utf-8")
    (PAGES / "slow-disk.svg").write_text(plot(rates), encoding="utf-8")


def plot(rates: Rates) -> str:
    """Draw the medians of the rounds over the length of an fsync."""
    panels: dict[int, dict[str, list[tuple[float, float]]]] = {}
    for place in rates.places():
        lines = panels.setdefault(place.connections, {})
        drawn = {
            OURS.name: rates.found[place, OURS.name],
            "its bound": rates.bounds(place),
            OTHER.name: rates.found[place, OTHER.name],
        }
        for name, values in drawn.items():
            lines.setdefault(name, []).append((place.fsync_ms, statistics.median(values)))
    return svg(
        [
            Panel(title=f"Requests/s, {count} connections", across="fsync, ms", lines=lines, is_linear=True)
            for count, lines in panels.items()
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

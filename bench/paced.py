"""How long a callback waits for its 200 at a steady rate, half of what the receiver can take: an open loop.

First wrk finds out what the receiver takes at most. Then one sender pushes so many a second, whatever comes back: a
push that finds no connection free waits for one, and that counts. A push's moment is when the sender comes to it; how
late it came there is its own doing, and stands beside. A second of warming up comes first, and is not counted. Sender
and receiver share the machine.

    .venv/bin/python -m bench.paced                         # 3 rounds of 5 s, both ways to verify, on SQLite
    .venv/bin/python -m bench.paced --rounds 1 --seconds 2 --ledger postgres --share 0.25
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bench.backlog import new_tasks, submit
from bench.engines import KINDS, Engine, engines
from bench.figures import Figure, Part
from bench.latency import percentile
from bench.loading import MISSING, cpu_seconds, load
from bench.pacing import Sent, paced
from bench.pushes import Auth, Load, prepare, provider_of
from bench.receivers import Receiver, Running, check, ours, serving
from ringback.model import Task

CONNECTIONS = 64
MOST_PER_SECOND = 32_000  # so many tasks are prepared for each second of load
CAPACITY_SECONDS = 2
WARM_UP_SECONDS = 1  # caches are empty, and files grow
USUAL_SHARE = 0.5
P99_MS = 5.0
COLUMNS = ("pushes", "p50", "p99", "most", "sender late")
NOTES = (
    "Each figure is the median of the rounds (min–max). A push waits from when the sender comes to it until its answer "
    "is whole.",
    f"The first {WARM_UP_SECONDS} s of each round is not counted, in which caches are empty and files grow.",
    "`sender late` is how long after its due time the sender came to a push, p99, and in nobody's latency.",
)


def main() -> int:
    """Run the rounds and print the table."""
    options = _options(sys.argv[1:])
    title = f"Intake at {options.share:g} of its most, paced"
    if MISSING:
        print(f"missing: {MISSING}", file=sys.stderr)
        if options.json:
            print(Part(title=title, figures=(), missing=(MISSING,)).json())
        return 0 if options.json else 1
    receivers = [ours(auth, options.ledger) for auth in (Auth.TOKEN, Auth.SIGNED)]
    with (
        tempfile.TemporaryDirectory(prefix="ringback-bench-") as name,
        engines([options.ledger], Path(name), None, options.postgres_url) as (engine,),
    ):
        bench = Bench(options, Path(name), engine)
        for receiver in receivers:
            bench.prepare(receiver)
        for number in range(1, options.rounds + 1):
            for receiver in receivers:
                print(f"round {number}: {bench.round(receiver)}", file=sys.stderr, flush=True)
        settings = {
            "rounds": f"{options.rounds} of {options.seconds} s",
            "connections": str(CONNECTIONS),
            engine.name: engine.version,
        }
        part = Part(title=title, figures=tuple(bench.figures()), settings=settings, notes=NOTES, columns=COLUMNS)
    print(part.json() if options.json else part.markdown())
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--share", type=float, default=USUAL_SHARE, help="of what the receiver takes at most")
    parser.add_argument("--ledger", choices=KINDS, default="sqlite")
    parser.add_argument("--postgres-url", help="of a server to use; without it one is started")
    parser.add_argument("--json", action="store_true", help="print the figures for `python -m bench`")
    return parser.parse_args(arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round gave."""

    rate: float
    p50_ms: float
    p99_ms: float
    most_ms: float
    late_ms: float

    def __str__(self) -> str:
        return f"{self.rate:,.0f}/s, p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"


class Bench:
    """The rounds, by receiver."""

    def __init__(self, options: argparse.Namespace, folder: Path, engine: Engine) -> None:
        self._options = options
        self._folder = folder
        self._engine = engine
        self._tasks: dict[Auth, list[Task]] = {}
        self._results: dict[str, list[Round]] = {}

    def prepare(self, receiver: Receiver) -> None:
        """Submit the tasks, in a ledger that each round copies."""
        count = max(CAPACITY_SECONDS, WARM_UP_SECONDS + self._options.seconds) * MOST_PER_SECOND
        tasks = self._tasks[receiver.auth] = new_tasks(count, provider_of(receiver.auth))
        asyncio.run(submit(self._engine.fresh(f"prepared_{receiver.auth}"), tasks))

    def round(self, receiver: Receiver) -> Round:
        """Find out what it takes at most, and push a share of that."""
        requests = prepare(self._folder / receiver.auth, self._tasks[receiver.auth], receiver.auth)
        rate = self._capacity(receiver, requests) * self._options.share
        count = min(requests.count, int(rate * (WARM_UP_SECONDS + self._options.seconds)))
        sent = self._paced(receiver, list(islice(requests.requests(), count)), rate)
        found = Round(
            rate=rate,
            p50_ms=percentile(sent.waits, 0.5),
            p99_ms=percentile(sent.waits, 0.99),
            most_ms=percentile(sent.waits, 1),
            late_ms=percentile(sent.lags, 0.99),
        )
        self._results.setdefault(receiver.name, []).append(found)
        return found

    def _capacity(self, receiver: Receiver, requests: Load) -> float:
        with self._serving(receiver) as running:
            result = load(
                running.site.port,
                requests,
                connections=CONNECTIONS,
                seconds=CAPACITY_SECONDS,
                again=False,
                spent=lambda: cpu_seconds(running.pid),
            )
        check(receiver, running.site, result.answers, result.errors)
        return result.per_second

    def _paced(self, receiver: Receiver, requests: Sequence[bytes], rate: float) -> Sent:
        with self._serving(receiver) as running:
            sent = paced(
                running.site.port, requests, rate=rate, connections=CONNECTIONS, warm_up_seconds=WARM_UP_SECONDS
            )
        check(receiver, running.site, sent.answers, sent.errors)
        return sent

    @contextmanager
    def _serving(self, receiver: Receiver) -> Iterator[Running]:
        """Have it run on a new copy of its ledger, which is still there when it has ended."""
        folder = self._folder / "round"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with serving(receiver, folder, self._engine.copy(f"prepared_{receiver.auth}", "round")) as running:
            yield running

    def figures(self) -> list[Figure]:
        """Give all figures."""
        found = []
        for name, rounds in self._results.items():
            for label, unit, value, goal in FIGURES:
                values = tuple(value(each) for each in rounds)
                is_judged = goal is not None and self._engine.kind == "sqlite" and self._options.share == USUAL_SHARE
                at_most = goal if is_judged else None
                found.append(Figure(name=label, unit=unit, values=values, subject=name, at_most=at_most))
        return found


FIGURES: tuple[tuple[str, str, Callable[[Round], float], float | None], ...] = (
    ("pushes", "/s", lambda found: found.rate, None),
    ("p50", "ms", lambda found: found.p50_ms, None),
    ("p99", "ms", lambda found: found.p99_ms, P99_MS),
    ("most", "ms", lambda found: found.most_ms, None),
    ("sender late", "ms", lambda found: found.late_ms, None),
)


if __name__ == "__main__":
    sys.exit(main())

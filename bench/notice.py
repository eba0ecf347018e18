"""From a task's completion to its handler's start, and requests made per task: push beside the polling schedule.

Measured: the sandbox, `ringback up` with a handler that says when it begins, and so many tasks submitted at once. Once
with a callback URL, once without, where the poller asks on the seed's schedule. Simulated (`bench.virtual`), since real
tasks take minutes: the same schedule in virtual time, and pushes of which some are lost. Where both were done for the
same lengths of tasks, the second table shows both. Nothing is pinned: everything shares the machine.

    .venv/bin/python -m bench.notice                # some minutes; writes docs/benchmarks/notice.md and .svg
    .venv/bin/python -m bench.notice --measured 10 --no-write
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog

from bench.chart import Panel, svg
from bench.latency import percentile, read_stamps
from bench.running import ROOT, SECRET, environment, free_port, started
from bench.virtual import (
    ACCEPTED_WITHIN,
    ANSWER_SECONDS,
    AT_ONCE,
    LOST,
    Notice,
    polled,
    polled_alike,
    pushed_with_loss,
)
from ringback.model import Task
from ringback.settings import ProviderSettings, Settings
from submitter import Submitter

PAGES = ROOT / "docs" / "benchmarks"
COUNTS = (10, 100, 1_000, 10_000)
SUBMITTED_AT_ONCE = 64
HANDLED_SECONDS = 120.0  # after the last task has ended
UP = (("up", "--handlers", "bench.handlers:stamped"),)
PUSH, POLL = "push", "polling"


def measure(count: int, spans: tuple[float, float], *, push: bool) -> Notice:
    """Submit so many tasks to the sandbox at once, and wait until every handler has begun."""
    with tempfile.TemporaryDirectory(prefix="ringback-bench-") as name:
        url, stamps = f"sqlite:///{name}/bench.db", Path(name, "stamps")
        stamps.touch()
        port, sandbox_port = free_port(), free_port()
        base, public = f"http://127.0.0.1:{sandbox_port}/v1", f"http://127.0.0.1:{port}"
        environ = environment(
            url,
            RINGBACK_PORT=str(port),
            RINGBACK_QINGBO_API_KEY="sk-sandbox",
            RINGBACK_QINGBO_BASE_URL=base,
            BENCH_STAMPS=str(stamps),
            **({"RINGBACK_PUBLIC_URL": public} if push else {}),
        )
        settings = Settings(
            database_url=url,
            secret=(SECRET.encode(),),
            public_url=public if push else None,
            providers={"qingbo": ProviderSettings(api_key="sk-sandbox", base_url=base)},
            provider_concurrency=SUBMITTED_AT_ONCE,
        )
        with _sandbox(sandbox_port, spans, environ), started(UP, environ, port):
            tasks = asyncio.run(_submit(settings, count))
            began = _await_handlers(stamps, count, spans[1] + HANDLED_SECONDS)
            ended, requests = _told(sandbox_port)
    return Notice(seconds=[began[task.id] - ended[task.provider_id or ""] for task in tasks], requests=requests)


@contextmanager
def _sandbox(port: int, spans: tuple[float, float], environ: Mapping[str, str]) -> Iterator[None]:
    command = ("sandbox", "--port", str(port), "--delay", f"{spans[0]}..{spans[1]}")
    with started((command,), dict(environ), port):
        yield


async def _submit(settings: Settings, count: int) -> list[Task]:
    async with Submitter(settings) as submitter:
        slots = asyncio.Semaphore(SUBMITTED_AT_ONCE)

        async def one(number: int) -> Task:
            async with slots:
                return await submitter.submit("qingbo", prompt=f"bench {number}", duration=6)

        return list(await asyncio.gather(*(one(number) for number in range(count))))


def _told(port: int) -> tuple[dict[str, float], int]:
    """Ask the sandbox when its tasks ended, by its id, and how often it was asked about them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_sandbox/tasks") as answer:
        tasks = json.loads(answer.read())["tasks"]
    ended = {task["id"]: datetime.fromisoformat(task["ended_at"]).timestamp() for task in tasks}
    return ended, sum(task["fetches"] for task in tasks)


def _await_handlers(stamps: Path, count: int, patience_seconds: float) -> dict[str, float]:
    deadline = time.monotonic() + patience_seconds
    while len(found := read_stamps(stamps.read_text())) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"not a valid run: {count - len(found)} of {count} tasks were never handled")
        time.sleep(0.5)
    return {task: stamp.began for task, stamp in found.items()}


def main() -> int:
    """Measure, simulate, print the page, and write it with its plot."""
    options = _options(sys.argv[1:])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    spans = (options.shortest, options.longest)
    measured: dict[str, dict[int, Notice]] = {PUSH: {}, POLL: {}}
    for count in options.measured:
        for name, found in measured.items():
            if name == PUSH or count <= options.most_polled:
                found[count] = measure(count, spans, push=name == PUSH)
                print(f"{name}, {count:,} tasks: {_row(found[count])}", file=sys.stderr, flush=True)
    simulated = {count: polled(count) for count in COUNTS}
    typical = percentile(measured[PUSH][max(measured[PUSH])].seconds, 0.5)
    lossy = {count: pushed_with_loss(count, typical) for count in COUNTS}
    page = _page(measured, simulated, lossy, spans)
    print(page)
    if not options.no_write:
        PAGES.mkdir(exist_ok=True)
        (PAGES / "notice.md").write_text(page, encoding="utf-8")
        (PAGES / "notice.svg").write_text(_plot(measured[PUSH], simulated, lossy), encoding="utf-8")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--measured", type=int, nargs="+", default=[10, 100, 1_000], help="how many tasks at once")
    parser.add_argument("--most-polled", type=int, default=1_000, help="polling is measured up to so many tasks")
    parser.add_argument("--shortest", type=float, default=20.0, help="seconds from acceptance to the end")
    parser.add_argument("--longest", type=float, default=40.0)
    parser.add_argument("--no-write", action="store_true")
    return parser.parse_args(arguments)


def _page(
    measured: Mapping[str, Mapping[int, Notice]],
    simulated: Mapping[int, Notice],
    lossy: Mapping[int, Notice],
    spans: tuple[float, float],
) -> str:
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    first = [
        line
        for count in COUNTS
        for line in (
            *([_line(count, "push, measured", measured[PUSH][count])] if count in measured[PUSH] else []),
            _line(count, f"push, {LOST:.0%} lost, simulated", lossy[count]),
            _line(count, "polling, simulated", simulated[count]),
        )
    ]
    second = [
        line
        for count, found in measured[POLL].items()
        for line in (
            _line(count, "polling, measured", found),
            _line(count, "polling, simulated", polled_alike(count, spans)),
        )
    ]
    return PAGE.format(
        where=where, head=HEAD, first="\n".join(first), second="\n".join(second), shortest=f"{spans[0]:g}",
        longest=f"{spans[1]:g}", within=f"{ACCEPTED_WITHIN:g}", at_once=AT_ONCE, answer=f"{ANSWER_SECONDS:g}",
        lost=f"{LOST:.0%}", most=f"{AT_ONCE / ANSWER_SECONDS:g}",
    )  # fmt: skip


def _line(count: int, how: str, notice: Notice) -> str:
    return f"| {count:,} | {how} | {_row(notice)} |"


def _row(notice: Notice) -> str:
    cells = [_span(percentile(notice.seconds, share)) for share in (0.5, 0.95, 0.99, 1)]
    return " | ".join([*cells, f"{notice.per_task:.2f}"])


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _plot(pushed: Mapping[int, Notice], simulated: Mapping[int, Notice], lossy: Mapping[int, Notice]) -> str:
    lines = {"push, measured": pushed, f"push, {LOST:.0%} lost, simulated": lossy, "polling, simulated": simulated}
    median = {name: [(c, percentile(n.seconds, 0.5)) for c, n in found.items()] for name, found in lines.items()}
    requests = {name: [(c, n.per_task) for c, n in found.items()] for name, found in lines.items()}
    across = "open tasks"
    return svg(
        [
            Panel(title="Seconds from completion to handler, median", across=across, lines=median),
            Panel(title="Requests made per task (push: none)", across=across, lines=requests),
        ]
    )


HEAD = "| open tasks | how | noticed after, p50 | p95 | p99 | most | requests per task |\n" + "|---" * 7 + "|"
PAGE = """\
# From completion to handler: push beside polling

How long after a task has ended its handler begins, and how many requests we make for that.
`python -m bench.notice` writes this page and its plot. {where}.

![Two plots over the number of open tasks: when a task's end is noticed, and requests per task](notice.svg)

{head}
{first}

**Push, measured**: so many tasks submitted at once to the sandbox on the same machine, of {shortest} to {longest} s
each; `ringback up`; from the moment at which the sandbox ends a task to the first line of the handler. The way through
the internet is not in it. Nobody is asked: the one request of a task is the provider's, to us.

**Simulated**, in virtual time, because real tasks take minutes: tasks that are accepted within {within} s and take a
median of 2 minutes, nineteen of twenty up to 5.4 (log-normal); five draws. The poller is a model that asks on the
seed's schedule (the function of the product), the most overdue first, {at_once} at once
(`RINGBACK_PROVIDER_CONCURRENCY`), and each answer takes {answer} s: so at most {most} answers a second, and from some
hundred tasks on questions wait for each other. With *{lost} lost* a push comes, or never does; the lost ones are asked
about after the [learned deadline](../how-to/silence.md#when-a-task-is-asked-about), and a pushed one begins its handler
after the median that was measured.

## Is the simulation right?

Polling, measured and simulated for the same tasks ({shortest} to {longest} s, submitted at once, without a callback
URL); here an answer takes 10 ms in the simulation, as the sandbox is near.

{head}
{second}
"""


if __name__ == "__main__":
    sys.exit(main())

"""Tasks submitted per second through `Submitter`, over a bare loop around httpx that posts the same JSON.

All run in this process on asyncio's own event loop, in turn, against a sandbox in a process of its own that answers
at once and pushes nothing meanwhile. The bare loop posts with one `httpx.AsyncClient`, decodes the answer and forgets
it. httpx looks at all idle connections of a client before and after each request, which costs more the more there are;
so there is a second bare loop without that, of one client for each request that is under way. Ours commits the task
durably, with the claim to send, before anything is sent, and the answer afterwards. After each round the ledger is
asked whether it holds every task with the provider's id.

    .venv/bin/python -m bench.submission                    # 7 rounds of 1,000 tasks, 32 at once
    .venv/bin/python -m bench.submission --rounds 3 --at-once 8
"""

import argparse
import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bench.figures import Figure, Part, ratio
from bench.running import RINGBACK, ROOT, SECRET, await_port, end, free_port
from ringback import logs
from ringback.ledger import Query, open_ledger
from ringback.settings import ProviderSettings, Settings
from submitter import Submitter

GOAL = 0.8
WARM_UP = 64  # tasks before the clock starts: connections are open then, and code is loaded
API_KEY = "sk-sandbox"
PUBLIC_URL = "https://hooks.example.com"
FORM: dict[str, Any] = {
    "model": "grok-imagine-1.0-video",
    "prompt": "a paper boat on a rainy street, camera low, late afternoon",
    "duration": 6,
    "aspect_ratio": "16:9",
}
OURS, BARE, APART = "ringback, 2 durable commits", "bare httpx loop", "bare httpx loop, a client each"


@dataclass(frozen=True, slots=True)
class Result:
    """What one round gave."""

    per_second: float
    cpu_ms: float  # of this process, per task


def main() -> int:
    """Run the rounds and print the table; 1 where the goal is missed."""
    options = _options()
    logs.configure(level="warning")
    found: dict[str, list[Result]] = {OURS: [], BARE: [], APART: []}
    for number in range(1, options.rounds + 1):
        subjects = [(OURS, _submit_ours), (BARE, _submit_bare), (APART, _submit_bare_apart)]
        for name, run in subjects if number % 2 else reversed(subjects):
            found[name].append(_round(run, options))
        rates = ", ".join(f"{name} {results[-1].per_second:,.0f}/s" for name, results in found.items())
        print(f"round {number}: {rates}", file=sys.stderr, flush=True)
    part = _part(options, found)
    print(part.json() if options.json else part.markdown(), end="")
    return 0 if options.json or all(figure.is_reached for figure in part.figures) else 1  # there, the page judges


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print the figures for `python -m bench`")
    return parser.parse_args()


Run = Callable[[str, Path, argparse.Namespace], Coroutine[Any, Any, Result]]


def _round(run: Run, options: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory(prefix="ringback-bench-") as name, _sandbox() as url:
        return asyncio.run(run(url, Path(name), options))


@contextlib.contextmanager
def _sandbox() -> Iterator[str]:
    port = free_port()
    command = (*RINGBACK, "sandbox", "--port", str(port), "--delay", "3600")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_port(port, [process])
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process, signal.SIGTERM)


def _settings(url: str, folder: Path, options: argparse.Namespace) -> Settings:
    return Settings(
        database_url=f"sqlite:///{folder}/bench.db",
        public_url=PUBLIC_URL,
        secret=(SECRET.encode(),),
        provider_concurrency=options.at_once,
        providers={"qingbo": ProviderSettings(api_key=API_KEY, base_url=url)},
    )


async def _submit_ours(url: str, folder: Path, options: argparse.Namespace) -> Result:
    settings = _settings(url, folder, options)
    ledger = await open_ledger(settings, create=True)
    async with Submitter(settings, ledger=ledger) as submitter:
        result = await _timed(lambda: submitter.submit("qingbo", **FORM), options)
    accepted = [task for task in await ledger.tasks(Query(limit=100_000)) if task.provider_id and task.accepted_at]
    await ledger.close()
    if len(accepted) != options.tasks + WARM_UP:
        raise SystemExit(f"not a valid round: {len(accepted)} tasks were accepted")
    return result


async def _submit_bare(url: str, folder: Path, options: argparse.Namespace) -> Result:
    return await _submit_by(1, url, folder, options)


async def _submit_bare_apart(url: str, folder: Path, options: argparse.Namespace) -> Result:
    return await _submit_by(options.at_once, url, folder, options)


async def _submit_by(clients: int, url: str, folder: Path, options: argparse.Namespace) -> Result:
    plan = Submitter(_settings(url, folder, options)).plan("qingbo", **FORM)
    numbers, body = itertools.count(), msgspec.json.decode(plan.request.body or b"")
    async with AsyncExitStack() as opened:
        made = [httpx.AsyncClient(headers={"Authorization": f"Bearer {API_KEY}"}) for _ in range(clients)]
        idle = [await opened.enter_async_context(client) for client in made] * (options.at_once // clients)

        async def submit() -> str:
            client, headers = idle.pop(), {"Idempotency-Key": f"bare-{next(numbers)}"}
            answer = await client.post(plan.url, json=body, headers=headers)
            answer.raise_for_status()
            idle.append(client)
            return str(answer.json()["task_id"])

        return await _timed(submit, options)


async def _timed(submit: Callable[[], Awaitable[Any]], options: argparse.Namespace) -> Result:
    await _all(submit, WARM_UP, options.at_once)
    began, cpu = time.perf_counter(), time.process_time()
    await _all(submit, options.tasks, options.at_once)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    return Result(options.tasks / seconds, cpu_seconds / options.tasks * 1000)


async def _all(submit: Callable[[], Awaitable[Any]], count: int, at_once: int) -> None:
    left = iter(range(count))

    async def go_on() -> None:
        for _ in left:
            await submit()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(go_on())


def _part(options: argparse.Namespace, found: dict[str, list[Result]]) -> Part:
    setting = f"{options.at_once} at once"
    rates, costs = (
        {
            name: Figure(
                name=figure,
                unit=unit,
                subject=name,
                setting=setting,
                values=tuple(getattr(each, field) for each in results),
            )
            for name, results in found.items()
        }
        for figure, unit, field in (("tasks", "/s", "per_second"), ("CPU", "ms", "cpu_ms"))
    )
    over = ratio("over the bare loop", rates[OURS], rates[BARE], at_least=GOAL)
    over_apart = ratio("over the bare loop of a client each", rates[OURS], rates[APART])
    return Part(
        title="Submission",
        settings={"rounds": f"{options.rounds} of {options.tasks:,} tasks"},
        figures=(*rates.values(), *costs.values(), over, over_apart),
        notes=(
            f"{BARE}: posts the same JSON, decodes the answer, stores nothing, checks nothing, knows no limits.",
            f"{APART}: httpx looks at all idle connections of a client at each request; here there is one to look at.",
            f"{OURS}: the task with the claim to send, before anything is sent; the provider's id. Each is on disk.",
            "CPU is this process' per task, the ledger's thread included, the sandbox not.",
        ),
    )


if __name__ == "__main__":
    sys.exit(main())

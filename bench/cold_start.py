"""From the start of a process to its first answer, and what it imports meanwhile.

Two ways in: `receiver.asgi:app` called directly, as a function adapter does, without uvicorn and without a lifespan
(the first callback opens the ledger); and `ringback serve`. Each is started anew in every round, on a ledger that is
there, with its bytecode compiled, and timed from outside: the interpreter's own start is in it. What the imports cost
is told by `python -X importtime`, once, after the rounds: the best of some runs for each module.

    .venv/bin/python -m bench.cold_start               # half a minute; writes docs/benchmarks/cold-start.md and .json
    .venv/bin/python -m bench.cold_start --rounds 3 --no-write
"""

import argparse
import asyncio
import http.client
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from bench.backlog import new_tasks, push_of, submit
from bench.figures import Figure, Part, number, table
from bench.machine import describe
from bench.running import RINGBACK, ROOT, end, environment, free_port

PAGES = ROOT / "docs" / "benchmarks"
ADAPTER, SERVE, BARE = "receiver.asgi:app, called directly", "ringback serve", "python that does nothing"
GOAL_SECONDS = {ADAPTER: 0.25, SERVE: 0.5}
GOAL_MB = 60
START_SECONDS = 30.0
LOOK_SECONDS = 0.001
IMPORT_RUNS = 5
MOST_ROWS = 15
IMPORT = re.compile(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", re.MULTILINE)
OURS = ("ringback", "receiver")

# What a function adapter does with one request, and nothing else; `ready` is printed once the answer is there.
CALL = """
import asyncio, sys, time
from receiver.asgi import app

async def call(path, body):
    incoming, outgoing = [{"type": "http.request", "body": body, "more_body": False}], []
    async def receive():
        return incoming.pop()
    async def send(message):
        outgoing.append(message)
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "https",
             "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": []}
    await app(scope, receive, send)
    assert outgoing[0]["status"] == 200, outgoing
    size = open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]
    print("ready", size, time.process_time(), flush=True)

asyncio.run(call(sys.argv[1], sys.argv[2].encode()))
"""


def main() -> int:
    """Run the rounds, print the page, and write it."""
    options = _options(sys.argv[1:])
    seconds: dict[str, list[float]] = {BARE: [], ADAPTER: [], SERVE: []}
    megabytes: dict[str, list[float]] = {ADAPTER: [], SERVE: []}
    cpu: list[float] = []
    with tempfile.TemporaryDirectory(prefix="ringback-bench-") as name:
        url = f"sqlite:///{name}/bench.db"
        environ = environment(url, RINGBACK_PUBLIC_URL="https://hooks.example.com")
        tasks = new_tasks(options.rounds + 1 + IMPORT_RUNS)
        asyncio.run(submit(url, tasks))
        pushes = [(path, body.decode()) for path, body in map(push_of, tasks)]
        for count, push in enumerate(
            pushes[: options.rounds + 1]
        ):  # the first compiles what was not, and is not counted
            bare, (took, size, spent), served = nothing(environ), call(push, environ), serve(environ)
            if count:
                for way, each in ((BARE, bare), (ADAPTER, took), (SERVE, served[0])):
                    seconds[way].append(each)
                cpu.append(spent)
                megabytes[ADAPTER].append(size)
                megabytes[SERVE].append(served[1])
        costs = imports(pushes[options.rounds + 1 :], environ)
    part = _part(options, seconds, cpu, megabytes)
    page = f"{part.markdown(1)}\n{_imports(costs)}"
    print(part.json() if options.json else page)
    if not options.no_write:
        where = "; ".join(f"{key}: {value}" for key, value in describe().items())
        page += f"\n`python -m bench.cold_start` writes this page. {where}.\n"
        (PAGES / "cold-start.md").write_text(page, encoding="utf-8")
        (PAGES / "cold-start.json").write_text(part.json(), encoding="utf-8")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the page")
    parser.add_argument("--no-write", action="store_true")
    return parser.parse_args(arguments)


def call(push: tuple[str, str], environ: dict[str, str]) -> tuple[float, float, float]:
    """Start a process that takes one callback without a server; gives the seconds to its answer, MB, CPU seconds."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", CALL, *push], cwd=ROOT, env=environ, stdout=subprocess.PIPE)
    try:
        line = process.stdout.readline() if process.stdout else b""
        took = time.perf_counter() - began
    finally:
        end(process, signal.SIGTERM)
    if not line.startswith(b"ready"):
        raise SystemExit("the receiver took no callback")
    _, size, spent = line.split()
    return took, int(size) / 1000, float(spent)


def serve(environ: dict[str, str]) -> tuple[float, float]:
    """Start `ringback serve`; gives the seconds to its first answer, and MB of all its processes."""
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen([*RINGBACK, "serve", "--port", str(port)], cwd=ROOT, env=environ)
    try:
        _await_answer(port, process)
        return time.perf_counter() - began, _peak_mb(process.pid)
    finally:
        end(process, signal.SIGTERM)


def _await_answer(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except ConnectionRefusedError:
            time.sleep(LOOK_SECONDS)
        finally:
            connection.close()
    raise SystemExit("the receiver did not start")


def nothing(environ: dict[str, str]) -> float:
    """Start and end an interpreter: what no program can be below."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], env=environ, check=True, timeout=START_SECONDS)
    return time.perf_counter() - began


def _peak_mb(pid: int) -> float:
    """Give the most memory that a process and those that it has started have had."""
    root = psutil.Process(pid)
    texts = [Path(f"/proc/{each.pid}/status").read_text() for each in (root, *root.children(recursive=True))]
    return sum(int(text.partition("VmHWM:")[2].split()[0]) for text in texts) / 1000


def imports(pushes: Sequence[tuple[str, str]], environ: dict[str, str]) -> dict[str, int]:
    """Give what each module costs by itself until the first answer, in microseconds: the least of some runs."""
    least: dict[str, int] = {}
    for push in pushes:
        command = [sys.executable, "-X", "importtime", "-c", CALL, *push]
        done = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=START_SECONDS, check=True
        )
        for microseconds, module in IMPORT.findall(done.stderr):
            least[module] = min(int(microseconds), least.get(module, sys.maxsize))
    return least


def _imports(costs: dict[str, int]) -> str:
    """Draw where the time goes: by package, our own by the part of it."""
    packages: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for module, microseconds in costs.items():
        names = module.split(".")
        package = ".".join(names[: 2 if names[0] in OURS else 1])
        packages[package] += microseconds
        modules[package] += 1
    rows = [[name, f"{modules[name]:,}", number(cost / 1000)] for name, cost in packages.most_common(MOST_ROWS)]
    rows.append(["all", f"{len(costs):,}", number(sum(costs.values()) / 1000)])
    heads = ("package", "modules", "ms")
    drawn = table(heads, rows, frozenset(heads[1:]))
    return f"## What the imports of `receiver.asgi` cost\n\n`python -X importtime`, which slows them down.\n\n{drawn}\n"


def _part(
    options: argparse.Namespace,
    seconds: Mapping[str, Sequence[float]],
    cpu: Sequence[float],
    megabytes: Mapping[str, Sequence[float]],
) -> Part:
    answers = [
        Figure(
            name="first answer after", unit="ms", subject=way, values=tuple(each * 1000 for each in found),
            at_most=GOAL_SECONDS[way] * 1000 if way in GOAL_SECONDS else None,
        )
        for way, found in seconds.items()
    ]  # fmt: skip
    sizes = [
        Figure(
            name="memory, at most", unit="MB", subject=way, values=tuple(found),
            at_most=GOAL_MB if way == ADAPTER else None,
        )
        for way, found in megabytes.items()
    ]  # fmt: skip
    return Part(
        title="Cold start",
        settings={"rounds": f"{options.rounds}"},
        figures=(
            *answers,
            Figure(name="CPU until then", unit="ms", subject=ADAPTER, values=tuple(each * 1000 for each in cpu)),
            *sizes,
        ),
        notes=(
            "From the process' start, the interpreter's own included, to the first answer: a callback that is stored, "
            "through the ASGI application alone; `GET /healthz` over a socket for `ringback serve`.",
            "The ledger is there, and so is the bytecode. Where it cannot be kept (a read-only image made without it), "
            "each start compiles everything anew.",
            "Memory of `ringback serve` is that of all its processes.",
        ),
    )


if __name__ == "__main__":
    sys.exit(main())

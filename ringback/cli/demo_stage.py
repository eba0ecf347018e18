"""What `ringback demo` plays: sandbox, receiver, worker and poller in this process, and the plan's tasks.

Shows what happens, and ends with numbers read back from the ledger and held against the sandbox's own books. Imported
when the demo runs, and not for its help: it needs nearly everything that there is.
"""

import asyncio
import json
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from receiver import Event, Handlers
from receiver.web.app import create_app
from receiver.worker import Worker
from ringback.cli.demo_plan import ACTS, Act, act_key
from ringback.cli.demo_report import Findings, Line, lines
from ringback.cli.server import Server, listen
from ringback.intake import Intake
from ringback.ledger import Ledger, Query, open_ledger
from ringback.lifecycle import is_terminal
from ringback.model import DeliveryState, Task
from ringback.outbound import Outbound
from ringback.retry import Policy
from ringback.sandbox import SandboxConfig, exports, running
from ringback.secret_file import ensure_secret
from ringback.settings import Settings
from submitter import Submitter
from submitter.poller import Poller

LIMIT_SECONDS = 50.0
QUIET_SECONDS = 1.5  # longer than the sandbox waits between two tries of a push
REJECTIONS_SECONDS = 1.2  # the counts of rejected requests reach the ledger once a second
COLOURS = {"completed": "green", "failed": "red", "processing": "yellow", "submitted": "cyan"}
SANDBOX = SandboxConfig(
    port=0,
    delay_seconds=(0.5, 2.0),
    hang_seconds=4.0,
    slow_push_seconds=1.5,
    push_retry_seconds=(0.5, 1.0),
)


@dataclass(slots=True)
class Stage:
    """What runs during the demo."""

    settings: Settings
    sandbox_url: str
    ledger: Ledger
    submitter: Submitter
    handled: Counter[str]


def demo_handlers(handled: Counter[str]) -> Handlers:
    """Give two handlers that count themselves; one stumbles once, to be retried."""
    handlers = Handlers()

    @handlers.on("task.completed", name="publish", retry=Policy(attempts=5, base_seconds=0.2))
    async def publish(_: Event) -> None:
        handled["publish"] += 1
        if not handled["stumble"]:
            handled["stumble"] += 1
            raise ConnectionError("the demo's handler fails once, to show a retry")

    @handlers.on("task.failed", name="refund")
    def refund(_: Event) -> None:
        handled["refund"] += 1

    return handlers


async def run_demo(folder: Path, console: Console, *, keep: bool) -> bool:
    """Run it; tells whether the numbers add up."""
    async with _stage(folder) as stage:
        console.print(f"Sandbox at {stage.sandbox_url}, receiver at {stage.settings.public_url}, all in {folder}\n")
        await _play(stage, console)
        found = await _findings(stage)
        summary = lines(found)
        console.print(_summary_table(summary))
        wrong = [line for line in summary if not line.adds_up]
        for line in wrong:
            console.print(f"[red]{line.name}: the ledger says {line.ledger}, {line.says} {line.witness}[/red]")
        console.print("Every number adds up." if not wrong else "[red]The numbers do not add up.[/red]")
        if keep:
            await _linger(stage, console)
    return not wrong


@asynccontextmanager
async def _stage(folder: Path) -> AsyncIterator[Stage]:
    """Start everything, and end it in the reverse order."""
    stop, started = asyncio.Event(), asyncio.Event()
    handled: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        sandbox_url = await stack.enter_async_context(running(SANDBOX))
        listener = stack.enter_context(listen("127.0.0.1", 0))
        settings = _settings(folder, sandbox_url, listener.getsockname()[1])
        ledger = await open_ledger(settings, create=True)
        stack.push_async_callback(ledger.close)
        outbound = await stack.enter_async_context(Outbound(settings))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(stop.set)
        group.create_task(Worker(settings, ledger, demo_handlers(handled)).run(stop))
        group.create_task(Poller(settings, ledger, outbound, Intake(ledger, settings)).run(stop))
        server = Server(create_app(settings, ledger=ledger), settings, listener, started.set)
        group.create_task(server.run_until(stop))
        await started.wait()
        submitter = await stack.enter_async_context(Submitter(settings, ledger=ledger, outbound=outbound))
        yield Stage(settings, sandbox_url, ledger, submitter, handled)


def _settings(folder: Path, sandbox_url: str, port: int) -> Settings:
    """Make settings of our own: what the user has in the environment must not mix in."""
    database = folder / "demo.db"
    secret = ensure_secret(database)
    environ = exports(SANDBOX, sandbox_url) | {
        "RINGBACK_DATABASE_URL": f"sqlite:///{database}",
        "RINGBACK_SECRET": secret,
        "RINGBACK_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "RINGBACK_PORT": str(port),
        "RINGBACK_REQUEST_TIMEOUT_SECONDS": "2",
        "RINGBACK_PUSH_DEADLINE_SECONDS": "5",
        "RINGBACK_HEARTBEAT_SECONDS": "1",
    }
    return Settings.from_environ(environ, folder)


async def _play(stage: Stage, console: Console) -> None:
    """Submit the plan and watch until everything is settled, or the time is up."""
    image_url = f"{stage.sandbox_url}/media/sample.png"
    with Live(console=console, refresh_per_second=8) as live:
        try:
            async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
                for place, act in enumerate(ACTS):
                    group.create_task(_submit(stage, place, act, image_url))
                group.create_task(_watch(stage, live))
        except TimeoutError:
            console.print(f"[red]Not finished within {LIMIT_SECONDS:g} s.[/red]")
        live.update(_progress_table(await _tasks(stage)))


async def _submit(stage: Stage, place: int, act: Act, image_url: str) -> None:
    await stage.submitter.submit(act.provider, **act.form(image_url), key=act_key(place))


async def _watch(stage: Stage, live: Live) -> None:
    """Keep the table true until all tasks are final, all deliveries done, and the provider has nothing left to send."""
    seen = 0
    while not await _is_quiet(stage, live):
        seen = await stage.ledger.changed(seen, 0.5)
    pushes = -1
    while pushes != (latest := sum(len(task["pushes"]) for task in await _sandbox_tasks(stage))):
        pushes = latest
        await asyncio.sleep(QUIET_SECONDS)


async def _is_quiet(stage: Stage, live: Live) -> bool:
    tasks = await _tasks(stage)
    live.update(_progress_table(tasks))
    if len(tasks) < len(ACTS) or not all(is_terminal(task.state) for task in tasks.values()):
        return False
    summary = await stage.ledger.summary(datetime.now(UTC))
    open_states = (DeliveryState.PENDING, DeliveryState.RUNNING)
    return not summary.waiting_events and not any(summary.deliveries.get(state) for state in open_states)


async def _tasks(stage: Stage) -> dict[str, Task]:
    """Give the demo's tasks by key."""
    return {task.key: task for task in await stage.ledger.tasks(Query(limit=1000)) if task.key}


async def _sandbox_tasks(stage: Stage) -> Sequence[dict[str, Any]]:
    """Ask the sandbox for its own books."""

    def ask() -> Sequence[dict[str, Any]]:
        with urllib.request.urlopen(f"{stage.sandbox_url}/_sandbox/tasks", timeout=5) as answer:  # noqa: S310 -- our own
            found: Sequence[dict[str, Any]] = json.load(answer)["tasks"]
            return found

    return await asyncio.to_thread(ask)


async def _findings(stage: Stage) -> Findings:
    await asyncio.sleep(REJECTIONS_SECONDS)
    return Findings(
        summary=await stage.ledger.summary(datetime.now(UTC)),
        tasks=await stage.ledger.tasks(Query(limit=1000)),
        events=await stage.ledger.events(Query(limit=1000)),
        deliveries=await stage.ledger.deliveries(Query(limit=1000)),
        sandbox_tasks=await _sandbox_tasks(stage),
        handled=stage.handled,
    )


def _progress_table(tasks: dict[str, Task]) -> Table:
    table = Table("provider", "what happens", "state", "told by", "pushes", "asked", box=None, pad_edge=False)
    for place, act in enumerate(ACTS):
        task = tasks.get(act_key(place))
        state = task.state.value if task else "…"
        table.add_row(
            act.provider,
            act.name,
            f"[{COLOURS.get(state, 'dim')}]{state}[/]",
            task.settled_by.value if task and task.settled_by else "",
            str(task.callbacks) if task and task.callbacks else "",
            str(task.fetches) if task and task.fetches else "",
        )
    return table


def _summary_table(summary: Sequence[Line]) -> Table:
    table = Table(
        "read back from the ledger", "", "held against", "", title="\nSummary", title_justify="left", box=None
    )
    for line in summary:
        mark = "[green]✓[/]" if line.adds_up else f"[red]✗ {line.witness}[/]"
        table.add_row(line.name, str(line.ledger), line.says, mark)
    return table


async def _linger(stage: Stage, console: Console) -> None:
    """Leave everything running until Ctrl-C, and say how to look around from another shell."""
    shown = {
        "RINGBACK_DATABASE_URL": stage.settings.database_url,
        "RINGBACK_PUBLIC_URL": stage.settings.public_url,
        "RINGBACK_PORT": stage.settings.port,
    } | exports(SANDBOX, stage.sandbox_url)
    console.print("\nStill running; Ctrl-C ends it and removes everything. In another shell:\n")
    for name, value in shown.items():
        console.print(f"export {name}={value}", soft_wrap=True, highlight=False)
    console.print("ringback tasks list; ringback tasks show demo-2; ringback submit qingbo --prompt 'A kite' --wait")
    await asyncio.Event().wait()

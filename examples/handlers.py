"""Two handlers: one keeps what a task produced before its URLs expire, one tells of what went wrong.

Run them with: RINGBACK_HANDLERS=examples.handlers:handlers ringback up
"""

import shutil
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from receiver import Event, Handlers
from ringback import Policy

log = structlog.get_logger()


@asynccontextmanager
async def lifespan(_handlers: Handlers) -> AsyncIterator[Path]:
    """Make what the handlers share; they find it as `event.state`. A database pool would live here, too."""
    folder = Path("downloads")
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 -- once, before any handler runs
    yield folder


handlers = Handlers(lifespan)


@handlers.on("task.completed", timeout_seconds=120, retry=Policy(attempts=8, base_seconds=2, cap_seconds=600))
def download(event: Event) -> None:
    """Save each result. Plain `def`: it blocks, so it runs on a thread. Running it twice does no harm."""
    for number, result in enumerate(event.results):
        target: Path = event.state / f"{event.id}-{number}.{result.kind}"
        if target.exists():
            continue
        part = target.with_name(f"{target.name}.{event.delivery_id}-{event.attempt}.part")
        if not result.url.startswith(("http://", "https://")):
            raise ValueError(f"{event.provider} gave a result that is no web address")
        with urllib.request.urlopen(result.url, timeout=60) as source, part.open("wb") as file:  # noqa: S310 -- checked
            shutil.copyfileobj(source, file)
        part.replace(target)  # complete before it is visible
        log.info("saved", path=str(target))  # the line carries the task's and the event's ids by itself


@handlers.on("task.failed", "task.cancelled", "task.expired")
async def report(event: Event) -> None:
    """Tell that a task ended without a result."""
    log.warning("no result", status=event.status, reason=event.error.message if event.error else None)

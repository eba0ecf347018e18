"""What stores results in these tests: a real ledger, a real folder, and a server on this machine that gives them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from receiver.handlers import Handlers
from receiver.storing import Storing
from receiver.worker import Worker
from ringback.ledger import KeptResult, Ledger, ListResults, ResultRow, open_ledger
from ringback.model import Arrival, Callback, Kind, Reading, Result, Source, Task, TaskState, Trust, new_id
from ringback.outbound.downloads import Downloads
from ringback.results.keeper import Keeper, Refresh, Wanted
from ringback.results.places import Folder, Place
from ringback.settings import Settings
from ringback.settings_values import allowed
from tests.outbound.site import VIDEO, Asked, Items, Names, Site, head

MP4 = {"content-type": "video/mp4", "etag": '"one"'}


def film(asked: Asked, body: bytes = VIDEO, **headers: str) -> Items:
    """Answer as a good server does, ranges included."""
    told: dict[str, str | int] = {**MP4, **headers}
    if "range" in asked.headers and asked.headers.get("if-range") == told["etag"]:
        first = int(asked.headers["range"].removeprefix("bytes=").removesuffix("-"))
        scope: dict[str, str | int] = {
            "content-range": f"bytes {first}-{len(body) - 1}/{len(body)}",
            "content-length": len(body) - first,
        }
        return [head(206, told | scope) + body[first:]]
    return [head(200, told | {"content-length": len(body)}) + body]


def broken(body: bytes = VIDEO, at: int = 5000) -> Items:
    """Answer, and break off in the middle."""
    told: dict[str, str | int] = {**MP4, "content-length": len(body)}
    return [head(200, told) + body[:at]]


@dataclass
class Stand:
    """The parts, put together."""

    settings: Settings
    ledger: Ledger
    folder: Path
    downloads: Downloads
    place: Place
    now: list[datetime] = field(default_factory=lambda: [datetime.now(UTC)])

    def keeper(self, refresh: Refresh | None = None) -> Keeper:
        """Make what keeps results."""
        return Keeper(
            self.ledger, self.downloads, self.place, refresh=refresh, clock=lambda: self.now[0], pause_seconds=0
        )

    def worker(self, handlers: Handlers | None = None, refresh: Refresh | None = None) -> Worker:
        """Make a worker that has the built-in handler beside these."""
        storing = Storing(self.settings, self.keeper(refresh), clock=lambda: self.now[0])
        both = (handlers or Handlers()).plus(storing.handler())
        return Worker(self.settings, self.ledger, both, clock=lambda: self.now[0])

    async def completed(
        self,
        *urls: str,
        life: timedelta | None = timedelta(hours=24),
        kind: str = "video",
        provider: str = "qingbo",
    ) -> Wanted:
        """Have a task completed with these results; gives the first of them. With no `life`, nobody tells their end."""
        now = self.now[0]
        task = Task(id=new_id("task", now), provider=provider, created_at=now)
        await self.ledger.add_task(task)
        until = None if life is None else now + life
        found = tuple(Result(kind=kind, url=url, expires_at=until) for url in urls)
        receipt = await self.ledger.record(
            Arrival(
                kind=Kind.FACT,
                provider=provider,
                source=Source.CALLBACK,
                trust=Trust.TOKEN,
                task_id=task.id,
                callback=Callback(body=b"{}", received_at=now),
                reading=Reading(status=TaskState.COMPLETED, provider_id=f"p-{task.id[-20:]}", results=found),
            )
        )
        assert receipt.event_id is not None
        return Wanted(event_id=receipt.event_id, task=task, position=0, result=found[0])

    async def rows(self) -> tuple[ResultRow, ...]:
        """List all results, newest event first."""
        return await self.ledger.report(ListResults(limit=1000))

    def stored(self, kept: KeptResult) -> bytes:
        """Read what was stored."""
        return Path(kept.stored_url.removeprefix("file://")).read_bytes()

    def spoil(self, kept: KeptResult, content: bytes | None) -> None:
        """Put something else in place of a stored result; None takes it away."""
        path = Path(kept.stored_url.removeprefix("file://"))
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    def files(self) -> list[str]:
        """Name what is stored."""
        found = [path.relative_to(self.folder) for path in self.folder.glob("*/*") if path.is_file()]
        return sorted(str(path) for path in found if path.parts[0] != ".parts")

    def left(self) -> list[str]:
        """Name what lies in the spool."""
        spool = self.place.spool
        return sorted(path.name for path in spool.iterdir()) if spool.exists() else []


@asynccontextmanager
async def standing(
    tmp_path: Path, *, place: Place | None = None, allow: str = "media.local,127.0.0.0/8", **knobs: Any
) -> AsyncIterator[Stand]:
    """Set everything up."""
    folder = tmp_path / "kept"
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/r.db",
        results_url=f"file://{folder}",
        allow_private=allowed(allow) if allow else (),
        **knobs,
    )
    ledger = await open_ledger(settings, create=True)
    try:
        async with Downloads(settings, resolve=Names(), idle_seconds=5) as downloads:
            yield Stand(settings, ledger, folder, downloads, place or Folder(f"file://{folder}"))
    finally:
        await ledger.close()


def url_of(site: Site, path: str = "/v.mp4?sig=1") -> str:
    """Give the address of something on a site."""
    return f"http://media.local:{site.port}{path}"


def fresh(*results: Result) -> Callable[[Task], Awaitable[tuple[Result, ...]]]:
    """Be a provider that tells of these results now."""

    async def refresh(_: Task) -> tuple[Result, ...]:
        return results

    return refresh

"""A receiver on a real ledger in a temporary folder: without a socket, and with one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from receiver.web import create_app
from receiver.web.direct import DirectProtocol
from receiver.web.state import State
from ringback.ledger import Ledger, Sent
from ringback.model import Reading, Task, TaskState
from ringback.providers.signatures import callback_mac
from ringback.settings import Settings
from tests.serving import Server

SECRET = b"0123456789abcdef0123456789abcdef"
TOKEN = "the-admin-token"
TASK = "task_one"


def path_of(task_id: str = TASK, provider: str = "qingbo", secret: bytes = SECRET) -> str:
    """Give the path of a task's callback URL."""
    return f"/callbacks/{provider}/{task_id}.{callback_mac(secret, provider, task_id).decode()}"


def body_of(status: str = "completed", provider_id: str = "task-wave1", **more: Any) -> bytes:
    """Give a push as qingbo would send it."""
    result = {"videos": [{"url": ["https://cdn.example/v.mp4"]}]} if status == "completed" else None
    return msgspec.json.encode({"task_id": provider_id, "status": status, "result": result} | more)


async def submitted(
    ledger: Ledger, task_id: str = TASK, provider_id: str = "task-wave1", *, url_key: str | None = None
) -> None:
    """Store a task as the submitter does: committed, claimed, accepted by the provider."""
    now = datetime.now(UTC)
    task, _ = await ledger.add_task(Task(id=task_id, provider="qingbo", created_at=now, url_key=url_key))
    assert await ledger.claim_send(task, now, None)
    reading = Reading(status=TaskState.SUBMITTED, provider_id=provider_id)
    await ledger.save_send(Sent(task_id=task_id, sent_at=now, now=now, note="accepted", reading=reading))


@dataclass
class Receiver:
    """A receiver and a client of it."""

    app: Starlette
    client: httpx.AsyncClient
    settings: Settings

    @property
    def state(self) -> State:
        """What its routes share."""
        state: State = self.app.state.receiver
        return state

    @property
    def ledger(self) -> Ledger:
        """Its open ledger."""
        assert self.state.ledger is not None
        return self.state.ledger

    async def push(self, body: bytes | None = None, task_id: str = TASK, **more: Any) -> httpx.Response:
        """Send a valid callback."""
        return await self.client.post(path_of(task_id), content=body_of() if body is None else body, **more)

    async def get(self, path: str, token: str | None = TOKEN) -> httpx.Response:
        """Ask as the administrator."""
        return await self.client.get(path, headers={"Authorization": f"Bearer {token}"} if token else {})


def client_of(app: ASGIApp, prefix: str = "") -> httpx.AsyncClient:
    """Give a client that speaks to an application without a socket."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://receiver.test{prefix}")


MakeSettings = Callable[..., Settings]
Start = Callable[..., AbstractAsyncContextManager[Receiver]]
Serve = Callable[[ASGIApp], Awaitable[int]]


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Make settings with a ledger in the temporary folder."""

    def make(**knobs: Any) -> Settings:
        usual: dict[str, Any] = {
            "database_url": f"sqlite:///{tmp_path}/ringback.db",
            "secret": (SECRET,),
            "admin_token": TOKEN,
            "public_url": "https://ring.example",
        }
        return Settings(**(usual | knobs))

    return make


@pytest.fixture
def start(make_settings: MakeSettings) -> Start:
    """Start a receiver with knobs turned, for an `async with`."""

    @asynccontextmanager
    async def run(**knobs: Any) -> AsyncIterator[Receiver]:
        settings = make_settings(**knobs)
        app = create_app(settings)
        async with app.router.lifespan_context(app), client_of(app) as client:
            yield Receiver(app, client, settings)

    return run


@pytest.fixture
async def receiver(start: Start) -> AsyncIterator[Receiver]:
    """Give a receiver."""
    async with start() as it:
        yield it


@pytest.fixture(params=["direct", "uvicorn"])
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """Serve an application on a free loopback port, as `ringback serve` does and as any uvicorn; gives the port."""
    http: Any = DirectProtocol if request.param == "direct" else "httptools"
    servers: list[tuple[Server, asyncio.Task[None]]] = []

    async def run(app: ASGIApp) -> int:
        config = uvicorn.Config(
            app,
            port=0,
            access_log=False,
            log_config=None,
            http=http,
            proxy_headers=request.param == "uvicorn",
            timeout_graceful_shutdown=2,
        )
        listening = asyncio.Event()
        server = Server(config, listening.set)
        servers.append((server, asyncio.create_task(server.serve())))
        await asyncio.wait_for(listening.wait(), 5)
        return server.port

    yield run
    for server, task in servers:
        server.should_exit = True
        await task

"""A sandbox without a socket, and a receiver with one, for the tests of this folder."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette

from ringback.sandbox import SandboxConfig, create_sandbox
from ringback.sandbox.studio import Studio

MODEL = "grok-imagine-1.0-video"


@dataclass
class Received:
    """One request as it came: its path, headers, body and how long its body took."""

    path: str
    headers: dict[str, str]
    body: bytes
    body_seconds: float

    @property
    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)


@dataclass
class Receiver:
    """A tiny HTTP server that keeps what it gets and answers as its script says, then 200."""

    port: int = 0
    script: list[int] = field(default_factory=list)
    requests: list[Received] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    silent: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, mac: str = "secretmac123456") -> str:
        """Return a callback URL of Ringback's form."""
        return f"http://127.0.0.1:{self.port}/callbacks/qingbo/task_01.{mac}"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, answer it, close."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self._serve(reader, writer)
        finally:
            self.in_flight -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        start = asyncio.get_running_loop().time()
        body = await reader.readexactly(int(headers["content-length"]))
        taken = asyncio.get_running_loop().time() - start
        self.requests.append(Received(lines[0].split(" ")[1], headers, body, taken))
        self.arrived.set()
        if self.silent:
            await asyncio.sleep(1)
        await asyncio.sleep(0.005)
        status = self.script.pop(0) if self.script else 200
        answer = f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\nLocation: /elsewhere\r\nConnection: close\r\n\r\nok"
        writer.write(answer.encode())
        await writer.drain()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Give a receiver that listens on a real loopback socket."""
    it = Receiver()
    server = await asyncio.start_server(it, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    yield it
    server.close()


class Sandbox:
    """A client of a sandbox application, speaking as both providers' users do."""

    def __init__(self, app: Starlette, client: httpx.AsyncClient) -> None:
        self.studio: Studio = app.state.studio
        self.client = client
        self.qingbo_headers = {"Authorization": f"Bearer {self.studio.config.qingbo_api_key}"}
        self.reapi_headers = {"Authorization": f"Bearer {self.studio.config.reapi_api_key}"}

    async def qingbo(self, key: str | None = None, prefer: str | None = None, **body: Any) -> httpx.Response:
        """Submit to qingbo."""
        headers = (
            self.qingbo_headers | ({"Idempotency-Key": key} if key else {}) | ({"Prefer": prefer} if prefer else {})
        )
        return await self.client.post("/v1/tasks", headers=headers, json={"model": MODEL, "prompt": "a dog"} | body)

    async def qingbo_task(self, task_id: str) -> httpx.Response:
        """Fetch a task from qingbo."""
        return await self.client.get(f"/v1/tasks/{task_id}", headers=self.qingbo_headers)

    async def qingbo_cancel(self, task_id: str) -> httpx.Response:
        """Cancel a task at qingbo."""
        return await self.client.post(f"/v1/tasks/{task_id}/cancel", headers=self.qingbo_headers)

    async def reapi(self, **body: Any) -> httpx.Response:
        """Submit to reAPI."""
        body = {"model": MODEL, "prompt": "a dog"} | body
        return await self.client.post("/api/v1/videos/generations", headers=self.reapi_headers, json=body)

    async def reapi_task(self, task_id: str) -> httpx.Response:
        """Fetch a task from reAPI."""
        return await self.client.get(f"/api/v1/tasks/{task_id}", headers=self.reapi_headers)

    async def idle(self) -> None:
        """Wait until all tasks ended and all pushes are done."""
        await asyncio.wait_for(self.studio.idle(), 5)

    async def books(self) -> Any:
        """Read the sandbox's books."""
        return (await self.client.get("/_sandbox/books")).json()

    async def tasks(self) -> Any:
        """Read the sandbox's tasks."""
        return (await self.client.get("/_sandbox/tasks")).json()["tasks"]


Start = Callable[..., AbstractAsyncContextManager[Sandbox]]


@asynccontextmanager
async def _start(**knobs: Any) -> AsyncIterator[Sandbox]:
    quick: dict[str, Any] = {"delay_seconds": (0.01, 0.01), "push_retry_seconds": (0.01, 0.01), "hang_seconds": 0.1}
    app = create_sandbox(SandboxConfig(**(quick | {"slow_push_seconds": 0.1} | knobs)))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://sandbox.test") as client,
    ):
        yield Sandbox(app, client)


@pytest.fixture
def start() -> Start:
    """Start a sandbox with knobs turned, for an `async with`."""
    return _start


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Give a sandbox with quick delays."""
    async with _start() as it:
        yield it

"""A loopback server that answers with the bytes it is given, and counts who connects; and what fetches from it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ringback.outbound.downloads import Download, Downloads, Part
from ringback.settings import Settings
from ringback.settings_values import allowed

HERE = "127.0.0.1"
VIDEO = bytes(range(256)) * 40

Items = Iterable[bytes | None]  # sent one by one; None is silence for ever


@dataclass
class Asked:
    """One request as it arrived."""

    target: str
    headers: dict[str, str]


@dataclass
class Site:
    """What answers: `reply` gives, per request, what is sent before the connection is closed."""

    reply: Callable[[Asked], Items]
    keeps: bool = False  # connections, for further requests
    port: int = 0
    connections: int = 0
    asked: list[Asked] = field(default_factory=list)
    served: list[asyncio.Task[None]] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: for one request, or for as many as come."""
        self.connections += 1
        self.served += [task] if (task := asyncio.current_task()) else []
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self.answer(reader, writer)
                while self.keeps:
                    await self.answer(reader, writer)
            with contextlib.suppress(OSError):
                writer.close()
                await writer.wait_closed()
        except asyncio.CancelledError:  # the site closes: whoever takes no more in is not waited for
            writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request and answer it."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        self.asked.append(Asked(head[0].split(" ")[1], headers))
        for item in self.reply(self.asked[-1]):
            if item is None:
                await asyncio.Event().wait()
            else:
                writer.write(item)
                await writer.drain()


@asynccontextmanager
async def serving(
    reply: Callable[[Asked], Items] | Items, host: str = HERE, tls: ssl.SSLContext | None = None, *, keeps: bool = False
) -> AsyncIterator[Site]:
    """Run a site on a free port."""
    site = Site(reply if callable(reply) else lambda _: reply, keeps)
    server = await asyncio.start_server(site.handle, host, 0, ssl=tls)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        for _ in range(5):  # whoever was let in just now comes to be served, and is ended like the others
            await asyncio.sleep(0)
        for task in site.served:
            task.cancel()
        if site.served:
            await asyncio.wait(site.served, timeout=5)
        await asyncio.sleep(0)  # in which what was aborted is closed
        await server.wait_closed()


def head(status: int = 200, headers: Mapping[str, str | int] | None = None) -> bytes:
    """Write the beginning of an answer."""
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def whole(body: bytes = b"", status: int = 200, **headers: str | int) -> list[bytes]:
    """Write an answer; `a_b` is the header a-b."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [head(status, {"content-length": len(body), **named}) + body]


class Names:
    """A name server: every name has these addresses, and each question takes the next list of them."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers) or [[HERE]]
        self.questions: list[str] = []

    async def __call__(self, host: str, *_: int) -> Collection[str]:
        """Answer one question."""
        self.questions.append(host)
        return self.answers[min(len(self.questions), len(self.answers)) - 1]


def fetcher(names: Names | None = None, allow: str = "media.local,127.0.0.0/8", **knobs: Any) -> Downloads:
    """Make downloads that may come from this machine."""
    more = {name: knobs.pop(name) for name in ("transport", "idle_seconds") if name in knobs}
    settings = Settings(allow_private=allowed(allow) if allow else (), **knobs)
    return Downloads(settings, resolve=names or Names(), **more)


async def fetch(source: Downloads, url: str, part: Part | None = None) -> tuple[Download, bytes]:
    """Fetch a result whole."""
    body = bytearray()
    async with source, source.open(url, part=part) as download:
        async for chunk in download:
            body += chunk
    return download, bytes(body)

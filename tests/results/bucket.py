"""A stand-in for S3, as far as obstore speaks to it: uploads in parts, their abortion, reading. It keeps all it got."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

OK, NO_CONTENT, FORBIDDEN, NOT_FOUND = "200 OK", "204 No Content", "403 Forbidden", "404 Not Found"


@dataclass
class Bucket:
    """What it holds, and what was asked of it."""

    refuses_part: int | None = None
    objects: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str | None] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)  # begun, and not ended
    asked: list[str] = field(default_factory=list)
    port: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                lines = (line.partition(": ") for line in head[1:] if line)
                headers = {name.lower(): value for name, _, value in lines}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, target, _ = head[0].split(" ")
                status, content, extra = self.answer(method, target, headers, body)
                length = len(self.objects.get(urlsplit(target).path, b"")) if method == "HEAD" else len(content)
                answer = f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{extra}\r\n"
                writer.write(answer.encode() + (b"" if method == "HEAD" else content))
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[str, bytes, str]:
        """Do what is asked."""
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query, keep_blank_values=True)
        self.asked.append(f"{method} {target}")
        dated = 'ETag: "e"\r\nLast-Modified: Wed, 01 Jul 2026 12:00:00 GMT\r\n'
        if method == "POST" and "uploads" in query:
            self.uploads[path], self.types[path] = {}, headers.get("content-type")
            return OK, _xml("InitiateMultipartUploadResult", "<UploadId>u</UploadId>"), ""
        if method == "PUT" and "partNumber" in query:
            number = int(query["partNumber"][0])
            if number == self.refuses_part:
                return FORBIDDEN, _xml("Error", "<Code>AccessDenied</Code>"), ""
            if path in self.uploads:
                self.uploads[path][number] = body
            return OK, b"", dated
        if method == "POST":
            parts = self.uploads.pop(path)
            self.objects[path] = b"".join(parts[number] for number in sorted(parts))
            return OK, _xml("CompleteMultipartUploadResult", "<ETag>e</ETag>"), ""
        if method == "DELETE":
            self.uploads.pop(path, None)
            return NO_CONTENT, b"", ""
        if method == "PUT":
            self.objects[path], self.types[path] = body, headers.get("content-type")
            return OK, b"", dated
        if path not in self.objects:
            return NOT_FOUND, _xml("Error", "<Code>NoSuchKey</Code>"), ""
        return OK, self.objects[path], dated


def _xml(name: str, content: str) -> bytes:
    return f"<{name}>{content}</{name}>".encode()


@asynccontextmanager
async def bucket(refuses_part: int | None = None) -> AsyncIterator[Bucket]:
    """Run one on a free port."""
    found = Bucket(refuses_part)
    connections: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(found.handle(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()

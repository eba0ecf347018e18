"""A media server in a thread, for downloads by other processes: a film of any size, in ranges, or stalling."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

BLOCK = bytes(range(256)) * 256  # 64 KiB, over and over


class Films(ThreadingHTTPServer):
    """What it serves, and what it was asked for."""

    daemon_threads = True
    size = 0
    stalls_at: int | None = None  # where whoever asks from the beginning gets no more

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Film)
        self.ranges: list[str | None] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Where the film is."""
        return f"http://127.0.0.1:{self.server_address[1]}/v.mp4?sig=1"

    def handle_error(self, *_: object) -> None:
        """Be silent about those who were killed."""

    def content(self, first: int = 0) -> Iterator[bytes]:
        """Give the film from there on."""
        end = self.size if first or self.stalls_at is None else self.stalls_at
        while first < end:
            start = first % len(BLOCK)
            piece = BLOCK[start : start + end - first]
            yield piece
            first += len(piece)


class _Film(BaseHTTPRequestHandler):
    server: Films
    protocol_version = "HTTP/1.1"
    types: ClassVar[dict[str, str]] = {"Content-Type": "video/mp4", "ETag": '"one"'}

    def do_GET(self) -> None:
        """Send it, or the rest of it."""
        films, wanted = self.server, self.headers.get("Range")
        films.ranges.append(wanted)
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if first else 200)
        for name, value in self.types.items():
            self.send_header(name, value)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{films.size - 1}/{films.size}")
        self.send_header("Content-Length", str(films.size - first))
        self.end_headers()
        try:
            for piece in films.content(first):
                self.wfile.write(piece)
            if not first and films.stalls_at is not None:
                films.over.wait(60)
        except OSError:  # who asked is gone
            pass

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def films(size: int, stalls_at: int | None = None) -> Iterator[Films]:
    """Serve a film of this size."""
    server = Films()
    server.size, server.stalls_at = size, stalls_at
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join(10)
        server.server_close()

"""The web server: uvicorn without its own signals and log set-up, on a socket that was bound beforehand."""

import asyncio
import contextlib
import math
import resource
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from receiver.web.direct import DirectProtocol
from ringback.errors import RingbackError
from ringback.settings import Settings
from ringback.tuning import tune

BACKLOG = 2048
MOST_FILES = 65_536
TICK_SECONDS = 1.0  # the Date header is renewed so often


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket, before anything else is made.

    Raises:
        RingbackError: it cannot be; names host and port, and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (while attempting")[0]
        advice = "stop what listens there, or choose another with --port or RINGBACK_PORT"
        raise RingbackError(f"cannot listen on {host}:{port}: {reason}; {advice}") from error


def url_of(listener: socket.socket) -> str:
    """Give the address at which it is reached from this machine."""
    host, port = listener.getsockname()[:2]
    return local_url(host, port)


def local_url(host: str, port: int) -> str:
    """Give a URL for host and port; one that listens everywhere is reached on loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def allow_connections() -> None:
    """Let this process have as many connections as it may: each is a file, of which 1024 are usual at first.

    One more would be hung up on, where a burst is to be told to come again.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Server(uvicorn.Server):
    """Serves until its event is set; then finishes what is in flight."""

    def __init__(self, app: ASGIApp, settings: Settings, listener: socket.socket, started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=DirectProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=True,
                timeout_graceful_shutdown=math.ceil(settings.grace_seconds),
            )
        )
        self._listener = listener
        self._tell_started = started
        self._stop = asyncio.Event()

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serve until the event is set."""
        self._stop = stop
        await self.serve(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, and tell."""
        allow_connections()
        await super().startup(sockets)
        tune()
        self._tell_started()

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own loop wakes ten times a second."""
        while not self._stop.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stop.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: the command handles them for all parts of the process."""
        yield

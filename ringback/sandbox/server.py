"""The sandbox as a server: for a process of its own (`run`) or inside another event loop (`serve`)."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn

from ringback.sandbox.app import create_sandbox
from ringback.sandbox.config import SandboxConfig

RECEIVER_URL = "http://127.0.0.1:8000"  # where `ringback up` listens unless told otherwise
_GRACE_SECONDS = 2


def run(config: SandboxConfig | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; print what to export; return the exit code."""
    config = config or SandboxConfig()
    try:
        asyncio.run(_run(config))
    except OSError as error:
        where = f"{config.host} port {config.port}"
        hint = "choose another host or port, or stop what listens there"
        print(f"ringback sandbox: cannot listen on {where}: {_reason(error)}; {hint}", file=sys.stderr)
        return 1
    return 0


async def serve(config: SandboxConfig | None = None, started: Callable[[str], None] | None = None) -> None:
    """Serve until cancelled, leaving signals and logging alone; `started` is told the real URL.

    Raises:
        OSError: the address cannot be listened on.
    """
    config = config or SandboxConfig()
    listener = _listen(config)
    url = _url(listener)
    server = _Server(config, lambda: started(url) if started is not None else None)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
    finally:
        listener.close()


@contextlib.asynccontextmanager
async def running(config: SandboxConfig | None = None) -> AsyncIterator[str]:
    """Serve for the length of an `async with`, which gets the URL."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(config, ready.set_result))
    either: set[asyncio.Future[Any]] = {serving, ready}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    try:
        if serving.done():
            await serving
        yield await ready
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def exports(config: SandboxConfig, url: str) -> dict[str, str]:
    """Return the environment that points Ringback at a sandbox."""
    return {
        "RINGBACK_QINGBO_BASE_URL": f"{url}/v1",
        "RINGBACK_QINGBO_API_KEY": config.qingbo_api_key,
        "RINGBACK_REAPI_BASE_URL": f"{url}/api/v1",
        "RINGBACK_REAPI_API_KEY": config.reapi_api_key,
    }


class _Server(uvicorn.Server):
    """uvicorn without its own signals, telling when it listens and letting held-back responses go."""

    def __init__(self, config: SandboxConfig, started: Callable[[], None]) -> None:
        app = create_sandbox(config)
        settings = uvicorn.Config(
            app,
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        super().__init__(settings)
        self._studio, self._tell = app.state.studio, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._studio.hurry()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(config: SandboxConfig) -> None:
    serving = asyncio.create_task(serve(config, lambda url: _print_exports(config, url)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _print_exports(config: SandboxConfig, url: str) -> None:
    print(f"# Sandbox provider at {url} (Ctrl-C stops it). Point Ringback at it:")
    for name, value in exports(config, url).items():
        print(f"export {name}={value}")
    print("# Where it finds your receiver; another port (RINGBACK_PORT, --port) belongs into this address, too:")
    print(f"export RINGBACK_PUBLIC_URL={RECEIVER_URL}")
    print("# A lost push is asked about after so long, instead of 5 minutes:")
    print("export RINGBACK_PUSH_DEADLINE_SECONDS=10")
    print(f"# Its own books: {url}/_sandbox/books", flush=True)


def _reason(error: OSError) -> str:
    """Say what is wrong without the address, which asyncio and create_server add to the text."""
    return str(error.strerror or error).partition(" (while attempting")[0]


def _listen(config: SandboxConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.create_server((config.host, config.port), family=family)
    # Else the second part of an answer waits up to 40 ms for a word from its reader: asyncio sees to it only where a
    # socket knows that it is TCP, and what this one accepts does not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(listener: socket.socket) -> str:
    """Return the address to reach it at; one that listens everywhere is reached on loopback."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "::1" if address.version == 6 else "127.0.0.1"
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"

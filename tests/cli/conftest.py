"""The command in an empty folder: called within this process, or as a process of its own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from click.testing import CliRunner, Result

from ringback.cli import main, placement
from ringback.ledger import Ledger, open_ledger
from ringback.settings import Settings

SECRET = "0123456789abcdef0123456789abcdef"
COMMAND = [sys.executable, "-m", "ringback.cli"]
HANDLERS = """
import time
from receiver import Handlers

handlers = Handlers()

@handlers.on("task.completed")
async def publish(event):
    pass

@handlers.on("task.failed")
def fail(event):
    raise RuntimeError("no money")

@handlers.on("task.cancelled")
async def block(event):
    time.sleep(0.6)
"""

Ringback = Callable[..., Result]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, without any setting of the machine's; leave logging as it was."""
    for name in os.environ:
        if name.startswith("RINGBACK_") or name in ("PORT", "NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(placement, "MOUNTS", tmp_path / "no mounts")  # the folder of the tests may lie in memory
    monkeypatch.chdir(tmp_path)
    modules, path = set(sys.modules), list(sys.path)
    yield tmp_path
    structlog.reset_defaults()
    sys.path[:] = path
    if "app" not in modules:
        sys.modules.pop("app", None)


@pytest.fixture
def ringback() -> Ringback:
    """Call the command within this process."""

    def call(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, prog_name="ringback", catch_exceptions=False)

    return call


@pytest.fixture
def handlers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a module with handlers into the folder, and set it."""
    (folder / "app.py").write_text(HANDLERS)
    monkeypatch.setenv("RINGBACK_HANDLERS", "app:handlers")


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the secret behind the callback URLs, and where they lead."""
    monkeypatch.setenv("RINGBACK_SECRET", SECRET)
    monkeypatch.setenv("RINGBACK_PUBLIC_URL", "https://hooks.example")


def within(act: Callable[[Ledger, Settings], Awaitable[Any]]) -> Any:
    """Do something with this folder's ledger, which is made where there is none."""

    async def do() -> Any:
        settings = Settings.from_environ()
        ledger = await open_ledger(settings, create=True)
        try:
            return await act(ledger, settings)
        finally:
            await ledger.close()

    return asyncio.run(do())


def anywhere() -> dict[str, str]:
    """Give this environment to a process, which may keep its database in memory."""
    return {**os.environ, "RINGBACK_ALLOW_EPHEMERAL": "true"}


class Process:
    """The command as a process of its own; ended at the latest with the test."""

    def __init__(self, *arguments: str) -> None:
        self.errors = Path("errors.log").open("wb+")  # noqa: SIM115 -- closed with the process
        self.popen = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=self.errors, env=anywhere()
        )

    def line(self, event: str) -> dict[str, Any]:
        """Wait for a log event; fails where the process ends without it."""
        seen = 0
        while True:
            ended = self.popen.poll() is not None
            lines = self.log().splitlines()
            for text in lines[seen:]:
                with suppress(ValueError):  # the last line may be half written
                    fields: dict[str, Any] = msgspec.json.decode(text)
                    if fields.get("event") == event:
                        return fields
            seen = max(0, len(lines) - 1)
            assert not ended, self.log()
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(0.02)

    def log(self) -> str:
        """Give all that was logged so far."""
        return Path("errors.log").read_text()

    def end(self, number: int, timeout_seconds: float = 10) -> int:
        """Send a signal, wait for the end, and give the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(timeout_seconds)

    def close(self) -> None:
        """End it, if it still runs."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()
        self.errors.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start the command as a process of its own."""
    processes: list[Process] = []

    def run(*arguments: str) -> Process:
        processes.append(Process(*arguments))
        return processes[-1]

    yield run
    for process in processes:
        process.close()

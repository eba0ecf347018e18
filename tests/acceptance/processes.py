"""A site: one folder, one environment, and the `ringback` processes that run there. All of them die with it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

COMMAND = [sys.executable, "-m", "ringback.cli"]
# What a child gets of our environment: no RINGBACK_…, no PORT, and no coverage, which would slow down what is timed.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")

SECRET = "url-secret-of-the-acceptance-tests-0123456789"
ADMIN_TOKEN = "admin-token-of-the-acceptance-tests"
PATIENCE_SECONDS = 20.0


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until(what: str, true: Callable[[], Any], timeout_seconds: float = PATIENCE_SECONDS) -> Any:
    """Look at other processes' work until it is there, and give what was seen; fails by name after the time."""
    deadline = time.monotonic() + timeout_seconds
    while not (seen := true()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_seconds:g} s"
        time.sleep(0.02)
    return seen


class Process:
    """One running `ringback` command; what it prints and logs goes to files beside the site's folder."""

    def __init__(self, site: "Site", name: str, arguments: tuple[str, ...], environ: dict[str, str]) -> None:
        self.name = name
        self.log_path, self.output_path = site.logs / f"{name}.log", site.logs / f"{name}.out"
        with self.log_path.open("wb") as log, self.output_path.open("wb") as output:
            self.popen = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=site.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """All that was logged so far."""
        return self.log_path.read_text()

    @property
    def output(self) -> str:
        """All that was printed so far."""
        return self.output_path.read_text()

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """Give the log lines of this event."""
        for line in self.log.splitlines():
            with suppress(ValueError):  # the last line may be half written
                fields: dict[str, Any] = json.loads(line)
                if fields["event"] == name:
                    yield fields

    def wait_for(self, event: str, timeout_seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait for a log line; fails at once where the process ends without it."""

        def look() -> dict[str, Any] | None:
            ended = self.popen.poll() is not None
            found = next(self.events(event), None)
            assert found or not ended, f"{self.name} ended with {self.popen.returncode} without {event}:\n{self.log}"
            return found

        found: dict[str, Any] = wait_until(f"{self.name}: {event}", look, timeout_seconds)
        return found

    def is_alive(self) -> bool:
        """Tell whether it still runs."""
        return self.popen.poll() is None

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, number: int = signal.SIGTERM, timeout_seconds: float = 15) -> int:
        """Send a signal, wait for the end, and give the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(timeout_seconds)


class Site:
    """A folder with a database, settings, and processes that use them."""

    def __init__(self, folder: Path, database: Path | None = None, **settings: object) -> None:
        self.folder = folder / "site"
        self.logs = folder / "logs"
        self.folder.mkdir()
        self.logs.mkdir()
        self.database = database or self.folder / "ringback.db"
        self.port = free_port()
        self.environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self.set(
            database_url=f"sqlite:///{self.database}",
            port=self.port,
            public_url=f"http://127.0.0.1:{self.port}",
            secret=SECRET,
            admin_token=ADMIN_TOKEN,
            log_format="json",
            allow_ephemeral="true",  # the folder of the tests may lie in memory
            **settings,
        )
        self.processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            if process.is_alive():  # with its scribe, which may wait for something that only a test lets go
                os.killpg(process.popen.pid, signal.SIGKILL)
            process.kill()

    def set(self, **settings: object) -> None:
        """Set RINGBACK_… variables by their names in `Settings`, for processes started from now on."""
        self.environ |= {f"RINGBACK_{name.upper()}": str(value) for name, value in settings.items()}

    def start(self, *arguments: str, **settings: object) -> Process:
        """Start a command; `settings` are for it alone."""
        environ = self.environ | {f"RINGBACK_{name.upper()}": str(value) for name, value in settings.items()}
        name = f"{len(self.processes):02}-{arguments[0]}"
        self.processes.append(Process(self, name, arguments, environ))
        return self.processes[-1]

    def serve(self) -> Process:
        """Start a receiver and wait until it listens."""
        process = self.start("serve")
        process.wait_for("receiver.listening")
        return process

    def up(self, **settings: object) -> Process:
        """Start all in one process and wait until it listens."""
        process = self.start("up", **settings)
        process.wait_for("receiver.listening")
        return process

    def work(self) -> Process:
        """Start a worker and wait until its handlers are known."""
        process = self.start("work")
        process.wait_for("handlers.registered")
        return process

    def sandbox(self, *options: str) -> str:
        """Start the stand-in provider, point everything else at it, and give its URL."""
        process = self.start("sandbox", "--port", "0", *options)
        wait_until("the sandbox's address", lambda: "# Its own books" in process.output)
        theirs = ("export RINGBACK_QINGBO_", "export RINGBACK_REAPI_")  # where the receiver is, the site knows better
        exports = [line.removeprefix("export ") for line in process.output.splitlines() if line.startswith(theirs)]
        self.environ |= dict(line.split("=", 1) for line in exports)
        return process.output.split("# Its own books: ")[1].strip().removesuffix("/_sandbox/books")

    def handlers(self, code: str) -> None:
        """Put a module with the user's handlers into the folder, and set it."""
        (self.folder / "app.py").write_text(code)
        self.set(handlers="app:handlers")

    def run(self, *arguments: str, timeout_seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_seconds,
        )

    def json(self, *arguments: str) -> Any:
        """Run a command that must succeed, and give the JSON document that it printed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def events(self, **filters: str) -> list[dict[str, Any]]:
        """List events as a user would."""
        options = [text for name, value in filters.items() for text in (f"--{name}", value)]
        found: list[dict[str, Any]] = self.json("events", "list", "--limit", "100000", *options)["events"]
        return found

    def deliveries(self) -> list[dict[str, Any]]:
        """List deliveries as a user would."""
        found: list[dict[str, Any]] = self.json("deliveries", "list", "--limit", "100000")["deliveries"]
        return found

    def story(self, reference: str) -> dict[str, Any]:
        """Show a task as a user would."""
        found: dict[str, Any] = self.json("tasks", "show", reference)
        return found

    def lines(self, name: str) -> list[str]:
        """Give the lines that a handler wrote into a file."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

"""Many `ringback` processes for the price of one start: a process that has imported all of it forks one per order.

What it forks is a process like any other, with an environment, a folder and a session of its own; it can be killed.
Only what Python's start costs, half a second each time, is spared. Orders and answers are lines of JSON.
"""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from tests.acceptance.processes import PASSED_ON, PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
PRELOADED = (
    *("ringback.cli.serve", "ringback.cli.server", "ringback.cli.submit", "ringback.cli.work", "ringback.cli.show"),
    *("ringback.cli.watchdog", "ringback.ledger", "ringback.intake", "ringback.outbound", "receiver.worker"),
    *("receiver.web.app", "submitter.poller", "uvloop", "time_machine", "tests.acceptance.crashing"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command to be run in a process of its own. What it prints and logs goes to `<log>.out` and `<log>.log`."""

    arguments: tuple[str, ...]
    folder: str
    environ: Mapping[str, str]
    log: str


@dataclass(frozen=True, slots=True)
class Forked:
    """A process that was forked, running or not."""

    pid: int
    log_path: Path

    @property
    def log(self) -> str:
        """All that was logged so far."""
        return self.log_path.with_suffix(".log").read_text()

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens, as soon as it does."""
        found = re.search(r'"url":"http://([^:"]+):(\d+)".*"receiver.listening"', self.log)
        return (found[1], int(found[2])) if found else None


class Zygote:
    """The process that forks, as seen by who orders. For one thread at a time; whatever it forked ends with it."""

    def __enter__(self) -> Self:
        environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.forking"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._popen:
            assert self._popen.stdin is not None
            self._popen.stdin.close()

    def start(self, order: Order) -> Forked:
        """Start a command."""
        Path(f"{order.log}.log").touch()  # it may be asked for before it begins
        return Forked(self._ask({"fork": asdict(order)}), Path(order.log))

    def code(self, forked: Forked, timeout_seconds: float = PATIENCE_SECONDS) -> int | None:
        """Wait for the end of a process and give its exit code, below zero for a signal; None where it goes on."""
        code: int | None = self._ask({"wait": forked.pid, "seconds": timeout_seconds})
        return code

    def _ask(self, question: Mapping[str, Any]) -> Any:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps(question) + "\n")
        self._popen.stdin.flush()
        return json.loads(self._popen.stdout.readline())


class _Nursery:
    """The same process, from inside."""

    def __init__(self) -> None:
        self._codes: dict[int, int | None] = {}

    def serve(self) -> None:
        """Follow orders until there are no more."""
        for line in sys.stdin:
            order = json.loads(line)
            answer = self._fork(order["fork"]) if "fork" in order else self._wait(order["wait"], order["seconds"])
            print(json.dumps(answer), flush=True)
        for pid in [pid for pid, code in self._codes.items() if code is None]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _fork(self, order: Mapping[str, Any]) -> int:
        pid = os.fork()
        if pid == 0:
            _live(Order(**order))
        self._codes[pid] = None
        return pid

    def _wait(self, pid: int, seconds: float) -> int | None:
        deadline = time.monotonic() + seconds
        while self._codes[pid] is None:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._codes[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                return None
            else:
                time.sleep(0.005)
        return self._codes[pid]


def _live(order: Order) -> NoReturn:
    """Be the command, and end as it does."""
    code: Any = 1
    try:
        os.setsid()
        flags = os.O_WRONLY | os.O_CREAT
        files = ((os.devnull, os.O_RDONLY), (f"{order.log}.out", flags), (f"{order.log}.log", flags))
        for number, (path, mode) in enumerate(files):
            os.dup2(os.open(path, mode, 0o600), number)
        os.chdir(order.folder)
        os.environ.clear()
        os.environ.update(order.environ)
        importlib.import_module("tests.acceptance.crashing").prepare(os.environ)
        importlib.import_module("ringback.cli").main(list(order.arguments), prog_name="ringback")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    for module in PRELOADED:
        importlib.import_module(module)
    _Nursery().serve()

"""Several processes on one socket, as real processes: how they start, are started again, and end together."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from receiver.web.board import POST_SECONDS
from ringback.cli.run import ECHO_SECONDS

from .conftest import COMMAND, Process, Ringback, anywhere

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("secret")]
Start = Callable[..., Process]

SCRIPT = """
import os, signal, socket, sys, time
import click
from ringback import logs
from ringback.cli import crew, renewal
from ringback.cli.group import CommandGroup

logs.configure(style="json")
renewal.PAUSE_SECONDS = (0.0,)
crew.CLOSE_SECONDS = 0
BEFORE

@click.command(cls=CommandGroup, invoke_without_command=True)
def main():
    listener = socket.create_server(("127.0.0.1", 0))
    crew.Crew(2, listener, GRACE, lambda: print("all serve", flush=True)).run(serve)

def serve(place):
    DO

main()
"""


def crew(*lines: str, grace: float = 10, before: str = "") -> "subprocess.Popen[str]":
    """Start a parent of two processes that do this, and that has this patience with them."""
    code = SCRIPT.replace("GRACE", str(grace)).replace("BEFORE", before).replace("DO", "\n    ".join(lines))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def serving(parent: "subprocess.Popen[str]") -> list[int]:
    """Wait until both processes serve, and give their ids."""
    assert parent.stdout is not None
    assert parent.stdout.readline() == "all serve\n"
    return children(parent.pid)


def ended(parent: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for the end; gives the exit code and what went to standard error."""
    _, errors = parent.communicate(timeout=20)
    return parent.returncode, errors


def children(pid: int) -> list[int]:
    """Give the processes that this one has started and that have not ended."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Tell whether it runs; one that ended may be listed until somebody asks about it."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(true: Callable[[], bool]) -> None:
    """Look at other processes' work until it is done; fails after some seconds."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_the_end(pids: list[int]) -> None:
    """Wait until none of them runs."""
    wait_until(lambda: not any(alive(pid) for pid in pids))


def counted(url: str) -> float:
    """Ask whichever process answers how many callbacks it knows of."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return sum(sample.value for family in families if family.name == "ringback_callbacks" for sample in family.samples)


def started(start: Start, *options: str) -> tuple[Process, str, list[int]]:
    """Start two receivers; gives their parent, their address and their process ids."""
    parent = start("serve", "--port", "0", "--workers", "2", *options)
    listening = parent.line("receiver.listening")
    assert listening["processes"] == 2
    return parent, listening["url"], children(parent.popen.pid)


def lines(parent: Process, event: str) -> list[str]:
    """Give the log lines of an event."""
    return [line for line in parent.log().splitlines() if f'"event":"{event}"' in line]


def test_one_that_dies_is_started_again(start: Start) -> None:
    """The other one serves meanwhile, the new one takes its seat, and SIGTERM ends all of them with 0."""
    parent, url, pids = started(start)
    assert len(pids) == 2
    os.kill(pids[0], signal.SIGKILL)
    end = parent.line("receiver.ended")
    assert (end["pid"], end["ended"], end["again_in"]) == (pids[0], "SIGKILL", 0)
    assert parent.line("receiver.renewed")["process"] == end["process"]
    renewed = children(parent.popen.pid)
    assert len(renewed) == 2
    assert pids[1] in renewed
    with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
        assert answer.status == 200
    assert parent.end(signal.SIGTERM) == 0
    wait_for_the_end(renewed)
    assert len(lines(parent, "process.stopping")) == len(lines(parent, "receiver.listening")) == 1


def test_counts_of_all_processes(start: Start, ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever process answers `/metrics` tells of all of them, and one that died takes no count with it."""
    monkeypatch.setenv("RINGBACK_METRICS_PUBLIC", "true")
    parent, url, pids = started(start)
    for _ in range(8):
        assert ringback("trigger", "qingbo", "--url", url).exit_code == 0
    wait_until(lambda: [counted(url) for _ in range(4)] == [8] * 4)
    time.sleep(2 * POST_SECONDS)  # whoever answered may have been the one that is killed: by now it has told the other
    os.kill(pids[1], signal.SIGKILL)
    parent.line("receiver.renewed")
    assert [counted(url) for _ in range(4)] == [8] * 4
    assert parent.end(signal.SIGTERM) == 0


def test_a_parent_that_is_killed(start: Start) -> None:
    """Its processes notice, finish and end, so that the port is free again."""
    parent, url, pids = started(start)
    parent.popen.kill()
    parent.popen.wait()
    wait_for_the_end(pids)
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(url, timeout=5)
    assert len(lines(parent, "process.orphaned")) == 2


def test_ctrl_c(folder: Path) -> None:  # noqa: ARG001 -- works in it
    """A terminal sends Ctrl-C to all of them: once, and all stop in order and say so once."""
    command = [*COMMAND, "serve", "--port", "0", "--workers", "2"]
    with Path("errors.log").open("wb") as errors:
        popen = subprocess.Popen(command, stderr=errors, start_new_session=True, env=anywhere())
    try:
        wait_until(lambda: "receiver.listening" in Path("errors.log").read_text())
        os.killpg(popen.pid, signal.SIGINT)
        assert popen.wait(10) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
    assert Path("errors.log").read_text().count("process.stopping") == 1


def test_what_is_wrong_for_all_is_said_once(start: Start, ringback: Ringback, folder: Path) -> None:
    """A port in use, and a file that is no database: one line, exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = ringback("serve", "--workers", "2", "--port", str(taken.getsockname()[1]))
    assert (result.exit_code, result.stderr.count("error: cannot listen")) == (1, 1)
    (folder / "ringback.db").write_text("no database " * 100)
    parent = start("serve", "--port", "0", "--workers", "2")
    assert parent.popen.wait(10) == 1
    (line,) = parent.log().splitlines()
    assert line.startswith(f"error: {folder}/ringback.db: not a SQLite database")


def test_a_second_signal() -> None:
    """The same signal twice is one; once more, later, ends all of them at once."""
    parent = crew("place.tell_started()", "time.sleep(60)", grace=50)
    pids = serving(parent)
    parent.send_signal(signal.SIGINT)
    parent.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        parent.wait(ECHO_SECONDS + 0.1)
    parent.send_signal(signal.SIGTERM)
    assert ended(parent)[0] == 128 + signal.SIGTERM
    wait_for_the_end(pids)


def test_processes_that_do_not_stop() -> None:
    """They are killed after the grace time, and the exit code tells."""
    parent = crew("place.tell_started()", "time.sleep(60)", grace=0.3)
    pids = serving(parent)
    parent.send_signal(signal.SIGTERM)
    code, errors = ended(parent)
    assert code == 1
    assert errors.splitlines()[-1] == "error: 2 of its processes did not stop within 0.3 s and were killed"
    wait_for_the_end(pids)


def test_a_first_process_that_fails() -> None:
    """Its message is the only one, and its exit code the parent's."""
    parent = crew("from ringback.errors import SettingsError", "raise SettingsError('no good')")
    assert ended(parent) == (2, "error: no good\n")


def test_starts_that_all_fail() -> None:
    """Where none ever comes to serve, the parent gives up and says so."""
    parent = crew("os.kill(os.getpid(), signal.SIGKILL)")
    code, errors = ended(parent)
    assert code == 1
    assert errors.count("receiver.ended") == 5
    assert errors.splitlines()[-1] == "error: 5 starts in a row failed, and no process serves"


def test_processes_that_cannot_be_started() -> None:
    """Where the machine has no room for a process, that is tried again, and then given up."""
    parent = crew("pass", before="def fork(): raise BlockingIOError(11, 'no room')\nos.fork = fork")
    code, errors = ended(parent)
    assert code == 1
    assert errors.count('"ended":"not started: no room"') == 5
    assert errors.splitlines()[-1] == "error: 5 starts in a row failed, and no process serves"


def test_processes_that_die_again_and_again() -> None:
    """What lives for a moment only is not started for ever."""
    parent = crew("place.tell_started()", "os._exit(3)")
    code, errors = ended(parent)
    assert code == 1
    assert '"ended":"exit code 3"' in errors
    assert errors.splitlines()[-1] == "error: 21 of its processes ended within 60 s"


def test_a_process_that_fails_while_all_stop() -> None:
    """The exit code tells that something went wrong."""
    parent = crew("place.tell_started()", "os.read(place._lifeline, 1)", "sys.exit(5 * place.seat)")
    serving(parent)
    parent.send_signal(signal.SIGTERM)
    assert ended(parent)[0] == 1

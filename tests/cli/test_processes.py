"""The command as real processes: ports, signals, pipes, and what they leave behind."""

import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from ringback.cli.run import ECHO_SECONDS
from ringback.ledger import Ledger
from ringback.model import Task
from ringback.settings import Settings

from .conftest import COMMAND, SECRET, Process, Ringback, anywhere, within

pytestmark = pytest.mark.slow
Start = Callable[..., Process]


def test_up(start: Start, ringback: Ringback, folder: Path, handlers: None) -> None:  # noqa: ARG001
    """`up` makes database and secret, takes a callback, runs handlers, names a blocking one, and ends with 0."""
    process = start("up", "--port", "0")
    listening = process.line("receiver.listening")
    assert listening["database"] == str(folder / "ringback.db")
    assert process.line("receiver.addressed")["callback_url"].endswith("/callbacks/qingbo/task_….<mac>")
    secret_file = folder / "ringback.db.secret"
    assert process.line("secret.generated")["path"] == str(secret_file)
    assert secret_file.stat().st_mode & 0o777 == 0o600
    for status in ("completed", "cancelled"):
        result = ringback("trigger", "qingbo", "--status", status, "--url", listening["url"])
        assert (result.exit_code, '"received":true' in result.stdout, ".<mac>" in result.stdout) == (0, True, True)
    assert process.line("loop.blocked")["handler"] == "app.block"
    assert process.line("delivery.succeeded")["handler"] in ("app.publish", "app.block")
    resident = next(
        line for line in Path(f"/proc/{process.popen.pid}/status").read_text().splitlines() if "RSS" in line
    )
    assert int(resident.split()[1]) < 80 * 1024
    assert process.end(signal.SIGTERM) == 0
    assert secret_file.read_text().strip() not in process.log()
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {
        "app.py", "errors.log", "ringback.db", "ringback.db.lock", "ringback.db.secret",
    }  # fmt: skip


def test_a_second_signal(start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch, ringback: Ringback) -> None:
    """Ctrl-C waits for a running handler; the same signal twice is one; once more, later, ends at once."""
    code = "import time\nfrom receiver import Handlers\nhandlers = Handlers()\n"
    (folder / "app.py").write_text(
        code + "@handlers.on('*')\ndef hang(event):\n    print('begun', flush=True)\n    time.sleep(60)\n"
    )
    monkeypatch.setenv("RINGBACK_HANDLERS", "app:handlers")
    process = start("up", "--port", "0")
    assert ringback("trigger", "qingbo", "--url", process.line("receiver.listening")["url"]).exit_code == 0
    assert process.popen.stdout is not None
    assert process.popen.stdout.readline() == b"begun\n"
    process.popen.send_signal(signal.SIGINT)
    process.line("process.stopping")
    process.popen.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.popen.wait(ECHO_SECONDS)
    assert process.end(signal.SIGINT, 2) == 130
    assert "process.stopped_at_once" in process.log()


def test_timeout_stops_in_order(folder: Path) -> None:  # noqa: ARG001 -- works in it
    """`timeout` signals the process and then its group: that is one signal, and everything is closed."""
    command = ["timeout", "--preserve-status", "2", *COMMAND, "up", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=20, env=anywhere())
    assert (done.returncode, "process.stopped_at_once" in done.stderr) == (0, False)
    assert "poller.stopped" in done.stderr


def test_a_handler_that_never_ends(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch, ringback: Ringback
) -> None:
    """A stopping process leaves a hanging handler behind after the grace time, and still ends with 0."""
    code = "import time\nfrom receiver import Handlers\nhandlers = Handlers()\n"
    (folder / "app.py").write_text(
        code + "@handlers.on('*')\ndef hang(event):\n    print('begun', flush=True)\n    time.sleep(60)\n"
    )
    monkeypatch.setenv("RINGBACK_GRACE_SECONDS", "0.2")
    process = start("up", "--port", "0", "--handlers", "app:handlers")
    assert ringback("trigger", "qingbo", "--url", process.line("receiver.listening")["url"]).exit_code == 0
    assert process.popen.stdout is not None
    assert process.popen.stdout.readline() == b"begun\n"
    began = time.monotonic()
    assert process.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 3
    assert "process.left_handlers" in process.log()


def test_a_lifespan_that_fails(start: Start, folder: Path) -> None:
    """A part that fails ends the whole process in order, with one line and its traceback in the log."""
    code = "from contextlib import asynccontextmanager\nfrom receiver import Handlers\n@asynccontextmanager\n"
    code += "async def life(handlers):\n    raise ValueError('no pool today')\n    yield\n"
    code += "handlers = Handlers(lifespan=life)\n"
    (folder / "app.py").write_text(code)
    process = start("up", "--port", "0", "--handlers", "app:handlers")
    assert process.popen.wait(10) == 1
    assert "no pool today" in process.line("process.failed")["exception"]
    assert process.log().splitlines()[-1] == "error: ValueError: no pool today"
    assert process.line("poller.stopped")


def test_a_lost_secret(start: Start, folder: Path) -> None:
    """Where the secret of a ledger was lost, `up` names its fingerprint and makes no new one in its place."""
    process = start("up", "--port", "0")
    process.line("receiver.listening")
    assert process.end(signal.SIGTERM) == 0
    (folder / "ringback.db.secret").unlink()
    again = start("up", "--port", "0")
    assert again.popen.wait(10) == 1
    assert again.log().startswith("error: RINGBACK_SECRET lacks the newest secret")
    assert not (folder / "ringback.db.secret").exists()


@pytest.mark.usefixtures("secret")
def test_the_parts_by_themselves(start: Start, handlers: None) -> None:  # noqa: ARG001
    """`serve`, `work` and `poll` share one database, and each ends with 0 at SIGTERM."""
    server = start("serve", "--port", "0")
    url = server.line("receiver.listening")["url"]
    with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
        assert answer.status == 200
    assert server.end(signal.SIGTERM) == 0
    for role in ("work", "poll"):
        process = start(role)
        process.line({"work": "handlers.registered", "poll": "poller.started"}[role])
        assert process.end(signal.SIGTERM) == 0
    assert SECRET not in Path("errors.log").read_text()


def test_a_port_in_use(ringback: Ringback, folder: Path) -> None:
    """A port in use is one line with host and port; nothing is made before it is known."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = ringback("up", "--port", str(port))
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; stop what listens there" in result.stderr
    assert list(folder.iterdir()) == []
    refused = ringback("trigger", "qingbo", "--url", f"http://127.0.0.1:{port}")
    assert (refused.exit_code, "there is no secret" in refused.stderr) == (2, True)


@pytest.mark.usefixtures("secret")
def test_trigger_without_a_receiver(ringback: Ringback) -> None:
    """Where nothing listens, it says to start `ringback up`; a wrong URL and a wrong task are named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = ringback("trigger", "qingbo", "--url", f"http://127.0.0.1:{port}")
    assert (result.exit_code, "nothing listens at" in result.stderr, "ringback up" in result.stderr) == (1, True, True)
    assert "expected an http(s) URL" in ringback("trigger", "qingbo", "--url", "localhost").stderr

    async def foreign(ledger: Ledger, _: Settings) -> None:
        await ledger.add_task(Task(id="task_1", provider="reapi"))

    within(foreign)
    assert "is a task of reapi" in ringback("trigger", "qingbo", "--task", "task_1").stderr


def obey_permissions() -> None:
    """Make root obey file permissions, too: drop CAP_DAC_OVERRIDE, in the child before it becomes the command."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP


def test_a_database_that_cannot_be_written(folder: Path, ringback: Ringback) -> None:
    """A read-only database is one line that names it, and exit code 1."""
    assert ringback("migrate").exit_code == 0
    files = [path for path in folder.iterdir() if path.is_file()]
    for path in (*files, folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    up = [*COMMAND, "up", "--port", "0"]
    done = subprocess.run(up, capture_output=True, text=True, preexec_fn=obey_permissions, env=anywhere())
    folder.chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error: {folder}/ringback.db")
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("secret")
def test_ctrl_c_and_pipes(start: Start) -> None:
    """Ctrl-C ends a waiting command quietly with 130, and a closed pipe is no error."""

    async def many(ledger: Ledger, _: Settings) -> None:
        for number in range(50):
            await ledger.add_task(Task(id=f"task_{number}", provider="qingbo"))

    within(many)
    shell = subprocess.run(
        ["bash", "-c", f"{' '.join(COMMAND)} tasks list --json | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
    )
    assert (shell.stdout.split()[0], shell.stderr) == ("{", "")
    process = start("tick", "--time-limit", "60")
    assert process.popen.wait(20) == 0
    waiting = start("sandbox", "--port", "0")
    assert waiting.popen.stdout is not None
    assert b"Sandbox provider at" in waiting.popen.stdout.readline()
    assert waiting.end(signal.SIGINT) == 0


def test_ctrl_c_in_a_command_that_waits(start: Start, folder: Path) -> None:
    """Ctrl-C in a command that was to end by itself is 130, without a traceback."""
    code = "import time\nprint('loaded', flush=True)\ntime.sleep(60)\n"
    (folder / "slow.py").write_text(code)
    process = start("work", "--handlers", "slow:handlers")
    assert process.popen.stdout is not None
    assert process.popen.stdout.readline() == b"loaded\n"
    assert process.end(signal.SIGINT) == 130
    assert process.log() == ""

"""What a process that takes callbacks has imported: a cold start pays for all of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cold_start import CALL
from tests.acceptance.processes import Site
from tests.acceptance.pushes import body_of, path_of, post

# What is heavy, and serves other commands, other engines, or people.
ELSEWHERE = {
    *("rich", "pygments", "psycopg", "psycopg_pool", "cryptography", "obstore", "httpx", "httpcore"),
    *("prometheus_client", "submitter", "ringback.sandbox", "ringback.ledger.postgres"),
}
FOR_COMMANDS = {
    *("click", "uvicorn", "uvloop", "httptools", "multiprocessing"),
    *("ringback.cli", "receiver.handlers", "receiver.worker"),
}

ADAPTER = f"""{CALL}
import json
print(json.dumps(sorted(sys.modules)))
"""
COMMAND = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules))))
from ringback.cli import main
main()
"""
DRAWS = """
import ringback.lean, io, sys, structlog
assert not any(name.partition(".")[0] == "rich" for name in sys.modules)
try:
    1 / 0
except ZeroDivisionError:
    text = io.StringIO()
    structlog.dev.rich_traceback(text, sys.exc_info())
    frames = structlog.tracebacks.extract(*sys.exc_info(), show_locals=True)
assert "╭" in text.getvalue() and "ZeroDivisionError" in text.getvalue()
assert frames.stacks[-1].frames[-1].locals["text"]
import rich.table
"""


def imported(names: list[str], those: set[str]) -> set[str]:
    """Give those of these modules that were imported, whole or in part."""
    return {each for each in those if any(name == each or name.startswith(f"{each}.") for name in names)}


def run(site: Site, code: str, *arguments: str) -> str:
    """Run a program in the site's folder and environment; gives what it printed."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=site.folder, env=site.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Give an empty site without processes."""
    return Site(tmp_path)


def test_a_function_adapter_imports_neither_a_server_nor_what_serves_other_ends(site: Site) -> None:
    """`receiver.asgi:app` stores a callback without uvicorn, click, rich, a driver that is not used, or a client."""
    output = run(site, ADAPTER, path_of("task_a"), body_of("p-a").decode())
    assert output.startswith("ready")  # else it was not answered with 200
    assert imported(json.loads(output.splitlines()[-1]), ELSEWHERE | FOR_COMMANDS) == set()


def test_serve_imports_only_what_takes_callbacks(site: Site) -> None:
    """`ringback serve` has stored a callback, and has loaded nothing of the other commands."""
    environ = site.environ
    command = [sys.executable, "-c", COMMAND, "serve"]
    with subprocess.Popen(
        command, cwd=site.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            while "receiver.listening" not in (line := process.stderr.readline()):
                assert line, "serve ended"
            assert post(site.port, "task_a", body_of("p-a")).status == 200
        finally:
            process.terminate()
        output, _ = process.communicate(timeout=30)
    assert imported(json.loads(output.splitlines()[-1]), ELSEWHERE) == set()


def test_structlog_draws_with_rich_for_whoever_asks_for_it(site: Site) -> None:
    """Rich is not loaded with structlog, and is there all the same when a user's own code wants its tracebacks."""
    run(site, DRAWS)

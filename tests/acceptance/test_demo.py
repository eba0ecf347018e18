"""`ringback demo`, which is what `make demo` runs."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.acceptance.processes import COMMAND, Site

pytestmark = pytest.mark.slow


def in_session(session: int) -> list[str]:
    """List the processes of a session, by what follows their names in /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, theirs, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(theirs) == session and state != "Z":
            found.append(path.parent.name)
    return found


def test_the_demo(site: Site, tmp_path: Path) -> None:
    """It adds up, in under a minute, and leaves no process and no file, here or in the temporary folder."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environ = {name: value for name, value in site.environ.items() if not name.startswith("RINGBACK_")}
    environ |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    began = time.monotonic()
    with subprocess.Popen(
        [*COMMAND, "demo"],
        cwd=site.folder,
        env=environ | {"TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as demo:
        try:
            output = demo.communicate(timeout=60)[0].decode()
        finally:
            demo.kill()
    assert demo.returncode == 0, output
    assert time.monotonic() - began < 60
    assert "Every number adds up." in output
    assert "✗" not in output
    assert output.count("qingbo ") + output.count("reapi ") >= 18  # every act of the plan is in the table
    assert in_session(demo.pid) == []
    assert [*temporary.iterdir(), *site.folder.iterdir()] == []

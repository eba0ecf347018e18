"""Results kept by real processes: from the sandbox's media server into a folder, and over a `kill -9` in the middle."""

import hashlib
import json
import urllib.request

import pytest

from tests.acceptance.processes import Site, wait_until
from tests.acceptance.pushes import body_of, post
from tests.results.films import films

pytestmark = pytest.mark.slow

TASKS = 12
MIB = 1 << 20
HANDLERS = """
import os
from receiver import Handlers

handlers = Handlers()
file = os.open("published", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@handlers.on("task.completed", stored=True, name="publish")
async def publish(event):
    os.write(file, f"{event.task.id} {event.results[0].stored_url} {event.attempt}\\n".encode())
"""


def test_the_sandboxes_films_are_kept(site: Site) -> None:
    """Every completed task's own film is in the folder, whole, before the handler that waits for it runs."""
    site.handlers(HANDLERS)
    site.sandbox("--delay", "0.01..0.2")
    kept = site.folder / "kept"
    site.set(results_url=f"file://{kept}", allow_private="127.0.0.1")
    site.up()
    for number in range(TASKS):
        site.json("submit", "qingbo", "--prompt", f"film {number}")
    wait_until("all are published", lambda: len(site.lines("published")) == TASKS)
    rows = site.json("results", "list")["results"]
    assert len(rows) == TASKS
    published = {line.split()[0]: line.split()[1:] for line in site.lines("published")}
    for row in rows:
        film = kept / row["task_id"] / "0.mp4"
        assert published[row["task_id"]] == [f"file://{film}", "1"]
        with urllib.request.urlopen(row["url"], timeout=10) as answer:
            expected = answer.read()
        assert film.read_bytes() == expected
        assert (row["sha256"], row["size"]) == (hashlib.sha256(expected).hexdigest(), len(expected))
    assert site.json("results", "verify") == {"verified": TASKS, "problems": []}
    counts = site.json("status")["results"]
    assert (counts["stored"], counts["waiting"], counts["expiring"], counts["lost"]) == (TASKS, 0, [], 0)
    assert list((kept / ".parts").iterdir()) == []


def test_kill_9_in_the_middle_of_a_download(site: Site) -> None:
    """Another worker goes on by range with what the dead one left, and stores it whole."""
    kept = site.folder / "kept"
    site.set(results_url=f"file://{kept}", allow_private="127.0.0.1", heartbeat_seconds=0.2)
    site.serve()
    with films(8 * MIB, stalls_at=5 * MIB) as film:
        result = {"result": {"videos": [{"url": [film.url]}]}}
        body = json.dumps(json.loads(body_of("p-1")) | result).encode()
        post(site.port, "task_film", body)
        worker = site.work()
        part = kept / ".parts" / "task_film.0.part"
        wait_until("the middle", lambda: part.exists() and part.stat().st_size >= 4 * MIB)
        worker.kill()
        site.work().wait_for("result.stored")
        assert film.ranges[0] is None
        assert int((film.ranges[-1] or "").removeprefix("bytes=").removesuffix("-")) >= 4 * MIB
        digest = hashlib.sha256(b"".join(_all(film.size)))
    assert hashlib.sha256((kept / "task_film" / "0.mp4").read_bytes()).hexdigest() == digest.hexdigest()
    assert site.json("results", "verify", "--task", "task_film") == {"verified": 1, "problems": []}


def _all(size: int) -> list[bytes]:
    """Give the film as it should be."""
    with films(size) as film:
        return list(film.content())

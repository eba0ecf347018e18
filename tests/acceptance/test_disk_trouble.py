"""The database in trouble under a running receiver: a full disk, a lock that somebody keeps, a read-only disk."""

import contextlib
import fcntl
import os
import resource
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance import noting
from tests.acceptance.processes import Process, Site, wait_until
from tests.acceptance.pushes import Answer, begin, body_of, get, path_of, post, read_answer

pytestmark = pytest.mark.slow

DISK_BYTES = 2 << 20
BALLAST_BYTES = 700_000
BODY_PADDING = "x" * 4_000
HEALING_SECONDS = 10.0
COMMIT_SECONDS = 3.0  # RINGBACK_COMMIT_TIMEOUT_SECONDS, and a little


@dataclass(frozen=True, slots=True)
class Disk:
    """A little disk: where it is, and how it becomes full and has room again under a running process."""

    folder: Path
    squeeze: Callable[[Process], None]
    make_room: Callable[[Process], None]


@contextlib.contextmanager
def tiny_tmpfs(folder: Path) -> Iterator[Disk]:
    """Give a real disk of 2 MiB, with a ballast that can be thrown off."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder))
    try:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(BALLAST_BYTES))
        yield Disk(folder, lambda _: None, lambda _: ballast.unlink())
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def limited_files(folder: Path) -> Iterator[Disk]:
    """Give a folder, and let the process write no file beyond 1 MiB: the same, as near as it comes without root."""
    folder.mkdir()

    def limit(process: Process, size: int) -> None:
        resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (size, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield Disk(folder, lambda process: limit(process, 1 << 20), lambda process: limit(process, soft))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _may_mount() -> bool:
    if os.geteuid() != 0:
        return False
    try:
        probe = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    except FileNotFoundError:
        return False
    return probe.returncode == 0


MAY_MOUNT = _may_mount()
DISKS = [tiny_tmpfs, limited_files] if MAY_MOUNT else [limited_files]


def push(site: Site, number: int) -> Answer:
    """Push a fact with a large body, the n-th."""
    return post(site.port, f"task_disk{number}", body_of(f"p-{number}", padding=BODY_PADDING))


@pytest.mark.parametrize("make", DISKS, ids=lambda make: make.__name__)
def test_a_full_disk(tmp_path: Path, make: Callable[[Path], contextlib.AbstractContextManager[Disk]]) -> None:
    """A full disk gives 503 with Retry-After and turns readiness red; nothing acknowledged is lost; room heals all."""
    with make(tmp_path / "disk") as disk, Site(tmp_path, database=disk.folder / "ringback.db") as site:
        site.handlers(noting.EVENTS)
        receiver = site.up()
        assert get(site.port, "/readyz").status == 200
        disk.squeeze(receiver)
        answers = fill(site)
        assert len(answers) > 5
        # A checkpoint may find room for some more within the files; each answer must be true all the same.
        later = [push(site, 1000 + n) for n in range(3)]
        assert {(answer.status, answer.retry_after) for answer in later} <= {(200, None), (503, "5")}
        answers += [answer for answer in later if answer.status == 200]
        answers += fill(site, 2000)
        ready = get(site.port, "/readyz")
        assert (ready.status, ready.body["ready"]) == (503, False)
        assert get(site.port, "/healthz").status == 200
        disk.make_room(receiver)
        answers += [wait_until("healed", lambda: accepted(push(site, 4000)), HEALING_SECONDS)]
        assert get(site.port, "/readyz").status == 200
        stored = {event["id"] for event in site.events()}
        assert stored >= {answer.event for answer in answers}
        wait_until("all handled", lambda: set(site.lines("handled")) == stored, HEALING_SECONDS)
        assert receiver.stop() == 0
        assert not [line for line in receiver.log.splitlines() if "Traceback" in line]
        assert len(receiver.log.splitlines()) < 50 + 2 * len(answers)  # trouble is told, but not at every request
        with contextlib.closing(sqlite3.connect(site.database)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def fill(site: Site, first: int = 0) -> list[Answer]:
    """Push until the disk is full, and is said to be; gives what was acknowledged."""
    answers: list[Answer] = []
    while (answer := push(site, first + len(answers))).status == 200:
        answers.append(answer)
        assert len(answers) < 1000
    assert (answer.status, answer.retry_after) == (503, "5")
    return answers


def accepted(answer: Answer) -> Answer | None:
    """Give an answer if it is a 200."""
    return answer if answer.status == 200 else None


def test_another_process_keeps_the_lock(site: Site) -> None:
    """While somebody holds the write lock a callback gets 503 within 3.5 s, and none hangs; afterwards all is well."""
    receiver = site.serve()
    first = push(site, 0)
    with open(f"{site.database}.lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        began = time.monotonic()
        refused = push(site, 1)
        assert (refused.status, refused.retry_after) == (503, "5")
        assert 1.5 < time.monotonic() - began < 3.5
        assert get(site.port, "/readyz").status == 503
        waiting = [begin(site.port, path_of(f"task_disk{n}"), body_of(f"p-{n}")) for n in range(2, 20)]
        time.sleep(max(0.0, 4 - (time.monotonic() - began)))
    assert {read_answer(connection).status for connection in waiting} <= {200, 503}
    assert time.monotonic() - began < 4 + COMMIT_SECONDS
    again = push(site, 1)
    assert (again.status, again.duplicate, get(site.port, "/readyz").status) == (200, False, 200)
    assert {first.event, again.event} <= {event["id"] for event in site.events()}
    assert receiver.stop() == 0


# Root that may not mount can write everywhere: there is no read-only disk to be had on such a machine.
if MAY_MOUNT or os.geteuid() != 0:

    def test_a_disk_that_became_read_only(tmp_path: Path) -> None:
        """On a read-only disk every command says so in one line; when it can be written again, nothing is lost."""
        make = tiny_tmpfs if MAY_MOUNT else limited_files
        with make(tmp_path / "disk") as disk, Site(tmp_path, database=disk.folder / "ringback.db") as site:
            receiver = site.serve()
            answer = push(site, 1)
            assert receiver.stop() == 0
            set_writable(disk.folder, False)
            for command in (["serve"], ["up"], ["events", "list"]):
                refused = site.run(*command)
                assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
                assert str(site.database) in refused.stderr
            set_writable(disk.folder, True)
            site.serve()
            again = push(site, 1)
            assert (again.event, again.duplicate) == (answer.event, True)


def set_writable(folder: Path, writable: bool) -> None:
    """Let a disk be written, or not; without the right to remount it, its folder and files."""
    if MAY_MOUNT:
        _mount("-o", "remount,rw" if writable else "remount,ro", str(folder))
        return
    for path in (folder, *folder.iterdir()):
        path.chmod((0o755 if path.is_dir() else 0o644) & (0o777 if writable else 0o555))

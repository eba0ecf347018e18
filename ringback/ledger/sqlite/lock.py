"""The exclusive lock on `<db>.lock` under which every write transaction and every checkpoint runs.

SQLite's own busy handler starves writers: three busy ones did 11,232 / 12,833 / 1 batches in 4 s, with this lock
6,344 / 6,225 / 5,753. And SQLite before 3.51.3 can corrupt a WAL that one process resets while another checkpoints.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from ringback.errors import LedgerUnavailable

WAIT_SECONDS = 2.0


class FileLock:
    """A lock between processes, and between the threads of one, taken for one transaction at a time.

    The waiting is done by the kernel, in a thread that is made when somebody else holds the lock: polling for it would
    lose against two busy neighbours. A wait that ran out leaves its thread behind: the next one takes it over, and if
    none comes it lets go of the lock at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # flock belongs to the open file: without this, a second thread would get it too, and then unlock it for both.
        self._threads = threading.Lock()
        self._waiter: _Waiter | None = None

    @classmethod
    def beside(cls, database: Path) -> Self:
        """Give the lock of a database file.

        Raises:
            LedgerUnavailable: its file cannot be opened.
        """
        try:
            return cls(database.with_name(database.name + ".lock"))
        except OSError as error:
            reason = f"{database}.lock: cannot be opened ({error.strerror}); check the folder"
            raise LedgerUnavailable(reason) from error

    @contextmanager
    def held(self, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
        """Hold the lock for a block.

        Raises:
            LedgerUnavailable: somebody else kept it for longer than `wait_seconds`.
        """
        if not self._threads.acquire(timeout=wait_seconds):
            raise LedgerUnavailable(f"{self._path}: this process itself has held the write lock for {wait_seconds:g} s")
        try:
            if not self._try():
                self._wait(wait_seconds)
            try:
                yield
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise LedgerUnavailable(f"{self._path}: cannot be locked ({error.strerror})") from error
        return True

    def _wait(self, wait_seconds: float) -> None:
        # The waiter has a handle of its own, which already holds the lock when we get it: it becomes ours.
        # One that is still queued from an earlier wait is used again: a long hold must not pile up threads.
        if self._waiter is None or not self._waiter.wanted_again():
            self._waiter = _Waiter(self._path)
        handle = self._waiter.result(wait_seconds)
        if handle is None:
            raise LedgerUnavailable(f"{self._path}: another process has held the write lock for {wait_seconds:g} s")
        self._waiter = None
        os.close(self._handle)
        self._handle = handle


class _Waiter:
    """A thread that blocks until it gets the lock, and then hands it over, or lets go if nobody wants it any more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._arrived = threading.Event()
        self._abandoned = False
        self._handle: int | None = None
        threading.Thread(target=self._run, daemon=True, name="ringback-lock").start()

    def wanted_again(self) -> bool:
        """Take over a wait that ran out; False where it has ended meanwhile."""
        with self._mutex:
            self._abandoned = False
            return not self._arrived.is_set()

    def result(self, wait_seconds: float) -> int | None:
        """Give the handle that holds the lock; None when the time ran out."""
        self._arrived.wait(wait_seconds)
        with self._mutex:
            self._abandoned = self._handle is None
            return self._handle

    def _run(self) -> None:
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # the file is gone, or too many are open: whoever waits is told that there is no lock
            self._arrived.set()
            return
        fcntl.flock(handle, fcntl.LOCK_EX)
        with self._mutex:
            if self._abandoned:
                os.close(handle)
            else:
                self._handle = handle
            self._arrived.set()

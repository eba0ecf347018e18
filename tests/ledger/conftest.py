"""The engines that the conformance suite runs on. A ledger here is always a real one."""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ringback.ledger import Ledger, courier, open_ledger
from ringback.settings import Settings

from .offices import SECRET, Office, is_there
from .server import fresh_database

ENGINES = ("sqlite", "postgres")
APART = [pytest.param(f"{name}-apart", marks=pytest.mark.slow) for name in ENGINES]
INTAKE = ("test_record", "test_hints")  # what else there is goes past the scribe
READY_SECONDS = 60.0


@dataclass
class Engine:
    """One fresh database. Each `open` gives a further ledger object on it, as another process would have."""

    settings: Settings
    apart: bool = False  # whether arrivals are stored by a scribe, which is ready
    opened: list[Ledger] = field(default_factory=list)
    drop: Callable[[], None] = lambda: None  # takes the database away

    async def open(self) -> Ledger:
        """Open the database once more."""
        self.opened.append(await open_ledger(self.settings, create=not self.opened, apart=self.apart))
        courier = getattr(self.opened[-1], "_courier", None)
        async with asyncio.timeout(READY_SECONDS):
            while courier is not None and courier._line is None:  # noqa: ASYNC110 -- it tells nobody
                await asyncio.sleep(0.005)
        return self.opened[-1]

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """Read something beside the ledger, in words that every engine understands."""
        if self.settings.embedded:
            with closing(sqlite3.connect(self.settings.database_path)) as file:
                return file.execute(text).fetchall()
        with psycopg.connect(self.settings.database_url) as db:
            return db.execute(text.encode()).fetchall()

    def another(self) -> "Engine":
        """Give a further fresh database of the same engine; who asked for it drops it."""
        if self.settings.embedded:
            folder = Path(tempfile.mkdtemp(dir=self.settings.database_path.parent))
            return Engine(Settings(database_url=f"sqlite:///{folder}/ledger.db"))
        stack = ExitStack()
        url = stack.enter_context(fresh_database())
        return Engine(Settings(database_url=url), drop=stack.close)


@contextmanager
def fresh_url(name: str, folder: Path) -> Iterator[str]:
    """Give the URL of a fresh database of an engine."""
    if name == "sqlite":
        yield f"sqlite:///{folder}/ledger.db"
        return
    with fresh_database() as url:
        yield url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test on each engine in turn, and those of intake through a scribe, too."""
    chosen = any("engine" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "engine" in metafunc.fixturenames and not chosen and not hasattr(metafunc.module, "engine"):
        module = metafunc.module.__name__.rpartition(".")[2]
        metafunc.parametrize("engine", [*ENGINES, *(APART if module in INTAKE else ())], indirect=True)


@pytest.fixture
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """One engine: by its name, or `<name>-apart`, where arrivals go through a scribe."""
    name, _, apart = request.param.partition("-")
    with fresh_url(name, tmp_path) as url:
        made = Engine(Settings(database_url=url), apart=bool(apart))
        yield made
        for ledger in made.opened:
            await ledger.close()


@pytest.fixture
def url() -> Iterator[str]:
    """A PostgreSQL database with empty tables."""
    with fresh_database() as found:
        yield found


@pytest.fixture
async def ledger(engine: Engine) -> Ledger:
    """An empty ledger."""
    return await engine.open()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A fresh file; pauses of a length that tests can wait for."""
    monkeypatch.setattr(courier, "PAUSES", (0.01, 0.02))
    return Settings(database_url=f"sqlite:///{tmp_path}/ledger.db", secret=(SECRET,), log_level="debug")


@pytest.fixture
async def office(settings: Settings) -> AsyncIterator[Office]:
    """A ledger whose scribe is ready."""
    made = Office(await open_ledger(settings, create=True, apart=True))
    await made.ready()
    yield made
    pid = made.pid
    await made.ledger.close()
    assert not is_there(pid)

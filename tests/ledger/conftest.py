"""The engines that the conformance suite runs on. A ledger here is always a real one."""

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ringback.ledger import Ledger, open_ledger
from ringback.settings import Settings

from .server import fresh_database


@dataclass
class Engine:
    """One fresh database. Each `open` gives a further ledger object on it, as another process would have."""

    settings: Settings
    opened: list[Ledger] = field(default_factory=list)
    drop: Callable[[], None] = lambda: None  # takes the database away

    async def open(self) -> Ledger:
        """Open the database once more."""
        self.opened.append(await open_ledger(self.settings, create=not self.opened))
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


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """Each engine in turn."""
    with fresh_url(request.param, tmp_path) as url:
        made = Engine(Settings(database_url=url))
        yield made
        for ledger in made.opened:
            await ledger.close()


@pytest.fixture
async def ledger(engine: Engine) -> Ledger:
    """An empty ledger."""
    return await engine.open()

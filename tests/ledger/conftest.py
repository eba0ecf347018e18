"""The engines that the conformance suite runs on. A ledger here is always a real one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ringback.ledger import Ledger, open_ledger
from ringback.settings import Settings


@dataclass
class Engine:
    """One fresh database. Each `open` gives a further ledger object on it, as another process would have."""

    settings: Settings
    opened: list[Ledger] = field(default_factory=list)

    async def open(self) -> Ledger:
        """Open the database once more."""
        self.opened.append(await open_ledger(self.settings, create=not self.opened))
        return self.opened[-1]


@pytest.fixture(params=["sqlite"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """Each engine in turn."""
    urls = {"sqlite": f"sqlite:///{tmp_path}/ledger.db"}
    made = Engine(Settings(database_url=urls[request.param]))
    yield made
    for ledger in made.opened:
        await ledger.close()


@pytest.fixture
async def ledger(engine: Engine) -> Ledger:
    """An empty ledger."""
    return await engine.open()

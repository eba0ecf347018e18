"""A real ledger in a temporary folder.

This folder is no package: it would be called `receiver`, like the package under test.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ringback.ledger import Ledger, open_ledger
from ringback.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a file of its own, few slots and short times."""
    return Settings(
        database_url=f"sqlite:///{tmp_path}/ledger.db", concurrency=4, grace_seconds=0.2, handler_timeout_seconds=5.0
    )


@pytest.fixture
async def ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """An empty ledger."""
    opened = await open_ledger(settings, create=True)
    yield opened
    await opened.close()

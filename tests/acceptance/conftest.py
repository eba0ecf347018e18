"""A site for each test, whose processes end with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Give an empty site."""
    with Site(tmp_path) as site:
        yield site

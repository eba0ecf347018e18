"""The demo, run in this process so that its own code is measured; tests/acceptance runs the command."""

import pytest

from .conftest import Ringback


@pytest.mark.slow
def test_demo_adds_up(ringback: Ringback) -> None:
    """Every number of the summary agrees with its witness, and every act of the plan is in the table."""
    result = ringback("demo")
    assert result.exit_code == 0, result.stdout
    assert "Every number adds up." in result.stdout
    assert "✗" not in result.stdout
    assert result.stdout.count("qingbo ") + result.stdout.count("reapi ") >= 18

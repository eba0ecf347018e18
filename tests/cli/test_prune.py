"""`ringback prune`: what it says, what it asks, and what it takes away."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ringback.intake import Intake
from ringback.ledger import Ledger, Query
from ringback.model import Callback, Trust
from ringback.providers import CATALOGUE
from ringback.settings import Settings
from tests.ledger.builders import fan_out

from .conftest import Ringback, within

NOW = datetime.now(UTC)


async def fill(ledger: Ledger, settings: Settings) -> None:
    """Let three tasks complete or fail 10, 40 and 100 days ago, and one still wait; no handler is known."""
    intake = Intake(ledger, settings)
    for name, status, days in (
        ("ten", "failed", 10),
        ("forty", "completed", 40),
        ("hundred", "completed", 100),
        ("open", "processing", 200),
    ):
        result = {"videos": [{"url": "https://cdn.example/v.mp4"}]} if status == "completed" else None
        body = msgspec.json.encode({"task_id": f"task-{name}", "status": status, "result": result})
        callback = Callback(body=body, received_at=NOW - timedelta(days=days))
        await intake.pushed(CATALOGUE["qingbo"], f"task_{name}", Trust.TOKEN, callback)
    while await fan_out(ledger, NOW, 100):
        pass


@pytest.fixture
def story() -> None:
    """Have such a ledger in this folder."""
    within(fill)


async def ids(ledger: Ledger, _: Settings) -> list[str]:
    """List the tasks."""
    return [task.id for task in await ledger.tasks(Query())]


def counts(ringback: Ringback, *options: str) -> dict[str, Any]:
    """Prune, and give what is counted and is not zero."""
    done: dict[str, Any] = msgspec.json.decode(ringback("prune", *options, "--json").stdout)
    return {name: count for name, count in done.items() if count}


@pytest.mark.usefixtures("story")
def test_prune_takes_the_options(ringback: Ringback) -> None:
    """Bodies, rest and keys go by their ages; again there is nothing left to do, and the open task stays."""
    options = ("--older-than", "30d", "--bodies-older-than", "7d")
    expected = {"bodies": 1, "emptied": 1, "removed": 1}
    assert counts(ringback, *options, "--dry-run") == expected | {"dry_run": True}
    assert within(ids) == ["task_open", "task_hundred", "task_forty", "task_ten"]
    assert counts(ringback, *options, "--yes") == expected
    assert within(ids) == ["task_open", "task_forty", "task_ten"]
    assert "nothing to take away" in ringback("prune", *options).stdout


@pytest.mark.usefixtures("story")
def test_prune_takes_the_settings(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options the settings count; where those keep everything, it says what to give."""
    refused = ringback("prune")
    assert (refused.exit_code, "everything is kept for ever" in refused.stderr) == (2, True)
    monkeypatch.setenv("RINGBACK_RETENTION_DAYS", "60")
    monkeypatch.setenv("RINGBACK_BODY_DAYS", "20")
    monkeypatch.setenv("RINGBACK_DEDUP_DAYS", "300")
    assert counts(ringback, "--dry-run") == {"bodies": 1, "emptied": 1, "dry_run": True}
    assert counts(ringback, "--bodies-older-than", "1h", "--dry-run") == {"bodies": 2, "emptied": 1, "dry_run": True}
    assert counts(ringback, "--older-than", "1h", "--state", "failed", "--yes") == {"emptied": 1}


@pytest.mark.usefixtures("story")
def test_prune_asks(ringback: Ringback) -> None:
    """It says what would go and asks; a no changes nothing, and --json, which cannot ask, needs --yes."""
    no = ringback("prune", "--older-than", "30d", stdin="n\n")
    assert no.exit_code == 1
    assert "This would be taken away:\n       1 emptied; their keys stay" in no.stdout
    assert len(within(ids)) == 4
    yes = ringback("prune", "--older-than", "30d", stdin="y\n")
    assert (yes.exit_code, "1 removed" in yes.stdout.partition("for good?")[2]) == (0, True)
    assert len(within(ids)) == 3
    unsaid = ringback("prune", "--older-than", "30d", "--json")
    assert (unsaid.exit_code, "add --yes" in unsaid.stderr) == (2, True)
    wrong = ringback("prune", "--older-than", "soon")
    assert (wrong.exit_code, "expected a length of time" in wrong.stderr) == (2, True)

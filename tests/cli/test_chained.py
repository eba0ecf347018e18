"""What the command shows of steps and follow-up tasks, and what it hands to handlers."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringback.intake import Intake
from ringback.ledger import Ledger
from ringback.model import Callback, Task, TaskState, Trust
from ringback.providers import CATALOGUE
from ringback.settings import Settings

from .conftest import Ringback, within

pytestmark = pytest.mark.usefixtures("secret", "handlers")
HANDLERS = """
from receiver import Handlers

handlers = Handlers()

@handlers.on("task.completed", name="chain")
async def chain(event):
    async with event.once("note"):
        pass
    await event.submit(name="upscale", provider="qingbo", prompt="bigger")
"""


async def completed(ledger: Ledger, settings: Settings) -> None:
    """Have a task complete, to which a handler will react."""
    now = datetime.now(UTC)
    await ledger.add_task(Task(id="task_one", provider="qingbo", created_at=now))
    callback = Callback(body=b'{"task_id": "task-wave1", "status": "completed"}', received_at=now)
    await Intake(ledger, settings).pushed(CATALOGUE["qingbo"], "task_one", Trust.TOKEN, callback)


async def followed(ledger: Ledger, _settings: Settings) -> None:
    """Have a follow-up task, as a handler submits it."""
    now = datetime.now(UTC)
    await ledger.add_task(Task(id="task_two", provider="reapi", parent_id="task_one", created_at=now))


@pytest.fixture
def worked(folder: Path, ringback: Ringback, handlers: None) -> None:  # noqa: ARG001 -- it comes first
    """Let a worker run the handler once, without an API key."""
    (folder / "app.py").write_text(HANDLERS)
    within(completed)
    result = ringback("work", "--once", "--json")
    assert (result.exit_code, result.stdout) == (0, '{\n  "attempts": 1\n}\n'), result.output


def shown(ringback: Ringback, *arguments: str) -> Any:
    """Give what is printed as JSON."""
    return msgspec.json.decode(ringback(*arguments, "--json").stdout)


@pytest.mark.usefixtures("worked")
def test_a_done_step_is_shown(ringback: Ringback) -> None:
    """The delivery lists it, and the task's timeline says when; the failed attempt behind it takes nothing back."""
    (delivery,) = shown(ringback, "deliveries", "list")["deliveries"]
    assert [(step["name"], step["attempt"]) for step in delivery["steps"]] == [("note", delivery["attempts"][0]["id"])]
    text = ringback("deliveries", "show", delivery["id"]).stdout
    assert "step done" in text
    assert f"note, {datetime.now(UTC):%Y-}" in text
    timeline = shown(ringback, "tasks", "show", "task_one")["timeline"]
    assert [step["note"] for step in timeline if step["what"] == "step"] == ["note, by chain (task.completed)"]


@pytest.mark.usefixtures("worked")
def test_a_follow_up_task_without_an_api_key(ringback: Ringback) -> None:
    """The handler is told which setting is missing, and nothing is stored."""
    (delivery,) = shown(ringback, "deliveries", "list")["deliveries"]
    assert delivery["reason"].startswith("SettingsError: ")
    assert "RINGBACK_QINGBO_API_KEY" in delivery["reason"]
    assert [task["id"] for task in shown(ringback, "tasks", "list")["tasks"]] == ["task_one"]


def test_parent_and_child_are_shown(ringback: Ringback) -> None:
    """Each task names the other, in words, in the timeline and as JSON."""
    within(completed)
    within(followed)
    parent = ringback("tasks", "show", "task_one").stdout
    assert "task_two (reapi, pending)" in parent
    assert "task_two at reapi, pending" in parent
    assert "task_one" in ringback("tasks", "show", "task_two").stdout
    (child,) = shown(ringback, "tasks", "show", "task_one")["children"]
    assert (child["id"], child["parent_id"], child["state"]) == ("task_two", "task_one", TaskState.PENDING)
    assert shown(ringback, "tasks", "show", "task_two")["task"]["parent_id"] == "task_one"

"""Asking a provider again for fresh URLs of a task that has completed: it reads, and changes nothing."""

from pathlib import Path
from typing import Any

import pytest

from ringback.errors import SettingsError, Unreachable, Unreadable, Unsupported
from ringback.model import Task
from ringback.outbound import Outbound
from ringback.settings import Settings
from submitter.refreshing import fresh_results

from .submitter_rig import KEYS, START, Rig, Wire, answer, completed, refusal

TASK = Task(id="task_1", provider="qingbo", provider_id="task-wave1")
DONE: dict[str, Any] = {"task_id": "task-wave1", "status": "completed"}
URL = "https://cdn.example/v.mp4?sig=2"


def done(**more: Any) -> Any:
    """Answer that the task is done, with a fresh URL."""
    return answer(200, DONE | {"result": {"videos": [{"url": [URL]}]}} | more)


async def test_fresh_urls_are_given(tmp_path: Path) -> None:
    """By one request, under the provider's key; the ledger is not touched."""
    async with Rig(tmp_path, done()) as rig, Outbound(rig.settings, transport=rig.wire) as outbound:
        seen = await rig.ledger.changed(0, 0)
        (result,) = await fresh_results(rig.settings, outbound, TASK, START)
        assert (result.kind, result.url) == ("video", URL)
        (request,) = rig.wire.requests
        assert request.url.path == "/v1/tasks/task-wave1"
        assert request.headers["authorization"] == f"Bearer {KEYS['qingbo']}"
        assert await rig.ledger.changed(seen, 0) == seen


@pytest.mark.parametrize(
    ("answered", "raised"),
    [
        (refusal(404), Unreadable),
        (refusal(410), Unreadable),
        (refusal(429), Unreachable),
        (refusal(401), Unreachable),
        (refusal(502), Unreachable),
        (done(status="failed"), Unreadable),
        (done(status="processing"), Unreadable),
        (done(task_id="task-other"), Unreadable),
        (answer(200, "rubbish"), Unreadable),
    ],
)
async def test_what_gives_no_results_says_so(tmp_path: Path, answered: Any, raised: type[Exception]) -> None:
    """What may be otherwise later is told apart from what will not."""
    async with Rig(tmp_path, answered) as rig, Outbound(rig.settings, transport=rig.wire) as outbound:
        with pytest.raises(raised):
            await fresh_results(rig.settings, outbound, TASK, START)
        assert len(rig.wire.requests) == 1


@pytest.mark.parametrize(
    "task",
    [
        Task(id="task_1", provider="qingbo"),
        Task(id="task_1", provider="nobody", provider_id="x"),
        Task(id="task_1", provider="github", provider_id="x"),
    ],
)
async def test_what_cannot_be_asked_about(task: Task) -> None:
    """No provider, no id of theirs, or no such request: nothing is sent."""
    wire = Wire(done())
    async with Outbound(Settings(), transport=wire) as outbound:
        with pytest.raises(Unsupported):
            await fresh_results(Settings(), outbound, task, START)
        with pytest.raises(SettingsError, match="RINGBACK_QINGBO_API_KEY"):
            await fresh_results(Settings(), outbound, TASK, START)
    assert wire.requests == []


async def test_an_answer_in_parts_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that always has one more question is left alone after three."""
    async with Rig(tmp_path, completed("qingbo")) as rig, Outbound(rig.settings, transport=rig.wire) as outbound:
        provider = rig.settings.catalogue["qingbo"]
        monkeypatch.setattr(type(provider), "read_task", lambda self, _answer, task, _now: self.build_fetch(task))
        with pytest.raises(Unreadable, match="no whole answer in 3 parts"):
            await fresh_results(rig.settings, outbound, TASK, START)
        assert len(rig.wire.requests) == 3

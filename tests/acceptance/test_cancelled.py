"""A task that is cancelled by the command, in real processes, while its provider says more than one thing about it."""

import pytest

from tests.acceptance.processes import Site, wait_until
from tests.acceptance.pushes import body_of, get, post

pytestmark = pytest.mark.slow

HANDLERS = """
import os
from receiver import Handlers

handlers = Handlers()
file = os.open("handled", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@handlers.on("task.*")
async def note(event):
    os.write(file, f"{event.task.id} {event.status}\\n".encode())
"""


def test_a_cancelled_task_whose_push_says_completed(site: Site) -> None:
    """Both words are kept, the provider's books have the refund, and the handler runs once, for the first."""
    site.handlers(HANDLERS)
    sandbox = int(site.sandbox("--delay", "30..30").rpartition(":")[2])
    site.up()
    task = site.json("submit", "qingbo", "--prompt", "x", "--key", "mine")["task"]
    gone = site.json("tasks", "cancel", "mine")["tasks"][0]["task"]
    assert (gone["id"], gone["state"], gone["charged_microdollars"]) == (task["id"], "cancelled", 0)
    wait_until("the provider's own push", lambda: pushes(sandbox) == ["accepted"])
    wait_until("the handler", lambda: site.lines("handled"))
    answers = [post(site.port, task["id"], body_of(task["provider_id"])) for _ in range(2)]
    assert [(answer.status, answer.duplicate) for answer in answers] == [(200, False), (200, True)]
    story = site.story(task["id"])
    assert [(event["type"], event["standing"], event["duplicates"]) for event in story["events"]] == [
        ("task.cancelled", "accepted", 1),
        ("task.completed", "contradicted", 1),
    ]
    assert (story["task"]["state"], story["task"]["charged_microdollars"]) == ("cancelled", 0)
    assert get(sandbox, "/_sandbox/books").body["providers"]["qingbo"]["spent_micro_usd"] == 0
    # Another fact is handled after all of these, and nothing of them was.
    other = site.json("submit", "qingbo", "--prompt", "y", "--key", "other")["task"]
    site.json("tasks", "cancel", "other")
    wait_until("the next handler", lambda: len(site.lines("handled")) > 1)
    assert site.lines("handled") == [f"{task['id']} cancelled", f"{other['id']} cancelled"]
    assert site.json("reconcile")["differences"] == []
    late = site.run("tasks", "cancel", "nobody")
    assert (late.returncode, "no task 'nobody'" in late.stderr) == (1, True)


def pushes(sandbox: int) -> list[str]:
    """Tell how the provider's pushes went."""
    (task,) = get(sandbox, "/_sandbox/tasks").body["tasks"]
    return [push["outcome"] for push in task["pushes"]]

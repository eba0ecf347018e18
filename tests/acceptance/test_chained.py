"""A handler that submits a follow-up task, in real processes, with the sandbox as the provider."""

import pytest

from tests.acceptance.processes import Site, wait_until
from tests.acceptance.pushes import get

pytestmark = pytest.mark.slow

HANDLERS = """
import os
from receiver import Handlers
from ringback import Policy

handlers = Handlers()
file = os.open("handled", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def write(*words):
    os.write(file, (" ".join(map(str, words)) + "\\n").encode())

@handlers.on("task.completed", name="chain", retry=Policy(attempts=3, base_seconds=0.1))
async def chain(event):
    if event.task.metadata.get("generation"):
        write("end", event.task.id, event.task.parent_id)
        return
    async with event.once("charge") as first:
        if first:
            write("charge", event.task.id)
    child = await event.submit(name="upscale", provider="qingbo", prompt="bigger", metadata={"generation": 2})
    write("submitted", child.id, event.attempt)
    if event.attempt == 1:
        raise RuntimeError("after the submission")
"""


@pytest.mark.parametrize("shape", ["up", "work"])
def test_a_chained_task(site: Site, shape: str) -> None:
    """The follow-up task is bought once though its handler ran twice, and comes to its end by a push of its own."""
    site.handlers(HANDLERS)
    sandbox = int(site.sandbox("--delay", "0.05..0.1").rpartition(":")[2])
    if shape == "up":
        site.up()
    else:
        site.serve()
        site.work()
    parent = site.json("submit", "qingbo", "--prompt", "small", "--wait")["task"]
    assert parent["state"] == "completed"
    wait_until("the whole chain", lambda: len(site.lines("handled")) == 4)
    lines = [line.split() for line in site.lines("handled")]
    child = next(words[1] for words in lines if words[0] == "submitted")
    assert lines[:2] == [["charge", parent["id"]], ["submitted", child, "1"]]
    # The retry and the end of the child race; each comes once, and nothing was charged again.
    assert sorted(lines[2:]) == [["end", child, parent["id"]], ["submitted", child, "2"]]
    assert get(sandbox, "/_sandbox/books").body["tasks"] == 2
    story = site.story(parent["id"])
    assert [(task["id"], task["state"]) for task in story["children"]] == [(child, "completed")]
    assert {step["what"] for step in story["timeline"]} >= {"step", "child"}
    assert site.story(child)["task"]["key"] == f"event:{story['events'][-1]['id']}:chain:upscale"

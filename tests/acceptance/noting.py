"""Handlers for a site that write what they are called with into the file `handled`, and what must stand there."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.acceptance.processes import Site

_FILE = """
import os
from receiver import Handlers

handlers = Handlers()
file = os.open("handled", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
"""
# Any event of a task: its id.
EVENTS = f"""{_FILE}
@handlers.on("task.*")
async def note(event):
    os.write(file, f"{{event.id}}\\n".encode())
"""
# The end of a task: its id, the number that its metadata have, and how it ended.
ENDS = f"""{_FILE}
@handlers.on("task.completed")
async def publish(event):
    os.write(file, f"{{event.task.id}} {{event.task.metadata['n']}} {{event.status}}\\n".encode())

@handlers.on("task.failed")
def refund(event):
    os.write(file, f"{{event.task.id}} {{event.task.metadata['n']}} {{event.status}}\\n".encode())
"""


def ended(site: Site) -> int:
    """Count the tasks that `ENDS` has noted."""
    return len({line.split()[0] for line in site.lines("handled")})


def check_ends(site: Site, tasks: Iterable[dict[str, Any]]) -> None:
    """See that `ENDS` has noted each task once, with its state and its metadata, and that nothing is left to do."""
    handled = Counter(site.lines("handled"))
    assert handled.keys() == {f"{task['id']} {task['metadata']['n']} {task['state']}" for task in tasks}
    assert set(handled.values()) == {1}
    assert {delivery["state"] for delivery in site.deliveries()} == {"succeeded"}

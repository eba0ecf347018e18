"""Rows that could poison a batch cost their own request only."""

import json

import pytest

from tests.acceptance.processes import Site, wait_until
from tests.acceptance.pushes import body_of, get, post_together

pytestmark = pytest.mark.slow

BODY_LIMIT = 1 << 20
DIGITS = 10**30 + 7  # 31 digits
POISON = {
    "numbers of 31 digits": json.dumps(
        {
            "task_id": "p-1", "status": "completed", "progress": DIGITS, "cost": DIGITS, "created_at": DIGITS,
            "completed_at": -DIGITS, "result": {"videos": [{"url": "https://cdn.example/1.mp4", "expires_at": DIGITS}]},
        }
    ).encode(),
    "an id of 31 digits": b'{"task_id": %d, "status": "completed"}' % DIGITS,
    "NUL in the id": body_of("p\0-2"),
    "NUL in the error": body_of("p-3", "failed").replace(b"the task failed", b"the \\u0000 task"),
    "a lone surrogate in the id": b'{"task_id": "p-\\ud800", "status": "completed"}',
    "a lone surrogate in the error": b'{"task_id": "p-4", "status": "failed", "error": "\\udc00 \\ud83d"}',
    "bytes that are not UTF-8": b'{"task_id": "p-\xff\xfe", "status": "completed"}',
    "10,000 levels of lists": b"[" * 10_000 + b"]" * 10_000,
    "10,000 levels of objects": b'{"data":' * 10_000 + b"{}" + b"}" * 10_000,
    "a result of 10,000 levels": b'{"task_id": "p-5", "status": "completed", "result": %s}'
    % (b"[" * 10_000 + b"]" * 10_000),
    "1 MiB of digits": b"7" * BODY_LIMIT,
    "a number of nearly 1 MiB": b'{"task_id": "p-6", "status": "completed", "progress": %s}' % (b"7" * 1_048_000),
    "an exponent": b'{"task_id": "p-7", "status": "completed", "progress": 1e999999999, "cost": -1e-999999999}',
    "an empty body": b"",
    "1 MiB of NUL": bytes(BODY_LIMIT),
}  # fmt: skip
HANDLERS = """
import os
from receiver import Handlers

handlers = Handlers()
file = os.open("handled", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@handlers.on("*")
async def note(event):
    repr(event.payload)
    os.write(file, f"{event.id}\\n".encode())
"""


def test_poison_in_a_batch(site: Site) -> None:
    """Among poisonous rows every healthy one gets 200 and is handled; no answer is a 500; everything can be shown."""
    site.handlers(HANDLERS)
    receiver = site.up()
    poison = [(f"task_poison{n}", body) for n, body in enumerate(POISON.values())]
    healthy = [(f"task_fine{n}", body_of(f"fine-{n}")) for n in range(3 * len(poison))]
    batch = [row for n, bad in enumerate(poison) for row in (*healthy[3 * n : 3 * n + 2], bad, healthy[3 * n + 2])]
    answers = dict(zip((task_id for task_id, _ in batch), post_together(site.port, batch), strict=True))
    told = {name: answers[task_id].status for name, (task_id, _) in zip(POISON, poison, strict=True)}
    assert set(told.values()) <= {200, 400, 413}, told
    assert {answers[task_id].status for task_id, _ in healthy} == {200}
    assert (get(site.port, "/readyz").status, receiver.is_alive()) == (200, True)
    fine = {answers[task_id].event for task_id, _ in healthy}
    wait_until("the neighbours handled", lambda: set(site.lines("handled")) >= fine)
    stored = [answer.event for answer in answers.values() if answer.status == 200]
    wait_until("all that was stored is handled", lambda: set(site.lines("handled")) == set(stored))
    for task_id, _ in poison:
        if answers[task_id].status == 200:
            shown = site.run("events", "show", answers[task_id].event)
            assert (shown.returncode, shown.stderr) == (0, "")
    assert len(site.events()) == len(stored)
    assert not [line for line in receiver.log.splitlines() if '"level":"error"' in line or "Traceback" in line]

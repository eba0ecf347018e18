"""Every fault, by tag over the unmodified wire, and by rate."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ringback.sandbox import FAULTS, SandboxConfig
from ringback.sandbox.faults import rolled, tagged

from .conftest import Receiver, Sandbox, Start


async def _pushed(sandbox: Sandbox, receiver: Receiver, faults: str, **body: Any) -> list[Any]:
    """Submit one task with faults, wait for its end, and return the bodies that came."""
    prompt = "x " + " ".join(f"[fault:{fault}]" for fault in faults.split())
    answer = await sandbox.qingbo(prompt=prompt, callback_url=receiver.url(), **body)
    assert answer.status_code == 200
    await sandbox.idle()
    return [request.json for request in receiver.requests]


def test_an_unknown_fault_is_named_with_the_valid_ones() -> None:
    """A wrong name in a rate or a tag says what would have been right."""
    with pytest.raises(ValueError, match="unknown fault lost_psuh: expected one of duplicate_push, early_push"):
        tagged("x [fault:lost_psuh]")
    with pytest.raises(ValueError, match="unknown fault nope"):
        SandboxConfig(faults={"nope": 0.5})
    with pytest.raises(ValueError, match="POST /_sandbox/outage"):
        SandboxConfig(faults={"outage": 0.5})


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"faults": {"failed": 1.5}}, "rate of fault failed"),
        ({"delay_seconds": (2, 1)}, "delay_seconds"),
        ({"queued_share": 2}, "queued_share"),
        ({"port": 70000}, "port"),
        ({"max_tasks": 0}, "max_tasks"),
        ({"qingbo_api_key": ""}, "qingbo_api_key"),
    ],
)
def test_a_wrong_setting_is_refused(knobs: dict[str, Any], message: str) -> None:
    """A setting that could only fail later is refused when the record is made."""
    with pytest.raises(ValueError, match=message):
        SandboxConfig(**knobs)


def test_every_fault_is_documented() -> None:
    """The how-to page has a row for each fault."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "sandbox.md").read_text()
    assert [name for name in FAULTS if f"| `{name}` |" not in page] == []


def test_several_tags_are_read() -> None:
    """Several tags may stand anywhere in a prompt."""
    assert tagged("a [fault:failed] b [fault: lost_push ]") == {"failed", "lost_push"}


def test_rates_are_kept_and_reproducible() -> None:
    """A rate of a quarter hits about a quarter, and the same ones each time."""
    first, second = ([rolled({"failed": 0.25}, 3, number) for number in range(1000)] for _ in range(2))
    assert first == second
    assert 200 < sum(map(len, first)) < 300


async def test_duplicate_push(sandbox: Sandbox, receiver: Receiver) -> None:
    """The same body comes five times, three of them at the same time."""
    bodies = await _pushed(sandbox, receiver, "duplicate_push")
    assert len(bodies) == 5
    assert all(body == bodies[0] for body in bodies)
    assert receiver.most_in_flight == 3


async def test_lost_push(sandbox: Sandbox, receiver: Receiver) -> None:
    """Nothing is pushed, though the task completed."""
    assert await _pushed(sandbox, receiver, "lost_push") == []
    task = (await sandbox.tasks())[0]
    assert (task["status"], task["faults"]) == ("completed", {"lost_push": 1})


async def test_late_push(start: Start, receiver: Receiver) -> None:
    """The task has ended, and its push comes so much later, telling the same."""
    async with start(late_push_seconds=0.3) as sandbox:
        await sandbox.qingbo(prompt="x [fault:late_push]", callback_url=receiver.url())
        await sandbox.idle()
        (task,) = await sandbox.tasks()
    (push,) = task["pushes"]
    assert (task["faults"], push["outcome"]) == ({"late_push": 1}, "accepted")
    later = datetime.fromisoformat(push["at"]) - datetime.fromisoformat(task["ended_at"])
    assert later >= timedelta(seconds=0.3)
    assert [request.json["status"] for request in receiver.requests] == ["completed"]


async def test_early_push(start: Start, receiver: Receiver) -> None:
    """The push arrives before the submit response, which still says queued."""
    async with start(delay_seconds=(5, 5)) as sandbox:
        answer = await sandbox.qingbo(prompt="x [fault:early_push]", callback_url=receiver.url())
        assert [request.json["status"] for request in receiver.requests] == ["completed"]
        assert answer.json()["status"] == "queued"


async def test_late_processing(sandbox: Sandbox, receiver: Receiver) -> None:
    """A processing push follows the completed one."""
    bodies = await _pushed(sandbox, receiver, "late_processing")
    assert [body["status"] for body in bodies] == ["completed", "processing"]


async def test_forged_push(sandbox: Sandbox, receiver: Receiver) -> None:
    """Two pushes with a wrong token precede the genuine one, which still comes."""
    receiver.script += [401, 401]
    await _pushed(sandbox, receiver, "forged_push")
    forged = "/callbacks/qingbo/task_01.secretmac12AAAA"
    sent = [(request.path, request.json["status"]) for request in receiver.requests]
    assert sent == [
        (forged, "completed"),
        (forged, "failed"),
        ("/callbacks/qingbo/task_01.secretmac123456", "completed"),
    ]
    assert (await sandbox.books())["pushes"]["by_kind"] == {"forged:refused": 2, "genuine:accepted": 1}


async def test_slow_push(sandbox: Sandbox, receiver: Receiver) -> None:
    """The body is trickled in, whole and with its length announced."""
    bodies = await _pushed(sandbox, receiver, "slow_push")
    assert [body["status"] for body in bodies] == ["completed"]
    assert receiver.requests[0].body_seconds >= 0.08


async def test_submit_5xx(sandbox: Sandbox) -> None:
    """The first attempt of a key is a 500 that accepted nothing, the second is accepted."""
    answers = [await sandbox.qingbo(key="k", prompt="x [fault:submit_5xx]") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [500, 200, 200]
    books = await sandbox.books()
    assert (books["tasks"], books["faults"]) == (1, {"submit_5xx": 1})
    assert (await sandbox.qingbo(key="other", prompt="x [fault:submit_5xx]")).status_code == 500


async def test_submit_429(sandbox: Sandbox) -> None:
    """Without a key the prompt is counted: first 429 with Retry-After, then accepted."""
    first, second = [await sandbox.qingbo(prompt="x [fault:submit_429]") for _ in range(2)]
    assert (first.status_code, first.headers["retry-after"], second.status_code) == (429, "1", 200)


async def test_first_attempts_by_rate_meet_each_new_wish(start: Start) -> None:
    """By rate, the same prompt without a key fails first each time it is wished for anew."""
    async with start(faults={"submit_5xx": 1.0}) as sandbox:
        answers = [await sandbox.qingbo() for _ in range(4)]
        assert [answer.status_code for answer in answers] == [500, 200, 500, 200]


async def test_the_memory_of_attempts_is_bounded(start: Start) -> None:
    """The oldest attempt is forgotten where too many keys were seen."""
    async with start(max_tasks=2, submit_5xx_attempts=1) as sandbox:
        for key in ("a", "b", "c", "a"):
            assert (await sandbox.qingbo(key=key, prompt="x [fault:submit_5xx]")).status_code == 500


async def test_failed(sandbox: Sandbox, receiver: Receiver) -> None:
    """The task fails with an error, is refunded and pushed."""
    bodies = await _pushed(sandbox, receiver, "failed")
    assert (bodies[0]["status"], bodies[0]["cost"], "result" in bodies[0]) == ("failed", 0, False)
    assert bodies[0]["error"] == {
        "message": "the upstream provider is temporarily unavailable",
        "code": "upstream_unavailable",
    }
    assert (await sandbox.books())["providers"]["qingbo"]["refunded_micro_usd"] == 44_626


async def test_submit_timeout(start: Start, receiver: Receiver) -> None:
    """The response hangs though the task was accepted; a retry with the key gets the same task at once."""
    async with start(hang_seconds=60) as sandbox:
        submission = sandbox.qingbo(key="k", prompt="x [fault:submit_timeout]", callback_url=receiver.url())
        hanging = asyncio.create_task(submission)
        await receiver.arrived.wait()
        tasks = await sandbox.tasks()
        again = await sandbox.qingbo(key="k", prompt="x [fault:submit_timeout]")
        assert again.json()["task_id"] == tasks[0]["id"]
        assert not hanging.done()
        sandbox.studio.hurry()
        assert (await hanging).json()["task_id"] == tasks[0]["id"]
        assert (await sandbox.books())["providers"]["qingbo"]["charged_micro_usd"] == 44_626


async def test_a_hung_response_comes_in_the_end(sandbox: Sandbox) -> None:
    """After hang_seconds even a hung submission is answered."""
    assert (await sandbox.reapi(prompt="x [fault:submit_timeout]")).status_code == 200


async def test_wrong_task(sandbox: Sandbox, receiver: Receiver) -> None:
    """A push about another task, invented or existing, precedes the true one at the same URL."""
    for _ in range(2):
        await _pushed(sandbox, receiver, "wrong_task")
    first, second = [task["id"] for task in await sandbox.tasks()]
    told = [(request.json.get("data") or request.json)["task_id"] for request in receiver.requests]
    assert told[1:] == [first, first, second]
    assert told[0] not in (first, second)
    assert len({request.path for request in receiver.requests}) == 1


async def test_oversized_push(sandbox: Sandbox, receiver: Receiver) -> None:
    """The terminal push is padded above 1 MiB."""
    await _pushed(sandbox, receiver, "oversized_push")
    assert [len(request.body) > 1024 * 1024 for request in receiver.requests] == [True]
    assert receiver.requests[0].json["status"] == "completed"


async def test_faults_combine(sandbox: Sandbox, receiver: Receiver) -> None:
    """Several faults of one task all happen, and the books say so."""
    faults = "failed forged_push wrong_task duplicate_push slow_push late_processing"
    bodies = await _pushed(sandbox, receiver, faults)
    assert len(bodies) == 2 + 1 + 5 + 1
    assert (await sandbox.books())["faults"] == dict.fromkeys(faults.split(), 1)


async def test_outage(sandbox: Sandbox) -> None:
    """During an outage both providers answer 503 to everything; ended, all is as before."""
    task_id = (await sandbox.qingbo()).json()["task_id"]
    assert (await sandbox.client.post("/_sandbox/outage", json={"seconds": 60})).json() == {"outage_seconds": 60}
    refused = [
        await sandbox.qingbo(),
        await sandbox.qingbo_task(task_id),
        await sandbox.reapi(),
        await sandbox.reapi_task("x"),
    ]
    assert [answer.status_code for answer in refused] == [503] * 4
    assert refused[0].json()["error"]["code"] == "service_unavailable"
    await sandbox.client.post("/_sandbox/outage", json={"seconds": 0})
    assert (await sandbox.qingbo_task(task_id)).status_code == 200
    assert (await sandbox.books())["faults"] == {"outage": 4}


@pytest.mark.parametrize("seconds", ["5", True, -1, None, 1e9])
async def test_an_outage_needs_a_sane_length(sandbox: Sandbox, seconds: object) -> None:
    """A wrong length is a 400."""
    assert (await sandbox.client.post("/_sandbox/outage", json={"seconds": seconds})).status_code == 400


async def test_every_fault_by_rate_still_tells_the_truth(start: Start, receiver: Receiver) -> None:
    """With every fault likely, each accepted task ends, is charged once, and is pushed unless lost."""
    rates = dict.fromkeys(FAULTS, 0.2)
    quick = {"hang_seconds": 0.01, "slow_push_seconds": 0.01, "late_push_seconds": 0.01}
    async with start(faults=rates, seed=5, **quick) as sandbox:
        for number in range(40):
            answers = [await sandbox.qingbo(key=f"k{number}", callback_url=receiver.url()) for _ in range(3)]
            assert answers[-1].status_code == 200
        await sandbox.idle()
        books, tasks = await sandbox.books(), await sandbox.tasks()
    assert set(books["faults"]) == set(FAULTS)
    assert books["providers"]["qingbo"]["tasks"] == len(tasks) == 40
    told = Counter(any(push["outcome"] == "accepted" for push in task["pushes"]) for task in tasks)
    assert told[False] <= books["faults"]["lost_push"]

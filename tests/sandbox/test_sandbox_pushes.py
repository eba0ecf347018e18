"""Pushes: shapes, subscriptions, retries, and where they may go."""

import asyncio

import pytest
from structlog.testing import capture_logs

from ringback.sandbox.campaign import with_wrong_token
from ringback.sandbox.push import masked, may_push_to

from .conftest import Receiver, Sandbox, Start


async def test_the_push_rotates_through_the_likely_shapes(sandbox: Sandbox, receiver: Receiver) -> None:
    """The unpublished body is the task, under `data`, under `task`, and an event envelope in turn."""
    ids = []
    for _ in range(4):
        ids.append((await sandbox.qingbo(callback_url=receiver.url())).json()["task_id"])
        await sandbox.idle()
    top, data, task, event = (request.json for request in receiver.requests)
    assert [top["task_id"], data["data"]["task_id"], task["task"]["task_id"], event["task_id"]] == ids
    assert top["result"]["videos"][0]["url"]
    video_url = f"http://sandbox.test/media/tasks/{ids[3]}/0.mp4"
    assert event.pop("completed_at").endswith("Z")
    assert event == {
        "event": "task.completed",
        "task_id": ids[3],
        "type": "video",
        "status": "completed",
        "result": {"video_url": video_url, "duration": 6},
    }
    assert {request.path for request in receiver.requests} == {"/callbacks/qingbo/task_01.secretmac123456"}
    assert receiver.requests[0].headers["content-type"] == "application/json"


async def test_failed_tasks_are_pushed_in_every_shape(sandbox: Sandbox, receiver: Receiver) -> None:
    """A failure carries its error in each of the four shapes, with and without the code in the message."""
    for _ in range(4):
        await sandbox.qingbo(callback_url=receiver.url(), prompt="x [fault:failed]")
        await sandbox.idle()
    shown = [body.get("data") or body.get("task") or body for body in (request.json for request in receiver.requests)]
    assert {task["status"] for task in shown} == {"failed"}
    assert len({task["error"]["code"] for task in shown}) == 4
    assert {task["error"]["message"].startswith("[") for task in shown} == {True, False}


async def test_only_the_terminal_state_is_pushed_by_default(sandbox: Sandbox, receiver: Receiver) -> None:
    """Without callback_events one push comes, at the end."""
    await sandbox.qingbo(callback_url=receiver.url())
    await sandbox.idle()
    assert [request.json["status"] for request in receiver.requests] == ["completed"]


@pytest.mark.parametrize(
    ("events", "pushed"),
    [
        (["queued", "running", "succeeded"], ["queued", "processing", "completed"]),
        (["failed"], []),
        ([], ["completed"]),
        (["completed", "failed", "canceled"], ["completed"]),
    ],
)
async def test_subscriptions_are_respected(
    start: Start, receiver: Receiver, events: list[str], pushed: list[str]
) -> None:
    """Only subscribed states are pushed, in whichever page's vocabulary they were named."""
    async with start(delay_seconds=(0.1, 0.1)) as sandbox:
        await sandbox.qingbo(callback_url=receiver.url(), callback_events=events)
        await sandbox.idle()
    assert [request.json["status"] for request in receiver.requests] == pushed


async def test_a_cancelled_task_is_pushed(start: Start, receiver: Receiver) -> None:
    """Cancelling is a terminal state and is pushed too."""
    async with start(delay_seconds=(5, 5)) as sandbox:
        task_id = (await sandbox.qingbo(callback_url=receiver.url())).json()["task_id"]
        await sandbox.qingbo_cancel(task_id)
        await sandbox.idle()
    assert [request.json["status"] for request in receiver.requests] == ["cancelled"]


async def test_a_refused_push_is_retried_and_redirects_are_not_followed(sandbox: Sandbox, receiver: Receiver) -> None:
    """Any status but 2xx, a redirect included, is tried again at the same URL."""
    receiver.script += [503, 301]
    await sandbox.qingbo(callback_url=receiver.url())
    await sandbox.idle()
    assert len({request.path for request in receiver.requests}) == 1
    pushes = (await sandbox.tasks())[0]["pushes"]
    assert [push["status_code"] for push in pushes] == [503, 301, 200]
    assert (await sandbox.books())["pushes"] == {
        "by_outcome": {"accepted": 1, "refused": 2},
        "by_kind": {"genuine:accepted": 1, "genuine:refused": 2},
        "by_status": {"200": 1, "301": 1, "503": 1},
    }


async def test_pushing_ends_when_the_retries_are_used_up(sandbox: Sandbox, receiver: Receiver) -> None:
    """A receiver that never accepts gets one attempt and each retry, no more."""
    receiver.script += [500] * 9
    await sandbox.qingbo(callback_url=receiver.url())
    await sandbox.idle()
    assert len(receiver.requests) == 3


async def test_an_unreachable_or_silent_receiver_is_recorded(start: Start, receiver: Receiver) -> None:
    """A refused connection and a timeout have no status but are in the books."""
    async with start(push_timeout_seconds=0.3, push_retry_seconds=()) as sandbox:
        await sandbox.qingbo(callback_url="http://127.0.0.1:1/x.mac")
        receiver.silent = True
        await sandbox.qingbo(callback_url=receiver.url())
        await sandbox.idle()
        refused, silent = [task["pushes"][0] for task in await sandbox.tasks()]
    assert (refused["outcome"], refused["status_code"], refused["error"]) == ("unreached", None, "ConnectError")
    assert silent["outcome"] == "unreached"
    assert silent["error"] in ("ReadTimeout", "TimeoutError")  # whichever of two equal limits strikes first


async def test_a_push_beyond_this_machine_is_blocked_and_logged(sandbox: Sandbox) -> None:
    """A callback URL that is not loopback gets nothing, and the log says so without the secret."""
    with capture_logs() as logs:
        await sandbox.qingbo(callback_url="https://example.com/callbacks/qingbo/task_01.secretmac")
        await sandbox.idle()
    blocked = [line for line in logs if line["event"] == "sandbox.push.blocked"]
    assert [line["target"] for line in blocked] == ["https://example.com/callbacks/qingbo/task_01.<mac>"]
    assert (await sandbox.books())["pushes"]["by_outcome"] == {"blocked": 1}


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("http://127.0.0.1:8000/x", True),
        ("http://127.9.9.9/x", True),
        ("http://[::1]:8000/x", True),
        ("http://localhost/x", True),
        ("http://LOCALHOST:1/x", True),
        ("http://app.localhost/x", True),
        ("http://receiver:8000/x", True),
        ("http://example.com/x", False),
        ("http://127.0.0.1@example.com/x", False),
        ("http://127.0.0.1.example.com/x", False),
        ("http://10.0.0.1/x", False),
        ("http://169.254.169.254/x", False),
        ("http://0.0.0.0/x", False),
        ("http://2130706433/x", False),
        ("http://notlocalhost/x", False),
    ],
)
def test_where_pushes_may_go(url: str, may: bool) -> None:
    """Only literal loopback addresses, localhost names and allowed hosts are pushed to."""
    assert may_push_to(url, frozenset({"receiver"})) is may


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8000/callbacks/qingbo/task_1.abc", "http://127.0.0.1:8000/callbacks/qingbo/task_1.<mac>"),
        ("http://127.0.0.1/a/task_1.abc/?key=abc", "http://127.0.0.1/a/task_1.<mac>"),
        ("http://u:p@[::1]:80/task.x.abc", "http://[::1]/task.x.<mac>"),
        ("http://localhost/hooks/abc", "http://localhost/hooks/…"),
    ],
)
def test_callback_urls_are_masked(url: str, shown: str) -> None:
    """What follows the last dot, and whatever else may be secret, is not shown."""
    assert masked(url) == shown


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("http://h/c/task_1.abcdAAAA", "http://h/c/task_1.abcdBBBB"),
        ("http://h/c/task_1.abcdefgh/?q=1", "http://h/c/task_1.abcdAAAA"),
        ("http://h", "http://h/forged"),
    ],
)
def test_a_forged_url_differs_in_its_token(url: str, wrong: str) -> None:
    """The token's end is altered, whatever it was."""
    assert with_wrong_token(url).split("?")[0] == wrong


async def test_no_log_line_and_no_control_answer_holds_the_secret(sandbox: Sandbox, receiver: Receiver) -> None:
    """The URL's secret appears neither in the logs nor in what the control endpoints show."""
    prompt = "x [fault:forged_push] [fault:duplicate_push] [fault:wrong_task]"
    with capture_logs() as logs:
        await sandbox.qingbo(callback_url=receiver.url("verysecretmac"), prompt=prompt)
        await sandbox.idle()
    assert "sandbox.push.sent" in {line["event"] for line in logs}
    assert "verysecret" not in str(logs)
    assert "verysecret" not in str(await sandbox.tasks())


async def test_closing_stops_what_runs(start: Start, receiver: Receiver) -> None:
    """Leaving the lifespan cancels lives and retries at once."""
    async with start(delay_seconds=(0.01, 0.01), push_retry_seconds=(60,)) as sandbox:
        receiver.script += [500]
        await sandbox.qingbo(callback_url=receiver.url())
        await receiver.arrived.wait()
    await asyncio.wait_for(sandbox.studio.idle(), 0.1)

"""qingbo's wire, rule by rule (shared seed 004… and PROVIDERS.md section A)."""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from ringback.sandbox.book import Book, Order, SandboxTask, State

from .conftest import MODEL, Sandbox, Start


async def test_submit_answers_as_the_page_shows(sandbox: Sandbox) -> None:
    """A submission is answered with the page's fields, queued, in milliseconds."""
    answer = await sandbox.qingbo()
    body = answer.json()
    assert answer.status_code == 200
    assert re.fullmatch(r"task-wave\d{13}[a-z]\d+", body.pop("task_id"))
    assert abs(body.pop("created_at") / 1000 - time.time()) < 5
    assert body == {
        "model": MODEL,
        "action": "generate",
        "status": "queued",
        "progress": 0,
        "pre_consumed_cost": 22313,  # 6 s at $0.0074375, 500000 to the dollar, rounded up
    }


async def test_states_move_from_queued_to_completed(start: Start) -> None:
    """A task is queued, then processing, then completed with its cost."""
    async with start(delay_seconds=(0.2, 0.2)) as sandbox:
        task_id = (await sandbox.qingbo()).json()["task_id"]
        seen = [(await sandbox.qingbo_task(task_id)).json()["status"]]
        while seen[-1] != "completed":
            await asyncio.sleep(0.01)
            shown = (await sandbox.qingbo_task(task_id)).json()
            seen += [shown["status"]] if shown["status"] != seen[-1] else []
        assert seen == ["queued", "processing", "completed"]
        assert shown["cost"] == shown["pre_consumed_cost"]
        assert shown["urls"]["cancel"].endswith(f"/v1/tasks/{task_id}/cancel")


async def test_queries_vary_where_the_pages_contradict_each_other(sandbox: Sandbox) -> None:
    """Progress comes as a number, "100%" and "", urls as list and string, times in s and ms."""
    ids = [(await sandbox.qingbo()).json()["task_id"] for _ in range(8)]
    await sandbox.idle()
    shown = [(await sandbox.qingbo_task(task_id)).json() for task_id in ids]
    assert {type(task["result"]["videos"][0]["url"]) for task in shown} == {list, str}
    assert {task["progress"] for task in shown} == {100, "100%", ""}
    assert {len(str(task["created_at"])) for task in shown} == {10, 13}
    lives = {task["result"]["videos"][0]["expires_at"] - int(time.time()) for task in shown}
    assert all(86_300 < life <= 86_400 for life in lives)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "other"}, "model"),
        ({"action": "edit"}, "action"),
        ({"action": "image2video"}, "image_urls"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"aspect_ratio": "4:3"}, "aspect_ratio"),
        ({"resolution": "1080p"}, "resolution"),
        ({"duration": "6"}, "duration"),
        ({"duration": 5}, "duration"),
        ({"duration": 31}, "duration"),
        ({"duration": 6.5}, "duration"),
        ({"duration": True}, "duration"),
        ({"image_urls": ["https://a.example/1.jpg"] * 8}, "image_urls"),
        ({"image_urls": "https://a.example/1.jpg"}, "image_urls"),
        ({"callback_url": "ftp://a.example"}, "callback_url"),
        ({"callback_url": "http://[bad"}, "callback_url"),
        ({"callback_url": 7}, "callback_url"),
        ({"callback_events": ["finished"]}, "callback_events"),
        ({"size": "16:9"}, "size"),
        ({"prompt": "x [fault:nonsense]"}, "prompt"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(sandbox: Sandbox, body: dict[str, Any], param: str) -> None:
    """What the page does not allow is a 400 that names the parameter, and costs nothing."""
    answer = await sandbox.qingbo(**body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["message"]
    assert error["code"]
    assert (await sandbox.books())["tasks"] == 0


async def test_a_model_is_required(sandbox: Sandbox) -> None:
    """A submission without a model is refused."""
    answer = await sandbox.client.post("/v1/tasks", headers=sandbox.qingbo_headers, json={"prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_object_is_refused(sandbox: Sandbox, content: bytes) -> None:
    """A body that is not a JSON object is a 400 in the envelope."""
    answer = await sandbox.client.post("/v1/tasks", headers=sandbox.qingbo_headers, content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


async def test_a_huge_body_is_refused(sandbox: Sandbox) -> None:
    """A request above the limit is a 413."""
    assert (await sandbox.qingbo(prompt="x" * 1_100_000)).status_code == 413


async def test_only_a_filled_extra_violates_capability(sandbox: Sandbox) -> None:
    """A non-empty `extra` is a capability_violation, an empty one is fine."""
    refused = (await sandbox.qingbo(extra={"seed": 1})).json()["error"]
    assert (refused["code"], refused["param"]) == ("capability_violation", "extra")
    assert (await sandbox.qingbo(extra={})).status_code == 200


async def test_images_make_the_prompt_optional(sandbox: Sandbox) -> None:
    """With images and image2video no prompt is needed, and the action is echoed."""
    answer = await sandbox.qingbo(prompt="", action="image2video", image_urls=["https://a.example/1.jpg"], duration=30)
    assert answer.json()["action"] == "image2video"
    assert answer.json()["pre_consumed_cost"] == 111_563


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic sk-sandbox", "Bearer \xe9"])
async def test_a_wrong_key_is_401(sandbox: Sandbox, header: str | None) -> None:
    """Without the right Bearer key nothing is answered but 401."""
    headers = {"Authorization": header.encode("latin-1")} if header else None
    answer = await sandbox.client.get("/v1/tasks/x", headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_an_unknown_task_is_404(sandbox: Sandbox) -> None:
    """Fetching or cancelling an unknown id is task_not_found."""
    for answer in (await sandbox.qingbo_task("task-wave1a1"), await sandbox.qingbo_cancel("task-wave1a1")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "task_not_found")


async def test_the_same_key_buys_one_task(sandbox: Sandbox) -> None:
    """Repeating an Idempotency-Key gives the same task and charges once."""
    first, second = await asyncio.gather(sandbox.qingbo(key="k"), sandbox.qingbo(key="k"))
    await sandbox.idle()
    third = await sandbox.qingbo(key="k")
    assert first.json()["task_id"] == second.json()["task_id"] == third.json()["task_id"]
    assert third.json()["status"] == "completed"
    assert (await sandbox.qingbo(key="other")).json()["task_id"] != first.json()["task_id"]
    assert (await sandbox.books())["providers"]["qingbo"]["tasks"] == 2


def test_a_key_is_forgotten_after_a_day() -> None:
    """An Idempotency-Key holds for 24 hours and no longer."""
    now = datetime.now(UTC)
    order = Order(
        provider="qingbo",
        model=MODEL,
        prompt="x",
        duration_seconds=6,
        price_micro_usd=1,
        origin="/",
        idempotency_key="k",
    )
    task = SandboxTask(number=0, id="t", order=order, faults=frozenset(), created_at=now, state=State.QUEUED)
    book = Book()
    book.add(task)
    assert book.find_by_key("qingbo", "k", now + timedelta(hours=23, minutes=59)) is task
    assert book.find_by_key("qingbo", "k", now + timedelta(hours=24)) is None


async def test_a_queued_task_can_be_cancelled_once(start: Start) -> None:
    """Cancelling a queued task refunds it; a second time it is not cancellable."""
    async with start(delay_seconds=(5, 5)) as sandbox:
        body = (await sandbox.qingbo()).json()
        answer = await sandbox.qingbo_cancel(body["task_id"])
        assert answer.json() == {
            "task_id": body["task_id"],
            "status": "cancelled",
            "refunded": True,
            "refunded_quota": body["pre_consumed_cost"],
        }
        again = await sandbox.qingbo_cancel(body["task_id"])
        assert (again.status_code, again.json()["error"]["code"]) == (400, "task_not_cancellable")
        shown = (await sandbox.qingbo_task(body["task_id"])).json()
        assert (shown["status"], shown["cost"], "result" in shown) == ("cancelled", 0, False)
        assert (await sandbox.books())["providers"]["qingbo"]["spent_micro_usd"] == 0


async def test_prefer_wait_answers_with_the_finished_task(sandbox: Sandbox) -> None:
    """`Prefer: wait=N` brings the terminal task in the submit response."""
    body = (await sandbox.qingbo(prefer="wait=5")).json()
    assert (body["status"], len(body["result"]["videos"])) == ("completed", 1)


async def test_prefer_wait_gives_up(start: Start) -> None:
    """A wait that ends too early brings the state reached, and nonsense does not wait."""
    async with start(delay_seconds=(5, 5), queued_share=0) as sandbox:
        assert (await sandbox.qingbo(prefer="wait=nonsense")).json()["status"] == "queued"
        assert (await sandbox.qingbo(prefer="wait=1")).json()["status"] == "processing"


async def test_an_empty_account_is_402(start: Start) -> None:
    """A task that the balance does not cover is refused with 402."""
    async with start(balance_usd=Decimal("0.05")) as sandbox:
        assert (await sandbox.qingbo()).status_code == 200
        answer = await sandbox.qingbo()
        assert (answer.status_code, answer.json()["error"]["code"]) == (402, "insufficient_balance")


async def test_a_full_sandbox_is_429(start: Start) -> None:
    """Beyond max_tasks a submission is refused, so memory stays bounded."""
    async with start(max_tasks=1) as sandbox:
        assert (await sandbox.qingbo(key="a")).status_code == 200
        answer = await sandbox.qingbo(key="b")
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert (await sandbox.qingbo(key="a")).status_code == 200


async def test_delays_are_reproducible_and_ids_are_not(start: Start) -> None:
    """The same seed rolls the same faults; a new sandbox never repeats an id."""
    runs = []
    for _ in range(2):
        async with start(seed=7, faults={"failed": 0.5}) as sandbox:
            for _ in range(12):
                await sandbox.qingbo()
            await sandbox.idle()
            runs.append(await sandbox.tasks())
    assert [task["status"] for task in runs[0]] == [task["status"] for task in runs[1]]
    assert {task["status"] for task in runs[0]} == {"completed", "failed"}
    assert not {task["id"] for task in runs[0]} & {task["id"] for task in runs[1]}

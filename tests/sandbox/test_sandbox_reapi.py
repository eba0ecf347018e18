"""reAPI's wire, rule by rule (shared seed 000… and PROVIDERS.md section B)."""

import re
import time
from typing import Any

import httpx
import pytest

from .conftest import MODEL, Sandbox


async def test_submit_answers_as_the_page_shows(sandbox: Sandbox) -> None:
    """A submission is answered with exactly the page's four fields."""
    body = (await sandbox.reapi(size="16:9", duration=10, quality="720p")).json()
    assert re.fullmatch(r"task_[0-9a-f]{32}", body.pop("id"))
    assert abs(body.pop("created_at") - time.time()) < 5
    assert body == {"model": MODEL, "status": "processing"}


async def test_a_task_is_processing_then_completed(sandbox: Sandbox) -> None:
    """A query has the same envelope, output and error null until the end."""
    task_id = (await sandbox.reapi()).json()["id"]
    early = (await sandbox.reapi_task(task_id)).json()
    assert (early["status"], early["output"], early["error"]) == ("processing", None, None)
    await sandbox.idle()
    late = (await sandbox.reapi_task(task_id)).json()
    assert (late["status"], late["error"]) == ("completed", None)
    assert late["output"]["video_urls"] == [f"http://sandbox.test/media/tasks/{task_id[5:]}/0.mp4"]


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"prompt": "  "}, 20002, "grok-imagine: prompt is required when image_urls is empty (text-to-video)"),
        ({"prompt": "x" * 4001}, 20007, "grok-imagine: prompt exceeds 4000 characters (got 4001)"),
        ({"image_urls": ["https://a.example"] * 8}, 20003, "grok-imagine: image_urls accepts at most 7 entries, got 8"),
        ({"duration": 31}, 20003, "grok-imagine: duration must be 6-30 seconds, got 31"),
        ({"duration": "6"}, 20003, "grok-imagine: duration must be 6-30 seconds, got '6'"),
        (
            {"size": "4:3"},
            20003,
            'grok-imagine: invalid size "4:3" (allowed: 16:9 / 9:16 / 1:1 / 3:2 / 2:3)',
        ),
        ({"quality": "4k"}, 20003, 'grok-imagine: invalid quality "4k" (allowed: 480p / 720p)'),
        ({"image_urls": ["data:image/png,x"]}, 20003, "grok-imagine: image_urls entries must be public http(s) URLs"),
        ({"image_urls": ["http://[x"]}, 20003, "grok-imagine: image_urls entries must be public http(s) URLs"),
        ({"image_urls": "https://a.example"}, 20003, "grok-imagine: image_urls must be an array"),
        ({"prompt": 5}, 20003, "grok-imagine: prompt must be a string"),
        ({"model": "x"}, 20003, f"grok-imagine: invalid model (must be {MODEL})"),
    ],
)
async def test_the_validation_table(sandbox: Sandbox, body: dict[str, Any], code: int, message: str) -> None:
    """Each row of the page's table has its code, its message and a request id."""
    answer = await sandbox.reapi(**body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error.pop("request_id").startswith("req_")
    assert error == {"code": code, "message": message}


async def test_a_model_is_required(sandbox: Sandbox) -> None:
    """A submission without a model is a missing value."""
    answer = await sandbox.client.post("/api/v1/videos/generations", headers=sandbox.reapi_headers, json={})
    assert answer.json()["error"]["code"] == 20002


async def test_what_the_page_allows_is_accepted(sandbox: Sandbox) -> None:
    """Images make the prompt optional, quality may be upper case, unknown parameters are ignored."""
    answer = await sandbox.reapi(prompt="", image_urls=["https://a.example/1.jpg"], quality="720P", more=1)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 10001),
        ({"Authorization": "Token x"}, 10002),
        ({"Authorization": "Bearer rk_live_wrong"}, 10003),
    ],
)
async def test_keys_are_checked(sandbox: Sandbox, headers: dict[str, str], code: int) -> None:
    """Each way to lack a valid key has its own code."""
    answer = await sandbox.client.get("/api/v1/tasks/x", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)


async def test_an_unknown_task_is_404(sandbox: Sandbox) -> None:
    """An unknown id is 404, also one of the other provider."""
    other = (await sandbox.qingbo()).json()["task_id"]
    for task_id in ("task_" + "0" * 32, other):
        assert (await sandbox.reapi_task(task_id)).status_code == 404


async def test_a_repeated_submission_is_charged_twice(sandbox: Sandbox) -> None:
    """There is no idempotency: the same request with the same key is a second task."""
    headers = sandbox.reapi_headers | {"Idempotency-Key": "k"}
    body = {"model": MODEL, "prompt": "a dog"}
    for _ in range(2):
        await sandbox.client.post("/api/v1/videos/generations", headers=headers, json=body)
    sums = (await sandbox.books())["providers"]["reapi"]
    assert (sums["tasks"], sums["charged_micro_usd"]) == (2, 96_000)


async def test_a_failed_task_has_its_error_and_is_refunded(sandbox: Sandbox) -> None:
    """A failed task shows code and message, no output, and costs nothing."""
    task_id = (await sandbox.reapi(prompt="x [fault:failed]")).json()["id"]
    await sandbox.idle()
    shown = (await sandbox.reapi_task(task_id)).json()
    assert (shown["status"], shown["output"], shown["error"]["code"]) == ("failed", None, 80006)
    assert (await sandbox.books())["providers"]["reapi"]["spent_micro_usd"] == 0


async def test_first_attempts_fail_as_tagged(sandbox: Sandbox) -> None:
    """Counted per prompt, the first attempt is 500, the next 429 with Retry-After, the third accepted."""
    prompt = "x [fault:submit_5xx] [fault:submit_429]"
    answers: list[httpx.Response] = [await sandbox.reapi(prompt=prompt) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [500, 429, 200]
    assert answers[1].headers["retry-after"] == "1"
    assert answers[0].json()["error"]["code"] == 500
    assert (await sandbox.books())["providers"]["reapi"]["tasks"] == 1

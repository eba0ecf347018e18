"""The JSON API."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from receiver.web import create_app
from receiver.web.shapes import body_shape, mask_tokens
from ringback.ledger import Pattern, Process, Registration, Settled
from ringback.model import DeliveryState, Outcome, new_id
from ringback.providers.signatures import callback_mac, callback_url
from tests.ledger.builders import claims, fan_out, settle

from .conftest import SECRET, TASK, MakeSettings, Receiver, body_of, client_of, path_of, submitted

NOW = datetime.now(UTC)
PROCESS = Process(id="worker-1", role="worker", host="here", pid=1, started_at=NOW)


async def owe_delivery(receiver: Receiver) -> str:
    """Let a callback come that a handler is waiting for; gives the delivery's id."""
    ledger = receiver.ledger
    await ledger.beat(PROCESS, NOW, NOW, {"app.on_video": Registration(patterns=[Pattern()])})
    await submitted(ledger)
    await receiver.push()
    await fan_out(ledger, datetime.now(UTC), 10)
    (delivery,) = (await json_of(receiver, "/api/deliveries"))["deliveries"]
    return str(delivery["id"])


async def settle_delivery(receiver: Receiver) -> None:
    """Let a worker run what is due, and fail for good."""
    later = datetime.now(UTC) + timedelta(seconds=1)
    (work,) = (await claims(receiver.ledger, PROCESS, {"app.on_video": 1}, later, 1)).works
    settled = Settled(
        attempt=work.attempt,
        outcome=Outcome.FAILED,
        state=DeliveryState.DISCARDED,
        due_at=None,
        counted=True,
        finished_at=later,
        error="no disk",
    )
    assert list(await settle(receiver.ledger, [settled])) == [True]


async def json_of(receiver: Receiver, path: str, status: int = 200) -> Any:
    """Ask, check the status, and decode."""
    response = await receiver.get(path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


async def test_lists_are_filtered(receiver: Receiver) -> None:
    """Tasks, events and deliveries come newest first, as far as they fit the query."""
    await owe_delivery(receiver)
    await receiver.push(b"?", task_id="task_other")
    tasks = (await json_of(receiver, "/api/tasks?state=completed&provider=qingbo&limit=1"))["tasks"]
    assert [task["id"] for task in tasks] == [TASK]
    events = (await json_of(receiver, f"/api/events?task={TASK}&type=task.completed"))["events"]
    assert [(event["task_id"], event["body_bytes"]) for event in events] == [(TASK, len(body_of()))]
    assert "body" not in events[0]
    path = f"/api/deliveries?event={events[0]['id']}&handler=app.on_video&state=pending&type=task.completed"
    (delivery,) = (await json_of(receiver, path))["deliveries"]
    assert (delivery["handler"], delivery["event_type"], delivery["attempts"]) == ("app.on_video", "task.completed", [])
    assert (await json_of(receiver, "/api/tasks?state=cancelled"))["tasks"] == []


async def test_event_is_shown_whole_by_its_id(receiver: Receiver) -> None:
    """One event comes with its body: as text where it is UTF-8, else as base64."""
    for body, encoding, shown in ((b"caf\xc3\xa9", "utf-8", "caf\u00e9"), (b"\xff\x00", "base64", "/wA=")):
        event_id = (await receiver.push(body)).json()["event"]
        (event,) = (await json_of(receiver, f"/api/events?event={event_id}"))["events"]
        assert (event["body_encoding"], event["body"], event["body_bytes"]) == (encoding, shown, len(body))


async def test_story_of_a_task(receiver: Receiver) -> None:
    """A task's story holds the task, its events with bodies, the requests kept beside them, and the deliveries."""
    await owe_delivery(receiver)
    await receiver.push(b"", headers={"content-length": "99999999"})
    await settle_delivery(receiver)
    story = await json_of(receiver, f"/api/tasks/{TASK}")
    assert story["task"]["state"] == "completed"
    assert [event["body"] for event in story["events"]] == [body_of().decode()]
    assert [(kept["verdict"], kept["reason"]) for kept in story["callbacks"]] == [("hint", "too_large")]
    (delivery,) = story["deliveries"]
    assert (delivery["attempts"][0]["error"], delivery["counted_attempts"]) == ("no disk", 1)
    assert (await json_of(receiver, "/api/tasks/task-wave1"))["task"]["id"] == TASK
    assert "task_none" in (await json_of(receiver, "/api/tasks/task_none", 404))["error"]


async def test_tokens_of_callback_urls_are_masked(receiver: Receiver) -> None:
    """A body that quotes our URL is shown without the token, whichever way its slashes are written."""
    url = callback_url("https://ring.example", SECRET, "qingbo", TASK)
    mac = callback_mac(SECRET, "qingbo", TASK).decode()
    await receiver.push(body_of(callback_url=url), headers={"webhook-id": path_of()})
    response = await receiver.get(f"/api/tasks/{TASK}")
    assert f"{TASK}.<mac>" in response.text
    assert mac not in response.text
    assert mac.encode() not in mask_tokens(url.replace("/", r"\/").encode())
    assert body_shape(b"\xff" + path_of().encode())["body_encoding"] == "base64"
    assert mask_tokens(b"task_1.mp4 task_2." + b"a" * 40) == b"task_1.mp4 task_2." + b"a" * 40


async def test_replay_makes_a_new_run(receiver: Receiver) -> None:
    """A settled delivery runs again; one that has not settled is 409, an unknown one 404."""
    delivery_id = await owe_delivery(receiver)
    client, headers = receiver.client, {"authorization": "Bearer the-admin-token"}
    early = await client.post(f"/api/deliveries/{delivery_id}/replay", headers=headers)
    assert early.status_code == 409
    await settle_delivery(receiver)
    replayed = await client.post(f"/api/deliveries/{delivery_id}/replay", headers=headers)
    assert (replayed.status_code, replayed.json()["delivery"]["run"]) == (200, 2)
    assert replayed.json()["delivery"]["replayed_by"] == "api"
    unknown = await client.post(f"/api/deliveries/{new_id('dlv', NOW)}/replay", headers=headers)
    assert unknown.status_code == 404
    assert (await client.get(f"/api/deliveries/{delivery_id}/replay", headers=headers)).status_code == 405
    assert (await client.post(f"/api/deliveries/{delivery_id}/replay")).status_code == 401


async def test_summary(receiver: Receiver) -> None:
    """The counts of the whole ledger, rejections as a list."""
    await owe_delivery(receiver)
    await receiver.client.post(f"/callbacks/qingbo/{TASK}.x")
    await receiver.state.rejections.close()
    summary = await json_of(receiver, "/api/summary")
    assert summary["tasks"]["completed"] == 1
    assert summary["rejections"] == [{"provider": "qingbo", "reason": "token", "count": 1}]


@pytest.mark.parametrize(
    "query",
    [
        "/tasks?limit=0",
        "/tasks?limit=501",
        "/tasks?limit=ten",
        "/tasks?limit=",
        "/tasks?limit=%C2%B2",
        "/tasks?state=done",
        "/tasks?provider=Qing%20bo",
        "/tasks?type=task.completed",
        "/events?type=task",
        "/events?task=",
        "/events?task=" + "x" * 257,
        "/deliveries?state=completed",
        "/deliveries?color=red",
    ],
)
async def test_bad_query_is_400_and_says_what_was_expected(receiver: Receiver, query: str) -> None:
    """Unknown names and bad values are refused, never ignored."""
    assert "expected" in (await json_of(receiver, "/api" + query, 400))["error"]


@pytest.mark.parametrize("query", ["/events?task=%00", "/deliveries?handler=%FF", "/tasks/%00", "/events?event=a'b%25"])
async def test_odd_text_in_a_query_finds_nothing(receiver: Receiver, query: str) -> None:
    """What no record can hold is no error."""
    assert (await receiver.get("/api" + query)).status_code in (200, 404)


async def test_api_without_a_ledger_is_503(make_settings: MakeSettings, tmp_path: Path) -> None:
    """While the ledger cannot be opened the API says why, and when to ask again."""
    settings = make_settings(database_url=f"sqlite:///{tmp_path}/none/ringback.db")
    async with client_of(create_app(settings)) as client:
        response = await client.get("/api/tasks", headers={"authorization": "Bearer the-admin-token"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "none" in response.json()["error"]

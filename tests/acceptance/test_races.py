"""The races of callbacks against a running `ringback up`: committed by the sandbox, and by hand-made requests."""

import json
from typing import Any

import pytest

from tests.acceptance import noting
from tests.acceptance.processes import Site, wait_until
from tests.acceptance.pushes import body_of, get, post, post_together

pytestmark = pytest.mark.slow


@pytest.fixture
def up(site: Site) -> Site:
    """Run a sandbox, and receiver, worker and poller in one process."""
    site.handlers(noting.EVENTS)
    site.sandbox("--delay", "0.2..0.4")
    site.up()
    return site


def submit(site: Site, faults: list[str]) -> None:
    """Submit a task for each fault, under the fault's name as its key."""
    lines = [{"provider": "qingbo", "prompt": f"a dog [fault:{fault}]", "key": fault} for fault in faults]
    (site.folder / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = site.run("submit", "--file", "tasks.jsonl")
    assert done.returncode == 0, done.stderr


def state_of(site: Site, reference: str) -> str:
    """Give a task's state."""
    return str(site.story(reference)["task"]["state"])


def facts(story: dict[str, Any]) -> list[tuple[str, str]]:
    """Give what a task's events say, in the order of their coming, and what each counts for."""
    return [(event["type"], event["standing"]) for event in sorted(story["events"], key=lambda e: str(e["id"]))]


def pushes(url: str, story: dict[str, Any]) -> list[tuple[str, int]]:
    """Give the pushes that the provider sent about a task: the kind, and what it was answered."""
    tasks = get(int(url.rpartition(":")[2]), "/_sandbox/tasks").body["tasks"]
    task = next(task for task in tasks if task["id"] == story["task"]["provider_id"])
    return sorted((push["kind"], push["status_code"]) for push in task["pushes"])


def test_the_races_of_the_sandbox(site: Site) -> None:
    """Pushes that come early, often, late, forged or about another task leave one accepted event, handled once."""
    site.handlers(noting.EVENTS)
    url = site.sandbox("--delay", "0.2..0.4")
    site.up()
    sent = {
        "early_push": [("genuine", 200)],
        "duplicate_push": [("duplicate", 200)] * 4 + [("genuine", 200)],
        "late_processing": [("genuine", 200), ("late_processing", 200)],
        "forged_push": [("forged", 401), ("forged", 401), ("genuine", 200)],
        "wrong_task": [("genuine", 200), ("wrong_task", 200)],
    }
    submit(site, list(sent))
    wait_until("every push sent", lambda: {fault: pushes(url, site.story(fault)) for fault in sent} == sent)
    stories = {fault: site.story(fault) for fault in sent}
    completed = ("task.completed", "accepted")
    for story in stories.values():
        assert story["task"]["state"] == "completed"
        assert facts(story).count(completed) == 1
    assert facts(stories["early_push"]) == facts(stories["duplicate_push"]) == facts(stories["forged_push"])
    assert stories["duplicate_push"]["events"][0]["duplicates"] == 4
    assert facts(stories["late_processing"]) == [completed, ("task.progressed", "late")]
    mismatch = next(e for e in stories["wrong_task"]["events"] if e["type"] == "callback.unrecognised")
    assert mismatch["conflict"] == "task_mismatch"
    accepted = {e["id"] for story in stories.values() for e in story["events"] if e["type"] == "task.completed"}
    wait_until("every accepted event handled", lambda: set(site.lines("handled")) == accepted)
    assert len(site.lines("handled")) == len(accepted)


def test_fifty_copies_at_the_same_time(up: Site) -> None:
    """Of fifty parallel copies exactly one is new, all name the same event, and its handler runs once."""
    answers = post_together(up.port, [("task_many", body_of("p-many"))] * 50)
    assert {answer.status for answer in answers} == {200}
    assert [answer.duplicate for answer in answers].count(False) == 1
    (event,) = up.story("task_many")["events"]
    assert ({answer.event for answer in answers}, event["duplicates"]) == ({event["id"]}, 49)
    wait_until("handled", lambda: up.lines("handled"))
    assert up.lines("handled") == [event["id"]]


def test_a_task_that_completed_and_then_failed(up: Site) -> None:
    """The first final word wins; the second is kept, marked as contradicted, and not handed to handlers."""
    first, second = post(up.port, "task_a", body_of("p-a")), post(up.port, "task_a", body_of("p-a", "failed"))
    late = post(up.port, "task_a", body_of("p-a", "processing"))
    again = post(up.port, "task_a", body_of("p-a", "failed"))
    assert [a.duplicate for a in (first, second, late, again)] == [False, False, False, True]
    story = up.story("task_a")
    assert (story["task"]["state"], story["task"]["settled_event"]) == ("completed", first.event)
    assert facts(story) == [
        ("task.completed", "accepted"),
        ("task.failed", "contradicted"),
        ("task.progressed", "late"),
    ]
    marker = post(up.port, "task_b", body_of("p-b"))
    wait_until("the next event handled", lambda: marker.event in up.lines("handled"))
    assert up.lines("handled") == [first.event, marker.event]


def test_a_push_for_an_unknown_task(up: Site) -> None:
    """An authentic push about a task that nobody submitted here makes that task, and its handler runs."""
    answer = post(up.port, "task_unknown", body_of("p-unknown", "failed"))
    story = up.story("task_unknown")
    known = {name: story["task"][name] for name in ("origin", "state", "settled_by", "provider_id")}
    assert known == {"origin": "callback", "state": "failed", "settled_by": "callback", "provider_id": "p-unknown"}
    assert (facts(story), story["events"][0]["error"]["code"]) == ([("task.failed", "accepted")], "task_failed")
    wait_until("handled", lambda: up.lines("handled") == [answer.event])


def test_a_valid_url_for_one_task_with_a_body_about_another(up: Site) -> None:
    """The URL of A with a body about B changes nothing of B, makes A be asked about, and B's own push is still new."""
    lines = [{"provider": "qingbo", "prompt": f"{name} [fault:lost_push]", "key": name} for name in ("A", "B")]
    (up.folder / "two.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert up.run("submit", "--file", "two.jsonl").returncode == 0
    a, b = up.story("A"), up.story("B")
    answer = post(up.port, a["task"]["id"], body_of(b["task"]["provider_id"]))
    assert (answer.status, answer.duplicate) == (200, False)
    assert up.story("B") == b
    wait_until("A fetched", lambda: state_of(up, "A") == "completed")
    told = up.story("A")
    assert (told["task"]["settled_by"], told["task"]["provider_id"]) == ("poll", a["task"]["provider_id"])
    assert [event["conflict"] for event in told["events"]] == ["task_mismatch", None]
    assert up.story("B") == b
    own = post(up.port, b["task"]["id"], body_of(b["task"]["provider_id"]))
    assert (own.status, own.duplicate) == (200, False)
    assert facts(up.story("B")) == [("task.completed", "accepted")]

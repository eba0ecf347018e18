"""Four processes, a hundred tasks of both providers, faults of every kind, and an interruption in the middle."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.acceptance import noting
from tests.acceptance.processes import ADMIN_TOKEN, SECRET, Process, Site, wait_until
from tests.acceptance.pushes import await_silence, get, mac

pytestmark = pytest.mark.slow

TERMINAL = {"completed", "failed"}
KEYS = {"RINGBACK_QINGBO_API_KEY": "sk-sandbox", "RINGBACK_REAPI_API_KEY": "rk_live_sandbox"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the whole run left behind."""

    site: Site
    books: dict[str, Any]
    provider_tasks: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    interrupted: Process
    seconds: float


def lines() -> list[dict[str, Any]]:
    """Write the file: reapi, then qingbo with its refusals, then reapi again, so that each meets what it can bear.

    Ctrl-C falls among the qingbo lines that wait after a 429 (nothing was bought, so the second run sends them again).
    A reapi request that is cut off would be an unknown end, and a qingbo one after a 5xx would wait for its lease.
    """
    plain = [("reapi", "") for _ in range(40)]
    first = [("qingbo", "[fault:submit_429]" if n % 5 == 0 else "") for n in range(35)]
    doubtful = ["submit_5xx", "submit_timeout", "early_push"]
    second = [("qingbo", f"[fault:{doubtful[n]}]" if n < len(doubtful) else "") for n in range(15)]
    last = [
        ("reapi", "[fault:submit_429]" if n % 5 == 0 else "[fault:failed]" if n % 5 == 1 else "") for n in range(10)
    ]
    rows = enumerate([*plain, *first, *second, *last])
    return [
        {"provider": provider, "prompt": f"take {n} {fault}".strip(), "duration": 6, "metadata": {"n": n}}
        for n, (provider, fault) in rows
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Do the run once, for all tests of this module."""
    with Site(tmp_path_factory.mktemp("whole"), request_timeout_seconds=2, push_deadline_seconds=3) as site:
        yield play(site)


def play(site: Site) -> Run:
    """Submit with an interruption, and wait until all is done."""
    began = time.monotonic()
    site.handlers(noting.ENDS)
    rates = {"lost_push": 0.1, "duplicate_push": 0.2, "failed": 0.1, "late_processing": 0.1, "forged_push": 0.2}
    options = [text for name, rate in rates.items() for text in ("--fault", f"{name}={rate}")]
    sandbox = int(site.sandbox("--delay", "0.1..1.0", "--seed", "7", *options).rpartition(":")[2])
    site.serve()
    site.work()
    site.start("poll").wait_for("poller.started")
    (site.folder / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines()))
    interrupted = interrupt(site, sandbox)
    resumed = site.start("submit", "--file", "tasks.jsonl", log_level="info")
    assert resumed.popen.wait(30) == 0, resumed.log
    wait_until("100 tasks told", lambda: told(site) == 100, 45)
    wait_until("100 tasks handled", lambda: noting.ended(site) == 100)
    await_silence(sandbox, 1.2)  # longer than between two tries
    run = Run(
        site=site,
        books=get(sandbox, "/_sandbox/books").body,
        provider_tasks=get(sandbox, "/_sandbox/tasks").body["tasks"],
        tasks=site.json("tasks", "list", "--limit", "1000")["tasks"],
        interrupted=interrupted,
        seconds=time.monotonic() - began,
    )
    for process in site.processes:
        if process.is_alive():
            assert process.stop() == 0, process.log
    return run


def interrupt(site: Site, sandbox: int) -> Process:
    """Begin to submit, slowly, and press Ctrl-C in the middle."""
    submitting = site.start("submit", "--file", "tasks.jsonl", provider_concurrency=2, log_level="info")
    wait_until("half of the tasks at the provider", lambda: get(sandbox, "/_sandbox/books").body["tasks"] >= 50)
    assert submitting.stop(signal.SIGINT) == 130, submitting.log
    assert "the same command goes on with the rest. Lines that were just being sent are in doubt" in submitting.log
    return submitting


def told(site: Site) -> int:
    """Count the tasks that have ended."""
    tasks = site.json("tasks", "list", "--limit", "1000")["tasks"]
    return sum(task["state"] in TERMINAL for task in tasks)


def test_a_hundred_tasks_interrupted_and_resumed(run: Run) -> None:
    """Exactly a hundred tasks are bought, whatever was interrupted, refused or lost, and every one has its true end."""
    assert f"of {len(lines())} lines; the same command goes on" in run.interrupted.log
    assert run.books["tasks"] == 100
    assert {name: sums["tasks"] for name, sums in run.books["providers"].items()} == {"qingbo": 50, "reapi": 50}
    theirs = {task["id"]: task["status"] for task in run.provider_tasks}
    assert {task["provider_id"]: task["state"] for task in run.tasks} == theirs
    assert set(theirs.values()) == TERMINAL
    assert run.seconds < 45


def test_the_faults_took_place(run: Run) -> None:
    """The run met what it was meant to meet, so that its success says something."""
    pushed = {"lost_push", "duplicate_push", "early_push", "failed", "late_processing", "forged_push"}
    submitted = {"submit_429", "submit_5xx", "submit_timeout"}
    assert {name for name, count in run.books["faults"].items() if count} >= pushed | submitted
    assert {task["settled_by"] for task in run.tasks} >= {"callback", "poll"}


def test_one_terminal_event_per_task(run: Run) -> None:
    """Each task has exactly one accepted final event, however many pushes and polls told it."""
    final = [event for event in run.site.events() if event["type"] in ("task.completed", "task.failed")]
    assert {event["standing"] for event in final} == {"accepted"}
    assert Counter(event["task_id"] for event in final) == Counter(task["id"] for task in run.tasks)


def test_the_handler_ran_for_each(run: Run) -> None:
    """Each task's handler ran, with the task's state and the metadata that its line gave."""
    noting.check_ends(run.site, run.tasks)


def test_no_secret_in_any_log(run: Run) -> None:
    """No log line of any process holds the secret, an API key, the admin token, or the token of a callback URL."""
    macs = {mac(task["id"]) for task in run.tasks} | {mac(task["id"], "reapi") for task in run.tasks}
    logs = {process.name: process.log for process in run.site.processes}
    assert all(logs[name] for name in logs if not name.endswith("submit"))
    assert sum(text.count("\n") for text in logs.values()) > 400
    for name, text in logs.items():
        for secret in (SECRET, ADMIN_TOKEN, *KEYS.values(), *macs):
            assert secret not in text, f"{name} shows a secret"
    assert {name: value for name, value in run.site.environ.items() if name.endswith("API_KEY")} == KEYS

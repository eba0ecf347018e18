"""The great run: thousands of tasks, pushes lost, doubled, late and early, and the providers down in the middle.

120 tasks by default, with an outage in scale; RINGBACK_TEST_TASKS=2000 (`make torture`) is the full figure, with 30 s.
"""

import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import pytest

from ringback.sandbox.media import video_of
from tests.acceptance import noting
from tests.acceptance.processes import Site, wait_until
from tests.acceptance.pushes import await_silence, get

pytestmark = pytest.mark.slow

TASKS = int(os.environ.get("RINGBACK_TEST_TASKS", "120"))
OUTAGE_SECONDS = 30 if TASKS >= 2000 else 3
PATIENCE_SECONDS = 60 + TASKS * 0.2
RATES = {"lost_push": 0.05, "duplicate_push": 0.1, "late_push": 0.05, "early_push": 0.02, "failed": 0.05}
TERMINAL = {"completed", "failed"}
MICRO_PER_CENT = 10_000


@dataclass(slots=True, eq=False)
class Run:
    """What the great run left behind."""

    site: Site
    sandbox: int
    books: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, dict[str, Any]] = field(default_factory=dict)  # by their id
    first: dict[str, Any] = field(default_factory=dict)  # what the first `reconcile` said
    second: dict[str, Any] = field(default_factory=dict)
    between: list[Any] = field(default_factory=list)  # the ledger's tasks and events after the first
    tasks: list[dict[str, Any]] = field(default_factory=list)  # and after the second
    events: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)  # by provider
    results: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def ours(self) -> list[dict[str, Any]]:
        """List the tasks as a user would."""
        found: list[dict[str, Any]] = self.site.json("tasks", "list", "--limit", "100000")["tasks"]
        return found


def lines() -> list[dict[str, Any]]:
    """Write the file. First those of reapi, so that they are all there when the outage begins.

    reapi knows no idempotency key: what an outage cuts off there is an unknown end, rightly, and never sent again.
    """
    first = TASKS // 8
    return [
        {
            "provider": "reapi" if number < first else "qingbo",
            "prompt": f"take {number}",
            "duration": 6 + number % 25,
            "metadata": {"n": number},
        }
        for number in range(TASKS)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Do the run once, for all tests of this module."""
    folder = tmp_path_factory.mktemp("great")
    stored = {"results_url": f"file://{folder}/stored", "allow_private": "127.0.0.1"}  # the sandbox is on this machine
    with Site(folder, push_deadline_seconds=3, reapi_usd_per_second="0.008") as site:
        site.set(**stored)
        yield play(site)


def play(site: Site) -> Run:
    """Submit everything, with the outage in the middle, wait until all is told, and reconcile twice."""
    began = time.monotonic()
    site.handlers(noting.ENDS)
    options = [text for name, rate in RATES.items() for text in ("--fault", f"{name}={rate}")]
    address = site.sandbox("--delay", "0.1..1.0", "--seed", "11", "--late", "6", *options)
    run = Run(site, int(address.rpartition(":")[2]))
    site.serve()
    site.work()
    site.start("poll").wait_for("poller.started")
    (site.folder / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines()))
    submitting = site.start("submit", "--file", "tasks.jsonl", log_level="info")
    wait_until("half of the tasks there", lambda: books(run)["tasks"] >= TASKS // 2, PATIENCE_SECONDS)
    outage(run.sandbox)
    assert submitting.popen.wait(PATIENCE_SECONDS) == 0, submitting.log
    wait_until("all told", lambda: all(t["state"] in TERMINAL for t in run.ours()), PATIENCE_SECONDS)
    wait_until("all handled", lambda: noting.ended(site) == TASKS)
    wait_until("all stored", lambda: not missing(run), PATIENCE_SECONDS)
    await_silence(run.sandbox, 7.5, PATIENCE_SECONDS)  # longer than a late push takes
    look_back(run)
    run.seconds = time.monotonic() - began
    for process in site.processes:
        if process.is_alive():
            assert process.stop() == 0, process.log
    return run


def books(run: Run) -> dict[str, Any]:
    """Look into the provider's own books."""
    return get(run.sandbox, "/_sandbox/books").body


def outage(port: int) -> None:
    """Let both providers answer 503 to everything for a while."""
    connection = HTTPConnection("127.0.0.1", port, timeout=15)
    connection.request("POST", "/_sandbox/outage", json.dumps({"seconds": OUTAGE_SECONDS}))
    assert connection.getresponse().status == 200
    connection.close()


def missing(run: Run) -> list[dict[str, Any]]:
    """List the results that are not stored yet."""
    found: list[dict[str, Any]] = run.site.json("results", "list", "--missing", "--limit", "100000")["results"]
    return found


def look_back(run: Run) -> None:
    """Compare with the providers twice, then take down what both sides have."""
    run.first = run.site.json("reconcile")
    run.between = [run.ours(), run.site.events()]
    run.second = run.site.json("reconcile")
    run.tasks, run.events = run.ours(), run.site.events()
    run.costs = {row["provider"]: row for row in run.site.json("costs", "--by", "provider")["costs"]}
    run.results = run.site.json("results", "list", "--limit", "100000")["results"]
    run.books = books(run)
    run.theirs = {task["id"]: task for task in get(run.sandbox, "/_sandbox/tasks").body["tasks"]}


def test_every_task_is_bought_once_and_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """As many tasks as lines are at the providers, and each has its true end in the ledger, whatever happened."""
    assert run.books["tasks"] == len(run.tasks) == TASKS
    assert {task["provider_id"]: task["state"] for task in run.tasks} == {
        name: task["status"] for name, task in run.theirs.items()
    }
    assert {task["state"] for task in run.tasks} == TERMINAL
    faults, by = run.books["faults"], Counter(task["settled_by"] for task in run.tasks)
    told = ", ".join(f"{faults[name]} {name}" for name in (*RATES, "outage"))
    with capsys.disabled():
        print(
            f"\nthe great run: {TASKS} tasks in {run.seconds:.0f} s with {OUTAGE_SECONDS} s of outage ({told}): "
            f"{by['callback']} settled by a push, {by['poll']} by a poll, {by['submission']} by the answer; "
            f"{run.first['by_kind'].get('no charge here', 0)} charges filled in by reconcile",
            file=sys.stderr,
        )


def test_the_faults_took_place(run: Run) -> None:
    """The run met what it was meant to meet, so that its success says something."""
    faults = run.books["faults"]
    assert {name for name, count in faults.items() if count} == {*RATES, "outage"}
    pushed = run.books["providers"]["qingbo"]["tasks"]
    for name, rate in RATES.items():
        assert 0.3 * rate * pushed < faults[name] < 3 * rate * TASKS, name
    assert run.books["pushes"]["by_outcome"].keys() == {"accepted"}
    assert {task["settled_by"] for task in run.tasks} >= {"callback", "poll"}


def test_one_event_per_fact(run: Run) -> None:
    """Each task has one final event, which stands, however many pushes and polls told it."""
    final = [event for event in run.events if event["type"] in ("task.completed", "task.failed")]
    assert Counter(event["task_id"] for event in final) == Counter(task["id"] for task in run.tasks)
    assert {event["standing"] for event in run.events} == {"accepted"}
    assert sum(event["duplicates"] for event in final) >= run.books["faults"]["duplicate_push"] * 4


def test_every_handler_ran_once_per_event(run: Run) -> None:
    """Nothing was killed in this run, so once is not only the least but also the most."""
    noting.check_ends(run.site, run.tasks)


def test_costs_are_those_of_the_providers_books(run: Run) -> None:
    """To the micro-dollar where the provider tells what it charged, by the price where it never does."""
    charged = [task["charged_microdollars"] for task in run.tasks if task["provider"] == "qingbo"]
    assert None not in charged
    assert sum(charged) == run.books["providers"]["qingbo"]["spent_micro_usd"]
    each = {task["provider_id"]: task["charged_microdollars"] for task in run.tasks if task["provider"] == "qingbo"}
    assert each == {
        name: task["charged_micro_usd"] - task["refunded_micro_usd"]
        for name, task in run.theirs.items()
        if task["provider"] == "qingbo"
    }
    told = [task for task in run.tasks if task["provider"] == "reapi"]
    assert {task["charged_microdollars"] for task in told} == {None}
    expected = sum(task["price_microdollars"] for task in told if task["state"] == "completed")
    assert expected == run.books["providers"]["reapi"]["spent_micro_usd"]
    assert {name: row["spent_microdollars"] for name, row in run.costs.items()} == {
        name: sums["spent_micro_usd"] for name, sums in run.books["providers"].items()
    }


def test_every_result_is_stored_as_it_was_made(run: Run) -> None:
    """One file for each completed task, with the bytes of that task's video, and the ledger has their SHA-256."""
    done = {task["id"]: task["provider_id"] for task in run.tasks if task["state"] == "completed"}
    assert Counter(row["task_id"] for row in run.results) == Counter(done.keys())
    made = {name: hashlib.sha256(video_of(theirs.removeprefix("task_"))).hexdigest() for name, theirs in done.items()}
    assert {row["task_id"]: row["sha256"] for row in run.results} == made
    files = [path for path in (run.site.folder.parent / "stored").rglob("*") if path.is_file()]
    assert sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files) == sorted(made.values())
    assert run.site.json("results", "verify") == {"verified": len(done), "problems": []}


def test_reconciling_twice_changes_nothing(run: Run) -> None:
    """The first pass asks about every task and adds what pushes left out; the second finds nothing to do."""
    assert run.first["compared"] == run.first["asked"] == run.second["asked"] == TASKS
    assert run.first["by_kind"].keys() == {"no charge here"}
    assert (run.first["need_you"], run.second["need_you"], run.second["differences"]) == (0, 0, [])
    assert [run.tasks, run.events] == run.between

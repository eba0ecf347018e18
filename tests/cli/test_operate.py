"""Replaying, cancelling and discarding many deliveries, handing out past events, and `status`."""

import re
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from click.testing import Result

from ringback.errors import LedgerUnavailable
from ringback.ledger import Action, Done, Ledger, Pattern, Registration
from ringback.ledger import Process as Seen
from ringback.ledger.sqlite import SqliteLedger
from ringback.model import Arrival, Callback, Kind, Reading, Source, TaskState, Trust
from ringback.settings import Settings
from tests.ledger.builders import claims, fan_out

from .conftest import Process, Ringback, within

pytestmark = pytest.mark.usefixtures("secret", "handlers")
COUNT = 7


async def failures(ledger: Ledger, _: Settings) -> None:
    """Have seven failed tasks owed to `app.fail`, the oldest a day ago; one of them is being handled."""
    now = datetime.now(UTC)
    process = Seen(id="w", role="worker", host="here", pid=7, started_at=now)
    handlers = {"app.fail": Registration(patterns=[Pattern(event="task.failed")])}
    await ledger.beat(process, now, now - timedelta(minutes=1), handlers)
    for number in range(COUNT):
        at = now - timedelta(hours=24 - number)
        arrival = Arrival(
            kind=Kind.FACT, provider="qingbo", source=Source.CALLBACK, trust=Trust.TOKEN, task_id=f"task_{number}",
            reading=Reading(status=TaskState.FAILED, provider_id=f"p-{number}"),
            callback=Callback(body=b"", received_at=at),
        )  # fmt: skip
        await ledger.record(arrival)
        await fan_out(ledger, at, 10)
    await claims(ledger, process, {"app.fail": 1}, now, 1)


@pytest.fixture
def owed(ringback: Ringback) -> Ringback:
    """The command in a folder with those failures."""
    within(failures)
    return ringback


def document(result: Result, exit_code: int = 0) -> dict[str, Any]:
    """Decode what --json printed."""
    assert result.exit_code == exit_code, result.output
    found: dict[str, Any] = msgspec.json.decode(result.stdout)
    return found


def states(ringback: Ringback) -> Counter[str]:
    """Count the deliveries by state."""
    return Counter(row["state"] for row in document(ringback("deliveries", "list", "--json"))["deliveries"])


@pytest.mark.parametrize(("verb", "past"), [("cancel", "cancelled"), ("discard", "discarded")])
def test_ending_many(owed: Ringback, verb: str, past: str) -> None:
    """They are counted first, need a --yes where nobody can be asked, and end with who and why; what runs goes on."""
    command = ("deliveries", verb, "--handler", "app.fail")
    counted = owed(*command, "--dry-run")
    assert counted.stdout.startswith(f"would {verb} 6 deliveries; left alone: 1 running\n")
    assert len(counted.stdout.splitlines()) == 2 + 5
    refused = owed(*command)
    assert (refused.exit_code, f"{verb} 6 deliveries: say --yes" in refused.stderr) == (2, True)
    assert states(owed) == {"pending": 6, "running": 1}
    assert owed(*command, "--older-than", "23h", "--text", "x", "--yes").stdout == f"{past} 0 deliveries\n"
    told = document(owed(*command, "--yes", "--reason", "no customer", "--json"))
    assert (told["dry_run"], told["count"], told["left_alone"]) == (False, 6, {"running": 1})
    assert {row["state"] for row in told["deliveries"]} == {past}
    assert re.fullmatch(rf"{past} by \S+@\S+: no customer", told["deliveries"][0]["reason"])
    assert states(owed) == {past: 6, "running": 1}


def test_by_age_and_one_by_one(owed: Ringback) -> None:
    """One match needs no yes, nor do those that are named; a running one that is named is an error."""
    one = owed("deliveries", "cancel", "--state", "pending", "--older-than", "1350m")
    assert one.stdout == "cancelled 1 delivery\n"
    named = [
        row["id"] for row in document(owed("deliveries", "list", "--state", "pending", "--json"))["deliveries"][:2]
    ]
    assert owed("deliveries", "discard", *named).stdout.startswith("discarded 2 deliveries\n")
    assert states(owed) == {"cancelled": 1, "discarded": 2, "pending": 3, "running": 1}
    (running,) = document(owed("deliveries", "list", "--state", "running", "--json"))["deliveries"]
    assert (
        "1 of those named were left alone: only what is pending" in owed("deliveries", "cancel", running["id"]).stderr
    )
    for wrong in (("cancel",), ("cancel", *named, "--handler", "x"), ("discard", "--older-than", "soon")):
        assert owed("deliveries", *wrong).exit_code == 2


def test_the_question(owed: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the command asks, and does nothing after a no."""
    monkeypatch.setattr("ringback.cli.operate.on_terminal", lambda: True)
    asked = owed("deliveries", "cancel", "--provider", "qingbo", stdin="n\n")
    assert (asked.exit_code, "cancel 6 deliveries? [y/N]" in asked.stderr) == (1, True)
    assert states(owed)["pending"] == 6
    assert owed("deliveries", "cancel", "--provider", "qingbo", stdin="y\n").stdout.startswith("cancelled 6")


def test_replaying_many(owed: Ringback) -> None:
    """Discarded deliveries that fit run anew, with the reason; those that wait again are then left alone."""
    owed("deliveries", "discard", "--state", "pending", "--yes")
    command = ("deliveries", "replay", "--state", "discarded", "--reason", "disk is back")
    assert owed(*command, "--yes").stdout == "replayed 6 deliveries\n"
    (new, *_) = document(owed("deliveries", "list", "--state", "pending", "--json"))["deliveries"]
    assert (new["run"], new["replay_reason"]) == (2, "disk is back")
    assert ": disk is back" in owed("deliveries", "show", new["id"]).stdout
    assert ": disk is back" in owed("tasks", "show", new["task_id"]).stdout
    assert document(owed(*command, "--dry-run", "--json")) == {
        "dry_run": True, "count": 0, "left_alone": {}, "deliveries": [],
    }  # fmt: skip


def test_replaying_afresh(owed: Ringback) -> None:
    """With --fresh the steps that a handler has recorded are forgotten, and both the dry run and the end say so."""

    async def record_step(ledger: Ledger, _: Settings) -> None:
        now = datetime.now(UTC)
        process = Seen(id="w3", role="worker", host="here", pid=9, started_at=now)
        await ledger.beat(process, now, now - timedelta(minutes=1))
        for work in (await claims(ledger, process, {"app.fail": 2}, now, 2)).works:
            assert await ledger.finish_step(work.attempt, "charge", now)
        await ledger.beat(process, now, now - timedelta(minutes=1), leaving=True)

    def steps() -> Counter[int]:
        rows = document(owed("deliveries", "list", "--state", "pending", "--json"))["deliveries"]
        return Counter(len(row["steps"]) for row in rows)

    within(record_step)
    owed("deliveries", "discard", "--state", "pending", "--yes")
    command = ("deliveries", "replay", "--state", "discarded", "--latest")
    assert "forgetting" not in owed(*command, "--dry-run").stdout
    counted = owed(*command, "--fresh", "--dry-run")
    assert counted.stdout.startswith("would replay 6 deliveries, forgetting which steps were done\nid ")
    assert "replay 6 deliveries, forgetting which steps were done: say --yes" in owed(*command, "--fresh").stderr
    assert owed(*command, "--yes").stdout == "replayed 6 deliveries\n"
    assert steps() == {1: 2, 0: 4}
    owed("deliveries", "discard", "--state", "pending", "--yes")
    events = ("events", "replay", "--handler", "app.fail", "--since", "2d", "--fresh")
    assert document(owed(*events, "--dry-run", "--json"))["fresh"] is True
    told = owed(*events, "--yes").stdout
    assert told == "replayed 6 events for app.fail, forgetting which steps were done; left alone: 1 running\n"
    assert steps() == {0: 6}


def test_catching_up(owed: Ringback) -> None:
    """Past events are handed to one handler: a first run for a new one, none beside a run that has not ended."""

    async def register(ledger: Ledger, _: Settings) -> None:
        now = datetime.now(UTC)
        process = Seen(id="w2", role="worker", host="here", pid=8, started_at=now)
        late = {"app.late": Registration(patterns=[Pattern(event="task.*")])}
        await ledger.beat(process, now, now - timedelta(minutes=1), late)

    within(register)
    command = ("events", "replay", "--handler", "app.late", "--since", "2d")
    assert "replay 7 events for app.late: say --yes" in owed(*command).stderr
    counted = owed(*command, "--status", "failed", "--provider", "qingbo", "--type", "task.failed", "--dry-run")
    assert counted.stdout.startswith("would replay 7 events for app.late\nid ")
    assert owed(*command, "--status", "completed").stdout == "replayed 0 events for app.late\n"
    since, until = ((datetime.now(UTC) - timedelta(hours=hours)).isoformat() for hours in (23.5, 22.5))
    one = document(owed(*command[:4], "--since", since, "--until", until, "--json"))
    assert (one["count"], one["events"]) == (1, [])
    again = document(owed(*command, "--dry-run", "--json"))
    assert (again["count"], again["left_alone"], len(again["events"])) == (6, {"pending": 1}, 5)
    assert owed(*command, "--yes").stdout == "replayed 6 events for app.late; left alone: 1 pending\n"
    unknown = owed("events", "replay", "--handler", "app.lade", "--since", "2d")
    assert (unknown.exit_code, "known: app.fail, app.late" in unknown.stderr) == (1, True)
    naive = (datetime.now(UTC) + timedelta(minutes=5)).replace(tzinfo=None).isoformat()
    for wrong in (naive, "yesterday", "0001-01-01T00:00+05:00"):
        assert owed(*command[:4], "--since", wrong).exit_code == 2


def test_trouble_between_steps(owed: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the ledger cannot be written any more, the error says how many were done."""
    act: Callable[..., Any] = SqliteLedger.act

    async def once(ledger: SqliteLedger, action: Action) -> Done:
        if getattr(action, "after", None) is not None:
            raise LedgerUnavailable("the disk is full")
        done: Done = await act(ledger, action)
        return done

    monkeypatch.setattr(SqliteLedger, "act", once)
    monkeypatch.setattr("ringback.cli.operate.STEP", 4)
    result = owed("deliveries", "cancel", "--state", "pending", "--yes")
    assert result.stderr == "error: the disk is full; before that it cancelled 4 deliveries\n"
    assert states(owed) == {"cancelled": 4, "pending": 2, "running": 1}


def test_status(owed: Ringback) -> None:
    """Every count is shown, for each handler what waits how long, and who was seen; the same as JSON."""

    async def more(ledger: Ledger, _: Settings) -> None:
        await ledger.reject({("qingbo", "token"): 3, ("", "path"): 1}, datetime.now(UTC))

    assert "turned away since yesterday  0\n" in owed("status").stdout
    within(more)
    text = owed("status").stdout
    assert "tasks                        7: failed 7\n" in text
    assert "turned away since yesterday  4: qingbo token 3, path 1\n" in text
    assert "deliveries                   7: pending 6, running 1\n" in text
    assert "workers                      here pid 7\n" in text
    assert "pollers                      none seen in the last minute\n" in text
    assert re.search(r"^app\.fail +6 +1 +0 +22 h 59 min|^app\.fail +6 +1 +0 +23 h 0 min", text, re.MULTILINE)
    told = document(owed("status", "--json"))
    (handler,) = told["handlers"]
    assert (handler["name"], handler["pending"], handler["running"], handler["discarded"]) == ("app.fail", 6, 1, 0)
    assert told["lag_seconds"] == handler["lag_seconds"] == pytest.approx(23 * 3600, abs=60)
    assert told["refused_since_yesterday"][1] == {"provider": "qingbo", "reason": "token", "count": 3}


def test_status_of_nothing(ringback: Ringback) -> None:
    """An empty ledger has zeros; without one, the missing path is named."""
    assert "there is no ledger" in ringback("status").stderr
    ringback("migrate")
    assert "tasks                        0\n" in ringback("status").stdout
    assert document(ringback("status", "--json"))["lag_seconds"] == 0


@pytest.mark.slow
def test_watching(ringback: Ringback, start: Callable[..., Process]) -> None:
    """With --watch it goes on until Ctrl-C."""
    ringback("migrate")
    process = start("status", "--watch", "0.1")
    assert process.popen.stdout is not None
    lines = [process.popen.stdout.readline() for _ in range(20)]
    assert sum(line.startswith(b"tasks") for line in lines) >= 2
    assert process.end(signal.SIGINT) == 130, process.log()

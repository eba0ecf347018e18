"""What `tasks`, `events`, `deliveries`, `doctor`, `work --once` and `migrate` show of a ledger with a story in it."""

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console

from ringback.cli import checks, operate, show
from ringback.cli.show import span
from ringback.cli.timeline import timeline
from ringback.intake import Intake
from ringback.ledger import Ledger, Pattern, Process, Registration, Sent, Story
from ringback.model import Callback, Event, EventType, Form, Origin, Reading, Source, Task, TaskState, Trust
from ringback.providers import CATALOGUE
from ringback.providers.signatures import callback_mac, fingerprint
from ringback.settings import Settings

from .conftest import SECRET, Ringback, within

QINGBO = CATALOGUE["qingbo"]
MAC = callback_mac(SECRET.encode(), "qingbo", "task_one").decode()
pytestmark = pytest.mark.usefixtures("secret", "handlers")


def body(status: str, provider_id: str = "task-wave1") -> bytes:
    """Write a push that quotes its own callback URL, and text that would steer a terminal."""
    result = {"videos": [{"url": "https://cdn.example/v.mp4"}]} if status == "completed" else None
    error = {"code": "task_failed", "message": "no \x1b[31mluck"} if status == "failed" else None
    told = {"task_id": provider_id, "status": status, "result": result, "error": error}
    return msgspec.json.encode(told | {"callback_url": f"https://hooks.example/callbacks/qingbo/task_one.{MAC}"})


async def submitted(ledger: Ledger, task: Task, now: datetime) -> None:
    """Store a task as the submitter does."""
    stored, _ = await ledger.add_task(task)
    assert await ledger.claim_send(stored, now, None)
    reading = Reading(status=TaskState.SUBMITTED, provider_id=task.id.replace("task_one", "task-wave1"))
    await ledger.save_send(Sent(task_id=task.id, sent_at=now, now=now, note="answered 200", reading=reading))


async def story(ledger: Ledger, settings: Settings) -> None:
    """Let one task complete with all that may come beside, and another fail."""
    now = datetime.now(UTC)
    form = Form(model="grok-imagine-1.0-video", prompt="a \x1b[31mdog")
    one = Task(id="task_one", provider="qingbo", form=form, key="mine", created_at=now, price_microdollars=44_625)
    one = replace(one, url_key=fingerprint(SECRET.encode()), metadata={"customer": 7})
    await ledger.enlist_keys([fingerprint(SECRET.encode())], now)
    await submitted(ledger, one, now)
    await submitted(ledger, replace(one, id="task_two", key=None, metadata={}), now)
    intake = Intake(ledger, settings)
    for status, provider_id in (("completed", "task-wave1"),) * 3 + (("failed", "task-wave1"), ("failed", "stranger")):
        callback = Callback(body=body(status, provider_id), received_at=now)
        await intake.pushed(QINGBO, "task_one", Trust.TOKEN, callback)
    await intake.hinted(QINGBO, "task_one", Trust.TOKEN, Callback(body=b"", received_at=now), "too_large")
    failed = Callback(body=body("failed", "task_two"), received_at=now)
    await intake.pushed(QINGBO, "task_two", Trust.TOKEN, failed)


@pytest.fixture
def told(ringback: Ringback, secret: None, handlers: None) -> None:  # noqa: ARG001 -- they come first
    """Write the story, and let a worker run its handlers."""
    within(story)
    result = ringback("work", "--once", "--json")
    assert result.exit_code == 0, result.output
    assert msgspec.json.decode(result.stdout) == {"attempts": 2}


def rows(ringback: Ringback, *arguments: str) -> list[dict[str, Any]]:
    """Give what a list prints as JSON."""
    result = ringback(*arguments, "--json")
    assert (result.exit_code, SECRET in result.output, MAC in result.output) == (0, False, False)
    found: list[dict[str, Any]] = msgspec.json.decode(result.stdout)[arguments[0]]
    return found


@pytest.mark.usefixtures("told")
def test_a_tasks_story(ringback: Ringback) -> None:
    """A task's timeline tells each step in order, each callback with its verdict, and each attempt."""
    text = ringback("tasks", "show", "mine").stdout
    told = [re.split(r"  +", line)[2:4] for line in text.split("\n\n")[1].splitlines()[1:]]
    steps = [" ".join(cells) for cells in told]
    assert steps[0] == "task recorded"
    for step in (
        "callback new",
        "callback contradicted",
        "callback unrecognised",
        "callback hint",
        "handler succeeded",
    ):
        assert step in steps
    assert "duplicate ×2" in text
    assert "video" in text
    assert "a \\x1b[31mdog" in text
    assert f"task_one.{MAC}" not in text
    assert "task_one.<mac>" in text


@pytest.mark.usefixtures("told")
def test_reveal(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only --reveal prints the whole callback URL, made with the secret that the task names."""
    url = f"https://hooks.example/callbacks/qingbo/task_one.{MAC}"
    assert url in ringback("tasks", "show", "task_one", "--reveal").stdout
    assert (
        msgspec.json.decode(ringback("tasks", "show", "task_one", "--reveal", "--json").stdout)["callback_url"] == url
    )
    assert url not in ringback("tasks", "show", "task_one", "--json").stdout
    monkeypatch.setenv("RINGBACK_SECRET", "f" * 40)
    assert "does not list" in ringback("tasks", "show", "task_one", "--reveal").stderr
    monkeypatch.delenv("RINGBACK_PUBLIC_URL")
    result = ringback("tasks", "show", "task_one", "--reveal")
    assert (result.exit_code, "RINGBACK_PUBLIC_URL is not set" in result.stderr) == (2, True)


@pytest.mark.usefixtures("told")
def test_a_story_as_json(ringback: Ringback) -> None:
    """The JSON holds task, events, callbacks, deliveries and timeline, without tokens."""
    result = ringback("tasks", "show", "task-wave1", "--json")
    document = msgspec.json.decode(result.stdout)
    assert set(document) == {"task", "children", "events", "callbacks", "deliveries", "timeline", "callback_url"}
    assert document["task"]["metadata"] == {"customer": 7}
    assert MAC not in result.stdout


@pytest.mark.usefixtures("told")
def test_lists(ringback: Ringback) -> None:
    """Each list filters, and its table shows whole ids without colour where it is piped."""
    assert [row["id"] for row in rows(ringback, "tasks", "list", "--state", "failed")] == ["task_two"]
    assert rows(ringback, "tasks", "list", "--provider", "reapi") == []
    (event,) = rows(ringback, "events", "list", "--type", "task.failed", "--task", "task_two")
    (owed,) = rows(ringback, "deliveries", "list", "--text", "no money")
    for command, identifier in (("tasks", "task_two"), ("events", event["id"]), ("deliveries", owed["id"])):
        text = ringback(command, "list").stdout
        assert identifier in text.split()
        assert "\x1b" not in text
    assert ringback("tasks", "list", "--provider", "reapi").stderr == "no tasks\n"
    assert ringback("tasks", "show", "nothing").exit_code == 1


@pytest.mark.usefixtures("told")
def test_an_event(ringback: Ringback) -> None:
    """An event is shown with its body; --body prints that alone, tokens masked."""
    (event,) = rows(ringback, "events", "list", "--type", "task.failed", "--task", "task_two")
    masked = body("failed", "task_two").replace(MAC.encode(), b"<mac>")
    assert ringback("events", "show", event["id"], "--body").stdout_bytes == masked
    assert msgspec.json.decode(ringback("events", "show", event["id"], "--json").stdout)["body"] == masked.decode()
    text = ringback("events", "show", event["id"]).stdout
    assert "task_failed: no \\x1b[31mluck" in text
    assert "there is no event" in ringback("events", "show", "evt_x").stderr


@pytest.mark.usefixtures("told")
def test_why_events_are_believed(ringback: Ringback) -> None:
    """The list has the trust of each callback."""
    heading, *lines = ringback("events", "list", "--type", "task.completed").stdout.splitlines()
    assert re.search(r"  source +trust +standing  ", heading)
    assert all(" callback  token  " in line for line in lines)


@pytest.mark.usefixtures("told")
def test_refusals_and_open_tasks(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` tells what was turned away, and of a provider with a secret alone whether something waits for a key."""
    monkeypatch.setenv("RINGBACK_REPLICATE_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLPSw")
    before = ringback("doctor").stdout
    assert ("replicate refusals" in before, "✓ replicate API key: not set: it only receives" in before) == (False, True)

    async def more(ledger: Ledger, _: Settings) -> None:
        await ledger.add_task(Task(id="task_three", provider="replicate", provider_id="r1"))
        await ledger.reject({("replicate", "unauthentic.signature"): 7}, datetime.now(UTC))
        await ledger.reject({("minimax", "token"): 9}, datetime.now(UTC) - timedelta(days=2))

    within(more)
    after = ringback("doctor").stdout
    assert (
        "! replicate refusals: 7 callbacks were turned away since yesterday, unauthentic.signature\n    → compare RINGB"
        in after
    )
    assert "minimax refusals" not in after
    assert "! replicate API key: not set, and a task is open that cannot be asked about" in after


@pytest.mark.usefixtures("told")
def test_a_delivery(ringback: Ringback) -> None:
    """A delivery is shown with each attempt's traceback; replay runs it again and names who asked."""
    (owed,) = rows(ringback, "deliveries", "list", "--state", "succeeded")
    made = ringback("deliveries", "replay", owed["id"])
    assert (made.exit_code, "publish" in made.stdout) == (0, True)
    (again,) = [row for row in rows(ringback, "deliveries", "list", "--task", "task_one") if row["run"] == 2]
    assert again["replayed_by"] == operate.operator()
    assert f"by {again['replayed_by']}" in ringback("deliveries", "show", again["id"]).stdout
    assert "replay" in ringback("tasks", "show", "mine").stdout
    (failed,) = rows(ringback, "deliveries", "list", "--handler", "app.fail")
    text = ringback("deliveries", "show", failed["id"]).stdout
    assert 'raise RuntimeError("no money")' in text
    left = ringback("deliveries", "replay", failed["id"], "--json")
    assert (left.exit_code, msgspec.json.decode(left.stdout)["deliveries"]) == (1, [])
    assert "only what has settled is run again" in left.stderr
    assert msgspec.json.decode(ringback("deliveries", "show", failed["id"], "--json").stdout)["id"] == failed["id"]
    assert ringback("deliveries", "show", "dlv_x").exit_code == 1


def test_an_operator_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user has no name, the number stands for it."""

    def nobody() -> str:
        raise OSError

    monkeypatch.setattr("getpass.getuser", nobody)
    assert re.fullmatch(r"uid \d+@.+", operate.operator())


@pytest.mark.usefixtures("told")
def test_doctor(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """A healthy set-up has no ✗, names the fingerprint, and never prints a secret."""
    monkeypatch.setenv("RINGBACK_QINGBO_API_KEY", "sk-very-secret")
    result = ringback("doctor")
    assert result.exit_code == 0, result.output
    assert "✓ handlers: app.publish (task.completed)" in result.stdout
    assert "✓ qingbo API key: set" in result.stdout
    assert re.search(r"^✓ providers: not configured: .*\breapi\b", result.stdout, re.MULTILINE)
    assert "reapi API key" not in result.stdout
    assert "✓ public URL: https://hooks.example" in result.stdout
    assert fingerprint(SECRET.encode()) in result.stdout
    assert not any(secret in result.output for secret in (SECRET, "sk-very-secret"))


def test_doctor_finds_what_is_wrong(folder: Path, ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that does not load, a secret that was dropped and a clock that went back are each ✗, with advice."""

    async def ahead(ledger: Ledger, _: Settings) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        await ledger.add_task(Task(id="task_1", provider="qingbo", created_at=later, url_key="0123456789abcdef"))
        await ledger.enlist_keys(["0123456789abcdef"], later)

    within(ahead)
    monkeypatch.setenv("RINGBACK_HANDLERS", "nowhere:handlers")
    result = ringback("doctor", "--json")
    document = msgspec.json.decode(result.stdout)
    bad = {check["name"]: check["advice"] for check in document["checks"] if check["mark"] == "✗"}
    assert (result.exit_code, document["ok"]) == (1, False)
    assert set(bad) == {"secret", "handlers", "open tasks", "clock"}
    assert all(bad.values())
    (folder / "ringback.db").write_bytes(b"no database at all, but long enough to be read as one" * 99)
    assert "✗ database" in ringback("doctor").stdout


def test_doctor_in_an_empty_folder(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing set up yet is doubtful, not bad; a wrong setting is bad, and ends the examination."""
    for name in ("SECRET", "PUBLIC_URL", "HANDLERS"):
        monkeypatch.delenv(f"RINGBACK_{name}")
    result = ringback("doctor")
    assert (result.exit_code, "✗" in result.stdout, "! database" in result.stdout) == (0, False, True)
    monkeypatch.setenv("RINGBACK_PUBLIC_URL", "nonsense")
    assert "✗ settings: RINGBACK_PUBLIC_URL" in ringback("doctor").stdout


def test_what_doctor_counts() -> None:
    """Orphaned and discarded deliveries and unknown sends are doubtful, each with a command to see them."""
    from ringback.ledger import Summary
    from ringback.model import DeliveryState

    summary = Summary(orphaned={"old": 2}, deliveries={DeliveryState.DISCARDED: 5}, discarded=1, unknown_sends=3)
    found = list(checks._work(summary))
    assert [check.mark for check in found] == [checks.Mark.DOUBTFUL] * 3
    assert [check.found[:1] for check in found] == ["2", "1", "3"]


@pytest.mark.usefixtures("told")
def test_doctor_and_a_lost_secret(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process would refuse to start, `doctor` says so with the same way out, which works."""
    lost = fingerprint(SECRET.encode())
    monkeypatch.delenv("RINGBACK_HANDLERS")
    for secret in (None, "f" * 40):
        monkeypatch.delenv("RINGBACK_SECRET") if secret is None else monkeypatch.setenv("RINGBACK_SECRET", secret)
        refused, found = ringback("poll", "--once"), ringback("doctor")
        assert (refused.exit_code, found.exit_code) == (1, 1)
        for text in (refused.stderr, found.stdout.partition("✗ secret")[2].partition("\n✓")[0]):
            assert f"ringback migrate --forget-secret {lost}" in text
            assert "start `ringback up`" not in text
    assert ringback("migrate", "--forget-secret", lost).exit_code == 0
    assert (ringback("poll", "--once").exit_code, ringback("doctor").exit_code) == (0, 0)


def test_forgetting_a_secret(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an exact fingerprint is forgotten; the open tasks are counted, and a secret that is still set is named."""
    key = fingerprint(SECRET.encode())
    assert "there is no ledger" in ringback("migrate", "--forget-secret", key).stderr

    async def used(ledger: Ledger, _: Settings) -> None:
        await ledger.enlist_keys([key], datetime.now(UTC))

    async def submitted_under_it(ledger: Ledger, _: Settings) -> None:
        await ledger.add_task(Task(id="task_1", provider="qingbo", url_key=key))

    within(used)
    within(submitted_under_it)
    refused = ringback("migrate", "--forget-secret", key[:8])
    assert (refused.exit_code, f"it knows: {key}" in refused.stderr) == (1, True)
    told = ringback("migrate", "--forget-secret", key)
    assert (told.exit_code, "1 open tasks were sent under it" in told.stdout) == (0, True)
    assert "the next start takes it up again" in told.stderr
    monkeypatch.setenv("RINGBACK_SECRET", "f" * 40)
    assert f"! open tasks: 1 were sent under the secret {key}, which was forgotten" in ringback("doctor").stdout
    within(used)
    told = ringback("migrate", "--forget-secret", key, "--json")
    assert (told.stderr, msgspec.json.decode(told.stdout)["open_tasks"]) == ("", 1)


def test_handlers_elsewhere(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without handlers of its own `doctor` tells what a worker said to the ledger, and whether it runs."""
    monkeypatch.delenv("RINGBACK_HANDLERS")
    now = datetime.now(UTC)
    process = Process(id="w", role="worker", host="here", pid=7, started_at=now)

    async def register(ledger: Ledger, _: Settings) -> None:
        for name, at in (("old.gone", now - timedelta(days=3)), ("app.store", now)):
            await ledger.beat(process, at, at, {name: Registration(patterns=[Pattern()])}, leaving=True)

    async def work(ledger: Ledger, _: Settings) -> None:
        await ledger.beat(process, now, now - timedelta(minutes=1))

    assert "! handlers: none: events are stored only" in ringback("doctor").stdout
    within(register)
    assert re.search(r"! handlers: none are set here, and no worker .* app\.store\n", ringback("doctor").stdout)
    within(work)
    assert "✓ handlers: none are set here; a running worker has app.store\n" in ringback("doctor").stdout


@pytest.mark.usefixtures("told")
def test_replayed_deliveries(ringback: Ringback) -> None:
    """A delivery that was replayed names its successor in the list, and is left out by --latest."""
    (owed,) = rows(ringback, "deliveries", "list", "--state", "succeeded")
    (again,) = msgspec.json.decode(ringback("deliveries", "replay", owed["id"], "--json").stdout)["deliveries"]
    for command in (("list", "--state", "succeeded"), ("show", owed["id"])):
        assert again["id"] in ringback("deliveries", *command).stdout
    (first,) = rows(ringback, "deliveries", "list", "--state", "succeeded")
    assert first["replayed_as"] == again["id"]
    assert rows(ringback, "deliveries", "list", "--state", "succeeded", "--latest") == []


def test_standings_and_trust() -> None:
    """A body that made no sense is no conflict, and what we asked for ourselves is not called signed."""
    now = datetime.now(UTC)
    plain = Event(
        id="evt_1", type=EventType.CALLBACK_UNRECOGNISED, provider="qingbo", task_id=None, status=None,
        source=Source.CALLBACK, trust=Trust.SIGNED, received_at=now, last_seen_at=now,
    )  # fmt: skip
    reasons = (None, "expected a JSON object", "task_mismatch")
    assert [show.standing_text(replace(plain, conflict=reason)) for reason in reasons] == [
        "accepted", "unrecognised: expected a JSON object", "conflict: task_mismatch",
    ]  # fmt: skip
    assert [show.trust_text(replace(plain, source=source)) for source in Source] == [
        "trust signed", "answer to our own request", "answer to our own request", "our own presumption",
    ]  # fmt: skip


@pytest.mark.usefixtures("told")
def test_an_unreadable_body(ringback: Ringback) -> None:
    """List, event and story tell why a body was not understood, and call nothing a conflict."""

    async def unreadable(ledger: Ledger, settings: Settings) -> None:
        callback = Callback(body=b"<html>", received_at=datetime.now(UTC))
        await Intake(ledger, settings).pushed(QINGBO, "task_two", Trust.TOKEN, callback)

    within(unreadable)
    (event, _) = rows(ringback, "events", "list", "--type", "callback.unrecognised")
    assert event["conflict"]
    for command in (("events", "list", "--task", "task_two"), ("events", "show", event["id"])):
        assert f"unrecognised: {event['conflict']}" in ringback(*command).stdout
    told = ringback("tasks", "show", "task_two").stdout
    assert (f"trust token, {event['conflict']}" in told, "conflict" in told) == (True, False)
    assert "conflict: task_mismatch" in ringback("tasks", "show", "mine").stdout


def test_migrate(folder: Path, ringback: Ringback) -> None:
    """The database is made once, then left; another version or another file is refused in one line."""
    assert "made; schema 1" in ringback("migrate").stdout
    assert msgspec.json.decode(ringback("migrate", "--json").stdout)["done"] == "unchanged"
    connection = sqlite3.connect(folder / "ringback.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    result = ringback("migrate")
    assert (result.exit_code, "upgrade Ringback" in result.stderr) == (1, True)
    (folder / "ringback.db").write_bytes(b"no database at all, but long enough to be read as one" * 99)
    assert "cannot be migrated" in ringback("migrate").stderr
    (folder / "ringback.db").unlink()
    (folder / "ringback.db").mkdir()
    assert "a folder, not a database" in ringback("migrate").stderr


def test_lengths_of_time() -> None:
    """A length of time is written as people say it."""
    seconds = (0.0042, 5.25, 95, 3720, 90_000)
    assert [span(timedelta(seconds=s)) for s in seconds] == ["4 ms", "5.2 s", "1 min 35 s", "1 h 2 min", "1 d 1 h"]


def test_other_turns_of_a_story() -> None:
    """A timeline also tells of tasks first heard of by callback, of sendings still due, and of presumptions."""
    now = datetime.now(UTC)
    later = now + timedelta(minutes=1)
    heard = Task(id="task_1", provider="qingbo", origin=Origin.CALLBACK, created_at=now)
    due = Task(id="task_2", provider="qingbo", created_at=now, sent_at=now, sends=2, send_note="429", resend_at=later)
    asked = Task(id="task_3", provider="reapi", provider_id="r1", created_at=now, fetch_at=later)
    given_up = replace(asked, fetch_at=None, state=TaskState.EXPIRED, settled_by=Source.RINGBACK, settled_at=later)
    verdicts = [
        [(step.what, step.verdict) for step in timeline(Story(task=task, events=(), callbacks=(), deliveries=()))][1:]
        for task in (heard, due, asked, given_up)
    ]
    assert verdicts == [[], [("request", "sent"), ("request", "due")], [("poll", "due")], [("task", "expired")]]


def test_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal with little room the dates give way to the notes."""
    monkeypatch.setattr("ringback.cli.show.console", lambda: Console(force_terminal=True, width=80))
    assert show.is_narrow()
    monkeypatch.setattr("ringback.cli.show.console", lambda: Console(force_terminal=True, width=200))
    assert not show.is_narrow()

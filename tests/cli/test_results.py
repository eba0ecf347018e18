"""`ringback results`, and what `status`, `doctor`, `work` and `up` say of results."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ringback.ledger import STORE_RESULTS, Ledger, Pattern, Process, Registration
from ringback.model import Arrival, Callback, Kind, Reading, Result, Source, Task, TaskState, Trust
from ringback.settings import Settings
from tests.results.films import Films, films

from .conftest import Process as Started
from .conftest import Ringback, within

pytestmark = pytest.mark.usefixtures("secret")
SIZE = 100_000


@pytest.fixture
def film() -> Iterator[Films]:
    """Serve a film."""
    with films(SIZE) as server:
        yield server


@pytest.fixture
def kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name a place."""
    monkeypatch.setenv("RINGBACK_RESULTS_URL", f"file://{folder}/kept")
    monkeypatch.setenv("RINGBACK_ALLOW_PRIVATE", "127.0.0.1")
    return folder / "kept"


def completed(name: str, *urls: str, life: timedelta = timedelta(hours=24), storing: bool = False) -> None:
    """Have a task complete with these results."""
    now = datetime.now(UTC)

    async def act(ledger: Ledger, _: Settings) -> None:
        if storing:
            process = Process(id="w", role="worker", host="h", pid=1, started_at=now)
            registered = {STORE_RESULTS: Registration(patterns=(Pattern(),))}
            await ledger.beat(process, now, now - timedelta(hours=1), registered)
        await ledger.add_task(Task(id=name, provider="qingbo", created_at=now))
        found = tuple(Result(kind="video", url=url, expires_at=now + life) for url in urls)
        reading = Reading(status=TaskState.COMPLETED, provider_id=f"p-{name}", results=found)
        callback = Callback(body=b"{}", received_at=now)
        await ledger.record(
            Arrival(
                kind=Kind.FACT,
                provider="qingbo",
                source=Source.CALLBACK,
                trust=Trust.TOKEN,
                callback=callback,
                task_id=name,
                reading=reading,
            )
        )

    within(act)


def said(ringback: Ringback, *arguments: str) -> Any:
    """Give the JSON that a command prints."""
    return json.loads(ringback(*arguments, "--json").stdout)


def test_fetch_list_and_verify(ringback: Ringback, kept: Path, film: Films) -> None:
    """What is missing is stored now, then listed with its place, then read again; a changed byte is found."""
    completed("task_one", film.url, film.url)
    completed("task_two", film.url)
    assert [row["stored_url"] for row in said(ringback, "results", "list", "--missing")["results"]] == [None] * 3
    assert said(ringback, "results", "fetch", "--task", "task_two") == {"stored": 1, "problems": []}
    done = ringback("results", "fetch", "--all")
    assert (done.exit_code, done.stdout) == (0, "stored 2\n")
    rows = said(ringback, "results", "list", "--limit", "1")["results"]
    assert [(row["task_id"], row["size"], row["stored_url"]) for row in rows] == [
        ("task_two", SIZE, f"file://{kept}/task_two/0.mp4")
    ]
    assert ringback("results", "list", "--missing").stderr == "no results\n"
    assert str(kept) in ringback("results", "list", "--task", "task_one").stdout
    assert said(ringback, "results", "verify") == {"verified": 3, "problems": []}
    (kept / "task_one" / "1.mp4").write_bytes(b"x" * SIZE)
    (kept / "task_two" / "0.mp4").unlink()
    checked = ringback("results", "verify")
    assert checked.exit_code == 1
    assert "task_one 1: its bytes are not those that were stored" in checked.stdout
    assert "cannot be read (No such file or directory)" in checked.stdout
    assert "2 of 3 results are not as they were stored" in checked.stderr


def test_what_cannot_be_fetched_is_named(ringback: Ringback, kept: Path, film: Films) -> None:
    """By its task and place, with the reason; the others are stored."""
    completed("task_one", film.url, "ftp://127.0.0.1/x", "http://10.0.0.1/x")
    done = ringback("results", "fetch", "--all")
    assert done.exit_code == 1
    assert "task_one 1: expected an http(s) URL" in done.stdout
    assert "task_one 2: 10.0.0.1 is not a public address" in done.stdout
    assert "2 of 3 results could not be stored" in done.stderr
    assert (kept / "task_one" / "0.mp4").stat().st_size == SIZE


def test_what_must_be_said(ringback: Ringback, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose results, of which task, and where they go."""
    completed("task_one")
    assert ringback("results", "fetch").exit_code == 2
    assert "there is no task 'task_x'" in ringback("results", "fetch", "--task", "task_x").stderr
    monkeypatch.delenv("RINGBACK_RESULTS_URL")
    refused = ringback("results", "verify")
    assert (refused.exit_code, "RINGBACK_RESULTS_URL is not set" in refused.stderr) == (2, True)
    monkeypatch.setenv("RINGBACK_RESULTS_URL", "films")
    refused = ringback("results", "fetch", "--all")
    assert (refused.exit_code, "expected file:///absolute/folder" in refused.stderr) == (2, True)
    assert kept.name == "kept"


def test_status_and_doctor_raise_the_alarm(ringback: Ringback, kept: Path) -> None:
    """What is not stored and ends within an hour, and what has ended."""
    completed("task_late", "https://cdn.example/a.mp4", life=timedelta(minutes=30), storing=True)
    completed("task_lost", "https://cdn.example/b.mp4", life=timedelta(minutes=-1))
    told = said(ringback, "status")["results"]
    assert (told["stored"], told["waiting"], told["lost"]) == (0, 2, 1)
    assert [row["task_id"] for row in told["expiring"]] == ["task_late"]
    assert "task_late 0 in 29 min" in ringback("status").stdout
    shown = ringback("doctor").stdout
    assert f"✓ results: file://{kept}; 0 stored (0 B), 2 wait" in shown
    assert "✗ results: not stored, and their URLs end within an hour: 1: task_late 0 in 29 min" in shown
    assert "! results: 1 were not stored before their URLs ended" in shown


def test_doctor_sees_a_place_that_cannot_be_used(
    ringback: Ringback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in its way, a cloud that takes no such name, or none at all while something waits."""
    completed("task_one", "https://cdn.example/a.mp4", storing=True)
    assert "! results: 1 wait to be stored, but no place is named here" in ringback("doctor").stdout
    (folder / "file").touch()
    monkeypatch.setenv("RINGBACK_RESULTS_URL", f"file://{folder}/file")
    assert "✗ results: " in ringback("doctor").stdout
    monkeypatch.setenv("RINGBACK_RESULTS_URL", "az://films")
    assert "obstore does not take az://films" in ringback("doctor").stdout


def test_status_is_silent_where_nothing_is_ever_stored(ringback: Ringback) -> None:
    """No section, and null for programs."""
    completed("task_one", "https://cdn.example/a.mp4")
    assert "results stored" not in ringback("status").stdout
    assert said(ringback, "status")["results"] is None


def test_work_stores_without_any_handler_of_the_users(ringback: Ringback, kept: Path, film: Films) -> None:
    """`work --once` and `tick` run the built-in handler alone."""
    completed("task_one", film.url)
    assert said(ringback, "work", "--once") == {"attempts": 1}
    assert (kept / "task_one" / "0.mp4").stat().st_size == SIZE
    completed("task_two", film.url)
    assert said(ringback, "tick")["attempts"] == 1
    assert len(said(ringback, "results", "list")["results"]) == 2


def test_work_does_not_start_without_what_its_place_needs(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket without obstore is a mistake of the settings: exit code 2, and how to install it."""
    completed("task_one", "https://cdn.example/a.mp4")
    monkeypatch.setenv("RINGBACK_RESULTS_URL", "s3://films")
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    refused = ringback("work", "--once")
    assert refused.exit_code == 2
    assert "pip install 'ringback[results]'" in refused.stderr


def test_work_warns_where_a_handler_waits_for_nothing(
    ringback: Ringback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stored=True` without a place: it does not wait, and the log says so."""
    (folder / "app.py").write_text(
        "from receiver import Handlers\nhandlers = Handlers()\n"
        "@handlers.on('task.completed', stored=True)\nasync def publish(event): ...\n"
    )
    monkeypatch.setenv("RINGBACK_HANDLERS", "app:handlers")
    completed("task_one", "https://cdn.example/a.mp4")
    done = ringback("work", "--once")
    assert "1 attempt" in done.stdout
    assert "results.not_stored" in done.stderr
    assert "app.publish" in done.stderr


def test_a_worker_raises_the_alarm_in_its_log(kept: Path, start: Callable[..., Started]) -> None:
    """`work` tells of a result that it cannot store, well before its URL ends."""
    completed("task_one", "http://10.0.0.1/x.mp4", life=timedelta(minutes=30), storing=True)
    worker = start("work")
    assert worker.line("result.expiring")["task"] == "task_one"
    assert worker.end(signal.SIGTERM) == 0
    assert kept.name == "kept"

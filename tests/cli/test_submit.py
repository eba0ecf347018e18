"""`submit`, `poll` and `tick` against a sandbox that runs in a thread."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import msgspec
import pytest

from ringback.cli import submit
from ringback.cli.group import Failure
from ringback.model import Task
from ringback.sandbox import SandboxConfig, exports, serve

from .conftest import SECRET, Ringback

CONFIG = SandboxConfig(port=0, delay_seconds=(0.0, 0.01))
LINES = """\
{"prompt": "one"}

{"prompt": "two", "provider": "reapi"}
{"prompt": "three", "duration": 8, "key": "mine"}
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[dict[str, str]]:
    """Run a sandbox; gives the environment that points at it."""
    urls: SimpleQueue[str] = SimpleQueue()
    loop = asyncio.new_event_loop()
    serving = loop.create_task(serve(CONFIG, urls.put))

    def run() -> None:
        loop.run_until_complete(asyncio.wait({serving}))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield exports(CONFIG, urls.get(timeout=10))
    loop.call_soon_threadsafe(serving.cancel)
    thread.join()


@pytest.fixture(autouse=True)
def use_sandbox(sandbox: dict[str, str], monkeypatch: pytest.MonkeyPatch, ringback: Ringback) -> None:
    """Point the settings at the sandbox, and make a database."""
    for name, value in sandbox.items():
        monkeypatch.setenv(name, value)
    assert ringback("migrate").exit_code == 0


def test_submit(ringback: Ringback) -> None:
    """A task is submitted once per key; the note says who fetches its end."""
    result = ringback("submit", "qingbo", "--prompt", "a dog", "--key", "k", "--metadata", "customer=7")
    assert result.exit_code == 0, result.output
    assert "none: the poller fetches" in result.stdout
    assert "$0.044625" in result.stdout
    again = ringback("submit", "qingbo", "--prompt", "a dog", "--key", "k", "--metadata", "customer=7", "--json")
    task = msgspec.json.decode(again.stdout)["task"]
    assert task["id"] in result.stdout
    assert (task["sends"], task["metadata"]) == (1, {"customer": 7})
    other = ringback("submit", "qingbo", "--prompt", "a cat", "--key", "k")
    assert (other.exit_code, other.stderr.startswith("error: ")) == (1, True)


def test_waiting_for_a_finished_task(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--wait` says that it waits; where the task has ended already it shows the end at once."""
    monkeypatch.setenv("RINGBACK_PUSH_DEADLINE_SECONDS", "0.1")
    submit = ("submit", "qingbo", "--prompt", "a dog", "--key", "k", "--wait", "--timeout", "0.1")
    assert "waiting…" in ringback(*submit).stderr
    while "submitted" in ringback("tasks", "list").stdout:
        assert ringback("poll", "--once").exit_code == 0
    done = ringback(*submit)
    assert (done.exit_code, done.stderr, "completed" in done.stdout) == (0, "", True)


def test_waiting_in_vain(ringback: Ringback) -> None:
    """A wait that runs out says that the task goes on, and exits with 1."""
    result = ringback("submit", "qingbo", "--prompt", "a dog", "--wait", "--timeout", "0.1")
    assert result.exit_code == 1
    assert "error: task_" in result.stderr
    assert "it goes on all the same" in result.stderr


@pytest.mark.usefixtures("secret")
def test_a_refusal(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the provider refuses, or would refuse, exits with 1 and its own code and field."""
    result = ringback("submit", "qingbo", "--prompt", "x", "--duration", "99")
    assert (result.exit_code, "field duration" in result.stderr) == (1, True)
    assert "above the limit of $0.01" in ringback("submit", "qingbo", "--prompt", "x", "--max-cost", "0.01").stderr
    monkeypatch.setenv("RINGBACK_QINGBO_API_KEY", "sk-wrong-key")
    result = ringback("submit", "qingbo", "--prompt", "x")
    assert (result.exit_code, "RINGBACK_QINGBO_API_KEY" in result.stderr) == (1, True)
    assert not any(text in result.output for text in ("sk-wrong-key", SECRET))


@pytest.mark.usefixtures("secret")
def test_dry_run(ringback: Ringback) -> None:
    """A dry run shows request, masked callback URL and price, and stores nothing."""
    asked = ("submit", "qingbo", "--prompt", "a dog", "--extra", "seed=42", "--callback-event", "failed", "--dry-run")
    result = ringback(*asked)
    assert (result.exit_code, SECRET in result.output) == (0, False)
    assert '"seed": 42' in result.stdout
    assert "callback URL: https://hooks.example/callbacks/qingbo/task_" in result.stdout
    assert ".<mac>\n" in result.stdout
    document = msgspec.json.decode(ringback(*asked, "--json").stdout)
    assert (document["method"], document["price_microdollars"]) == ("POST", 44_625)
    assert document["body"]["callback_events"] == ["failed"]
    assert msgspec.json.decode(ringback("tasks", "list", "--json").stdout) == {"tasks": []}


def test_a_file(folder: Path, ringback: Ringback) -> None:
    """Every line is submitted, once however often the file is given; the result is in the file's order."""
    (folder / "tasks.jsonl").write_text(LINES)
    result = ringback("submit", "qingbo", "--file", "tasks.jsonl")
    assert (result.exit_code, "3 of 3 lines submitted, 0 refused" in result.stderr) == (0, True)
    again = ringback("submit", "qingbo", "--file", "tasks.jsonl", "--json")
    lines = msgspec.json.decode(again.stdout)["lines"]
    assert [(line["line"], line["task"]["sends"]) for line in lines] == [(1, 1), (3, 1), (4, 1)]
    assert [line["task"]["key"] for line in lines][2] == "mine"


def test_a_file_from_standard_input(ringback: Ringback) -> None:
    """A dash reads standard input; a refused line is shown and exits with 1."""
    result = ringback("submit", "qingbo", "--file", "-", stdin='{"prompt": "a"}\n{"prompt": "b [fault:nonsense]"}\n')
    assert result.exit_code == 1
    assert "1 of 2 lines submitted, 1 refused" in result.stderr
    assert "holds no lines" in ringback("submit", "qingbo", "--file", "-", stdin="\n").stderr


def test_a_bad_file(ringback: Ringback) -> None:
    """A bad line is named before anything is sent, also in a dry run."""
    for more in ((), ("--dry-run",)):
        result = ringback("submit", "qingbo", "--file", "-", *more, stdin='{"prompt": "a"}\n{"promt": "b"}\n')
        assert result.exit_code == 1
        assert "stdin line 2" in result.stderr
        assert "did you mean prompt?" in result.stderr
    assert msgspec.json.decode(ringback("tasks", "list", "--json").stdout) == {"tasks": []}


def test_a_file_as_dry_run(ringback: Ringback) -> None:
    """A dry run of a file sums the prices, says which are unknown, and keeps to the limit."""
    result = ringback("submit", "qingbo", "--file", "-", "--dry-run", stdin=LINES)
    assert result.exit_code == 0
    assert "3 lines, $0.104125, and 1 without a known price" in result.stderr
    limited = ringback("submit", "qingbo", "--file", "-", "--dry-run", "--json", "--max-cost", "1", stdin=LINES)
    assert (limited.exit_code, msgspec.json.decode(limited.stdout)["unknown_prices"]) == (1, 1)


@pytest.mark.usefixtures("handlers")
def test_tick(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick polls and works once; without handlers it says that none are run."""
    assert ringback("tick").stdout == "0 requests, 0 attempts\n"
    monkeypatch.delenv("RINGBACK_HANDLERS")
    result = ringback("tick", "--json")
    assert msgspec.json.decode(result.stdout) == {"requests": 0}
    assert "no handlers are set" in result.stderr
    assert ringback("poll", "--once").stdout == "0 requests\n"


def test_a_send_whose_end_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """A task that nobody may send again is a failure; one that the poller sends again is a note."""
    task = Task(id="task_1", provider="reapi", send_note="no answer in time")
    with pytest.raises(Failure, match="could buy it twice"):
        submit._judge(task, None, waited=False)
    submit._judge(Task(id="task_1", provider="reapi", resend_at=task.created_at), None, waited=False)
    assert "the poller sends it again" in capsys.readouterr().err

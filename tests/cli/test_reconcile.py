"""`ringback tasks cancel` and `ringback reconcile`, against the sandbox on a real socket."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec
import pytest
from click.testing import Result

from ringback.cli import reconcile as command
from ringback.errors import LedgerUnavailable
from ringback.ledger import Ledger, Query
from ringback.ledger.sqlite import SqliteLedger
from ringback.model import Task, TaskState
from ringback.retry import Policy
from ringback.sandbox import SandboxConfig, exports, running
from ringback.settings import Settings
from submitter import Submitter, reconciling

from .conftest import Ringback, within

pytestmark = pytest.mark.usefixtures("secret")


class Provider:
    """The sandbox in a thread of its own."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.url = ""
        self._up, self._stop = Event(), Event()
        self._thread = Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        async with running(self.config) as self.url:
            self._up.set()
            await asyncio.to_thread(self._stop.wait)

    def start(self) -> None:
        """Begin to serve, and wait until it does."""
        self._thread.start()
        assert self._up.wait(10)

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join(10)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Provider]]:
    """Start a sandbox and point the command at it; its tasks stay queued unless told otherwise."""
    started: list[Provider] = []

    def start(**config: Any) -> Provider:
        found = Provider(SandboxConfig(port=0, **{"delay_seconds": (60, 60)} | config))
        found.start()
        started.append(found)
        for name, value in exports(found.config, found.url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("RINGBACK_PUBLIC_URL", raising=False)  # nobody listens to pushes here
        return found

    yield start
    for one in started:
        one.close()


def submit(*prompts: str, provider: str = "qingbo") -> list[Task]:
    """Submit tasks to the sandbox."""

    async def act(ledger: Ledger, settings: Settings) -> list[Task]:
        async with Submitter(settings, ledger=ledger) as submitter:
            return [await submitter.submit(provider, prompt=prompt, key=prompt) for prompt in prompts]

    found: list[Task] = within(act)
    return found


def states() -> dict[str | None, TaskState]:
    """Give each task's state, by its key."""

    async def act(ledger: Ledger, _: Settings) -> dict[str | None, TaskState]:
        return {task.key: task.state for task in await ledger.tasks(Query())}

    found: dict[str | None, TaskState] = within(act)
    return found


def document(result: Result, exit_code: int = 0) -> dict[str, Any]:
    """Decode what --json printed."""
    assert result.exit_code == exit_code, result.output
    found: dict[str, Any] = msgspec.json.decode(result.stdout)
    return found


def test_cancelling(provider: Callable[..., Provider], ringback: Ringback) -> None:
    """By key or id, several at once; one that cannot be is told beside the others, with exit code 1."""
    provider()
    _, two, _ = submit("one", "two", "three")
    (plain,) = submit("plain", provider="reapi")
    assert ringback("tasks", "cancel", "one").stdout == "one: cancelled\n"
    mixed = ringback("tasks", "cancel", two.id, "plain", "nobody")
    assert (mixed.exit_code, mixed.stdout) == (1, f"{two.id}: cancelled\n")
    assert f"error: reapi has no way to cancel a task that was submitted; {plain.id} goes on\n" in mixed.stderr
    assert "error: no task 'nobody'" in mixed.stderr
    told = document(ringback("tasks", "cancel", "three", "--json"))["tasks"]
    assert [(one["task"]["state"], one["error"]) for one in told] == [("cancelled", None)]
    assert states() == {
        "one": TaskState.CANCELLED, "two": TaskState.CANCELLED, "three": TaskState.CANCELLED,
        "plain": TaskState.PROCESSING,
    }  # fmt: skip
    assert ringback("tasks", "cancel").exit_code == 2


def test_a_task_that_runs(provider: Callable[..., Provider], ringback: Ringback) -> None:
    """The provider's own words are shown, and how the task stands."""
    provider(queued_share=0.0)
    submit("runs")
    refused = ringback("tasks", "cancel", "runs")
    assert refused.exit_code == 1
    assert "qingbo: only queued tasks can be cancelled (code task_not_cancellable); it is submitted" in refused.stderr


def test_withdrawing(provider: Callable[..., Provider], ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was never sent is withdrawn; what a provider only takes note of stays open."""
    provider(max_tasks=1)
    submit("one")
    monkeypatch.setattr("submitter.sending.SENDING", Policy(attempts=1))
    submit("two")
    assert states()["two"] is TaskState.PENDING
    gone = ringback("tasks", "cancel", "two")
    assert (gone.exit_code, "it was never sent, and never will be; it counts as failed" in gone.stdout) == (0, True)
    assert states()["two"] is TaskState.FAILED


def test_a_wish_that_is_taken_note_of(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that the provider is going to cancel is told as what it is until then."""
    task = Task(id="task_1", provider="fal", provider_id="r", state=TaskState.SUBMITTED)

    async def noted(*_: object) -> Task:
        return task

    within(lambda *_: asyncio.sleep(0))
    monkeypatch.setattr(Submitter, "cancel", noted)
    said = ringback("tasks", "cancel", "task_1").stdout
    assert said == "task_1: fal will cancel it; until it says so the task is submitted\n"


def test_reconciling(provider: Callable[..., Provider], ringback: Ringback, folder: Path) -> None:
    """Missed ends are shown and taken in; the second pass finds nothing, whatever it is asked for."""
    provider(delay_seconds=(0, 0))
    tasks = submit("one", "two [fault:failed]")
    submit("plain", provider="reapi")
    dry = ringback("reconcile", "--dry-run")
    assert dry.exit_code == 0
    assert dry.stdout.count("would be taken in") == 3
    assert "3 tasks compared, 3 of them asked about; 3 differences would be mended\n" in dry.stderr
    assert set(states().values()) <= {TaskState.SUBMITTED, TaskState.PROCESSING}
    told = document(ringback("reconcile", "--provider", "qingbo", "--since", "1h", "--json"))
    assert (told["compared"], told["asked"], told["need_you"], told["by_kind"]) == (2, 2, 0, {"ended there": 2})
    assert {(one["task_id"], one["there"], one["mended"]) for one in told["differences"]} == {
        (tasks[0].id, "completed", True), (tasks[1].id, "failed", True),
    }  # fmt: skip
    first = ringback("reconcile")
    assert "plain" not in first.stdout
    assert first.stdout.splitlines()[1].split()[-2:] == ["taken", "in"]
    before = (folder / "ringback.db").read_bytes()
    second = ringback("reconcile")
    assert (second.exit_code, second.stdout) == (0, "")
    assert second.stderr == "3 tasks compared, 3 of them asked about; no difference\n"
    assert (folder / "ringback.db").read_bytes() == before


def test_what_needs_a_person(
    provider: Callable[..., Provider], ringback: Ringback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, with what is to be done: here a key that the provider does not take, and a task that it forgot."""
    provider(delay_seconds=(0, 0))
    submit("one")
    document(ringback("reconcile", "--json"))
    submit("two")
    provider()
    gone = ringback("reconcile")
    assert gone.exit_code == 1
    assert "qingbo answered 404" in gone.stdout
    assert "is the API key that of the account which submitted it?" in gone.stdout
    assert "1 that have ended are forgotten there; 1 left for you" in gone.stderr
    monkeypatch.setenv("RINGBACK_QINGBO_API_KEY", "sk-wrong")
    wrong = document(ringback("reconcile", "--json"), exit_code=1)
    assert {one["there"] for one in wrong["differences"]} == {"qingbo answered 401: check RINGBACK_QINGBO_API_KEY"}
    assert (wrong["need_you"], wrong["asked"]) == (2, 0)


def test_wrong_options(ringback: Ringback) -> None:
    """A time that ends before it begins, or a provider that nobody knows, is no clean ledger."""
    within(lambda *_: asyncio.sleep(0))
    for words in (["--since", "1h", "--until", "2h"], ["--provider", "qingbi"], ["--since", "yesterday"]):
        assert ringback("reconcile", *words).exit_code == 2


def test_without_a_ledger(ringback: Ringback) -> None:
    """The path that is missing is named, and no result is claimed."""
    result = ringback("reconcile")
    assert (result.exit_code, "compared" in result.stderr, "there is no ledger" in result.stderr) == (1, False, True)


@pytest.mark.parametrize("trouble", [LedgerUnavailable("the disk is full"), KeyboardInterrupt()], ids=["disk", "stop"])
def test_a_pass_that_was_stopped_says_where_to_go_on(
    provider: Callable[..., Provider],
    ringback: Ringback,
    monkeypatch: pytest.MonkeyPatch,
    trouble: BaseException,
) -> None:
    """What it had compared by then is told, and the options that go on with the rest find all of it."""
    provider(delay_seconds=(0, 0))
    submit("one", "two", "three")
    monkeypatch.setattr(reconciling, "PAGE", 1)
    tasks, pages = SqliteLedger.tasks, []

    async def stopping(ledger: SqliteLedger, query: Query) -> Any:
        pages.append(query)
        if len(pages) == 2:
            raise trouble
        return await tasks(ledger, query)

    monkeypatch.setattr(SqliteLedger, "tasks", stopping)
    stopped = ringback("reconcile")
    assert stopped.exit_code == (130 if isinstance(trouble, KeyboardInterrupt) else 1)
    assert "stopped after 1 task; to go on with the rest: --since " in stopped.stderr
    assert "1 difference mended" in stopped.stderr
    rest = stopped.stderr.split("the rest: ")[1].splitlines()[0].split()
    monkeypatch.setattr(SqliteLedger, "tasks", tasks)
    assert document(ringback("reconcile", *rest, "--json"))["by_kind"] == {"ended there": 2}


def test_the_tally_counts() -> None:
    """What was mended needs nobody; in a dry run it says what would be."""
    tally = command._Tally(dry_run=True)
    task = Task(id="task_1", provider="qingbo")
    found = tuple(
        reconciling.Difference(what=what, here="a", there="b")
        for what in (reconciling.What.ENDED, reconciling.What.CHARGE)
    )
    tally.add(reconciling.Compared(task=task, asked=True, differences=found))
    assert (tally.compared, tally.asked, tally.open, len(tally.found)) == (1, 1, 1, 2)
    assert command._summary(tally) == (
        "1 task compared, 1 of them asked about; 1 difference would be mended; 1 left for you"
    )

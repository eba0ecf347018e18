"""Providers whose callbacks have to be confirmed: what the command says, and where it does not start."""

import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringback.ledger import Ledger, Process
from ringback.settings import Settings

from .conftest import Process as Command
from .conftest import Ringback, within

pytestmark = pytest.mark.usefixtures("secret")

ACME = """
[providers.acme]
base_url = "https://api.acme.example"
scheme = "none"
account_endpoint = true
task_id = "id"
status = "state"
{more}

[providers.acme.fetch]
path = "/tasks/{{provider_id}}"
"""
POLLER = r"^! poller: none was seen in the last minute: callbacks of acme are hints, and wait$"


def acme(folder: Path, more: str = "") -> None:
    """Describe a provider that authenticates nothing."""
    (folder / "ringback.toml").write_text(ACME.format(more=more))


def test_serve_does_not_start_where_strangers_would_be_believed(folder: Path, ringback: Ringback) -> None:
    """Without any authentication `never` is refused, with the setting's name; nothing is made."""
    acme(folder, 'confirm = "never"')
    for command in ("serve", "up", "poll"):
        result = ringback(command)
        assert result.exit_code != 0
        assert re.search(r"confirm.*acme does not authenticate its callbacks; only `always` is safe", result.stderr)
    assert not (folder / "ringback.db").exists()


def test_the_environment_cannot_undo_that(folder: Path, ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable stands above the file, and is checked like it."""
    acme(folder)
    monkeypatch.setenv("RINGBACK_ACME_CONFIRM", "never")
    result = ringback("serve")
    assert result.exit_code != 0
    assert "RINGBACK_ACME_CONFIRM" in result.stderr


async def beat(ledger: Ledger, _: Settings) -> None:
    """Let a poller be seen."""
    now = datetime.now(UTC)
    await ledger.beat(Process(id="p", role="poller", host="here", pid=7, started_at=now), now, now)


def test_doctor_says_who_waits_for_a_poller(folder: Path, ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a poller hints stay hints; without a key even a poller cannot help, and that is a fault."""
    acme(folder)
    assert ringback("migrate").exit_code == 0
    told = ringback("doctor")
    assert "✗ acme callbacks: are hints, which nothing here can confirm\n    → set RINGBACK_ACME_API_KEY" in told.stdout
    assert (told.exit_code, bool(re.search(POLLER, told.stdout, re.MULTILINE))) == (1, True)
    monkeypatch.setenv("RINGBACK_ACME_API_KEY", "k")
    told = ringback("doctor")
    assert (told.exit_code, "acme callbacks" in told.stdout) == (0, False)
    assert re.search(POLLER, told.stdout, re.MULTILINE)
    within(beat)
    assert re.search(r"^✓ poller: here pid 7$", ringback("doctor").stdout, re.MULTILINE)


def test_doctor_names_nobody_where_callbacks_are_believed(folder: Path, ringback: Ringback) -> None:
    """A missing poller is told all the same."""
    assert not (folder / "ringback.toml").exists()
    assert ringback("migrate").exit_code == 0
    assert re.search(r"^! poller: none was seen in the last minute$", ringback("doctor").stdout, re.MULTILINE)


def test_serve_says_whose_callbacks_it_cannot_verify(
    folder: Path, start: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no secret is valid, the log names the variable at the start."""
    monkeypatch.setenv("RINGBACK_GITHUB_SECRET", "abc until=2020-12-31")
    assert not (folder / "ringback.db").exists()
    serve = start("serve", "--port", "0")
    line = serve.line("receiver.cannot_verify")
    assert (line["level"], line["provider"], line["consequence"]) == ("warning", "github", "its callbacks get 503")
    assert line["fix"].startswith("set RINGBACK_GITHUB_SECRET to ")
    serve.line("receiver.listening")
    assert serve.end(signal.SIGTERM) == 0

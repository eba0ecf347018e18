"""What a newcomer types wrongly, and what the pages say about the command."""

import runpy
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ringback.cli import COMMANDS, SECTIONS, main
from ringback.cli.group import printable

from .conftest import Ringback

ROOT = Path(__file__).parents[2]


def leaves() -> list[str]:
    """Give every command that does something, such as `tasks list`."""
    context = click.Context(main)
    found = []
    for name in COMMANDS:
        command = main.get_command(context, name)
        subcommands = command.list_commands(context) if isinstance(command, click.Group) else []
        found += [f"{name} {sub}" for sub in subcommands] or [name]
    return found


@pytest.mark.parametrize("command", leaves())
def test_help(command: str, ringback: Ringback) -> None:
    """Every command explains itself and shows an example that begins with its own name."""
    result = ringback(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"ringback {command}" in result.stdout.partition("Example")[2]


@pytest.mark.parametrize("command", leaves())
def test_reference(command: str) -> None:
    """Every command has a row with an example in docs/reference/command.md."""
    page = (ROOT / "docs/reference/command.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `ringback {command}` |"))
    assert row.count(f"`ringback {command}") == 2


def test_settings_page() -> None:
    """docs/reference/settings.md is what docs/generate.py makes of the code."""
    for path, text in runpy.run_path(str(ROOT / "docs/generate.py"))["pages"]():
        assert path.read_text() == text, "run: python docs/generate.py"


def test_overview(ringback: Ringback) -> None:
    """The help of the whole lists every command under a heading; the version is the package's."""
    text = ringback("--help").stdout
    assert all(f"{heading}:" in text for heading in SECTIONS)
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "..." not in text.partition("Options:")[2]  # no sentence is cut off
    assert ringback("--version").stdout.startswith("ringback 0.")


def test_overview_is_quick() -> None:
    """The help of the whole imports no server, no client, no tables and no journey."""
    code = "import sys; from ringback.cli import main; main(['--help'], standalone_mode=False)"
    code += "; print(*{'receiver', 'submitter', 'httpx', 'starlette', 'uvicorn', 'rich', 'msgspec'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] in ("", "msgspec")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("subm", "did you mean submit?"),
        ("xyzzy", "expected one of up, serve"),
        ("tasks lsit", "did you mean list?"),
        ("up --port 70000", "0<=x<=65535"),
        ("up --handlers app", "expected module:name, for example app:handlers"),
        ("tasks list --state done", "'completed'"),
        ("submit", "name a provider"),
        ("submit qinbo --prompt x --dry-run", "did you mean qingbo?"),
        ("submit qingbo --extra style=anime", "--extra 'style=\"anime\"'"),
        ("submit qingbo --extra style", "expected KEY=JSON"),
        ("submit qingbo --max-cost much", "expected an amount in US dollars"),
        ("submit qingbo --max-cost -1", "expected an amount in US dollars"),
        ("submit --file nowhere.jsonl", "'nowhere.jsonl' does not exist"),
        ("submit --file - --image-url http://a.example", "--image-url cannot be given with --file"),
        ("events show evt_x --body --json", "not both"),
        ("sandbox --fault lost=0.5", "unknown fault lost"),
        ("sandbox --fault lost_push=often", "a rate from 0 to 1"),
        ("sandbox --delay soon", "MIN..MAX"),
        ("sandbox --delay 5..1", "delay_seconds"),
        ("trigger nobody", "unknown provider"),
        ("work", "set RINGBACK_HANDLERS=module:name"),
        ("serve", "secrets.token_urlsafe"),
        ("trigger qingbo", "there is no secret"),
    ],
)
def test_usage(arguments: str, said: str, ringback: Ringback) -> None:
    """What is typed wrongly is named with what was expected, and exits with 2."""
    result = ringback(*arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("tasks list", "ringback.db: there is no ledger; start `ringback up`"),
        ("events list", "there is no ledger"),
        ("deliveries list", "there is no ledger"),
        ("poll", "there is no ledger"),
        ("tick", "there is no ledger"),
        ("submit qingbo --prompt x", "there is no ledger"),
        ("work --handlers nowhere:x", "there is no module 'nowhere'"),
        ("trigger reapi", "never calls back"),
    ],
)
def test_failures(arguments: str, said: str, folder: Path, ringback: Ringback) -> None:
    """What fails is one line that begins with `error:`, names the absolute path, and exits with 1."""
    result = ringback(*arguments.split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert said in result.stderr
    assert "no ledger" not in said or str(folder / "ringback.db") in result.stderr


def test_a_typo_in_a_setting(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown setting is an error that suggests the nearest one."""
    monkeypatch.setenv("RINGBACK_PORTT", "1")
    result = ringback("up")
    assert result.exit_code == 2
    assert result.stderr == "error: RINGBACK_PORTT is not a setting: did you mean RINGBACK_PORT?\n"


def test_printable() -> None:
    """What could steer a terminal is shown as what it is."""
    assert printable("a\x1b[31m\x00\u202e\nb") == "a\\x1b[31m\\x00\\u202e\nb"

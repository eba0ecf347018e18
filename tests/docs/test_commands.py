"""Every command line in the docs is one that the command takes."""

import re
from pathlib import Path

import click
import pytest

from ringback.cli import main
from ringback.providers import CATALOGUE
from ringback.settings import GENERAL, PER_PROVIDER, variable_name

from .pages import PAGES, ROOT, Line, command_lines

LINES = sorted(set(command_lines()), key=str)
WORDS = "…"  # stands for whatever follows


def parse(words: tuple[str, ...], *, whole: bool) -> None:
    """Have click read a command line, without running it.

    Raises:
        click.UsageError: there is no such command, option or value.
    """
    command: click.Command = main
    context = click.Context(main, info_name="ringback")
    arguments = list(words[1:])
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        found = command.get_command(context, arguments[0])
        if found is None:
            raise click.UsageError(f"no command {arguments[0]!r}")
        command, context = found, click.Context(found, context, arguments[0])
        del arguments[0]
    try:
        command.make_context(context.info_name, arguments, context.parent).close()
    except click.exceptions.Exit:  # --help and --version
        return
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
        if whole:
            raise


@pytest.mark.parametrize("line", LINES, ids=str)
def test_command_line_is_understood(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, options and values of a line exist; in a sentence, arguments may be left out."""
    monkeypatch.chdir(tmp_path)
    for name in ("tasks.jsonl", "headers.txt", "body.json"):
        Path(name).touch()
    words = tuple(word for word in line.words if line.whole or word not in (WORDS, "COMMAND"))
    parse(words, whole=line.whole)


@pytest.mark.parametrize(
    "words", ["ringback sumbit", "ringback submit qingbo --promt x", "ringback tasks show", "ringback up --port many"]
)
def test_wrong_lines_are_found(words: str) -> None:
    """A misspelt command, option or value does not pass."""
    with pytest.raises(click.UsageError):
        parse(tuple(words.split()), whole=True)


def test_lines_were_found() -> None:
    """The README and the tutorial have lines to check."""
    pages = {line.page for line in LINES if line.whole}
    assert {ROOT / "README.md", ROOT / "docs/tutorial/first-callback.md"} <= pages


def test_settings_in_the_docs_exist() -> None:
    """Every variable that a page names is a setting, or is read by something else than the settings."""
    known = {variable_name((None, knob)) for knob in GENERAL}
    providers = (*CATALOGUE, "acme", "<provider>")  # acme stands for one of the reader's own
    known |= {variable_name((provider, knob)) for provider in providers for knob in PER_PROVIDER}
    for page in PAGES:
        named = set(re.findall(r"RINGBACK_[A-Z_<>]*[A-Z]\b", page.read_text(encoding="utf-8")))
        named = {word for word in named if not word.startswith(("RINGBACK_TEST", "RINGBACK_SERVICE", "RINGBACK_PORT_"))}
        assert named <= known, page

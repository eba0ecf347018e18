"""docs/explanation/oracles.md lists the differences that the tests allow, and no others."""

import re
from pathlib import Path

import pytest

from tests.oracles import octokit, test_openai, test_replicate, test_standardwebhooks, test_stripe, test_svix

PAGE = Path(__file__).parents[2] / "docs/explanation/oracles.md"
MODULES = {
    "standardwebhooks": test_standardwebhooks,
    "openai": test_openai,
    "replicate": test_replicate,
    "stripe": test_stripe,
}


def section(library: str) -> str:
    """Give what stands under a library's heading."""
    return PAGE.read_text(encoding="utf-8").split(f"\n## {library}\n")[1].split("\n## ")[0]


def rows(library: str, heading: str) -> dict[str, str]:
    """Read the first two columns of the tables with this heading."""
    tables = re.findall(rf"\| {heading} \|.*\n\|---.*\n((?:\|.*\n?)+)", section(library))
    cells = [line.split(" | ") for table in tables for line in table.splitlines()]
    return {cell[0].removeprefix("| "): cell[1] for cell in cells}


@pytest.mark.parametrize("library", MODULES)
def test_requests(library: str) -> None:
    """Each difference has its row, with what the library says."""
    listed = {each.name: each.theirs.value for each in MODULES[library].DIFFERENCES}
    assert rows(library, "the request") == listed


@pytest.mark.parametrize("library", MODULES)
def test_secrets(library: str) -> None:
    """Each form of secret that is understood otherwise has its row."""
    assert set(rows(library, "the secret")) == {each.name for each in MODULES[library].SECRETS}


def test_names_of_svix() -> None:
    """What it adds has rows, what it shares with the reference library stands in a sentence."""
    reference = {each.name for each in test_standardwebhooks.DIFFERENCES}
    added = {each.name: each.theirs.value for each in test_svix.DIFFERENCES if each.name not in reference}
    assert rows("svix", "the request") == added
    sentence = " ".join(section("svix").split()).partition("Shared with `standardwebhooks`: ")[2].rstrip(".")
    assert set(sentence.split("; ")) == {each.name for each in test_svix.DIFFERENCES} & reference


def test_builds_of_octokit() -> None:
    """Both of its builds have their rows."""
    assert rows("octokit", "the request") == {each.name: each.theirs.value for each in octokit.WEB}

"""Pages lead where they say, and every page can be found."""

import re
from pathlib import Path

import pytest

from ringback import errors

from .pages import PAGES, ROOT, anchors, links, prose, reachable


def name(page: Path) -> str:
    """Name a page in a test's id."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page: Path) -> None:
    """Every link to a file or heading of the repository finds it."""
    for link in links(page):
        assert link.target.exists(), f"{link.target} is missing"
        if link.anchor:
            assert link.anchor in anchors(link.target), f"{name(link.target)} has no heading #{link.anchor}"


def test_every_page_is_reachable() -> None:
    """Every page under docs can be reached from the index by links."""
    assert {page for page in PAGES if "docs" in page.parts} <= reachable()


def test_every_error_is_explained() -> None:
    """Every error class is named on a page that the index leads to."""
    text = "\n".join(prose(page) for page in reachable())
    assert [error for error in errors.__all__ if f"`{error}`" not in text] == []


def test_decisions_are_numbered_without_holes() -> None:
    """ADRs count 0001, 0002, … and each one's heading carries its number."""
    notes = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [note.name[:4] for note in notes] == [f"{number:04d}" for number in range(1, len(notes) + 1)]
    for note in notes:
        assert re.match(rf"# {note.name[:4]} \S", note.read_text(encoding="utf-8"))


def test_no_page_names_a_place_of_one_machine() -> None:
    """No page shows where somebody's clone lies."""
    assert [name(page) for page in PAGES if re.search(r"/(work|root|tmp)/", page.read_text(encoding="utf-8"))] == []

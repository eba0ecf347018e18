"""docs/reference/http.md names every reason and every handshake, with the status that it gets."""

import re

import pytest

from receiver.web.answers import ANSWERS, Reason
from ringback.providers.handshakes import Handshake
from ringback.providers.signatures.scheme import Flaw

from .pages import ROOT

PAGE = (ROOT / "docs/reference/http.md").read_text(encoding="utf-8")
REASONS = dict(re.findall(r"^\| `([a-z_.]+)` \| (\d{3}|none) \|", PAGE, re.MULTILINE))


def expected() -> dict[str, str]:
    """Give each word of log and counts with its status."""
    words: dict[str, Reason] = {reason.value: reason for reason in Reason if reason is not Reason.UNAUTHENTIC}
    words |= {f"{Reason.UNAUTHENTIC}.{flaw}": Reason.UNAUTHENTIC for flaw in Flaw if flaw is not Flaw.NO_KEY}
    return {word: str(ANSWERS[reason].status) if reason in ANSWERS else "none" for word, reason in words.items()}


def test_every_reason_has_a_row() -> None:
    """The table of reasons is the one in the code."""
    assert expected() == REASONS


@pytest.mark.parametrize("kind", list(Handshake))
def test_every_handshake_has_a_row(kind: Handshake) -> None:
    """Each handshake is explained."""
    assert re.search(rf"^\| `{kind}` \| ", PAGE, re.MULTILINE)

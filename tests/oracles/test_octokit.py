"""`@octokit/webhooks-methods`, GitHub's own library: verdicts that were recorded with Node, for both of its builds."""

import json

import pytest

from tests.oracles.octokit import DIFFERENCES, KEY, RECORDED, VECTORS, complaint, read
from tests.oracles.oracle import Difference, Verdict, agree, our_verdict
from tests.providers.signatures.signed import BODY, GITHUB, NOW

RECORD = read(json.loads(VECTORS.read_text()))
EXAMPLES = [(build, each) for build, differences in DIFFERENCES.items() for each in differences]


def test_recorded_requests() -> None:
    """Theirs and ours say the same, or differ as listed; what they sign we accept."""
    assert [text for vector in RECORD if (text := complaint(vector))] == []


def test_both_verdicts_were_recorded() -> None:
    """The vectors hold both verdicts many times."""
    told = [vector.verdicts["node"] for vector in RECORD]
    assert min(told.count(Verdict.ACCEPTED), told.count(Verdict.REFUSED)) > RECORDED // 10


def test_what_we_sign_they_accept() -> None:
    """Each body that their library signed carries the very header that ours makes, which it accepted."""
    made = {vector.signed for vector in RECORD if vector.request[1] == BODY}
    ours = GITHUB.scheme.sign(BODY, KEY, now=NOW, event_id="")["x-hub-signature-256"].encode()
    assert made == {ours}
    assert RECORD[0].request == ([(b"x-hub-signature-256", ours)], BODY)
    assert set(RECORD[0].verdicts.values()) == {Verdict.ACCEPTED}


@pytest.mark.parametrize(("build", "difference"), EXAMPLES, ids=lambda each: getattr(each, "name", each))
def test_difference(build: str, difference: Difference) -> None:
    """The input that shows it was recorded, and does."""
    (theirs,) = {vector.verdicts[build] for vector in RECORD if vector.request == difference.example}
    ours = our_verdict(GITHUB, difference.example, KEY) is None
    assert difference.applies(difference.example)
    assert (theirs, ours) == (difference.theirs, difference.ours)
    assert not agree(ours, theirs)

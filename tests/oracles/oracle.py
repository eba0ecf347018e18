"""An official library asked for its verdict, beside ours; and the named ways in which the two may differ.

Time stands still while a library looks at its clock: half a second after the one by which requests are signed, so that
who counts fractions differs from who does not.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import pytest
import time_machine
from hypothesis import HealthCheck, settings

from ringback.errors import Unauthentic
from ringback.providers.signatures import Key
from tests.oracles.spoiled import Recipe, Spoiled, spoil
from tests.providers.signatures.signed import NOW, Case, Lines
from tests.providers.signatures.test_mutations import Request

LATER = NOW + timedelta(seconds=0.5)
FAMILY = (b"webhook-id", b"webhook-timestamp", b"webhook-signature")

# Two thousand for each of five libraries in `make test`; `make oracles` asks more, and others every time.
_wanted = os.environ.get("RINGBACK_TEST_ORACLE_EXAMPLES")
MANY = settings(
    max_examples=int(_wanted or 2_000),
    derandomize=_wanted is None,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SOME = settings(MANY, max_examples=MANY.max_examples // 10)


class Verdict(StrEnum):
    """What a library says."""

    ACCEPTED = "accepts"
    REFUSED = "refuses"
    RAISED = "raises another error"  # than those that it documents


@dataclass(frozen=True, slots=True)
class Difference:
    """A class of requests about which a library says something else than we do.

    Where it accepts, we refuse. Where it refuses, we accept. Where it raises an error that is none of its own, we do
    either, and raise nothing but `Unauthentic`.
    """

    name: str
    theirs: Verdict
    applies: Callable[[Request], bool]
    """Tells from the request alone, without asking anybody."""
    example: Request
    ours: bool = False
    """Whether we accept the example."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """A library, the case that it and we agree about, and where we do not."""

    name: str
    case: Case
    ask: Callable[[Request], object]
    """Verify with the case's first secret; raises unless it accepts."""
    refusals: tuple[type[Exception], ...]
    """What it documents to raise."""
    differences: Sequence[Difference]

    def verdict(self, request: Request, now: datetime = LATER) -> Verdict:
        """Ask the library."""
        with time_machine.travel(now, tick=False):
            try:
                self.ask(request)
            except self.refusals:
                return Verdict.REFUSED
            except Exception:
                return Verdict.RAISED
        return Verdict.ACCEPTED


def reading(change: Callable[[Request], Request], each: Difference) -> Difference:
    """Give the difference of a library that sees the request changed like this."""
    return replace(each, applies=lambda request: each.applies(change(request)))


def agree(ours: bool, theirs: Verdict) -> bool:
    """Tell whether nothing has to be explained."""
    return theirs is (Verdict.ACCEPTED if ours else Verdict.REFUSED)


def explained(differences: Sequence[Difference], request: Request, ours: bool, theirs: Verdict) -> bool:
    """Tell whether the verdicts agree, or differ in a way that is listed."""
    return agree(ours, theirs) or any(each.theirs is theirs and each.applies(request) for each in differences)


def compare(oracle: Oracle, recipe: Recipe) -> None:
    """Make a request, ask both, and check that nothing but what was signed with the right secret passes ours."""
    spoiled = spoil(oracle.case, recipe)
    lines, body = spoiled.request
    ours = oracle.case.flaw(lines, body, now=LATER) is None
    theirs = oracle.verdict(spoiled.request)
    assert explained(oracle.differences, spoiled.request, ours, theirs), (ours, theirs, spoiled.request)
    if ours:
        assert is_unchanged(oracle.case, spoiled)


def is_unchanged(case: Case, spoiled: Spoiled) -> bool:
    """Tell whether id, time and body are those that were signed, byte by byte, with the right secret."""
    signed = (case.sign(spoiled.parts, 0), spoiled.parts.body)
    return spoiled.index == 0 and _carried(spoiled.request) == _carried(signed)


def _carried(request: Request) -> tuple[bytes, bytes, bytes]:
    """Give id, time and body of a request that passed; empty where it has none."""
    family = b"webhook" if any(name.startswith(b"webhook-") for name, _ in request[0]) else b"svix"
    entries = last(request, b"stripe-signature").split(b",")
    times = [entry[2:] for entry in entries if entry.startswith(b"t=")]
    time = last(request, family + b"-timestamp") or b"".join(times)
    return last(request, family + b"-id"), time, request[1]


def show(oracle: Oracle, difference: Difference) -> None:
    """Check that the example of a difference is one, on both sides."""
    lines, body = difference.example
    assert difference.applies(difference.example)
    assert oracle.verdict(difference.example) is difference.theirs
    assert (oracle.case.flaw(lines, body, now=LATER) is None) is difference.ours
    assert not agree(difference.ours, difference.theirs)


def named(differences: Sequence[Difference]) -> pytest.MarkDecorator:
    """Make a test of each difference."""
    return pytest.mark.parametrize("difference", differences, ids=lambda each: each.name)


def values(request: Request, name: bytes) -> list[bytes]:
    """Give the values of one header."""
    return [value for found, value in request[0] if found == name]


def last(request: Request, name: bytes) -> bytes:
    """Give the value of a header that a mapping keeps of several; empty where there is none."""
    return (values(request, name) or [b""])[-1]


def put(lines: Lines, name: bytes, value: bytes) -> Lines:
    """Give the headers with another value of one."""
    return [(found, value if found == name else text) for found, text in lines]


def repeats(*names: bytes) -> Callable[[Request], bool]:
    """Make the class of requests in which one of these headers comes twice."""
    return lambda request: any(len(values(request, name)) > 1 for name in names)


def is_odd_time(text: bytes) -> bool:
    """Tell whether a time is no plain number of up to twelve digits."""
    return re.fullmatch(rb"0|[1-9][0-9]{0,11}", text) is None


def is_long(text: bytes, separator: bytes) -> bool:
    """Tell whether a list of signatures is longer than what we look at."""
    return len(text) > 4_096 or text.count(separator) >= 32


def is_not_utf8(request: Request) -> bool:
    """Tell whether the body is no text in UTF-8."""
    try:
        request[1].decode()
    except UnicodeDecodeError:
        return True
    return False


def signed_with(case: Case, key: bytes, body: bytes = b'{"id":"evt_1","object":"event"}') -> Request:
    """Sign a request with our own scheme."""
    made = case.scheme.sign(body, key, now=NOW, event_id="msg_1")
    return [(name.encode(), value.encode()) for name, value in made.items()], body


def our_verdict(case: Case, request: Request, *keys: bytes) -> Unauthentic | None:
    """Verify with these keys; None where it is accepted."""
    return case.refusal(*request, keys=[Key(key) for key in keys], now=LATER)

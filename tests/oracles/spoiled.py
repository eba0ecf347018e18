"""Requests to ask about: signed as the documents say, also with odd parts, and spoiled afterwards.

Most of the mutations are those with which our verdict is compared to the specifications (test_mutations.py); the ones
here write what a lenient reader takes for the same. A recipe is made of plain numbers, so that it can be drawn by
hypothesis, and by `random` where vectors are recorded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import strategies as st

from tests.providers.signatures.signed import BODY, SECONDS, Case, Parts
from tests.providers.signatures.test_mutations import MUTATIONS, TIMES, Mutation, Request

IDS = (b"", b"msg.1", b"msg 1", b"\xe9", "é".encode(), b"a" * 200, b"a" * 201)
BODIES = (b"", b"\xff\xfe", b"not JSON", '"é"'.encode(), b"\xef\xbb\xbf{}", b'{"a":1}\r\n', b"[" * 300, b"a\0b")
OFFSETS = (-1, 1, -300, 300, -301, 301, -100_000)


def _next(letter: bytes) -> bytes:
    """Give the letter after this one: of base64's last one, the unused bits."""
    return bytes([letter[0] + 1]) if letter.isalnum() else letter


RESPELLINGS: tuple[Callable[[bytes], bytes], ...] = (
    lambda text: text[:-4] + b"\n" + text[-4:],
    lambda text: text[:9] + b"!" + text[9:],
    lambda text: text[:-2] + _next(text[-2:-1]) + text[-1:],
    lambda text: text[:2] + text[2:].upper(),
    lambda text: text.replace(b"v1", b"v2"),
    lambda text: text.removeprefix(b"v1,").replace(b"v1=", b""),
    lambda text: text + b",more",
    lambda text: text + b"=more",
    lambda text: text + b"=",
    lambda text: b"v1,AAAA\t" + text,
    lambda text: text + b"\xa0",
    lambda text: b" " + text,
    lambda text: b"v1 " + text,
    lambda text: b"v1," + text,
    lambda text: b"v1,\xff " + text,
    lambda text: b"v1=\xff," + text,
    lambda text: text + b",t=1",
    lambda text: text.replace(b"t=", b"t=+"),
    lambda text: text.replace(b"t=", b"t=0"),
    lambda text: text.replace(b"=", b"= ", 1),
    lambda text: b"v1,AAAA " * 40 + text,
    lambda text: text + b" " + b"v1,AAAA " * 40,
)


def respelled(request: Request, _: int, value: int) -> Request:
    """Write the list of signatures in another way."""
    lines, body = request
    spell = RESPELLINGS[value % len(RESPELLINGS)]
    return [(name, spell(text) if b"signature" in name else text) for name, text in lines], body


LOOSENINGS: tuple[Callable[[bytes], bytes], ...] = (
    lambda text: b"+" + text,
    lambda text: b" " + text,
    lambda text: text + b"\t",
    lambda text: text + b".9",
    lambda text: b"0" + text,
    lambda text: text[:1] + b"_" + text[1:],
)


def loosened(request: Request, at: int, value: int) -> Request:
    """Write one header in another way, which `int`, `float` or `strip` reads as the same."""
    lines, body = request
    index, spell = at % (len(lines) or 1), LOOSENINGS[value % len(LOOSENINGS)]
    return [(name, spell(text) if which == index else text) for which, (name, text) in enumerate(lines)], body


ALL: tuple[Mutation, ...] = (*MUTATIONS, respelled, respelled, respelled, loosened)


class Recipe(NamedTuple):
    """How to make one request. Zeros and no steps: as the documents say, now, with the right secret."""

    id: int
    time: int
    offset: int
    body: int
    secret: int
    steps: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Spoiled:
    """A request, and what was signed with which secret before it was spoiled."""

    parts: Parts
    index: int
    request: Request


def spoil(case: Case, recipe: Recipe, seconds: int = SECONDS) -> Spoiled:
    """Make the request of a recipe, sent at this time."""
    moment = seconds + (0, *OFFSETS)[recipe.offset]
    pattern = (b"%d", *TIMES)[recipe.time]
    parts = Parts(
        id=(Parts.id, *IDS)[recipe.id],
        timestamp=pattern % moment if b"%d" in pattern else pattern,
        body=(BODY, *BODIES)[recipe.body],
    )
    request: Request = (case.sign(parts, recipe.secret), parts.body)
    for which, at, value in recipe.steps:
        request = ALL[which](request, at, value)
    return Spoiled(parts, recipe.secret, request)


def _mostly_zero(most: int, zeros: int) -> st.SearchStrategy[int]:
    return st.sampled_from([0] * zeros + list(range(1, most + 1)))


recipes = st.builds(
    Recipe,
    _mostly_zero(len(IDS), 3 * len(IDS)),
    _mostly_zero(len(TIMES), 4 * len(TIMES)),
    _mostly_zero(len(OFFSETS), 2 * len(OFFSETS)),
    _mostly_zero(len(BODIES), 2 * len(BODIES)),
    _mostly_zero(1, 6),
    st.lists(
        st.tuples(st.integers(0, len(ALL) - 1), st.integers(0, 9_999), st.integers(0, 9_999)), min_size=0, max_size=2
    ),
)

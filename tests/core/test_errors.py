"""The errors: one tree, drawn where they are defined, whose sentences are their default messages."""

import inspect
import re

import pytest

from ringback import errors
from ringback.errors import InvalidSubmission, RingbackError, SubmissionRefused, Unreachable

PUBLIC = [value for name, value in vars(errors).items() if inspect.isclass(value) and not name.startswith("_")]


def drawn() -> list[tuple[int, str]]:
    """Read the tree in the docstring: depth and name, from top to bottom."""
    lines = (errors.__doc__ or "").splitlines()
    rows = [re.match(r" {4}([│├└─ ]*)(\w+)(?: {2,}\S|$)", line) for line in lines]
    return [(len(row[1]) // 4, row[2]) for row in rows if row and ("─" in row[1] or row[2] == "RingbackError")]


def parent(kind: type) -> str:
    """Give the nearest public ancestor."""
    return next(base.__name__ for base in kind.__mro__[1:] if not base.__name__.startswith("_"))


def test_drawn_tree_is_the_tree() -> None:
    """The docstring draws every public error below its parent, and nothing else."""
    above: list[str] = []
    edges = set()
    for depth, name in drawn():
        above[depth:] = [name]
        if depth:
            edges.add((name, above[depth - 1]))
    assert edges == {(kind.__name__, parent(kind)) for kind in PUBLIC if kind is not RingbackError}


def test_all_is_sorted_and_complete() -> None:
    """`__all__` lists every public error in order."""
    assert errors.__all__ == sorted(kind.__name__ for kind in PUBLIC)


@pytest.mark.parametrize("kind", PUBLIC)
def test_docstring_is_the_default_message(kind: type[RingbackError]) -> None:
    """An error without a message says its docstring's first line; one with a message says that."""
    sentence = (kind.__doc__ or "").partition("\n")[0]
    assert sentence.endswith(".")
    if kind in (InvalidSubmission, SubmissionRefused):
        return
    assert str(kind()) == sentence
    assert str(kind("as told")) == "as told"


def test_refusal_tells_code_and_field() -> None:
    """A refused submission says whose rule it was, with code and field where they are known."""
    assert str(InvalidSubmission("too long", provider="reapi", code="20002", field="prompt")) == (
        "reapi: too long (code 20002, field prompt)"
    )
    assert str(SubmissionRefused("no", provider="qingbo")) == "qingbo: no"


def test_unreachable_tells_whether_it_was_sent() -> None:
    """Only a connection that was never made is surely unsent."""
    assert Unreachable().sent
    assert not Unreachable("refused", sent=False).sent

"""PURE. Small paths into JSON, as users write them in ringback.toml: `data.task.id`, `output[0].url`, `videos[*].url`.

A name is letters, digits, `_` and `-`, or any text in quotes: `data["task id"]`. `[0]` is one item of a list, `[*]` is
every item. Never raises on a document: what is not there is not found.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

MAX_LENGTH = 200
MAX_STEPS = 20
MAX_FOUND = 1_000

NAME = re.compile(r"[A-Za-z0-9_-]+")
BRACKET = re.compile(r"""\[(?:([0-9]{1,6})|(\*)|"([^"]+)"|'([^']+)')\]""")

Step = str | int | None  # a name, an index, or None: every item


@dataclass(frozen=True, slots=True)
class Path:
    """A parsed path. Equal when its text is."""

    text: str
    steps: tuple[Step, ...] = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    def first(self, document: Any) -> Any | None:
        """Give the first value at this path that is not null; None where there is none."""
        return next(self.all(document), None)

    def all(self, document: Any) -> Iterator[Any]:
        """Give every value at this path that is not null, in order; 1,000 at most."""
        found: Iterator[Any] = iter((document,))
        for step in self.steps:
            found = _into(found, step)
        return islice((value for value in found if value is not None), MAX_FOUND)


def parse_path(text: str) -> Path:
    """Parse a path of at most 200 characters and 20 steps.

    Raises:
        ValueError: says what was expected, and at which character.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"expected a path of at most {MAX_LENGTH} characters, got {len(text)}")
    steps: list[Step] = []
    position = 0
    while position < len(text) or not steps:
        if len(steps) == MAX_STEPS:
            raise ValueError(f"expected a path of at most {MAX_STEPS} steps, got more at character {position + 1}")
        step, position = _next_step(text, position, first=not steps)
        steps.append(step)
    return Path(text, tuple(steps))


def _next_step(text: str, position: int, *, first: bool) -> tuple[Step, int]:
    """Read one step, with the dot before a name; gives where the next one begins."""
    if text.startswith("[", position):
        if found := BRACKET.match(text, position):
            index, every, double, single = found.groups()
            return (int(index) if index else None if every else double or single), found.end()
        raise _misplaced(text, position + 1, "an index, * or a name in quotes, then ],")
    if not first:
        if text[position] != ".":
            raise _misplaced(text, position, "a dot or [")
        position += 1
    if found := NAME.match(text, position):
        return found[0], found.end()
    raise _misplaced(text, position, "a name", "; leave out `$.`" if text.startswith("$") else "")


def _misplaced(text: str, position: int, expected: str, hint: str = "") -> ValueError:
    came = repr(text[position]) if position < len(text) else "the end"
    return ValueError(f"expected {expected} at character {position + 1} of the path {text!r}, got {came}{hint}")


def _into(found: Iterator[Any], step: Step) -> Iterator[Any]:
    """Take one step from each value; lazily, so that a long list costs no more than what is asked of it."""
    for value in found:
        if step is None:
            if type(value) is list:
                yield from value
        elif type(step) is int:
            if type(value) is list and step < len(value):
                yield value[step]
        elif type(value) is dict and step in value:
            yield value[step]

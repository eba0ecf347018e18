"""PURE. Small paths into JSON, as users write them in ringback.toml: `data.task.id`, `output[0].url`, `videos[*].url`.

A name is letters, digits, `_` and `-`, or any text in quotes: `data["task id"]`. Never raises on a document.
"""

from collections.abc import Iterator
from typing import Any


class Path:
    """A parsed path. Equal when its text is."""

    def first(self, document: Any) -> Any | None:
        """Give the first value at this path that is not null; None where there is none."""
        return next(self.all(document), None)

    def all(self, document: Any) -> Iterator[Any]:
        """Give every value at this path that is not null, in order."""
        raise NotImplementedError


def parse_path(text: str) -> Path:
    """Parse a path.

    Raises:
        ValueError: says what was expected, and at which character.
    """
    raise NotImplementedError

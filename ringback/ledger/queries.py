"""Loads the named statements of a `.sql` file. A statement begins with `-- name: word`; the comments stay in it.

Where a statement says `VALUES (…)`, it takes many rows: `chunks` repeats what stands in the brackets, which are
placeholders only. Bound values cost SQLite half of what rows inside one JSON parameter do.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

LARGEST = 64  # rows of one statement
ROW = re.compile(r"VALUES (\([?, ]+\))")
NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file: str) -> Mapping[str, str]:
    """Read the statements of a file in this package, by name."""
    parts = NAME.split(files(__package__).joinpath(file).read_text(encoding="utf-8"))
    names = parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file}: a statement's name occurs twice")
    return MappingProxyType({name: sql.strip() for name, sql in zip(names, parts[2::2], strict=True)})


def chunks(statement: str, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Give the statement for these rows, with their values in a list.

    One if it can be: with each, the interpreter lock changes hands between the threads several times.
    """
    start = 0
    while start < len(rows):
        size = min(LARGEST, len(rows) - start)
        yield repeated(statement, size), [value for row in rows[start : start + size] for value in row]
        start += size


@cache
def repeated(statement: str, size: int) -> str:
    """Repeat the placeholders of one row, so that the statement takes `size` of them."""
    return ROW.sub(lambda found: "VALUES " + ", ".join([found[1]] * size), statement)

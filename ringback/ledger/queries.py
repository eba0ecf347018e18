"""Loads the named statements of a `.sql` file. A statement begins with `-- name: word`; the comments stay in it.

Where a statement says `VALUES (…)`, it takes many rows: `chunks` repeats what stands in the brackets, which are
placeholders only. Bound values cost SQLite half of what rows inside one JSON parameter do.

The statements of `sqlite/` are the ones that the shared functions beside them name. SQLite runs them as the text they
are; PostgreSQL looks up by the key what it runs in their place.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Self

LARGEST = 64  # rows of one statement of SQLite, each of which is a text of its own
LARGEST_ELSEWHERE = 1000  # where one text takes any number of them
ROW = re.compile(r"VALUES (\([?, ]+\))")
NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


class Statement(str):
    """The text of a statement that knows its name, and of how many rows it is."""

    __slots__ = ("key", "size")

    key: str  # file and name: claims.next_deliveries
    size: int  # rows; 0 where it does not take them as values

    def __new__(cls, text: str, key: str, size: int = 0) -> Self:
        """Make one of its text."""
        made = super().__new__(cls, text)
        made.key = key
        made.size = size
        return made


def load(file: str) -> Mapping[str, Statement]:
    """Read the statements of a file in this package, by name."""
    parts = NAME.split(files(__package__).joinpath(file).read_text(encoding="utf-8"))
    names = parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file}: a statement's name occurs twice")
    stem = PurePosixPath(file).stem
    found = zip(names, parts[2::2], strict=True)
    return MappingProxyType({name: Statement(sql.strip(), f"{stem}.{name}") for name, sql in found})


def chunks(db: Any, statement: Statement, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[Statement, list[Any]]]:
    """Give the statement for these rows, with a list of them; for SQLite, of their values.

    One if it can be: with each, the interpreter lock changes hands between the threads several times.
    """
    flat = isinstance(db, sqlite3.Connection)
    most = LARGEST if flat else LARGEST_ELSEWHERE
    for start in range(0, len(rows), most):
        chunk = list(rows[start : start + most])
        if flat:
            yield repeated(statement, len(chunk)), [value for row in chunk for value in row]
        else:
            yield Statement(statement, statement.key, len(chunk)), chunk


def execute_many(db: Any, statement: Statement, rows: Iterable[Sequence[Any]]) -> None:
    """Execute a statement that gives nothing back for all of these rows; for none, not at all."""
    for text, values in chunks(db, statement, list(rows)):
        db.execute(text, values)


@cache
def repeated(statement: Statement, size: int) -> Statement:
    """Repeat the placeholders of one row, so that the statement takes `size` of them."""
    text = ROW.sub(lambda found: "VALUES " + ", ".join([found[1]] * size), statement)
    return Statement(text, statement.key, size)

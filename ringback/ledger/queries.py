"""Loads the named statements of a `.sql` file. A statement begins with `-- name: word`; the comments stay in it."""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file: str) -> Mapping[str, str]:
    """Read the statements of a file in this package, by name."""
    parts = NAME.split(files(__package__).joinpath(file).read_text(encoding="utf-8"))
    names = parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file}: a statement's name occurs twice")
    return MappingProxyType({name: sql.strip() for name, sql in zip(names, parts[2::2], strict=True)})

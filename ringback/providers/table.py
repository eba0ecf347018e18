"""PURE. Strict reading of one table of ringback.toml: every key is known, every value has its type and its range.

What is wrong is a `TableError`, which knows under which keys it stands, so that the line can be found. No message
repeats a value that may be secret. Called by `custom_table`.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ringback.providers.paths import Path, parse_path

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}")
MAX_ALTERNATIVES = 20

Keys = tuple[str | int, ...]
T = TypeVar("T")

# What TOML calls the values that are not tables; the type is told instead of the value.
TYPES = {str: "text", bool: "a boolean", int: "a whole number", float: "a number", list: "a list", dict: "a table"}


class TableError(ValueError):
    """Something in a table is wrong. `keys` lead to it from the top of the file; the message begins with them."""

    def __init__(self, keys: Keys, message: str, joint: str = ": ") -> None:
        super().__init__(f"{dotted(keys)}{joint}{message}")
        self.keys = keys


def dotted(keys: Keys) -> str:
    """Write keys as TOML does, with the position within a list in brackets."""
    words = [f"[{key}]" if type(key) is int else f".{_quoted(str(key))}" for key in keys]
    return "".join(words).removeprefix(".")


def _quoted(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else f'"{key}"'


def type_name(value: Any) -> str:
    """Name the type of a value as TOML does."""
    return TYPES.get(type(value), "a date or time")


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest a known word, or list them all."""
    allowed = list(known)
    near = difflib.get_close_matches(word, allowed, n=1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(allowed)}"


def unknown_key(keys: Keys, hint: str) -> TableError:
    """Make the error for a key that nobody reads."""
    return TableError(keys, f"is not a setting: {hint}", " ")


class Table:
    """One table, read key by key. A key that is not there gives the default."""

    __slots__ = ("keys", "values")

    def __init__(self, values: Mapping[str, Any], keys: Keys) -> None:
        self.values = values
        self.keys = keys

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def wrong(self, key: str, message: str, *deeper: str | int) -> TableError:
        """Make the error for the value of a key, or for something in it."""
        return TableError((*self.keys, key, *deeper), message)

    def missing(self, key: str, expected: str) -> TableError:
        """Make the error for a key that has to be there; it points to the table."""
        return TableError(self.keys, f"{key} is missing: expected {expected}")

    def only(self, known: Iterable[str]) -> None:
        """Refuse keys that nobody reads.

        Raises:
            TableError: suggests the nearest one.
        """
        allowed = list(known)
        for key in self.values:
            if key not in allowed:
                raise unknown_key((*self.keys, key), nearest(key, allowed))

    def texts(self, key: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        """Give one text, or a list of 1 to 20, each read by `parse`, whose ValueError says what was expected."""
        value = self.values.get(key)
        if value is None:
            return ()
        if type(value) is str:
            return (self._text(key, value, parse),)
        if type(value) is not list:
            raise self.wrong(key, f"expected text or a list of texts, got {type_name(value)}")
        if not 0 < len(value) <= MAX_ALTERNATIVES:
            raise self.wrong(key, f"expected 1 to {MAX_ALTERNATIVES} texts, got {len(value)}")
        return tuple(self._text(key, item, parse, position) for position, item in enumerate(value))

    def text(self, key: str, parse: Callable[[str], T]) -> T | None:
        """Give one text, read by `parse`, whose ValueError says what was expected."""
        value = self.values.get(key)
        return None if value is None else self._text(key, value, parse)

    def _text(self, key: str, value: Any, parse: Callable[[str], T], *position: int) -> T:
        if type(value) is not str or not value.strip():
            came = "an empty one" if type(value) is str else type_name(value)
            raise self.wrong(key, f"expected text, got {came}", *position)
        try:
            return parse(value)
        except ValueError as error:
            raise self.wrong(key, str(error), *position) from None

    def number(self, key: str, least: float, most: float, unit: str) -> float | None:
        """Give a number within a range, in a unit that the message names."""
        value = self.values.get(key)
        if value is None:
            return None
        if type(value) not in (int, float) or not least <= value <= most:
            raise self.wrong(key, f"expected {unit} from {least:g} to {most:g}")
        return float(value)

    def flag(self, key: str) -> bool:
        """Give a boolean; false where the key is not there."""
        value = self.values.get(key, False)
        if type(value) is not bool:
            raise self.wrong(key, f"expected true or false, got {type_name(value)}")
        return value

    def table(self, key: str) -> "Table | None":
        """Give a table within this one."""
        value = self.values.get(key)
        if value is None:
            return None
        if type(value) is not dict:
            raise self.wrong(key, f"expected a table, got {type_name(value)}")
        return Table(value, (*self.keys, key))


def choice(allowed: Iterable[str]) -> Callable[[str], str]:
    """Make a reader of one of these words."""
    words = list(allowed)

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(nearest(text, words))
        return text

    return parse


def header_name(text: str) -> str:
    """Read the name of a header, in any case; gives it in lower case."""
    name = text.lower()
    if not HEADER_NAME.fullmatch(name):
        raise ValueError("expected the name of a header, such as x-acme-signature")
    return name


def member_path(text: str) -> Path:
    """Read a path into a JSON object, which begins with a name."""
    path = parse_path(text)
    if type(path.steps[0]) is not str:
        raise ValueError(f"expected a name at character 1 of the path {text!r}: a callback is a JSON object")
    return path

"""`ringback.toml` as a text: its values, and the line on which each of them stands. It knows no setting.

`tomllib` gives values without their places, so the text is read a second time here, for the places alone. It is known
to be valid TOML then; where this reader loses its way nevertheless, errors name the table instead of the line. Called
by `ringback.settings`.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from ringback.errors import SettingsError

Keys = tuple[str | int, ...]

BLANKS = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
SPACES = re.compile(r"[ \t]*")
KEY = re.compile(r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+""")
# A text of several lines may end with up to two quotes of its own before the three that close it.
STRING = re.compile(
    r'''"""(?:\\.|(?!""")[^\\])*"""(?:"{0,2})|\'\'\'(?:(?!\'\'\').)*\'\'\'(?:'{0,2})|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''',
    re.DOTALL,
)
SCALAR = re.compile(r"[^,\]}#\n]+")


class ConfigFile:
    """One file that was read. A missing one is an empty one."""

    def __init__(self, path: Path, text: str = "") -> None:
        self.path = path
        self.values: dict[str, Any] = tomllib.loads(text)
        self._lines = _Scanner(text).scan()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            SettingsError: it cannot be read, or is not TOML; says at which line and column.
        """
        try:
            return cls(path, path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(path)
        except RecursionError:
            raise SettingsError(f"{path}: its values are nested too deeply") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path}: {error}") from None

    def line(self, keys: Keys) -> int | None:
        """Give the line where these keys stand, else that of the nearest table around them."""
        around = (keys[:length] for length in range(len(keys), 0, -1))
        return next((line for part in around if (line := self._lines.get(part)) is not None), None)

    def error(self, keys: Keys, message: str) -> SettingsError:
        """Make the error for what stands under these keys."""
        line = self.line(keys)
        return SettingsError(f"{self.path}{'' if line is None else f', line {line}'}: {message}")


class _Lost(Exception):
    """This is not the TOML that it was taken for."""


class _Scanner:
    """Walks over a TOML text and notes on which line each key, and each item of a list, begins."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._breaks = [found.start() for found in re.finditer("\n", text)]
        self._lines: dict[Keys, int] = {}
        self._tables: dict[Keys, int] = {}  # how many an array of tables has

    def scan(self) -> Mapping[Keys, int]:
        """Give the lines, from 1; those that were found before it lost its way."""
        with suppress(_Lost, RecursionError):
            self._document()
        return self._lines

    def _document(self) -> None:
        table: Keys = ()
        while True:
            self._take(BLANKS)
            if self._position == len(self._text):
                return
            if self._comes("["):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Keys:
        line, several = self._line(), self._text.startswith("[[", self._position)
        self._skip("[[" if several else "[")
        table: Keys = ()
        names = self._names()
        for place, name in enumerate(names):
            table = (*table, name)
            self._lines.setdefault(table, line)
            if several and place == len(names) - 1:
                self._tables[table] = self._tables.get(table, 0) + 1
            if table in self._tables:  # what follows belongs to the last one
                table = (*table, self._tables[table] - 1)
        # A table that was only implied before (`[a.b]` without `[a]`) is said here.
        self._lines[table] = line
        self._skip("]]" if several else "]")
        return table

    def _pair(self, table: Keys) -> None:
        line = self._line()
        for name in self._names():
            table = (*table, name)
            self._lines.setdefault(table, line)
        self._skip("=")
        self._value(table)

    def _names(self) -> list[str]:
        names = []
        while True:
            self._take(SPACES)
            names.append(_unquoted(self._take(KEY)))
            self._take(SPACES)
            if not self._comes("."):
                return names
            self._skip(".")

    def _value(self, keys: Keys) -> None:
        self._take(SPACES)
        if self._comes("["):
            self._list(keys)
        elif self._comes("{"):
            self._inline_table(keys)
        elif self._comes('"') or self._comes("'"):
            self._take(STRING)
        else:
            self._take(SCALAR)

    def _list(self, keys: Keys) -> None:
        self._skip("[")
        place = 0
        while self._more("]"):
            self._lines[*keys, place] = self._line()
            self._value((*keys, place))
            place += 1
        self._skip("]")

    def _inline_table(self, keys: Keys) -> None:
        self._skip("{")
        while self._more("}"):
            self._pair(keys)
        self._skip("}")

    def _more(self, end: str) -> bool:
        """Tell whether another item follows, and go to it."""
        self._take(BLANKS)
        if self._comes(","):
            self._skip(",")
            self._take(BLANKS)
        return not self._comes(end)

    def _comes(self, text: str) -> bool:
        return self._text.startswith(text, self._position)

    def _skip(self, text: str) -> None:
        if not self._comes(text):
            raise _Lost
        self._position += len(text)

    def _take(self, pattern: "re.Pattern[str]") -> str:
        found = pattern.match(self._text, self._position)
        if found is None:
            raise _Lost
        self._position = found.end()
        return found[0]

    def _line(self) -> int:
        return bisect_right(self._breaks, self._position) + 1


def _unquoted(key: str) -> str:
    if key.startswith("'"):
        return key[1:-1]
    if key.startswith('"'):
        return str(tomllib.loads(f"key = {key}")["key"])
    return key

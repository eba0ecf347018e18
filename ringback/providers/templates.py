"""PURE. Request templates: what ringback.toml says a request looks like, and what `{prompt}` and the like stand for.

A text that is one placeholder and nothing else keeps the value's type, and its key is left out where there is no value;
within a longer text the value is written as text. Called by `custom_table`, which reads them, and `custom`.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ringback.providers.table import Keys, TableError, nearest, type_name

# Anything in braces that looks like a name has to be one of ours: a typing error shall not be sent to a provider.
PLACEHOLDER = re.compile(r"\{\s*([A-Za-z_]\w*)\s*\}")
PRINTABLE = re.compile(r"[!-~]+")
LISTS = frozenset({"image_urls"})  # what can only stand alone
INTEGER_LIMIT = 2**63
ABSENT = object()

Values = Mapping[str, Any]  # by placeholder; None: not set


class NotSetError(ValueError):
    """A placeholder within a longer text has no value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class Text:
    """A text with placeholders. `parts` alternate: literal, name, literal, name … literal."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f"{{{part}}}" if place % 2 else part for place, part in enumerate(self.parts))

    @property
    def names(self) -> tuple[str, ...]:
        """The placeholders in it."""
        return self.parts[1::2]

    @property
    def sole(self) -> str | None:
        """The placeholder that is all of it."""
        return self.parts[1] if len(self.parts) == 3 and not self.parts[0] and not self.parts[2] else None

    def fill(self, values: Values) -> str:
        """Write the values in.

        Raises:
            NotSetError: one of them is not set.
        """
        return "".join(_written(part, values) if place % 2 else part for place, part in enumerate(self.parts))


def _written(name: str, values: Values) -> str:
    value = values.get(name)
    if value is None:
        raise NotSetError(name)
    return str(value)


def parse_text(text: str, allowed: Collection[str], *, alone: bool = True) -> Text:
    """Read a text; where it cannot hold a list on its own, `alone` is False.

    Raises:
        ValueError: a placeholder is none of those allowed; suggests the nearest.
    """
    parts = tuple(PLACEHOLDER.split(text))
    found = Text(parts)
    for match in PLACEHOLDER.finditer(text):
        name = match[1]
        if match[0] != f"{{{name}}}" or name not in allowed:
            hint = nearest(name.lower(), allowed)
            raise ValueError(f"unknown placeholder {match[0]} at character {match.start() + 1}: {hint}")
        if name in LISTS and not (alone and found.sole):
            raise ValueError(f"{{{name}}} is a list: expected it to be the whole text of a key in the body")
    return found


@dataclass(frozen=True, slots=True)
class UrlPath:
    """A path with placeholders, which are percent-encoded. A part of the query whose value is not set is left out."""

    path: Text
    query: tuple[Text, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The placeholders in it."""
        return tuple(name for text in (self.path, *self.query) for name in text.names)

    def fill(self, values: Values) -> str:
        """Write the values in.

        Raises:
            NotSetError: one that the path itself needs is not set.
            ValueError: a value would climb out of its place in the path.
        """
        if any(values.get(name) in (".", "..") for name in self.path.names):
            raise ValueError("a dot or two cannot be sent as a part of the path")
        encoded = {name: None if value is None else quote(str(value), safe="") for name, value in values.items()}
        wanted = [text for text in self.query if all(encoded.get(name) is not None for name in text.names)]
        query = "&".join(text.fill(encoded) for text in wanted)
        return self.path.fill(encoded) + (f"?{query}" if query else "")


def parse_url_path(text: str, allowed: Collection[str]) -> UrlPath:
    """Read a path such as `/tasks/{provider_id}` or `/run?callback={callback_url}`.

    Raises:
        ValueError: it does not begin with a slash, holds what has to be percent-encoded, or an unknown placeholder.
    """
    if not text.startswith("/") or not PRINTABLE.fullmatch(text) or "#" in text:
        raise ValueError("expected a path that starts with a slash, percent-encoded, such as /v1/tasks")
    path, _, query = text.partition("?")
    parsed = parse_text(text, allowed, alone=False)  # for the position in its message
    parts = tuple(parse_text(part, allowed) for part in query.split("&")) if query else ()
    return UrlPath(parse_text(path, allowed) if query else parsed, parts)


def parse_body(value: Any, allowed: Collection[str], keys: Keys) -> Any:
    """Read a body: texts become `Text`, everything else stays.

    Raises:
        TableError: a value that JSON does not have, or an unknown placeholder; knows where.
    """
    if type(value) is dict:
        return {key: parse_body(item, allowed, (*keys, key)) for key, item in value.items()}
    if type(value) is list:
        return [parse_body(item, allowed, (*keys, place)) for place, item in enumerate(value)]
    if type(value) is str:
        try:
            return parse_text(value, allowed)
        except ValueError as error:
            raise TableError(keys, str(error)) from None
    if type(value) is bool or (type(value) is int and abs(value) < INTEGER_LIMIT):
        return value
    if type(value) is float and abs(value) < float("inf"):
        return value
    raise TableError(keys, f"expected a value that JSON has, got {type_name(value)}")


def fill_body(node: Any, values: Values) -> Any:
    """Write the values into a body; `ABSENT` where it is one placeholder without a value.

    Raises:
        NotSetError: a placeholder within a longer text has no value.
    """
    if isinstance(node, Text):
        if node.sole is None:
            return node.fill(values)
        value = values.get(node.sole)
        return ABSENT if value is None else value
    if type(node) is dict:
        filled = ((key, fill_body(item, values)) for key, item in node.items())
        return {key: value for key, value in filled if value is not ABSENT}
    if type(node) is list:
        return [value for item in node if (value := fill_body(item, values)) is not ABSENT]
    return node


def merge(below: Any, above: Any) -> Any:
    """Put one JSON value on top of another: objects are joined key by key, anything else is replaced."""
    if type(below) is not dict or type(above) is not dict:
        return above
    return below | {key: merge(below[key], value) if key in below else value for key, value in above.items()}


def clash(node: Any, above: Any, name: str = "") -> str | None:
    """Name the first value of a body that holds a placeholder and would be replaced by `above`; None where none is."""
    if type(node) is not dict or type(above) is not dict:
        return name if placeholders(node) else None
    clashes = (clash(node[key], item, f"{name}.{key}".lstrip(".")) for key, item in above.items() if key in node)
    return next((found for found in clashes if found is not None), None)


def placeholders(node: Any) -> frozenset[str]:
    """Give every placeholder in a body."""
    if isinstance(node, Text):
        return frozenset(node.names)
    parts = node.values() if type(node) is dict else node if type(node) is list else ()
    return frozenset().union(*map(placeholders, parts))

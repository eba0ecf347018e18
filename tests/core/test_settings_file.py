"""The places of values in ringback.toml: every way of writing a key has its line."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.errors import SettingsError
from ringback.settings_file import ConfigFile, Keys

PATH = Path("/srv/ringback.toml")

EVERYTHING = """\
# a comment = 1
plain = 1   # [not.a.table]
"quoted \\" key" = "a # no comment [x]"
'literal key' = 'C:\\'
dotted . "in".parts = 2

[first]
text = \"\"\"
three = 1
[lines]\\
  "and" quotes \"\"\"\"\"
raw = '''
four = 1
''two quotes'''''
list = [
  "a",  # with ] and ,
  [ 1, 2 ],

  { x = 1, "y z" = [true] },
]
empty = []
none = {}
inline = { a = 1, b.c = "}", d = { e = 2026-12-31 00:00:00 } }
date = 2026-12-31T00:00:00Z
number = 1_000.5e3
[first.second]
key = false
[[many]]
name = "a"
  [many.inner]
  deep = 1
[[many]]
name = "b"
[[many.more]]
x = 1
[implied.table]
y = 1
[implied]
z = 2
"""


def places(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Give the keys of everything in a document."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield (*keys, key)
        yield from places(item, (*keys, key))


def named(keys: Keys) -> str:
    """Give the last name among keys, as it stands in the text."""
    name = next(str(key) for key in reversed(keys) if isinstance(key, str))
    return name.replace('"', '\\"')


def test_every_key_has_its_line() -> None:
    """For each key of a file with every form of TOML, its line holds its name."""
    file, lines = ConfigFile(PATH, EVERYTHING), EVERYTHING.splitlines()
    found = list(places(file.values))
    assert len(found) > 40
    for keys in found:
        line = file.line(keys)
        assert line is not None, keys
        if isinstance(keys[-1], str):
            assert named(keys) in lines[line - 1], keys


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("first", "list", 0), '  "a",  # with ] and ,'),
        (("first", "list", 1, 1), "  [ 1, 2 ],"),
        (("first", "list", 2, "y z", 0), '  { x = 1, "y z" = [true] },'),
        (("many", 0, "inner", "deep"), "  deep = 1"),
        (("many", 1), "[[many]]"),
        (("many", 1, "name"), 'name = "b"'),
        (("many", 1, "more", 0), "[[many.more]]"),
        (("implied",), "[implied]"),
        (("dotted", "in"), 'dotted . "in".parts = 2'),
        (("first", "nothing", "of it"), "[first]"),
        (("first", "list", 7), "list = ["),
    ],
)
def test_items_have_their_lines(keys: Keys, text: str) -> None:
    """An item of a list, a table of an array, and for what is not there the table around it."""
    line = ConfigFile(PATH, EVERYTHING).line(keys)
    assert line is not None
    assert EVERYTHING.splitlines()[line - 1] == text


def test_second_table_of_a_name_has_its_own_line() -> None:
    """What stands in the second of several tables is not looked for in the first."""
    file = ConfigFile(PATH, EVERYTHING)
    first, second = file.line(("many", 0, "name")), file.line(("many", 1, "name"))
    assert first is not None
    assert second is not None
    assert first < second


WRITTEN = st.text(alphabet="ab\"'\\[]{}#=,. \n", max_size=12)


def in_forms(text: str) -> Iterator[str]:
    """Write a text in each form of TOML that can hold it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    yield '"' + escaped.replace("\n", "\\n") + '"'
    yield '"""' + escaped + '"""'
    if "'" not in text:
        yield f"'''{text}'''"
        if "\n" not in text:
            yield f"'{text}'"


@given(st.lists(WRITTEN, max_size=4), WRITTEN)
def test_no_text_is_taken_for_a_key(texts: list[str], name: str) -> None:
    """Whatever texts stand before it, in any form, a key is found on its own line, and again after it."""
    quoted = next(in_forms(name))
    values = [form for text in texts for form in in_forms(text)]
    before = "".join(f"v{place} = {form}\nl{place} = [{form}, {form}]\n" for place, form in enumerate(values))
    text = f"{before}{quoted} = 1\n[table]\n{quoted} = {{ end = 2 }}\n"
    file = ConfigFile(PATH, text)
    assert tomllib.loads(text) == file.values
    line = before.count("\n") + 1
    assert (file.line((name,)), file.line(("table",)), file.line(("table", name, "end"))) == (line, line + 1, line + 2)


def test_where_nothing_is_found_the_message_stands_alone() -> None:
    """Without a line the error still names the file."""
    assert str(ConfigFile(PATH, "").error(("a",), "a: wrong")) == "/srv/ringback.toml: a: wrong"
    assert str(ConfigFile(PATH, "\na = 1").error(("a", "b"), "a.b: wrong")) == "/srv/ringback.toml, line 2: a.b: wrong"


def test_a_reader_that_is_lost_gives_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should TOML ever allow more than is known here, the lines found so far are kept."""
    monkeypatch.setattr(tomllib, "loads", lambda text: {"a": 1, "b": 2, "text": text})
    file = ConfigFile(PATH, "a = 1\n\nb : 2\nc = 3")
    assert (file.line(("a",)), file.line(("b",)), file.line(("c",))) == (1, 3, None)
    assert ConfigFile(PATH, "a = 1\n= 2").line(("a",)) == 1


def test_a_file_is_read(tmp_path: Path) -> None:
    """A file is read as UTF-8, and a missing one is an empty one."""
    (tmp_path / "x.toml").write_text('a = "ü"\r\nb = 1', encoding="utf-8")
    file = ConfigFile.read(tmp_path / "x.toml")
    assert (file.values, file.line(("b",))) == ({"a": "ü", "b": 1}, 2)
    assert ConfigFile.read(tmp_path / "none.toml").values == {}


def test_nesting_beyond_reason_is_an_error_of_ours(tmp_path: Path) -> None:
    """What exhausts the stack ends in one line that names the file."""
    (tmp_path / "x.toml").write_text("a = " + "[" * 20_000, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"x\.toml: its values are nested too deeply"):
        ConfigFile.read(tmp_path / "x.toml")

"""Paths into JSON: what they find, what they are bounded by, and what a wrong one is told."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.providers.paths import MAX_FOUND, Path, parse_path

DOCUMENT = {
    "data": {"task": {"id": "t-1"}, "task id": 7, "none": None, "a.b": "dotted", "it's": "quoted"},
    "output": [{"url": "u0"}, {"url": None}, {"other": 1}, "text", {"url": "u4"}],
    "grid": [[1, None, 2], [], 3, [4]],
    "-x_1": False,
    "0": "a name of digits",
    "": "never asked for",
}

FOUND: list[tuple[str, list[Any]]] = [
    ("data.task.id", ["t-1"]),
    ("data['task id']", [7]),
    ('data["a.b"]', ["dotted"]),
    ('data["it\'s"]', ["quoted"]),
    ('["data"].task["id"]', ["t-1"]),
    ("output[0].url", ["u0"]),
    ("output[*].url", ["u0", "u4"]),
    ("output[3]", ["text"]),
    ("grid[*][*]", [1, 2, 4]),
    ("grid[0][2]", [2]),
    ("-x_1", [False]),
    ("0", ["a name of digits"]),
    ("data.none", []),
    ("data.none.more", []),
    ("data[0]", []),
    ("data[*]", []),
    ("output.url", []),
    ("output[5]", []),
    ("output[999999]", []),
    ("Data", []),
]


@pytest.mark.parametrize(("text", "expected"), FOUND)
def test_what_is_found(text: str, expected: list[Any]) -> None:
    """Every value that is not null, in order; `first` is the first of them."""
    path = parse_path(text)
    assert list(path.all(DOCUMENT)) == expected
    assert path.first(DOCUMENT) == (expected[0] if expected else None)


def test_a_list_at_the_top() -> None:
    """A path may begin with an item of a list."""
    assert parse_path("[1].a").first([{}, {"a": 1}]) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a name at character 1 of the path '', got the end"),
        (".a", "a name at character 1 of the path '.a', got '.'"),
        ("a.", "a name at character 3 of the path 'a.', got the end"),
        ("a..b", "a name at character 3 of the path 'a..b', got '.'"),
        ("a.[0]", "a name at character 3 of the path 'a.[0]', got '['"),
        ("a b", "a dot or [ at character 2 of the path 'a b', got ' '"),
        ("a[0]b", "a dot or [ at character 5 of the path 'a[0]b', got 'b'"),
        ("$.a", "a name at character 1 of the path '$.a', got '$'; leave out `$.`"),
        ("a.ä", "a name at character 3 of the path 'a.ä', got 'ä'"),
        ("a[-1]", "an index, * or a name in quotes, then ], at character 3 of the path 'a[-1]', got '-'"),
        ("a[", "an index, * or a name in quotes, then ], at character 3 of the path 'a[', got the end"),
        ("a[1234567]", "then ], at character 3"),
        ("a[x]", "then ], at character 3"),
        ("a['x\"]", "then ], at character 3"),
        ('a[""]', "then ], at character 3"),
        ("a" * 201, "a path of at most 200 characters, got 201"),
        (".".join("a" * 21), "a path of at most 20 steps, got more at character 40"),
    ],
)
def test_a_wrong_path_says_where(text: str, words: str) -> None:
    """The message names what was expected and at which character."""
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        parse_path(text)
    assert words in str(caught.value)


def test_the_limits_are_taken() -> None:
    """200 characters and 20 steps are allowed."""
    assert parse_path("a" * 200).first({"a" * 200: 1}) == 1
    assert len(parse_path(".".join("a" * 20)).steps) == 20


def test_what_a_document_gives_is_bounded() -> None:
    """A list of a million costs no more than the 1,000 that are given."""
    endless = {"a": [[number] for number in range(5_000)]}
    assert list(parse_path("a[*][*]").all(endless)) == list(range(MAX_FOUND))


def test_a_path_is_a_value() -> None:
    """Equal and hashed by its text, printed as it, and frozen."""
    assert parse_path("a.b") == parse_path("a.b") != parse_path('a["b"]')
    assert len({parse_path("a.b"), parse_path("a.b")}) == 1
    assert (str(parse_path("a[0]")), repr(parse_path("a[0]"))) == ("a[0]", "Path(text='a[0]')")
    assert not hasattr(Path("a", ("a",)), "__dict__")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
)


@given(JSON, st.lists(st.sampled_from([".a", ".b", "[0]", "[*]", '["a"]']), min_size=1, max_size=6))
def test_no_document_makes_it_raise(document: Any, steps: list[str]) -> None:
    """Whatever a stranger sends, a path gives values that are in it and not null."""
    text = "".join(steps).removeprefix(".")
    for value in parse_path(text).all(document):
        assert value is not None
        assert msgspec.json.encode(value) in msgspec.json.encode(document)


@given(st.text(max_size=12) | st.text(alphabet="a.[]*0\"'", max_size=12))
def test_no_text_breaks_the_parser(text: str) -> None:
    """Any text is a path, or refused with a position."""
    try:
        told = str(len(parse_path(text).steps))
    except ValueError as error:
        told = str(error)
    assert told.isdigit() or (told.startswith("expected ") and " at character " in told)

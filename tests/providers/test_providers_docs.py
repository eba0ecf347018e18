"""docs/reference/forms.md says what the code does."""

from pathlib import Path

import msgspec
import pytest

from ringback.model import Form, Task
from ringback.providers import CATALOGUE
from ringback.providers.qingbo import EVENT_WORDS
from ringback.providers.reading import STATUS_WORDS

PAGE = (Path(__file__).parents[2] / "docs/reference/forms.md").read_text(encoding="utf-8")
FORM = {"model": "other", "action": "image2video", "prompt": "p", "image_urls": ("https://a.example/x.png",)}
VALUES = FORM | {"aspect_ratio": "4:3", "resolution": "2k", "duration": 5, "callback_events": ("completed",)}


def rows(header: str) -> list[list[str]]:
    """Give the cells of the table whose header starts so."""
    lines = PAGE[PAGE.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("row", rows("| you write |"), ids=lambda row: row[0])
def test_the_field_table(row: list[str]) -> None:
    """Each field of the form is sent under the name in its row, or not at all."""
    field = row[0].strip("`")
    for name, cell in zip(("qingbo", "reapi"), row[1:], strict=True):
        values = {k: v for k, v in VALUES.items() if cell == "refused" or name == "qingbo" or k != "callback_events"}
        task = Task(id="task_1", provider=name, form=Form(**values))  # type: ignore[arg-type]
        if cell == "refused":
            with pytest.raises(Exception, match=field):
                CATALOGUE[name].build_submission(task, None)
            continue
        sent = msgspec.json.decode(CATALOGUE[name].build_submission(task, "https://us.example").body or b"")
        value = VALUES[field]
        expected = list(value) if isinstance(value, tuple) else value
        assert sent.get(cell.strip("`")) == (None if cell == "not sent" else expected)


def test_every_field_has_a_row() -> None:
    """The field table names every field of the form except extra."""
    assert {row[0].strip("`") for row in rows("| you write |")} == set(Form.__struct_fields__) - {"extra"}


def test_the_word_tables() -> None:
    """The callback_events and the status words on the page are the ones in the code."""
    assert {a.strip("`"): b.strip("`") for a, b in rows("| `callback_events` | sent")} == EVENT_WORDS
    told = {word: state for words, state in rows("| provider's status") for word in words.split(", ")}
    assert told == {f"`{word}`": f"`{state}`" for word, state in STATUS_WORDS.items()}

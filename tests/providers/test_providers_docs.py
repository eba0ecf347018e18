"""docs/reference/providers.md says what the code does."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from ringback.model import Form, Task
from ringback.providers import CATALOGUE, Provider
from ringback.providers.qingbo import EVENT_WORDS
from ringback.providers.reading import STATUS_WORDS
from ringback.retry import poll_delay

PAGE = (Path(__file__).parents[2] / "docs/reference/providers.md").read_text(encoding="utf-8")
FORM = {"model": "other", "action": "image2video", "prompt": "p", "image_urls": ("https://a.example/x.png",)}
VALUES = FORM | {"aspect_ratio": "4:3", "resolution": "2k", "duration": 5, "callback_events": ("completed",)}


def rows(header: str) -> list[list[str]]:
    """Give the cells of the table whose header starts so."""
    lines = PAGE[PAGE.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def span(value: timedelta | None) -> str:
    """Write a time as the page does."""
    if value is None:
        return "never"
    return f"{value.days} d" if value > timedelta(days=2) else f"{value // timedelta(hours=1)} h"


def asked(provider: Provider) -> str:
    """Write the polling schedule as the page does."""
    young, hour, old = (poll_delay(timedelta(minutes=m)).total_seconds() for m in (0, 59.9999, 61))
    schedule = f"after {young:.0f} s, by 1 h every {hour / 60:.0f} min, then every {old / 60:.0f} min"
    return "when a push is overdue" if provider.pushes else schedule


def price(provider: Provider) -> str:
    """Write the price as the page does."""
    amount = provider.price(Form(model=provider.models[0], duration=10_000), None)
    return f"${amount / 10_000 / 1_000_000:.7f} per second" if amount else "your rate, in whole credits of $0.001"


def test_the_provider_table() -> None:
    """Each provider has one row, and each cell is a fact of its class."""
    assert rows("| provider |") == [
        [
            f"`{provider.name}`",
            f"`{provider.base_url}`",
            "yes" if provider.pushes else "no",
            f"`{provider.trust}`",
            span(provider.idempotency_window),
            span(provider.result_life),
            asked(provider),
            span(provider.longest),
            "queued tasks" if provider.can_cancel else "no",
            price(provider),
        ]
        for provider in CATALOGUE.values()
    ]


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
    assert {row[0].strip("`") for row in rows("| you write |")} == set(Form.__slots__) - {"extra"}


def test_the_word_tables() -> None:
    """The callback_events and the status words on the page are the ones in the code."""
    assert {a.strip("`"): b.strip("`") for a, b in rows("| `callback_events` | sent")} == EVENT_WORDS
    told = {word: state for words, state in rows("| provider's status") for word in words.split(", ")}
    assert told == {f"`{word}`": f"`{state}`" for word, state in STATUS_WORDS.items()}

"""How data looks: tables and lines for people, JSON for programs.

Everything a stranger may have sent is made printable, and the token of every callback URL is masked. Colour and frames
only on a terminal; in a pipe the columns stand as wide as they need.
"""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receiver.web.shapes import mask_tokens
from ringback.cli.group import printable
from ringback.model import Event, EventType, Source

PIPE_WIDTH = 10_000
NARROW = 120
CONFLICTS = frozenset({"task_mismatch", "event_id_reused"})
MICRODOLLARS = 1_000_000
STYLES = {
    "completed": "green",
    "succeeded": "green",
    "failed": "red",
    "discarded": "red",
    "timed_out": "red",
    "lapsed": "red",
    "expired": "yellow",
    "cancelled": "yellow",
    "pending": "cyan",
    "running": "cyan",
    "submitted": "cyan",
    "processing": "cyan",
}


def print_json(content: Any, **unmasked: str | None) -> None:
    """Print one document. `unmasked` are fields at its top whose callback URL may be shown whole."""
    text = mask_tokens(msgspec.json.encode(content))
    if unmasked:
        text = msgspec.json.encode(msgspec.json.decode(text) | unmasked)
    click.echo(msgspec.json.format(text, indent=2))


def console(*, stderr: bool = False) -> Console:
    """Give the place to print to."""
    file = sys.stderr if stderr else sys.stdout
    return Console(file=file, highlight=False, markup=False, emoji=False, width=None if file.isatty() else PIPE_WIDTH)


def is_narrow() -> bool:
    """Tell whether this is a terminal with little room."""
    place = console()
    return place.is_terminal and place.width < NARROW


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str, unbroken: bool = False) -> None:
    """Print rows of values; columns called `id`, or that end so, are never cut.

    `unbroken` keeps all words whole, where there are few columns of short words.
    """
    place = console()
    values = [[cell(value) for value in row] for row in rows]
    framed = place.is_terminal
    table = Table(box=None, pad_edge=False, header_style="bold" if framed else "", padding=(0, 2, 0, 0))
    for position, column in enumerate(columns):
        whole = column == "id" or column.endswith(" id")
        words = [word for text in (column, *(row[position].plain for row in values)) for word in text.split()]
        least = max(map(len, words)) if unbroken else None
        table.add_column(column, no_wrap=whole, overflow="fold", min_width=least)
    for row in values:
        table.add_row(*row)
    if not table.row_count:
        click.echo(empty, err=True)
        return
    _print(place, table)


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one a line; a value of None is left out."""
    place = console()
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold" if place.is_terminal else "", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        if value is not None:
            table.add_row(name, cell(value))
    _print(place, table)


def _print(place: Console, table: Table) -> None:
    """Print a table; in a pipe without the blanks that fill its last column."""
    if place.is_terminal:
        place.print(table)
        return
    with place.capture() as capture:
        place.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def cell(value: Any) -> Text:
    """Give a value as it is shown: a state in its colour, a moment in UTC, nothing as a dash."""
    if isinstance(value, Text):
        return value
    if isinstance(value, datetime):
        return Text(moment_text(value))
    text = "-" if value is None else line(value)
    return Text(text, style=STYLES.get(text.partition(" ")[0], ""))


def unmasked(text: str) -> Text:
    """Give a text as it is: for the one URL whose token was asked for."""
    return Text(printable(text))


def line(value: Any) -> str:
    """Give a value as one printable line, without tokens."""
    return mask_tokens(printable(str(value)).encode()).decode().replace("\n", " ").replace("\t", " ")


def standing_text(event: Event) -> str:
    """Tell what an event counts for: a conflict is one between two callbacks, not a body that made no sense."""
    if event.conflict is None:
        return event.standing.value
    if event.type is EventType.CALLBACK_UNRECOGNISED and event.conflict not in CONFLICTS:
        return f"unrecognised: {event.conflict}"
    return f"conflict: {event.conflict}"


def trust_text(event: Event) -> str:
    """Tell why an event is believed: what we asked for ourselves carries no signature."""
    if event.source is Source.RINGBACK:
        return "our own notice" if event.type is EventType.RECEIVER_PUSH_MISSING else "our own presumption"
    return f"trust {event.trust}" if event.source is Source.CALLBACK else "answer to our own request"


def moment_text(moment: datetime) -> str:
    """Write a moment to the second, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(length: timedelta) -> str:
    """Write a length of time as people say it."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    if seconds < 86_400:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    return f"{seconds // 86_400:.0f} d {seconds % 86_400 // 3600:.0f} h"


def dollars(micro: int | None) -> str | None:
    """Write an amount of micro-dollars."""
    return None if micro is None else f"${(Decimal(micro) / MICRODOLLARS).normalize():f}"

"""What a benchmark hands back: figures, each with its values round by round, and the tables that are made of them.

A bench builds one `Part` and either prints `part.markdown()` or, with `--json`, `part.json()` on standard output and
nothing else there (progress goes to standard error). `python -m bench` reads the JSON of each and makes the pages. It
rounds nothing away: a median, the least and the most are all derived from the values. Reads no clock, runs nothing.

    Part(
        title="Intake",
        settings={"rounds": "7 of 2 s"},
        figures=(Figure(name="requests", unit="/s", subject="ringback", values=(9000, 9100), at_least=8000),),
    ).markdown()
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

HEAD = ("setting", "of", "figure", "median", "min–max", "goal", "reached")
NUMERIC = frozenset({"median", "min–max"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured, a value per round.

    Args:
        name: what was measured: `requests`, `p99`, `over bare Starlette`.
        unit: of the values: `/s`, `ms`, `µs`, `MB`, or nothing for a ratio.
        values: one for each round, in the rounds' order.
        subject: whose it is: `ringback, capability URL`.
        setting: under which circumstances: `64 connections`, `fsync of 5 ms`.
        notes: what a reader must know to judge it, in a few words.
        at_least: the goal where more is better.
        at_most: the goal where less is better.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    subject: str = ""
    setting: str = ""
    notes: str = ""
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if not self.values or not all(math.isfinite(value) for value in self.values):
            raise ValueError(f"{self.name} of {self.subject}: expected finite values, got {self.values!r}")

    @property
    def median(self) -> float:
        """Give the median of the rounds."""
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        """Give the least and the most of the rounds, as text."""
        return f"{number(min(self.values))}–{number(max(self.values))}"

    @property
    def goal(self) -> str:
        """Say what was to be reached; empty where nothing was."""
        least = [] if self.at_least is None else [f"≥ {number(self.at_least)}"]
        return ", ".join(least if self.at_most is None else [*least, f"≤ {number(self.at_most)}"])

    @property
    def is_reached(self) -> bool:
        """Tell whether the median keeps to the goal; true where there is none."""
        return (self.at_least or -math.inf) <= self.median <= (math.inf if self.at_most is None else self.at_most)

    @property
    def label(self) -> str:
        """Give the name with its unit."""
        return f"{self.name}, {self.unit}" if self.unit not in {"", "/s"} else f"{self.name}{self.unit}"


def ratio(name: str, of: Figure, over: Figure, **more: float | str | None) -> Figure:
    """Divide one figure by another of the same rounds, round by round.

    Args:
        name: of the ratio: `over bare Starlette`.
        of: what is divided; subject and setting are its.
        over: what by.
        more: further fields of the new figure, such as `at_least` or `notes`.
    """
    values = tuple(each / its for each, its in zip(of.values, over.values, strict=True))
    fields = {"name": name, "unit": "", "values": values, "subject": of.subject, "setting": of.setting}
    return msgspec.convert(fields | more, Figure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """All that one benchmark has found.

    Args:
        title: a heading of a few words.
        figures: in the order of the table.
        settings: what was set, by name: rounds, seconds, sizes.
        notes: sentences, one a line of the list below the table: what was done and who does not do what.
        missing: who could not take part, and how to get it.
        columns: names of figures; where given, a table per setting is drawn of these, with a line per subject, and
            below all that have a goal, whatever their names.
    """

    title: str
    figures: tuple[Figure, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def json(self) -> str:
        """Write everything down, for `Part.read`."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"

    @classmethod
    def read(cls, text: str | bytes) -> "Part":
        """Read what `json` wrote."""
        return msgspec.json.decode(text, type=cls)

    def of(self, name: str, *, subject: str | None = None, setting: str | None = None) -> tuple[Figure, ...]:
        """Find the figures of this name; where given, only this subject's and under this setting."""
        return tuple(
            figure
            for figure in self.figures
            if figure.name == name and subject in {None, figure.subject} and setting in {None, figure.setting}
        )

    def markdown(self, level: int = 2) -> str:
        """Draw all as a section of a page: the settings, the tables, what was missing, the notes."""
        settings = "; ".join(f"{name}: {value}" for name, value in self.settings.items())
        drawn = self._matrices() if self.columns else [rows(self.figures)] if self.figures else []
        lists = [
            *(f"- **Missing in this run**: {each}" for each in self.missing),
            *(f"- {each}" for each in self.notes),
        ]
        parts = [f"{'#' * level} {self.title}", settings, *drawn, "\n".join(lists)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _matrices(self) -> list[str]:
        parts = []
        for setting in dict.fromkeys(figure.setting for figure in self.figures):
            found = [each for each in self.figures if each.setting == setting and each.name in self.columns]
            parts += [f"**{setting}**"] if setting and found else []
            parts += [crossed(found, lambda figure: figure.label, lambda figure: figure.subject)] if found else []
        goals = [figure for figure in self.figures if figure.goal]
        return [*parts, "**Goals**", rows(goals)] if goals else parts


def rows(figures: Sequence[Figure]) -> str:
    """Draw figures as one table, a line for each; columns that would be empty are left out."""
    lines = [
        {
            "setting": figure.setting,
            "of": figure.subject,
            "figure": figure.label,
            "median": number(figure.median),
            "min–max": figure.spread,
            "goal": figure.goal,
            "reached": ("yes" if figure.is_reached else "**no**") if figure.goal else "",
            "notes": figure.notes,
        }
        for figure in figures
    ]
    heads = [head for head in (*HEAD, "notes") if any(line[head] for line in lines)]
    return table(heads, [[line[head] for head in heads] for line in lines], NUMERIC)


def crossed(figures: Sequence[Figure], across: Callable[[Figure], str], down: Callable[[Figure], str]) -> str:
    """Draw figures as a matrix of `median (min–max)`, by what a figure stands under and beside.

    Args:
        figures: at most one for each cell.
        across: the column that a figure belongs to.
        down: the row that it belongs to.
    """
    cells = {(down(figure), across(figure)): _told(figure) for figure in figures}
    heads = list(dict.fromkeys(across(figure) for figure in figures))
    names = dict.fromkeys(down(figure) for figure in figures)
    body = [[name, *(cells.get((name, head), "") for head in heads)] for name in names]
    return table(["", *heads], body, frozenset(heads))


def _told(figure: Figure) -> str:
    return f"{number(figure.median)} ({figure.spread})" if len(figure.values) > 1 else number(figure.median)


def table(heads: Sequence[str], body: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> str:
    """Draw a Markdown table; the columns named in `right` are set to the right."""
    rule = "".join("|---:" if head in right else "|---" for head in heads) + "|"
    return "\n".join([_line(heads), rule, *(_line(cells) for cells in body)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float) -> str:
    """Write a number with three significant digits, or all of its whole ones: 12,345 · 123 · 12.3 · 0.123."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(digits, 6)}f}" if digits <= 6 else f"{value:.0e}"

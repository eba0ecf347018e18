"""The pages that are made of a run: docs/benchmarks/benchmarks.md and its plot, and the table in the README.

All from docs/benchmarks/benchmarks.json, which `python -m bench` writes; so no figure is written by hand, and a test
holds the pages against it. Measures nothing.

    .venv/bin/python -m bench.pages      # draws the pages anew from the figures that are there
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill

import msgspec

from bench.chart import Panel, svg
from bench.figures import Figure, Part, crossed, table
from bench.machine import ROOT
from bench.pushes import Auth
from bench.receivers import NAIVE, WEBHOOK, bare, ours

PAGES = ROOT / "docs" / "benchmarks"
FIGURES, PAGE, PLOT = PAGES / "benchmarks.json", PAGES / "benchmarks.md", PAGES / "intake.svg"
README = ROOT / "README.md"
BEGIN, END = "<!-- speed: `make bench` writes this -->", "<!-- /speed -->"
MARKED = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}\n", re.DOTALL)
SHOWN_AT = "64 connections"
SHOWN = (
    bare().name,
    ours(Auth.TOKEN, "sqlite").name,
    ours(Auth.SIGNED, "sqlite").name,
    ours(Auth.TOKEN, "postgres").name,
    NAIVE,
    WEBHOOK,
)
COLUMNS = ("requests", "p99", "over bare Starlette")
PLOTS = {  # of the parts that have a page and a plot of their own, drawn by who measured them
    "slow-disk": "Plot of the requests per second over the length of an fsync",
    "overload": "Plots of the answers and of the memory over the seconds of one round",
}
OWN_PAGES = ("cold-start", *PLOTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that one `make bench` has found.

    Args:
        taken: the day, in UTC.
        minutes: how long it took.
        command: what repeats it.
        machine: on what, by name.
        parts: what each benchmark gave, by its name.
    """

    taken: str
    minutes: float
    command: str
    machine: Mapping[str, str]
    parts: Mapping[str, Part]

    def json(self) -> str:
        """Write everything down, for `read`."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"

    def figures(self, name: str) -> list[Figure]:
        """Find the figures of this name in all parts."""
        return [figure for part in self.parts.values() for figure in part.of(name)]


def read(path: Path = FIGURES) -> Run:
    """Read a run."""
    return msgspec.json.decode(path.read_bytes(), type=Run)


def page(run: Run) -> str:
    """Draw everything."""
    judged = [figure for part in run.parts.values() for figure in part.figures if figure.goal]
    reached = sum(figure.is_reached for figure in judged)
    machine = table(["", ""], [[name, value] for name, value in run.machine.items()])
    told: set[str] = set()
    parts = "\n".join(_drawn(name, part, told) for name, part in run.parts.items())
    return (
        HEAD.format(
            command=run.command,
            taken=run.taken,
            minutes=run.minutes,
            machine=machine,
            reached=reached,
            judged=len(judged),
        )
        + parts
    )


def _drawn(name: str, part: Part, told: set[str]) -> str:
    """Draw a part; what an earlier one has noted is not said again."""
    notes = tuple(note for note in part.notes if note not in told)
    told.update(notes)
    lines = [replace(part, notes=notes).markdown()]
    if part.figures and name in PLOTS:
        lines.append(f"![{PLOTS[name]}]({name}.svg)\n")
    if part.figures and name in OWN_PAGES:
        lines.append(f"[On a page of its own]({name}.md)\n")
    return "\n".join(lines)


def readme(run: Run) -> str:
    """Draw what stands in the README between the markers."""
    found = [figure for name in COLUMNS for figure in run.figures(name) if figure.setting == SHOWN_AT]
    by_place = {(figure.subject, figure.name): figure for figure in found}
    shown = [by_place[subject, name] for subject in SHOWN for name in COLUMNS if (subject, name) in by_place]
    drawn = crossed(shown, lambda figure: figure.label, lambda figure: figure.subject)
    count = max((len(figure.values) for figure in shown), default=0)
    sentence = README_SENTENCE.format(
        at=SHOWN_AT,
        processor=run.machine["processor"],
        rounds=f"medians of {count} rounds (least–most)" if count > 1 else "one round",
        command=run.command,
    )
    return f"{BEGIN}\n\n{fill(sentence, 120)}\n\n{drawn}\n\n{END}\n"


def put(text: str, block: str) -> str:
    """Put a block into a page, in place of the one between the markers.

    Raises:
        ValueError: they are not there, or more than once.
    """
    if len(MARKED.findall(text)) != 1:
        raise ValueError(f"expected one {BEGIN} … {END} in the README")
    return MARKED.sub(lambda _: block, text)


def plot(run: Run) -> str:
    """Draw requests per second and p99 of each receiver over the connections."""
    return svg(
        [
            Panel(title="Requests per second", across="connections", lines=_lines(run.figures("requests"))),
            Panel(title="p99, ms", across="connections", lines=_lines(run.figures("p99"))),
        ]
    )


def _lines(figures: Sequence[Figure]) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for figure in figures:
        if found := re.fullmatch(r"(\d+) connections?", figure.setting):
            lines.setdefault(figure.subject, []).append((float(found[1]), figure.median))
    return {name: sorted(points) for name, points in lines.items()}


def write(run: Run) -> None:
    """Write the figures, the page, its plot, and the README's table."""
    PAGES.mkdir(exist_ok=True)
    FIGURES.write_text(run.json(), encoding="utf-8")
    draw(run)


def draw(run: Run) -> None:
    """Write all that is made of the figures."""
    PAGE.write_text(page(run), encoding="utf-8")
    PLOT.write_text(plot(run), encoding="utf-8")
    README.write_text(put(README.read_text(encoding="utf-8"), readme(run)), encoding="utf-8")


HEAD = """\
# How fast it is

`{command}` took all of this in one run of {minutes:.0f} minutes on {taken}, and wrote this page, its plot and the
table in the README. The values of each round are in [benchmarks.json](benchmarks.json). Nothing is pinned unless it is
said: receiver and load generator share the machine. Goals reached: {reached} of {judged}.

{machine}

![Two plots over the number of connections: requests per second and their 99th percentile, by receiver](intake.svg)

"""
README_SENTENCE = (
    "Callbacks verified, deduplicated and on disk before their 200, beside others: {at}, {rounds}, on {processor}, "
    "with the load generator on the same machine. `{command}` repeats it."
)


if __name__ == "__main__":
    draw(read())
    sys.exit(0)

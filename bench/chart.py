"""Draws lines into an SVG: axes in powers of ten, or the one across from nought on; colours for light and dark."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 380, 300  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 34, 44
LEGEND = 24  # a line of it
COLOURS = (
    *("#0a7f5a", "#c2410c", "#6d5bd0", "#9a7b00", "#0284c7"),
    *("#be185d", "#65a30d", "#7c7c7c", "#7c3aed", "#b45309"),
)
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#555}.title{font-weight:600}.grid{stroke:#8884;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#bbb}}"
)
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plot: what its axes say, and its lines by name."""

    title: str
    across: str
    lines: Mapping[str, Points]
    is_linear: bool = False  # across; upward it never is


def svg(panels: Sequence[Panel]) -> str:
    """Draw the panels with one legend for all."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    width, height = WIDTH * len(panels), HEIGHT + LEGEND * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape("; ".join(panel.title for panel in panels))}">',
        f"<style>{STYLE}</style>",
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * WIDTH},0)">', *_panel(panel, colours), "</g>"]
    for number, name in enumerate(names):
        y = HEIGHT + LEGEND * number + 10
        parts.append(f'<path d="M{LEFT} {y}h24" stroke="{colours[name]}" stroke-width="2.5"/>')
        parts.append(f'<text x="{LEFT + 32}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, colours: Mapping[str, str]) -> list[str]:
    points = [point for line in panel.lines.values() for point in line if point[1] > 0]
    across = _steps(max(x for x, _ in points)) if panel.is_linear else _decades([x for x, _ in points])
    up = _decades([y for _, y in points])
    parts = [f'<text class="title" x="{LEFT}" y="18">{escape(panel.title)}</text>']
    for value in across:
        x = _x(value, across, panel.is_linear)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_number(value)}</text>')
    for value in up:
        y = _y(value, up)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(panel.across)}</text>')
    for name, line in panel.lines.items():
        drawn = [(_x(x, across, panel.is_linear), _y(y, up)) for x, y in line if y > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colours[name]}"/>' for x, y in drawn]
    return parts


def _decades(values: Sequence[float]) -> Sequence[float]:
    """Give the powers of ten between which all values lie."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _steps(most: float) -> Sequence[float]:
    """Give about five round numbers from nought on that reach so far."""
    power = 10.0 ** math.floor(math.log10(most / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * 5 >= most)
    return [step * number for number in range(math.ceil(most / step) + 1)]


def _x(value: float, marks: Sequence[float], is_linear: bool) -> float:
    share = value / marks[-1] if is_linear else _share(value, marks)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(value: float, marks: Sequence[float]) -> float:
    return HEIGHT - BOTTOM - _share(value, marks) * (HEIGHT - TOP - BOTTOM)


def _share(value: float, marks: Sequence[float]) -> float:
    """Tell how far along an axis of powers a value stands."""
    return math.log(value / marks[0]) / math.log(marks[-1] / marks[0])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"

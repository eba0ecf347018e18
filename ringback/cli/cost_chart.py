"""PURE. A bar chart for terminals: plain text without colour, as wide as it is told."""

from collections.abc import Mapping
from datetime import date, timedelta

from ringback.cli.spending import amount

MOST_DAYS = 100  # days without any task are drawn too, unless that makes a wall of them
LONGEST_LABEL = 36
LEAST_BAR = 10


def with_gaps(days: Mapping[str, int]) -> dict[str, int]:
    """Put in the days between, so that a gap in time is a gap in the chart."""
    found = [date.fromisoformat(day) for day in days]
    if not found or max(found) - min(found) > timedelta(days=MOST_DAYS):
        return dict(days)
    span = (max(found) - min(found)).days + 1
    every = [(min(found) + timedelta(days=number)).isoformat() for number in range(span)]
    return {day: days.get(day, 0) for day in every}


def chart(amounts: Mapping[str, int], *, width: int, block: str) -> list[str]:
    """Draw one bar per name, the largest over the whole width; what is more than nothing has a bar."""
    if not amounts:
        return []
    texts = {name: amount(micro) for name, micro in amounts.items()}
    labels = {name: name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 3]}..." for name in amounts}
    beside = max(map(len, labels.values())) + max(map(len, texts.values())) + 4
    room, most = max(LEAST_BAR, width - beside), max(*amounts.values(), 1)
    lines = []
    for name, micro in amounts.items():
        length = max(1, micro * room // most) if micro > 0 else 0
        bar = f"{block * length}  {texts[name]}" if length else texts[name]
        lines.append(f"{labels[name]:<{max(map(len, labels.values()))}}  {bar}")
    return lines

"""docs/reference/lifecycle.md and ledger.md say what the tables and the schema say."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ringback.ledger import fold, task_row
from ringback.ledger.schema import schema_text
from ringback.lifecycle import RANK, TERMINAL, advance, settle
from ringback.model import DeliveryState, Outcome, Source, Standing, TaskState, Verdict
from ringback.retry import Policy
from ringback.settings import Settings

DOCS = Path(__file__).parents[2] / "docs" / "reference"
NOW = datetime(2026, 7, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SAYS, GUESSES = Source.CALLBACK, Source.RINGBACK
DONE, FAILED = TaskState.COMPLETED, TaskState.FAILED

# What stands, and what is told: any two final words stand for all of them, since all have one rank.
STANDS: dict[str, tuple[TaskState, Source | None]] = {
    "`pending`": (TaskState.PENDING, None),
    "`submitted`": (TaskState.SUBMITTED, None),
    "`processing`": (TaskState.PROCESSING, None),
    "final, said by the provider": (DONE, SAYS),
    "final, presumed by us": (DONE, GUESSES),
}
TOLD: dict[str, tuple[TaskState, Source]] = {
    "`submitted`": (TaskState.SUBMITTED, SAYS),
    "`processing`": (TaskState.PROCESSING, SAYS),
    "a final word": (DONE, SAYS),
    "another final word": (FAILED, SAYS),
    "our presumption": (FAILED, GUESSES),
}
# Each outcome, with what else decides.
ENDINGS: dict[str, tuple[Outcome, dict[str, Any]]] = {
    "`succeeded`": (Outcome.SUCCEEDED, {}),
    "`failed`": (Outcome.FAILED, {}),
    "`failed`, by `Retry(after=…)`": (Outcome.FAILED, {"after": MINUTE}),
    "`timed_out`": (Outcome.TIMED_OUT, {}),
    "`lapsed`, the first time": (Outcome.LAPSED, {}),
    "`lapsed`, running alone": (Outcome.LAPSED, {"lapses": 1}),
    "`released`": (Outcome.RELEASED, {}),
    "`snoozed`, by `Snooze(seconds)`": (Outcome.SNOOZED, {"after": MINUTE}),
    "`discarded`, by `Discard(reason)`": (Outcome.DISCARDED, {}),
}


def cell(stands: tuple[TaskState, Source | None], told: tuple[TaskState, Source]) -> str:
    """Say what a fact does."""
    step = advance(*stands, *told)
    if step.standing is not Standing.ACCEPTED:
        return f"stays, *{step.standing.value}*"
    if (step.state, step.settled_by) == stands:
        return "stays"
    return f"→ `{step.state.value}`" if step.state not in TERMINAL else "→ that one"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Write a table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def facts() -> str:
    """Write what each fact does to each state."""
    rows = [[name, *(cell(stands, told) for told in TOLD.values())] for name, stands in STANDS.items()]
    return table(["stands ↓ told →", *TOLD], rows)


def arrows() -> str:
    """Draw which state may follow which."""
    lines = ["stateDiagram-v2", "    [*] --> pending"]
    for before in TaskState:
        for after in TaskState:
            if before not in TERMINAL and RANK[after] > RANK[before]:
                assert advance(before, None, after, SAYS).state is after
                lines.append(f"    {before.value} --> {after.value}")
    return "\n".join(lines)


def endings() -> str:
    """Write what follows each outcome of an attempt."""
    rows = []
    for what, (outcome, given) in ENDINGS.items():
        ends = [settle(count, outcome, Policy(attempts=2), NOW, 0.5, **given) for count in (1, 2)]
        assert len({end.counted for end in ends}) == 1
        rows.append([what, *(f"`{end.state.value}`{when(end.due_at)}" for end in ends)])
        rows[-1].append("yes" if ends[0].counted else "no")
    assert {outcome for outcome, _ in ENDINGS.values()} == set(Outcome)
    return table(["outcome", "attempts left", "last attempt", "counts"], rows)


def when(due_at: datetime | None) -> str:
    """Write when a delivery is due again."""
    words = {None: "", NOW: ", at once", NOW + MINUTE: ", after that time"}
    return words.get(due_at, ", after a growing delay")


@pytest.mark.parametrize("part", [facts, arrows, endings])
def test_lifecycle_page_is_what_the_code_does(part: object) -> None:
    """Each table and the diagram of the page is the one that the rules give; paste it from here where it differs."""
    assert callable(part)
    text = part()
    assert text in (DOCS / "lifecycle.md").read_text(encoding="utf-8"), f"docs/reference/lifecycle.md lacks:\n{text}"


def test_ledger_page_names_every_table_and_verdict() -> None:
    """The ledger's page names each table, verdict and standing, and the numbers that decide."""
    page = (DOCS / "ledger.md").read_text(encoding="utf-8")
    tables = re.findall(r"^CREATE TABLE (\w+)", schema_text(), re.MULTILINE)
    words = [*tables, *(word.value for kind in (Verdict, Standing, DeliveryState) for word in kind)]
    assert [word for word in words if f"`{word}`" not in page] == []
    numbers = [
        f"{fold.KEPT_PER_TASK} requests",
        f"{fold.HOLD // task_row.SECOND} s",
        f"{task_row.FETCH_SPACING // task_row.SECOND} s",
        f"{Settings().dedup_days} days",
    ]
    assert [number for number in numbers if number not in page] == []

"""What the benchmarks' pages are made of, and that the README says what was measured and nothing else."""

import subprocess
import sys
from math import nan

import pytest

from bench import __main__ as everything
from bench import pages
from bench.figures import Figure, Part, crossed, number, ratio, rows

OURS = Figure(name="requests", unit="/s", values=(900.0, 200.0, 400.0), subject="ours", setting="64 connections")
THEIRS = Figure(name="requests", unit="/s", values=(300.0, 100.0, 400.0), subject="theirs", setting="64 connections")


def test_a_figure_is_the_median_of_its_rounds_with_the_least_and_the_most() -> None:
    """Nothing is rounded before it is shown, and a whole number keeps all of its digits."""
    assert OURS.median == 400
    assert f"{OURS.label} {OURS.spread}" == "requests/s 200–900"
    shown = [number(value) for value in (0, 0.01234, 0.98765, 1.5, 23.456, 123.4, 12345.6)]
    assert shown == ["0", "0.0123", "0.988", "1.50", "23.5", "123", "12,346"]


@pytest.mark.parametrize("values", [(), (1.0, nan), (float("inf"),)])
def test_what_was_not_measured_is_no_figure(values: tuple[float, ...]) -> None:
    """A bench that has no value must say so instead of printing one."""
    with pytest.raises(ValueError, match="expected finite values"):
        Figure(name="p99", unit="ms", values=values)


def test_a_ratio_is_taken_round_by_round() -> None:
    """It is the median of the rounds' ratios, not the ratio of the medians."""
    over = ratio("over theirs", OURS, THEIRS, at_least=2.5)
    assert list(over.values) == [3, 2, 1]
    assert (over.median, over.goal, over.is_reached, over.subject) == (2, "≥ 2.50", False, "ours")


@pytest.mark.parametrize(
    ("at_least", "at_most", "reached"),
    [(None, None, True), (400, None, True), (401, None, False), (None, 400, True), (None, 399, False), (0, 500, True)],
)
def test_a_goal_is_held_against_the_median(at_least: float | None, at_most: float | None, reached: bool) -> None:
    """Either bound counts as reached where it is met exactly."""
    figure = Figure(name="rate", unit="", values=OURS.values, at_least=at_least, at_most=at_most)
    assert figure.is_reached is reached


def test_a_table_has_no_empty_columns_and_marks_what_was_missed() -> None:
    """A goal that was not reached stands out; where nobody has notes or settings, there is no column for them."""
    drawn = rows(
        [ratio("over theirs", OURS, THEIRS, at_least=2.5, setting=""), Figure(name="x|y", unit="", values=(1,))]
    )
    assert drawn.splitlines() == [
        "| of | figure | median | min–max | goal | reached |",
        "|---|---|---:|---:|---|---|",
        "| ours | over theirs | 2.00 | 1.00–3.00 | ≥ 2.50 | **no** |",
        "|  | x\\|y | 1.00 | 1.00–1.00 |  |  |",
    ]


def test_a_part_is_drawn_with_who_was_missing_and_reads_back_as_it_was() -> None:
    """Its columns make a table per setting, everything with a goal is listed below, and the notes end it."""
    part = Part(
        title="Intake",
        figures=(OURS, THEIRS, ratio("over theirs", OURS, THEIRS, at_least=1)),
        settings={"rounds": "3"},
        notes=("Not pinned.",),
        missing=("wrk; apt-get install wrk",),
        columns=("requests",),
    )
    assert Part.read(part.json()) == part
    page = part.markdown()
    assert page.startswith(
        "## Intake\n\nrounds: 3\n\n**64 connections**\n\n|  | requests/s |\n|---|---:|\n| ours | 400 ("
    )
    assert "| 64 connections | ours | over theirs | 2.00 | 1.00–3.00 | ≥ 1.00 | yes |" in page
    assert page.endswith("- **Missing in this run**: wrk; apt-get install wrk\n- Not pinned.\n")
    assert part.of("requests", subject="theirs") == (THEIRS,)
    nothing = Part(title="Intake", figures=(), missing=("wrk",), columns=("requests",)).markdown()
    assert nothing == "## Intake\n\n- **Missing in this run**: wrk\n"


def test_a_matrix_leaves_empty_what_was_not_measured() -> None:
    """Each row has all columns, and a single round has no spread."""
    once = Figure(name="p99", unit="ms", values=(3,), subject="theirs")
    drawn = crossed([OURS, once], lambda figure: figure.label, lambda figure: figure.subject).splitlines()
    assert drawn[2:] == ["| ours | 400 (200–900) |  |", "| theirs |  | 3.00 |"]


def test_the_readme_says_what_was_measured() -> None:
    """Its table, the page and the plot are what the figures of the last run give, to the letter."""
    run = pages.read()
    text = pages.README.read_text(encoding="utf-8")
    assert text == pages.put(text, pages.readme(run))
    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(run)
    assert pages.PLOT.read_text(encoding="utf-8") == pages.plot(run)
    assert [figure for figure in run.figures("requests") if figure.subject in pages.SHOWN]


def test_a_block_replaces_what_is_between_the_markers_and_nothing_else() -> None:
    """A README without them, or with two, is refused."""
    text = f"above\n{pages.BEGIN}\nold\n{pages.END}\nbelow\n"
    block = f"{pages.BEGIN}\n\\1 new\n{pages.END}\n"
    assert pages.put(text, block) == f"above\n{block}below\n"
    for wrong in ("above\n", text + text):
        with pytest.raises(ValueError, match="expected one"):
            pages.put(wrong, block)


def test_a_benchmark_that_fails_is_named_and_keeps_nobody_from_going_on() -> None:
    """Its part of the page says by which command, and has no figures."""
    step = everything.Step(name="gone", usual=("bench.gone",), quick=())
    part, is_whole = everything.run(step.usual, step)
    assert not is_whole
    assert part.markdown() == "## gone\n\n- **Missing in this run**: gone: `python -m bench.gone` ended with 1\n"


def test_a_benchmark_that_does_not_end_is_ended() -> None:
    """Whoever takes longer than planned is interrupted, and may clean up."""
    code = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: raise SystemExit(3)"
    with pytest.raises(subprocess.TimeoutExpired):
        everything._printed([sys.executable, "-c", code], 0.5)

"""The figures by which machines are counted are those of the benchmarks' last run, and what follows adds up."""

import math
import re

import pytest

from .pages import ROOT

MANY = (ROOT / "docs/how-to/from-one-machine-to-many.md").read_text(encoding="utf-8")
PAST = (ROOT / "docs/explanation/past-one-primary.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "docs/benchmarks/benchmarks.md").read_text(encoding="utf-8")
RATES = (1_000, 10_000, 100_000)  # callbacks a second, the columns of the table
DAY_SECONDS = 86_400


def number(text: str) -> float:
    """Read a figure: 7,542."""
    return float(text.replace(",", ""))


def measured(name: str) -> float:
    """Give a row's first figure in the table of what was measured."""
    found = re.search(rf"^\| {re.escape(name)} \| ([\d,]+)", MANY, re.MULTILINE)
    assert found, name
    return number(found[1])


def row(name: str) -> list[str]:
    """Give the columns of a row of the arithmetic's table."""
    found = re.search(rf"^\| {name}[^|]*\|(.+)\|$", PAST, re.MULTILINE)
    assert found, name
    return [cell.strip() for cell in found[1].split("|")]


def test_what_was_measured_is_what_the_last_run_measured() -> None:
    """Each rate and its range stands on the benchmarks' page."""
    figures = re.findall(r"([\d,]+)/s (\([\d,]+–[\d,]+\))", MANY)
    assert len(figures) >= 6
    assert [pair for pair in figures if " ".join(pair) not in BENCHMARKS] == []


def test_what_one_core_does() -> None:
    """The reciprocal of a callback's processor time, to the hundred."""
    micros = measured("processor time of one of those")
    found = re.search(r"1 s ÷ ([\d,]+) µs ≈ ([\d,]+) callbacks", MANY)
    assert found
    assert (number(found[1]), number(found[2])) == (micros, round(1e6 / micros, -2))


def test_how_engines_compare() -> None:
    """The share of callbacks that PostgreSQL stores, beside SQLite."""
    share = measured("callbacks stored, PostgreSQL") / measured("callbacks stored, SQLite")
    found = re.search(r"PostgreSQL\s+stored (\d+) % as many", MANY)
    assert found
    assert int(found[1]) == round(100 * share)


def test_days_at_the_full_rate() -> None:
    """Events a day are a second's, times the seconds of a day."""
    found = re.findall(r"([\d,]+) × 86,400\s+s = ([\d,]+)\s+million", PAST)
    assert [number(rate) for rate, _ in found] == [
        measured("callbacks stored, PostgreSQL"),
        measured("callbacks stored, SQLite"),
    ]
    for rate, millions in found:
        assert number(millions) == round(number(rate) * DAY_SECONDS / 1e6)


def test_databases() -> None:
    """So many as the measured rate, or half of it, goes into what comes."""
    rate = measured("callbacks stored, PostgreSQL")
    full, half = ([int(cell) for cell in row(f"databases, each at {share}")] for share in ("the full", "half"))
    assert full == [math.ceil(wanted / rate) for wanted in RATES]
    assert half == [math.ceil(2 * wanted / rate) for wanted in RATES]
    found = re.search(r"(\d+) receivers\s+and (\d+) databases are ([\d,]+) connections", PAST)
    assert found
    assert (int(found[1]), int(found[2]), number(found[3])) == (half[-1], half[-1], half[-1] ** 2)


@pytest.mark.parametrize("name", ["cores for receivers", "cores for the database, storing"])
def test_cores(name: str) -> None:
    """What one callback takes, times what comes, to a tenth; where it is less, to a hundredth."""
    found = re.search(rf"^\| {name} \((\d+) µs\)", PAST, re.MULTILINE)
    assert found
    for cell, rate in zip(row(name), RATES, strict=True):
        assert float(cell) == pytest.approx(int(found[1]) * rate / 1e6, abs=0.05)


def test_what_one_database_is_enough_for() -> None:
    """Half of what was measured, to the hundred below, and the disk that it takes in a day."""
    kilobytes = float(re.search(r"disk for each event, PostgreSQL \| about ([\d.]+) kB", MANY)[1])  # type: ignore[index]
    found = re.search(
        r"Up to ([\d,]+) a second, half of what was measured.+?([\d,]+) GB of disk a day", PAST, re.DOTALL
    )
    assert found
    assert number(found[1]) == measured("callbacks stored, PostgreSQL") / 2 // 100 * 100
    assert number(found[2]) == pytest.approx(number(found[1]) * DAY_SECONDS * kilobytes / 1e6, abs=1)
    assert f"{86.4 * kilobytes:.0f} GB of disk a day on PostgreSQL" in re.sub(r"\s+", " ", MANY)

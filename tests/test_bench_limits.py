"""What the benchmarks of slow disks, overload and cold start judge by, on figures that were made up."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.chart import Panel, svg
from bench.cold_start import IMPORT
from bench.flood import Sent
from bench.overload import Result
from bench.shim import Gate
from bench.slow_disk import OTHER, OURS, Place, Rates, plot


def place(fsync_ms: float, connections: int = 64) -> Place:
    """Give a place."""
    return Place(fsync_ms=fsync_ms, connections=connections)


def test_no_more_is_expected_than_disk_and_machine_allow() -> None:
    """All who wait one and a half fsyncs for each answer, or as much as on the machine's own disk, if that is less."""
    assert place(10).bound(10_000) == pytest.approx(64 / 0.015)
    assert place(2).bound(10_000) == 10_000
    assert place(0).bound(10_000) == 10_000


def test_the_bound_is_that_of_the_same_round_and_is_drawn() -> None:
    """What the machine does varies; a ratio never mixes two rounds. Each crowd has its panel of three lines."""
    rates = Rates()
    for disk, values in ((0, (1_000.0, 9_000.0)), (10, (900.0, 2_000.0))):
        for value in values:
            rates.add(place(disk), OURS, value)
            rates.add(place(disk), OTHER, 90.0)
    assert rates.bounds(place(10)) == [1_000.0, pytest.approx(64 / 0.015)]
    root = ElementTree.fromstring(plot(rates))  # noqa: S314 -- our own
    assert sum(element.tag.endswith("polyline") for element in root.iter()) == 3


def test_a_linear_axis_begins_at_nought() -> None:
    """What was measured at 0 is drawn at the axis, and round numbers reach beyond the largest."""
    panel = Panel(title="a", across="ms", lines={"it": [(0.0, 100.0), (10.0, 10.0)]}, is_linear=True)
    root = ElementTree.fromstring(svg([panel]))  # noqa: S314 -- our own
    xs = [float(element.attrib["cx"]) for element in root.iter() if element.tag.endswith("circle")]
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert xs == [56.0, 366.0]
    assert words[1:7] == ["0", "2", "4", "6", "8", "10"]


def result(sent: list[Sent], after: list[Sent]) -> Result:
    """Give an overload of ten seconds in which these were sent."""
    return Result(
        capacity=1.0, seconds=10.0, sent=sent, before=[], after=after, unsent=0, lost=0, untrue=0,
        stored_unanswered=0, memory=[(0.0, 50 << 20), (4.0, 52 << 20), (9.0, 55 << 20), (11.0, 99 << 20)],
    )  # fmt: skip


def test_an_overload_is_judged_by_what_was_let_in() -> None:
    """Who was turned away is not among those who waited; an answer that never came is counted."""
    sent = [Sent(0, 1.0, 1.2, 200), Sent(1, 1.0, 1.01, 503), Sent(2, 1.0)]
    found = result(sent, [])
    assert found.accepted_ms == [pytest.approx(200)]
    assert found.refused_ms == [pytest.approx(10)]
    assert found.others == 1
    assert found.recovery_seconds == 0.0
    assert found.grown_mib == 3.0


def test_recovery_ends_with_the_last_who_was_not_served_well() -> None:
    """One that is turned away, and one that waits for longer than is promised, both after the overload."""
    late = [Sent(0, 10.1, 10.2, 503), Sent(1, 10.4, 10.9, 200), Sent(2, 10.8, 10.81, 200)]
    assert result([], late).recovery_seconds == pytest.approx(0.4)


def test_the_cost_of_an_import_is_its_own() -> None:
    """Of the two numbers of a line the first is the module's own; the heading is no module."""
    text = "import time: self [us] | cumulative | imported package\nimport time:       193 |      47212 |   ipaddress\n"
    assert IMPORT.findall(text) == [("193", "ipaddress")]


def test_a_gate_tells_what_was_held_and_what_was_done(tmp_path: Path) -> None:
    """By the names of the files, in order; half a line is none."""
    gate = Gate(tmp_path / "shim.so", tmp_path)
    (tmp_path / "fsync.log").write_text("held /a/x.db-wal\ndone /a/x.db-wal\nheld /a/x.db\n")
    assert (gate.held(), gate.done()) == (["x.db-wal", "x.db"], ["x.db-wal"])

"""What the benchmarks judge by: a check that cannot fail would let any figure pass."""

import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path

from bench import latency, process
from bench.backlog import fill_waiting, record_events, settings_of, submit_tasks
from bench.handlers import nothing
from receiver import Handlers
from receiver.worker import Worker
from ringback.ledger import open_ledger


async def work(url: str) -> int:
    """Run all that is due with the benchmarks' handler, without their lifespan."""
    handlers = Handlers()
    handlers.on("task.completed", name="bench")(nothing)
    settings = settings_of(url)
    ledger = await open_ledger(settings)
    try:
        return await Worker(settings, ledger, handlers).run_once(30)
    finally:
        await ledger.close()


async def test_only_a_round_in_which_each_event_succeeded_in_one_closed_attempt_is_valid(tmp_path: Path) -> None:
    """A ledger passes once every event was handled, and no more where one attempt says something else."""
    path = tmp_path / "bench.db"
    url = f"sqlite:///{path}"
    await record_events(url, await submit_tasks(url, 20))
    assert process.complaint(process.counts(url), 20) == (
        "of 20 events: 0 fanned out, 0 deliveries, 0 succeeded, 0 in one attempt"
    )
    assert await work(url) == 20
    assert process.complaint(process.counts(url), 20) is None
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE attempts SET outcome = 'failed' WHERE seq = 7")
    assert process.complaint(process.counts(url), 20) == "of 20 events: 19 in one attempt"


async def test_waiting_deliveries_that_were_filled_in_are_run_when_due_and_not_before(tmp_path: Path) -> None:
    """Rows written by SQL are to the worker what its own would be."""
    url = f"sqlite:///{tmp_path}/bench.db"
    await fill_waiting(url, 5, timedelta(days=365))
    assert await work(url) == 0
    await fill_waiting(url, 3, timedelta())
    assert await work(url) == 3


def test_each_row_is_compared_with_each_other_tool_in_the_same_round() -> None:
    """A ratio is the median of the rounds' ratios, not the ratio of the medians."""
    rates = {"ours": (900.0, 200.0, 400.0), "huey": (300.0, 100.0, 400.0), "procrastinate": (9.0, 20.0, 8.0)}
    rows = {
        name: [process.Result(name=name, count=100, expected=100, seconds=100 / rate, cpu_seconds=0.5) for rate in each]
        for name, each in rates.items()
    }
    lines = process.table(rows).splitlines()
    assert lines[0].endswith("| done | over huey | over procrastinate |")
    assert lines[2] == "| ours | 400 | 200–900 | 5.000 | 100 of 100 | 2.00 | 50.00 |"
    assert lines[3].endswith("| 1.00 | 33.33 |")


def test_a_stamp_counts_once_it_was_written_whole_and_the_first_of_two_counts() -> None:
    """A line that is still being written is no stamp yet; a second run does not hide when the first began."""
    stamps = latency.read_stamps("a 1.5 1.6\na 3.0 3.1\nb 2.0")
    assert stamps == {"a": latency.Stamp(began=1.5, ended=1.6)}


def test_a_percentile_is_a_value_that_occurred() -> None:
    """Of a hundred values the 99th is the second largest."""
    assert latency.percentile([float(n) for n in range(100, 0, -1)], 0.99) == 99.0

"""What `bench.notice` reports: a model of the poller that can be checked by hand, and a plot that can be drawn."""

from xml.etree import ElementTree

import pytest

from bench.chart import Panel, svg
from bench.virtual import AT_ONCE, Life, deadline, lives, overdue_delay, polled, seeds_delay, simulate


def test_one_task_is_asked_about_on_the_schedule() -> None:
    """Every five seconds after an answer; its end is noticed by the first question after it."""
    notice = simulate([Life(accepted=0.0, ended=12.0)], 5.0, lambda _: 5.0, answer_seconds=0.5)
    assert notice.requests == 3
    assert notice.seconds == [pytest.approx(17 + 0.5 - 12)]


def test_questions_wait_for_a_free_slot() -> None:
    """One more than can be asked at once waits for an answer."""
    tasks = [Life(accepted=0.0, ended=0.0)] * (AT_ONCE + 1)
    notice = simulate(tasks, 5.0, lambda _: 5.0, answer_seconds=0.5)
    assert notice.seconds == [pytest.approx(5.5)] * AT_ONCE + [pytest.approx(6.0)]
    assert notice.per_task == 1


def test_a_push_that_comes_in_time_costs_no_question() -> None:
    """One that comes after the deadline costs those that were asked in vain; a lost one is noticed by asking."""
    tasks = [Life(accepted=0.0, ended=end, pushed=pushed) for end, pushed in ((10, True), (350, True), (10, False))]
    notice = simulate(tasks, 300.0, overdue_delay, push_seconds=0.01, answer_seconds=0.5)
    assert sorted(notice.seconds) == [0.01, 0.01, pytest.approx(290.5)]
    assert notice.requests == 2


def test_tasks_are_as_the_page_says() -> None:
    """A median of two minutes, one in twenty lost, the same for the same seed; the deadline is learned from them."""
    tasks = lives(10_000, 1, 0.05)
    spans = sorted(task.ended - task.accepted for task in tasks)
    assert spans[5_000] == pytest.approx(120, rel=0.05)
    assert spans[9_500] == pytest.approx(5.4 * 60, rel=0.05)
    assert sum(not task.pushed for task in tasks) == pytest.approx(500, rel=0.2)
    assert tasks == lives(10_000, 1, 0.05)
    assert not any(task.pushed for task in lives(100, 1))
    assert deadline(tasks) == pytest.approx(1.25 * spans[9_500], rel=0.01)


def test_polling_is_the_products_schedule() -> None:
    """Ten tasks: a median of about half of the five seconds, and a look once a second."""
    notice = polled(10)
    assert len(notice.seconds) == 50
    assert 1 < sorted(notice.seconds)[25] < 5
    assert (seeds_delay(0), seeds_delay(3600)) == (5, 180)


def test_the_plot_is_well_formed() -> None:
    """Each panel has its lines, and one legend names them all; what is zero has no place between powers of ten."""
    lines = {"push <measured>": [(10.0, 0.01), (100.0, 0.02)], "polling": [(10.0, 0.0), (100.0, 5.0)]}
    text = svg([Panel(title="a & b", across="open", lines=lines), Panel(title="c", across="open", lines=lines)])
    root = ElementTree.fromstring(text)  # noqa: S314 -- our own
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert (tags.count("polyline"), tags.count("circle")) == (4, 6)
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert [words.count(name) for name in ("push <measured>", "polling", "a & b")] == [1, 1, 1]

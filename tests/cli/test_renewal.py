"""When a serving process is started again, and when that is given up."""

from ringback.cli.renewal import MOST_ENDS, MOST_FAILURES, PAUSE_SECONDS, WINDOW_SECONDS, Renewal


def test_one_that_had_served_comes_again_at_once() -> None:
    """It was killed, or met a bug: nothing says that the next one would not serve."""
    renewal = Renewal(2)
    assert [renewal.ended(now, served=True) for now in (5.0, 7.0)] == [5.0, 7.0]
    assert renewal.hopeless(7.0, serving=0) is None


def test_failed_starts_wait_longer_each_time() -> None:
    """One, two, four … seconds, up to a bound; one that serves puts an end to it."""
    renewal = Renewal(2)
    waits = [renewal.ended(0.0, served=False) for _ in range(len(PAUSE_SECONDS) + 2)]
    assert waits == [*PAUSE_SECONDS, PAUSE_SECONDS[-1], PAUSE_SECONDS[-1]]
    renewal.serves()
    assert renewal.ended(0.0, served=False) == PAUSE_SECONDS[0]


def test_starts_that_all_fail_are_given_up_where_nobody_serves() -> None:
    """While another process serves, its port is worth more than an end."""
    renewal = Renewal(2)
    for _ in range(MOST_FAILURES):
        assert renewal.hopeless(100.0, serving=0) is None
        renewal.ended(100.0, served=False)
    assert renewal.hopeless(100.0, serving=1) is None
    assert renewal.hopeless(100.0, serving=0) == "5 starts in a row failed, and no process serves"


def test_processes_that_live_briefly_are_given_up() -> None:
    """Ten ends for each process within a minute are borne; those of the minute before do not count."""
    renewal = Renewal(2)
    for number in range(2 * MOST_ENDS):
        renewal.ended(float(number), served=True)
    assert renewal.hopeless(20.0, serving=1) is None
    renewal.ended(20.0, served=True)
    assert renewal.hopeless(20.0, serving=1) == "21 of its processes ended within 60 s"
    assert renewal.hopeless(WINDOW_SECONDS, serving=1) is None

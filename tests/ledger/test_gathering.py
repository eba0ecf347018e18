"""When a courier sends what waits."""

import pytest

from ringback.ledger.gathering import EACH_SECONDS, LISTS, MOST_OF, PATIENCE, SLOW_SECONDS, TIMES, Gathering

SLOW = 0.010


def gathering(
    commit_seconds: float, *, other_seconds: float = 0.001, told: int = 32, waiting: int = 32, now: float = 100.0
) -> Gathering:
    """Give one that has seen many commits of this length, and this crowd at the last."""
    made = Gathering()
    for _ in range(200):
        made.note(told, waiting, commit_seconds, other_seconds, now)
    return made


@pytest.mark.parametrize("commit_seconds", [0.0, SLOW_SECONDS / 2, SLOW])
def test_who_comes_first_is_sent_at_once(commit_seconds: float) -> None:
    """Nobody was seen before, so nobody else is waited for; one who comes alone again and again neither."""
    assert Gathering().wait_seconds(1, 0, 0, 5.0) == 0.0
    assert gathering(commit_seconds, told=1, waiting=0).wait_seconds(1, 0, 0, 100.0) == 0.0


@pytest.mark.parametrize(
    ("waiting", "under_way", "first", "sent"),
    [(1, 0, 0, True), (32, 1, 32, True), (31, 1, 32, False), (64, LISTS, 32, False), (1, 1, 1, True)],
)
def test_a_fast_disk_has_two_lists_in_hand(waiting: int, under_way: int, first: int, sent: bool) -> None:
    """A second list goes as soon as it is as large as the first; a third one never."""
    assert gathering(SLOW_SECONDS / 2).wait_seconds(waiting, under_way, first, 100.0) == (0.0 if sent else None)


def test_a_slow_disk_has_one_list_in_hand() -> None:
    """However many wait, they go when the one under way has come back."""
    assert gathering(SLOW).wait_seconds(1_000, 1, 32, 100.0) is None


def test_on_a_slow_disk_the_crowd_goes_together() -> None:
    """Those who were just answered are given time to come again; nine in ten of them are enough."""
    made = gathering(SLOW, told=32, waiting=32, now=100.0)
    patience = PATIENCE * SLOW + EACH_SECONDS * 64
    assert made.wait_seconds(32, 0, 0, 100.0) == pytest.approx(patience, rel=1e-3)
    assert made.wait_seconds(40, 0, 0, 100.0 + patience / 2) == pytest.approx(patience / 2, rel=1e-3)
    assert made.wait_seconds(32, 0, 0, 100.0 + patience) == 0.0
    assert made.wait_seconds(int(64 * MOST_OF) + 1, 0, 0, 100.0) == 0.0


def test_the_disk_is_judged_by_many_commits() -> None:
    """One slow commit among fast ones changes nothing; many do, and are forgotten again."""
    made = gathering(SLOW_SECONDS / 10)
    made.note(32, 32, SLOW_SECONDS * 5, 0.0, 100.0)
    assert made.wait_seconds(1, 0, 0, 100.0) == 0.0
    for _ in range(50):
        made.note(32, 32, SLOW, 0.0, 100.0)
    assert made.wait_seconds(1, 0, 0, 100.0) > 0.0  # type: ignore[operator]
    for _ in range(50):
        made.note(32, 32, 0.0, 0.0, 100.0)
    assert made.wait_seconds(1, 0, 0, 100.0) == 0.0


def test_where_there_is_much_to_do_beside_the_commit_two_lists_are_in_hand() -> None:
    """Then the next one is prepared and written while the receiver works, and no time of the disk is lost by it."""
    assert gathering(SLOW, other_seconds=SLOW / TIMES + 0.0001).wait_seconds(32, 1, 32, 100.0) == 0.0
    assert gathering(SLOW, other_seconds=SLOW / TIMES - 0.0001).wait_seconds(16, 1, 32, 100.0) is None


def test_nobody_waits_longer_for_company_than_for_a_commit() -> None:
    """However large the crowd was."""
    assert gathering(SLOW, told=5_000, waiting=0).wait_seconds(1, 0, 0, 100.0) == pytest.approx(SLOW, rel=1e-3)

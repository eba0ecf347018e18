"""Delays: they grow, stay within their bounds, and follow the polling schedule of the seed."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.retry import SENDING, Policy, poll_delay, retry_after_seconds

AGES = st.timedeltas(timedelta(0), timedelta(hours=100))
CHANCES = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10**9), CHANCES)
def test_delays_grow_up_to_the_cap(attempt: int, chance: float) -> None:
    """A later attempt never waits less, and jitter keeps to its share."""
    for policy in (Policy(), SENDING):
        delay, later = policy.delay(attempt, chance), policy.delay(attempt + 1, chance)
        assert delay <= later
        middle = min(policy.cap_seconds, policy.base_seconds * policy.factor ** min(attempt - 1, 64))
        assert abs(delay.total_seconds() - middle) <= middle * policy.jitter + 1e-6


def test_default_policy_takes_about_a_day() -> None:
    """Eleven attempts lie within 20 to 30 hours, as the docstring says."""
    policy = Policy()
    total = sum((policy.delay(n, 0.5) for n in range(1, policy.attempts)), timedelta(0))
    assert timedelta(hours=20) < total < timedelta(hours=30)


@given(AGES, AGES)
def test_questions_grow_rarer(one: timedelta, other: timedelta) -> None:
    """An older task is never asked about more often, nor ever sooner than 5 s or later than 3 min."""
    younger, older = sorted([one, other])
    assert timedelta(seconds=5) <= poll_delay(younger) <= poll_delay(older) <= timedelta(minutes=3)


@pytest.mark.parametrize(
    ("age", "seconds"),
    [({"seconds": 0}, 5), ({"minutes": 5}, 5), ({"minutes": 32.5}, 32.5), ({"hours": 1}, 180), ({"hours": 48}, 180)],
)
def test_schedule_of_the_seed(age: dict[str, float], seconds: float) -> None:
    """Shared seed 000…: every 5 s to 5 min, growing to 1 min by 1 h, then at most 3 min, up to 48 h."""
    assert poll_delay(timedelta(**age)) == timedelta(seconds=seconds)


def test_schedule_reaches_a_minute_by_the_hour() -> None:
    """Just before an hour a task is asked about once a minute."""
    assert timedelta(seconds=59.9) < poll_delay(timedelta(minutes=59, seconds=59.99)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5", 5.0), (" 120 ", 120.0), ("0", 0.0), (None, None), ("", None), ("1.5", None), ("-1", None), ("9" * 7, None),
     ("٣", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)  # fmt: skip
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Only a plain, sane number of seconds is taken."""
    assert retry_after_seconds(value) == seconds

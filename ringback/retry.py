"""PURE. Delays between attempts: of handlers, of sendings, of questions to a provider.

Called by `lifecycle` (handlers), `submitter.client` (429 and 5xx) and `submitter.poller` (the polling schedule).
"""

from dataclasses import dataclass
from datetime import timedelta

MINUTE = timedelta(minutes=1)
LONGEST_ASKED = timedelta(hours=1)  # that we wait because a Retry-After says so: it may be a mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Exponential backoff with jitter. The defaults make 11 attempts in about a day."""

    attempts: int = 11
    base_seconds: float = 10.0
    factor: float = 3.0
    cap_seconds: float = 28_800.0
    jitter: float = 0.1  # a delay varies by this share, up or down

    def delay(self, attempt: int, chance: float) -> timedelta:
        """Give the wait after attempt number `attempt` (from 1); `chance` in [0, 1) spreads the herd."""
        # The exponent is bounded so that a huge attempt number cannot overflow a float.
        grown = self.base_seconds * self.factor ** min(attempt - 1, 64)
        seconds = min(self.cap_seconds, grown)
        return timedelta(seconds=seconds * (1 + self.jitter * (2 * chance - 1)))


SENDING = Policy(attempts=4, base_seconds=0.5, factor=2.0, cap_seconds=30.0, jitter=0.25)


def poll_delay(age: timedelta) -> timedelta:
    """Give the wait before the next question about a task of this age.

    shared seed 000…: every 5 s to 5 min, then gradually towards 1 min by 1 h, then at most every 3 min.
    """
    if age < 5 * MINUTE:
        return timedelta(seconds=5)
    if age < 60 * MINUTE:
        share = (age - 5 * MINUTE) / (55 * MINUTE)
        return timedelta(seconds=5 + 55 * share)
    return 3 * MINUTE


def push_delay(median: timedelta, p95: timedelta, floor: timedelta, cap: timedelta) -> timedelta:
    """Give how long a push is waited for, before the first question.

    A quarter longer than the slowest twentieth took; but a few that came hours late, since we were down, must not make
    us wait for hours.
    """
    return max(floor, min(1.25 * p95, 10 * median, cap))


def retry_after_seconds(value: str | None) -> float | None:
    """Read a Retry-After header given in seconds; None when absent or not a plain number (dates are not used)."""
    if value is None or not (text := value.strip()).isascii() or not text.isdigit() or len(text) > 6:
        return None
    return float(text)

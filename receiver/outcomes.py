"""What a handler may raise or return to choose its outcome: `Snooze`, `Discard`, `Retry`.

Whatever else it raises has failed, whatever else it returns has succeeded. Read by `attempt`; what follows is decided
by `lifecycle`.
"""

MOST_SECONDS = 30 * 86_400.0
REASON_CHARS = 500


class Snooze(Exception):
    """Not now: run this delivery again in so many seconds. Does not count as an attempt.

    Args:
        seconds: 0 to 30 days.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = _checked("Snooze(seconds)", seconds)
        super().__init__(f"snoozed for {self.seconds:g} s")


class Discard(Exception):
    """Never again: discard this delivery at once, and keep it with the reason.

    Args:
        reason: for people; its first 500 characters are kept.
    """

    def __init__(self, reason: str) -> None:
        if not isinstance(reason, str):
            raise TypeError(f"Discard(reason): expected a text, got {type(reason).__name__}")
        self.reason = reason[:REASON_CHARS]
        super().__init__(self.reason)


class Retry(Exception):
    """Failed: counts as an attempt, but the next one is due after this instead of the policy's delay.

    After the last attempt the delivery is discarded all the same.

    Args:
        after: seconds, 0 to 30 days.
    """

    def __init__(self, *, after: float) -> None:
        self.seconds = _checked("Retry(after=…)", after)
        super().__init__(f"again after {self.seconds:g} s")


def _checked(what: str, seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{what}: expected a number of seconds, got {type(seconds).__name__}")
    if not 0 <= seconds <= MOST_SECONDS:  # which neither infinity nor NaN is
        raise ValueError(f"{what}: expected 0 to {MOST_SECONDS:.0f} seconds (30 days), got {seconds!r}")
    return float(seconds)

"""PURE. When a serving process that ended is started again, and when that is given up.

One that had served comes again at once: it was killed, or met a bug. One that could not begin to serve waits, longer
each time: what stands in its way (a database that is away) seldom passes at once. Called by `crew`.
"""

from collections import deque

MOST_ENDS = 10  # more within …
WINDOW_SECONDS = 60.0  # … this time are given up, since what lives so briefly does more harm than good
MOST_FAILURES = 5  # so many starts in a row may fail where no other process serves
PAUSE_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)  # after the first failed start, the second, …


class Renewal:
    """Remembers the ends. Times are of the monotonic clock."""

    def __init__(self, processes: int) -> None:
        self._most_ends = MOST_ENDS * processes
        self._ends: deque[float] = deque(maxlen=self._most_ends + 1)
        self._failures = 0  # starts in a row that came to nothing

    def serves(self) -> None:
        """Note that a process began to serve."""
        self._failures = 0

    def ended(self, now: float, *, served: bool) -> float:
        """Note that a process ended by itself; gives the moment at which the next one may start."""
        self._ends.append(now)
        if served:
            return now
        self._failures += 1
        return now + PAUSE_SECONDS[min(self._failures, len(PAUSE_SECONDS)) - 1]

    def hopeless(self, now: float, *, serving: int) -> str | None:
        """Tell why no further process is worth a start; None where one is."""
        recent = sum(1 for end in self._ends if now - end < WINDOW_SECONDS)
        if recent > self._most_ends:
            return f"{recent} of its processes ended within {WINDOW_SECONDS:g} s"
        if self._failures >= MOST_FAILURES and not serving:
            return f"{self._failures} starts in a row failed, and no process serves"
        return None

"""PURE. When a courier sends what waits: at once, or together with those who are about to come.

Where a commit takes no longer than what is done for it, two lists are under way, so that the scribe has the next one in
hand while the receiver answers the last. The second is as large as the first: each list costs something by itself, and
smaller ones would part the crowd in three. On a disk that takes its time a second list would wait for the first one's
commit and then have one of its own, with half of the crowd in each: there everybody goes together, and who was just
answered is given some time to come again. Times are seconds on a clock that only goes forward. Used by `courier`.
"""

LISTS = 2  # under way at once
SLOW_SECONDS = 0.001  # a commit that takes longer is worth waiting for company…
TIMES = 1.5  # …if it takes so many times as long as all else that is done for a list
WEIGHT = 0.1  # of the last list in the means
MOST_OF = 0.9  # of the crowd: one or two may be gone
PATIENCE = 0.25  # of a commit…
EACH_SECONDS = 0.00003  # …and what it takes to answer one and to take the next, for each of the crowd; a commit at most


class Gathering:
    """What was seen of the crowd and of the disk."""

    __slots__ = ("_commit_seconds", "_crowd", "_other_seconds", "_told_at")

    def __init__(self) -> None:
        self._commit_seconds = 0.0  # moving means
        self._other_seconds = 0.0
        self._crowd = 0  # who had to do with the last list: those who were told, and those who waited for the next
        self._told_at = 0.0

    def note(self, told: int, waiting: int, commit_seconds: float, other_seconds: float, now: float) -> None:
        """Learn from a list that came back."""
        self._commit_seconds += WEIGHT * (commit_seconds - self._commit_seconds)
        self._other_seconds += WEIGHT * (other_seconds - self._other_seconds)
        self._crowd = told + waiting
        self._told_at = now

    def wait_seconds(self, waiting: int, under_way: int, first: int, now: float) -> float | None:
        """Tell how long to wait until these are sent: 0: send them; None: until the next list comes back.

        `under_way` lists are with the scribe, the first of them of `first` arrivals.
        """
        commit = self._commit_seconds
        if commit < SLOW_SECONDS or commit < TIMES * self._other_seconds:
            return 0.0 if under_way == 0 or (under_way < LISTS and waiting >= first) else None
        if under_way:
            return None
        if waiting >= MOST_OF * self._crowd:
            return 0.0
        return max(0.0, self._told_at + min(commit, PATIENCE * commit + EACH_SECONDS * self._crowd) - now)

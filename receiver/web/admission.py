"""Decides who is let in when more callbacks come than can be stored: so many as are done within 50 ms.

How many those are is learned from the crowd itself: somebody is marked as he comes, and when as many have left as stood
before him, the time that took tells how fast this machine and its disk are. Whoever finds it full is told at once to
come again, which costs a quarter of storing him. Pure: counts, and the times that it is given. Used by `callbacks`.
"""

# In the middle; some wait twice as long, and the sockets take as long again, before and after. At thrice the capacity
# one in a hundred waited for 130 to 230 ms with 0.08, and for 120 to 140 with 0.05; longer where the disk stood still.
TARGET_SECONDS = 0.05
# So many are always let in: they share a commit or two, so more patience is asked of them only by a disk that hangs.
LEAST = 256
FIRST = 1_000  # until something was learned
MOST = 10_000


class Admission:
    """Those who were let in and wait for their commit, and how many may."""

    __slots__ = ("_ahead", "_marked_at", "_size", "inside", "most")

    def __init__(self) -> None:
        self.inside = 0
        self.most = FIRST
        self._ahead = 0  # how many have to leave until something is learned; 0: nobody is marked
        self._size = 0  # how many they were when he was marked
        self._marked_at = 0.0

    def is_full(self, coming: int = 0) -> bool:
        """Tell whether nobody more is to be let in, beside those who are coming already."""
        return self.inside + coming >= self.most

    def enter(self, now: float) -> None:
        """Count one in; `now` in seconds on any clock that only goes forward."""
        self.inside += 1
        if not self._ahead and self.inside >= LEAST:
            self._ahead = self._size = self.inside
            self._marked_at = now

    def leave(self, now: float) -> None:
        """Count one out, stored or not."""
        self.inside -= 1
        if self._ahead:
            self._ahead -= 1
            if not self._ahead:
                self._learn(now - self._marked_at)

    def _learn(self, seconds: float) -> None:
        """Go half the way towards how many would have been done in time."""
        done = self._size * TARGET_SECONDS / max(seconds, 0.001)
        self.most = int(min(MOST, max(LEAST, (self.most + done) / 2)))

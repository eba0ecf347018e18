"""Where a scribe writes: an engine's connection and its commits. `sqlite.desk` and `postgres.desk` set one up each."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from ringback.ledger.sqlite.commits import Commits, Operation, Outcomes, Request, Tell
from ringback.model import Arrival, Receipt


class Desk:
    """Stores arrivals, one batch after the other, in one thread.

    Args:
        record: what stores arrivals within a transaction.
        connection: where to.
        commits: makes the engine's commits, given a queue and whom to tell.
        close: lets go of the connection.
    """

    def __init__(
        self,
        record: Operation,
        connection: Any,
        commits: Callable[[deque[Request], Tell], Commits],
        close: Callable[[], None],
    ) -> None:
        self._record = record
        self._connection = connection
        self._commits = commits(deque(), self._tell)
        self._close = close
        self._told: dict[int, Any] = {}
        self._changed = False
        self.commit_seconds = 0.0  # how long the last batch took to be on disk
        self.other_seconds = 0.0  # and all else of it

    def __enter__(self) -> Self:
        """Be there for a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do what is due before the end, and let go of the database."""
        self._commits.end(self._connection)
        self._close()

    def store(self, arrivals: Sequence[Arrival]) -> tuple[Sequence[Receipt | Exception], bool]:
        """Commit arrivals as one batch; gives what became of each, and whether anything was written."""
        self._told, self._changed = {}, False
        batch = [Request(self._record, arrival, place) for place, arrival in enumerate(arrivals)]
        began = time.perf_counter()
        self._commits.commit(self._connection, batch)
        self.commit_seconds = self._commits.commit_seconds
        self.other_seconds = time.perf_counter() - began - self.commit_seconds
        return [self._told[place] for place in range(len(arrivals))], self._changed

    def tidy(self) -> None:
        """Do what is due after a batch."""
        self._commits.tidy(self._connection)

    def rest_seconds(self) -> float | None:
        """Tell how long nothing may come until `rest` is called; None: for ever."""
        return self._commits.rest_seconds()

    def rest(self) -> None:
        """Do what can be done while nothing waits."""
        self._commits.rest(self._connection)

    def _tell(self, outcomes: Outcomes, changed: bool) -> None:
        for request, answer in outcomes:
            self._told[request.waiter] = answer
        self._changed = self._changed or changed

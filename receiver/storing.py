"""The built-in handler `ringback.store_results`: keeps the results of every completed task before their URLs end.

It is a handler like any other: its deliveries are listed, retried, replayed. What is special: of those that wait, the
ledger hands over first those whose URLs end soonest; and handlers with `stored=True` wait until it has come to an end.
Keeping one result is the business of `ringback.results.keeper`. Made by the command where RINGBACK_RESULTS_URL is set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from receiver.event import Event
from receiver.handlers import Handler
from receiver.outcomes import Discard, Retry, Snooze
from ringback.errors import DownloadExpired, DownloadInterrupted, DownloadRefused, NotFound, RingbackError
from ringback.ledger import STORE_RESULTS, Pattern, url_ends_at
from ringback.model import EventType
from ringback.results.keeper import Keeper, Wanted
from ringback.retry import Policy
from ringback.settings import Settings

log = structlog.get_logger("ringback.results")

# Until the end of a URL's life and a day on: what ends it is `_is_over`, not a count.
POLICY = Policy(attempts=1000, base_seconds=10.0, factor=3.0, cap_seconds=3600.0)
LEAST_SECONDS = 30.0  # between attempts while a URL's end is near
PATIENCE = timedelta(days=1)  # with what may work later, past a URL's end: a fresh one may still be had
SLACK_SECONDS = 120.0  # for asking the provider, and for storing


@dataclass(frozen=True, slots=True)
class Failure:
    """A result that was not stored."""

    wanted: Wanted
    ends_at: datetime
    error: Exception

    def is_over(self, now: datetime) -> bool:
        """Tell whether trying again would change nothing."""
        if isinstance(self.error, DownloadRefused | NotFound):
            return True
        return now >= self.ends_at + (timedelta(0) if isinstance(self.error, DownloadExpired) else PATIENCE)

    def after_seconds(self, attempt: int, now: datetime) -> float:
        """Say when to try again: as the policy does, or the server asks, but always before the URL's end."""
        seconds = POLICY.delay(attempt, 0.5).total_seconds()
        asked = (self.error.retry_after_seconds if isinstance(self.error, DownloadInterrupted) else None) or 0.0
        left = (self.ends_at - now).total_seconds()
        if left > 0:
            seconds = min(seconds, max(LEAST_SECONDS, left / 4))
            asked = min(asked, max(LEAST_SECONDS, left / 2))
        return max(seconds, asked)


class Storing:
    """What the handler does."""

    def __init__(
        self, settings: Settings, keeper: Keeper, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._settings = settings
        self._keeper = keeper
        self._clock = clock

    def handler(self) -> Handler:
        """Give it as a worker takes it. One attempt stores several results, as long as its time reaches."""
        one = self._settings.results_timeout_seconds + SLACK_SECONDS
        return Handler(
            name=STORE_RESULTS,
            function=self.store,
            patterns=(Pattern(event=EventType.TASK_COMPLETED.value),),
            timeout_seconds=min(86_400.0, 3 * one),
            retry=POLICY,
            concurrency=self._settings.results_concurrency,
            soonest=True,
        )

    async def store(self, event: Event) -> Snooze | None:
        """Store what is not stored yet; put the rest off where there is much of it.

        Raises:
            Retry: some could not be stored.
            Discard: some never will be.
        """
        if event.task is None:
            return None
        if event.attempt > 1:
            await self._clear(event)
        until = self._clock() + timedelta(seconds=self._settings.results_timeout_seconds)
        failures: list[Failure] = []
        put_off = False
        for wanted, ends_at in self._wanted(event):
            if put_off := self._clock() >= until:
                break
            try:
                await self._keeper.keep(wanted)
            except (RingbackError, OSError) as error:
                failures.append(Failure(wanted, ends_at, error))
                self._tell(failures[-1])
        if failures:
            await self._conclude(event, failures, put_off=put_off)
        return Snooze(0) if put_off else None

    def _wanted(self, event: Event) -> list[tuple[Wanted, datetime]]:
        """List what is not stored yet, with when its URL ends, soonest first.

        Each attempt begins with another one, or a result that takes all the time would keep the others from theirs.
        """
        assert event.task is not None  # noqa: S101 -- looked at before
        found = [
            (
                Wanted(event_id=event.id, task=event.task, position=place, result=result),
                url_ends_at(result, event.received_at),
            )
            for place, result in enumerate(event.results)
            if result.stored_url is None
        ]
        found.sort(key=lambda item: (item[1], item[0].position))
        first = (event.attempt - 1) % len(found) if found else 0
        return found[first:] + found[:first]

    async def _conclude(self, event: Event, failures: list[Failure], *, put_off: bool) -> None:
        """Say what follows; `put_off`: there are others that were not tried this time."""
        now = self._clock()
        open_ones = [failure for failure in failures if not failure.is_over(now)]
        for failure in failures:
            if failure not in open_ones:
                await self._forget(failure.wanted)
        if open_ones or put_off:
            soonest = min(open_ones or failures, key=lambda failure: failure.after_seconds(event.attempt, now))
            raise Retry(after=soonest.after_seconds(event.attempt, now)) from soonest.error
        places = ", ".join(str(failure.wanted.position) for failure in failures)
        raise Discard(f"not stored: result {places}: {failures[0].error}")

    async def _clear(self, event: Event) -> None:
        """Take away what a crash has left of results that were stored, and written down, just before."""
        assert event.task is not None  # noqa: S101 -- looked at before
        for place, result in enumerate(event.results):
            if result.stored_url is not None:
                await self._forget(Wanted(event_id=event.id, task=event.task, position=place, result=result))

    async def _forget(self, wanted: Wanted) -> None:
        try:
            await self._keeper.forget(wanted)
        except (RingbackError, OSError) as error:
            log.warning("result.left_over", task=wanted.task.id, error=type(error).__name__)

    def _tell(self, failure: Failure) -> None:
        fields = {"task": failure.wanted.task.id, "position": failure.wanted.position}
        log.warning("result.not_stored", error=str(failure.error), expires_at=failure.ends_at.isoformat(), **fields)

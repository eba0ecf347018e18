"""Asking a provider how one task stands, and deciding when to ask again. Called by `submitter.poller` alone.

Every way in which an answer can fail to come ends in a time to ask again, a presumption, or both; nothing that one
task does reaches the others, except what the provider says about all of them (429, 401).
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from ringback.errors import RingbackError, SettingsError, Unreachable, Unreadable, Unsupported
from ringback.intake import Intake
from ringback.ledger import Ledger
from ringback.lifecycle import is_terminal
from ringback.model import Task, TaskState
from ringback.outbound import Outbound
from ringback.providers import Provider, Request, Response
from ringback.retry import LONGEST_ASKED, Policy, poll_delay, retry_after_seconds
from ringback.settings import Settings, variable_name
from submitter.ending import KEY_REFUSED, TRANSIENT_4XX
from submitter.inquiring import MOST_PARTS, read_about
from submitter.sending import CLAIM_SLACK, Chance, Clock, utc_now
from submitter.silence import PushWatch

log = structlog.get_logger("ringback.poller")

SLOWEST_AFTER_PUSH = timedelta(seconds=60)  # once a push is overdue, ask at least this often in the beginning
BACKOFF = Policy(base_seconds=10.0, factor=2.0, cap_seconds=300.0)
RATE_LIMIT_PAUSE = timedelta(seconds=30)  # where a 429 does not say
KEY_PAUSE = timedelta(minutes=10)
NO_KEY_PAUSE = timedelta(minutes=1)
# A provider may not know a task yet that it has just accepted.
MISSES_ALLOWED = 3
YOUNG = timedelta(minutes=10)
REMEMBERED = 10_000


@dataclass(slots=True, eq=False)
class Lane:
    """What the poller knows of one provider, in memory."""

    provider: Provider
    running: set[asyncio.Task[None]] = field(default_factory=set)
    more: bool = False  # it took as many tasks as it had room for, so there may be more that are due
    paused_until: datetime | None = None
    said: set[str] = field(default_factory=set)

    def is_paused(self, now: datetime) -> bool:
        """Tell whether the provider wants to be left alone."""
        return self.paused_until is not None and now < self.paused_until

    def say_once(self, event: str, message: str) -> None:
        """Write one line, until there is reason to write it anew."""
        if event not in self.said:
            self.said.add(event)
            log.warning(event, provider=self.provider.name, message=message)


class Asker:
    """Asks about claimed tasks, one at a time."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        outbound: Outbound,
        intake: Intake,
        watch: PushWatch,
        *,
        clock: Clock = utc_now,
        chance: Chance = random.random,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._outbound = outbound
        self._intake = intake
        self._watch = watch
        self._clock = clock
        self._chance = chance
        self._misses: Counter[str] = Counter()  # answers in a row that the provider does not know the task
        self._failures: Counter[str] = Counter()  # questions in a row without a usable answer

    async def ask(self, lane: Lane, task: Task) -> None:
        """Ask about one claimed task, take the answer in, and plan the next question. Never raises."""
        try:
            again_at = await self._ask(lane, task)
            if is_terminal(task.state):  # we had only presumed its end, and a hint doubted that: one question, no more
                # A provider that wants to be left alone has said nothing about the task.
                unheard = again_at is not None and lane.is_paused(self._clock())
                await self._ledger.plan_fetches({task.id: again_at if unheard else None})
                return
            again_at = await self._expire_if_late(lane.provider, task, again_at)
            if again_at is not None:
                await self._ledger.plan_fetches({task.id: again_at})
        except Exception as error:
            reason = str(error) if isinstance(error, RingbackError) else type(error).__name__
            log.warning("poll.failed", task=task.id, provider=task.provider, reason=reason)

    async def presume_expired(self, provider: Provider, task: Task) -> bool:
        """Give a task up whose time is over; tells whether it was."""
        now = self._clock()
        if now < task.created_at + provider.longest:
            return False
        said = "the provider gave no final answer" if task.provider_id else "the provider never confirmed it"
        receipt = await self._intake.presume(task, TaskState.EXPIRED, f"{said} within {provider.longest}", now)
        await self._watch.settled(provider, task, receipt, given_up=True)
        self._forget(task)
        return True

    async def _expire_if_late(self, provider: Provider, task: Task, again_at: datetime | None) -> datetime | None:
        """Only after asking once more: a poller that was away for days shall not presume what it could know."""
        return None if again_at is None or await self.presume_expired(provider, task) else again_at

    async def _ask(self, lane: Lane, task: Task) -> datetime | None:
        if task.provider_id is None or not lane.provider.fetches:
            return task.created_at + lane.provider.longest  # only a callback or the deadline can end it
        if task.url_key is not None and not task.callbacks and task.fetches <= 1:
            log.info("push.overdue", task=task.id, provider=task.provider, provider_id=task.provider_id)
        try:
            request = lane.provider.build_fetch(task)
        except Unsupported as error:
            log.info("poll.unsupported", task=task.id, provider=task.provider, reason=str(error))
            return task.created_at + lane.provider.longest  # as above
        try:
            return await self._converse(lane, task, request)
        except SettingsError as error:
            lane.say_once("poller.not_configured", str(error))
            return self._clock() + NO_KEY_PAUSE
        except Unreachable as error:
            return self._failed(lane.provider, task, str(error))

    async def _converse(self, lane: Lane, task: Task, request: Request) -> datetime | None:
        """Ask, and ask on where the answer comes in parts; in all no longer than nobody else may ask."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.request_timeout_seconds + CLAIM_SLACK.total_seconds() / 2
        for _ in range(MOST_PARTS):
            try:
                async with asyncio.timeout_at(end):
                    response = await self._outbound.send(lane.provider, request)
            except TimeoutError:
                return self._failed(lane.provider, task, "no whole answer while the task was ours to ask about")
            taken = await self._take(lane, task, response)
            if not isinstance(taken, Request):
                return taken
            request = taken
        return self._failed(lane.provider, task, f"no whole answer in {MOST_PARTS} parts")

    async def _take(self, lane: Lane, task: Task, response: Response) -> datetime | Request | None:
        status = lane.provider.fetch_status(response)
        if status == 429:
            return self._pause_for_rate(lane, task, response)
        if status in KEY_REFUSED:
            return self._pause_for_key(lane, task, status)
        lane.said.clear()
        if 400 <= status < 500 and status not in TRANSIENT_4XX:
            return await self._missed(lane.provider, task, status)
        try:
            reading = read_about(lane.provider, response, task, self._clock())
        except Unreadable as error:
            return self._failed(lane.provider, task, str(error))
        if isinstance(reading, Request):
            return reading
        receipt = await self._intake.polled(lane.provider, task, reading, response.body, self._clock())
        self._forget(task)
        ended = receipt.state is not None and is_terminal(receipt.state)
        tell = log.info if ended else log.debug
        tell("task.polled", task=task.id, provider=task.provider, provider_id=task.provider_id, state=reading.status)
        if not ended:
            return self._next(lane.provider, task)
        await self._watch.settled(lane.provider, task, receipt)
        return None

    def _next(self, provider: Provider, task: Task) -> datetime:
        now = self._clock()
        delay = poll_delay(now - (task.accepted_at or task.created_at))
        hinted = task.callbacks and self._settings.confirms(provider, provider.trust)
        if task.url_key is not None and not hinted:  # its push may still come
            delay = max(delay, min(timedelta(seconds=self._settings.push_deadline_seconds), SLOWEST_AFTER_PUSH))
        return now + delay

    def _failed(self, provider: Provider, task: Task, reason: str) -> datetime:
        self._remember(self._failures, task)
        count = self._failures[task.id]
        tell = log.warning if count == 1 else log.debug
        tell("poll.failed", task=task.id, provider=task.provider, provider_id=task.provider_id, reason=reason)
        return max(self._next(provider, task), self._clock() + BACKOFF.delay(count, self._chance()))

    def _pause_for_rate(self, lane: Lane, task: Task, response: Response) -> datetime:
        asked = retry_after_seconds(response.headers.get("retry-after"))
        pause = RATE_LIMIT_PAUSE if asked is None else min(timedelta(seconds=asked), LONGEST_ASKED)
        return self._pause(lane, task, pause)

    def _pause_for_key(self, lane: Lane, task: Task, status: int) -> datetime:
        setting = variable_name((lane.provider.name, "api_key"))
        message = f"the provider answered {status}: check {setting}; asking again in {KEY_PAUSE}"
        lane.say_once("poller.unauthorised", message)
        return self._pause(lane, task, KEY_PAUSE)

    def _pause(self, lane: Lane, task: Task, pause: timedelta) -> datetime:
        until = self._clock() + pause
        lane.paused_until = max(until, lane.paused_until or until)
        return max(self._next(lane.provider, task), lane.paused_until)

    async def _missed(self, provider: Provider, task: Task, status: int) -> datetime | None:
        if is_terminal(task.state):
            return None
        self._remember(self._misses, task)
        now = self._clock()
        if self._misses[task.id] < MISSES_ALLOWED and now - task.created_at < YOUNG:
            return self._next(provider, task)
        reason = f"the provider answers {status} when asked about it"
        await self._intake.presume(task, TaskState.FAILED, reason, now)
        self._forget(task)
        return None

    def _remember(self, counts: Counter[str], task: Task) -> None:
        if len(counts) >= REMEMBERED:  # those of tasks that a push settled are never taken out
            counts.clear()
        counts[task.id] += 1

    def _forget(self, task: Task) -> None:
        self._misses.pop(task.id, None)
        self._failures.pop(task.id, None)

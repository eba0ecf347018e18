"""Notices pushes that never came: a line for each, and an event for users that a provider, or the way to us, is silent.

Called by `submitter.poller` and `submitter.asking` alone: whoever settles a task by asking knows that its push did not.
A push that comes after all is counted as late, not as missing; so the event waits for the next minute, and is made only
if something is missing then. Several pollers make the same event, which the ledger keeps once.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog

from ringback.errors import LedgerError
from ringback.intake import Intake
from ringback.ledger import Ledger, Pushed, Pushes
from ringback.lifecycle import TERMINAL
from ringback.model import EVENT_OF_STATE, Receipt, Source, Task, TaskState, Verdict
from ringback.providers import Provider
from ringback.settings import Settings
from submitter.expecting import learn

log = structlog.get_logger("ringback.poller")

LOOK_SECONDS = 60.0
WINDOW = timedelta(hours=1)  # one event per provider and hour (UTC), and what its counts are about
FINAL = frozenset(EVENT_OF_STATE[state] for state in TERMINAL)


class PushWatch:
    """What one poller has noticed, and has not told of yet."""

    def __init__(self, settings: Settings, ledger: Ledger, intake: Intake, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._intake = intake
        self._clock = clock
        self._missed: dict[str, tuple[datetime, str]] = {}  # by provider: when it was noticed first, and of which task
        self._told: dict[str, str] = {}  # by provider: the last hour for which there is an event

    async def run(self) -> None:
        """Learn and tell once a minute, until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(LOOK_SECONDS)

    async def once(self) -> None:
        """Learn how long tasks take, and tell of what is missing; trouble is tried again next time."""
        try:
            await learn(self._ledger, self._clock())
            await self._tell()
        except Exception as error:  # asking goes on meanwhile
            log.warning("pushes.unwatched", reason=str(error) if isinstance(error, LedgerError) else repr(error))

    async def settled(self, provider: Provider, task: Task, receipt: Receipt, *, given_up: bool = False) -> None:
        """Notice the end of a task that we asked about, or gave up; `task` is as it was before."""
        try:
            if receipt.verdict is not Verdict.NEW or not await self._is_missing(provider, task, receipt.state):
                return
        except LedgerError as error:  # the task has ended all the same
            log.warning("pushes.unwatched", reason=str(error))
            return
        names = {"task": task.id, "provider": provider.name, "provider_id": task.provider_id}
        log.info("push.missing", **names, state=receipt.state, recovered=not given_up)
        self._missed.setdefault(provider.name, (self._clock(), task.id))

    async def _is_missing(self, provider: Provider, task: Task, state: TaskState | None) -> bool:
        """Tell whether a push was expected of which nothing was seen."""
        if task.url_key is None or task.accepted_at is None or not _is_pushed(task, state):
            return False
        if not task.callbacks:
            return True
        if self._settings.confirms(provider, provider.trust):
            return False  # whatever came was a hint
        # Something came: a hint, something that made no sense, or only a step on the way.
        story = await self._ledger.story(task.id)
        said = any(event.source is Source.CALLBACK and event.type in FINAL for event in story.events)
        return not (said or story.callbacks)

    async def _tell(self) -> None:
        for name, (noticed_at, example) in list(self._missed.items()):
            hour = f"{noticed_at.astimezone(UTC):%Y-%m-%dT%H}"
            if self._told.get(name) != hour:
                await self._tell_of(name, hour, noticed_at - WINDOW, example)
            self._missed.pop(name)

    async def _tell_of(self, name: str, hour: str, since: datetime, example: str) -> None:
        found = {one.provider: one for one in await self._ledger.report(Pushes(since=since))}
        one = found.get(name)
        if one is None or not one.missing:  # they came after all
            return
        said = shape(one) | {"example_task": example}
        receipt = await self._intake.silence(name, f"push_missing:{hour}", msgspec.json.encode(said), self._clock())
        self._told[name] = hour
        if receipt.verdict is Verdict.NEW:
            log.warning("receiver.push_missing", event_id=receipt.event_id, **said)


def _is_pushed(task: Task, state: TaskState | None) -> bool:
    """Tell whether the provider was to push such an end; who cancels a task knows it already."""
    wanted = task.form.callback_events if task.form else None
    return state is TaskState.EXPIRED or (state is not TaskState.CANCELLED and (wanted is None or state in wanted))


def shape(one: Pushed) -> dict[str, Any]:
    """Give the counts of one provider as they are written: in the event, by the command, as JSON."""
    return {
        "provider": one.provider,
        "since": one.since,
        "expected": one.expected,
        "received": one.received,
        "late": one.late,
        "recovered": one.recovered,
        "expired": one.expired,
        "missing": one.missing,
        "share_missing": round(one.share_missing, 4),
    }

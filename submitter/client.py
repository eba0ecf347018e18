"""Submitting: the task is stored before anything is sent, and whatever comes of it is stored before it is told.

`Submitter` is what users import. It checks and prices a request (`plan`), stores it, has it sent (`sending`) and, where
asked, waits for the end, woken by the ledger, or has it cancelled (`cancelling`). Asking how tasks stand is the
poller's.
"""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import structlog

from ringback.errors import NotFound
from ringback.intake import Intake
from ringback.ledger import Ledger, budget_of, open_ledger
from ringback.lifecycle import is_terminal
from ringback.model import Task, TaskState
from ringback.outbound import Outbound, Transport
from ringback.providers import get_provider
from ringback.providers.signatures import fingerprint
from ringback.settings import Settings
from submitter.batch import Batch, Line, Submitted, check_lines, send_all
from submitter.cancelling import Canceller
from submitter.plan import Plan, check_cost, draft_task, make_form, make_plan
from submitter.sending import Chance, Clock, Pause, Sender, Sending, find_task, first_deadlines, utc_now

log = structlog.get_logger("ringback.submitter")

LOOK_SECONDS = 1.0  # how long `wait` relies on being woken before it looks by itself


class Submitter:
    """Submits tasks. Use it as an async context manager.

    It opens the ledger, which must exist, and the door to the providers, unless they are given; and it closes what it
    opened. `clock`, `pause` and `chance` are for tests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ledger: Ledger | None = None,
        transport: Transport | None = None,
        outbound: Outbound | None = None,
        clock: Clock = utc_now,
        pause: Pause = asyncio.sleep,
        chance: Chance = random.random,
    ) -> None:
        self._settings = settings
        self._given_ledger = ledger
        self._given_outbound = outbound
        self._transport = transport
        self._clock, self._pause, self._chance = clock, pause, chance
        self._budget = budget_of(settings)
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            self._ledger = self._given_ledger or await open_ledger(self._settings)
            if self._given_ledger is None:
                opening.push_async_callback(self._ledger.close)
            if self._settings.secret:
                await self._ledger.enlist_keys([fingerprint(key) for key in self._settings.secret], self._clock())
            self._outbound = self._given_outbound or Outbound(self._settings, transport=self._transport)
            if self._given_outbound is None:
                await opening.enter_async_context(self._outbound)
            self._opened = opening.pop_all()
        self._sender = Sender(
            self._settings,
            self._ledger,
            self._outbound,
            clock=self._clock,
            pause=self._pause,
            chance=self._chance,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def submit(
        self,
        provider: str,
        *,
        model: str | None = None,
        prompt: str | None = None,
        image_urls: Sequence[str] = (),
        aspect_ratio: str | None = None,
        resolution: str | None = None,
        duration: int | None = None,
        action: str | None = None,
        callback_events: Sequence[str] | None = None,
        extra: Mapping[str, Any] | None = None,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        max_cost: Decimal | None = None,
        parent: str | None = None,
    ) -> Task:
        """Submit one task and give it as it is stored.

        With a `key`, the same request gives the same task, sent once. A task that comes back `pending` was not
        accepted yet: its `send_note` says why, its `resend_at` when the poller sends it again, or None: never.
        `parent` is our id of the task that this one follows; it is shown, and means nothing else.

        Raises:
            InvalidSubmission: the provider would refuse it; nothing was stored.
            CostTooHigh: its price is above `max_cost`, or unknown; nothing was stored.
            SettingsError: a key, a secret or a URL is missing; nothing was stored.
            BudgetExceeded: a day's or a month's budget has no room for it; nothing was stored.
            KeyConflict: the key belongs to another request.
            SubmissionRefused: the provider did refuse it; stored as failed.
            LedgerUnavailable: it could not be stored.
        """
        form = {
            "model": model,
            "prompt": prompt,
            "image_urls": image_urls,
            "aspect_ratio": aspect_ratio,
            "resolution": resolution,
            "duration": duration,
            "action": action,
            "callback_events": callback_events,
            "extra": extra,
        }
        draft = self._draft(provider, form, key=key, metadata=metadata, max_cost=max_cost, parent=parent)
        sending = await self._send(draft)
        if sending.ending is not None and sending.ending.refusal is not None:
            raise sending.ending.refusal
        return sending.task

    def plan(
        self,
        provider: str,
        *,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        max_cost: Decimal | None = None,
        **form: Any,
    ) -> Plan:
        """Show what `submit` would do with the same arguments; needs no ledger and no API key."""
        task = self._draft(provider, form, key=key, metadata=metadata, max_cost=max_cost)
        return make_plan(self._settings, get_provider(provider, self._settings.catalogue), task)

    async def submit_many(self, batch: Batch, *, max_cost: Decimal | None = None) -> AsyncIterator[Submitted]:
        """Submit every line, some at a time, and give each as it ends; in no fixed order.

        Every line is checked before the first is sent, and all together against `max_cost`. Lines that were sent by
        an earlier run are given as they stand.

        Raises:
            InvalidSubmission: names the bad lines; nothing was sent.
            CostTooHigh: the whole batch is above `max_cost`, or a price is unknown; nothing was sent.
            SubmissionRefused: the provider refuses the account; the remaining lines were not sent.
            BudgetExceeded: a budget has no room for a line; the remaining lines were not sent.
        """

        def draft(line: Line) -> Task:
            return self._draft(line.provider, line.form, key=line.key, metadata=line.metadata)

        await check_lines(batch, draft, max_cost)
        for name in sorted(batch.providers):
            self._outbound.check(get_provider(name, self._settings.catalogue))
        results = send_all(batch, lambda line: self._send(draft(line)), at_once=self._settings.provider_concurrency * 2)
        async with aclosing(results):
            async for result in results:
                yield result

    async def wait(self, task: Task | str, timeout_seconds: float) -> Task:
        """Wait until a task has ended; woken by the ledger, without asking the provider.

        Args:
            task: the task, or its id, its key or the provider's id.
            timeout_seconds: how long at most.

        Raises:
            NotFound: no such task.
            TimeoutError: it has not ended yet; it goes on all the same.
        """
        loop = asyncio.get_running_loop()
        deadline, seen = loop.time() + timeout_seconds, 0
        task_id = task.id if isinstance(task, Task) else await self._id_of(task)
        while not is_terminal((current := await find_task(self._ledger, task_id)).state):
            left = deadline - loop.time()
            if left <= 0:
                raise TimeoutError(_still(current, timeout_seconds))
            seen = await self._ledger.changed(seen, min(left, LOOK_SECONDS))
        return current

    async def cancel(self, task: Task | str) -> Task:
        """Cancel a task, and give it as it stands then.

        It is `cancelled` where the provider has said so, also earlier. One that was never sent is withdrawn: `failed`,
        by our own word. One that is still open was accepted for cancellation, and its end comes as any other.

        Args:
            task: the task, or its id, its key or the provider's id.

        Raises:
            NotFound: no such task.
            NotCancelled: it has ended, runs already, or cannot be named to the provider; says which.
            Unsupported: the provider cannot cancel.
            SettingsError: the provider's key is missing.
        """
        reference = task.id if isinstance(task, Task) else task
        current = await find_task(self._ledger, await self._id_of(reference))
        intake = Intake(self._ledger, self._settings)
        return await Canceller(self._settings, self._ledger, self._outbound, intake, self._clock).cancel(current)

    async def _id_of(self, reference: str) -> str:
        try:
            return (await find_task(self._ledger, reference)).id
        except NotFound:  # no id of ours: a key, or the provider's id
            return (await self._ledger.story(reference)).task.id

    def _draft(
        self,
        provider: str,
        form: Mapping[str, Any],
        *,
        key: str | None,
        metadata: Mapping[str, Any] | None,
        max_cost: Decimal | None = None,
        parent: str | None = None,
    ) -> Task:
        known = get_provider(provider, self._settings.catalogue)
        now, checked = self._clock(), make_form(known, form)
        task = draft_task(self._settings, known, checked, now, key=key, metadata=metadata, parent=parent)
        check_cost(task, max_cost)
        return first_deadlines(self._settings, known, task)

    async def _send(self, draft: Task) -> Sending:
        provider = get_provider(draft.provider, self._settings.catalogue)
        self._outbound.check(provider)
        if draft.url_key is None and provider.pushes:
            _say_that_no_push_will_come()
        return await self._sender.begin(draft, self._budget)


@functools.cache
def _say_that_no_push_will_come() -> None:
    """Say it once per process."""
    log.warning("submitter.no_public_url", hint="set RINGBACK_PUBLIC_URL to get pushes; until then the poller fetches")


def _still(task: Task, timeout_seconds: float) -> str:
    since = f" ({task.send_note})" if task.state is TaskState.PENDING and task.send_note else ""
    return (
        f"{task.id} is still {task.state.value}{since} after {timedelta(seconds=timeout_seconds)}; it goes on all the "
        f"same. Is a receiver or a poller running? See: ringback tasks show {task.id}"
    )

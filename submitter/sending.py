"""Sending a stored task, once or with patience: claim, send, read, save. The resend rule lives here.

Called by `submitter.client` for a new task and by `submitter.poller` for one whose time to be sent again has come.
Whatever happens between two lines here (a crash, Ctrl-C), the ledger holds the claim, and the claim says whether
anybody may send again: without an idempotency key nobody does, because a blind retry buys a second video.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog
from msgspec import structs

from ringback.errors import InvalidSubmission, LedgerRejected, LedgerUnavailable, NotFound, SettingsError, Unreachable
from ringback.ledger import Budget, Ledger, Query, Sent
from ringback.model import Callback, Task, TaskState
from ringback.outbound import Outbound
from ringback.providers import Provider, get_provider
from ringback.retry import LONGEST_ASKED, SENDING, Policy, poll_delay
from ringback.settings import Settings
from submitter.ending import Ending, Fate, ending_of_answer, ending_of_failure, scrub
from submitter.expecting import Expecting
from submitter.plan import task_url

log = structlog.get_logger("ringback.submitter")

CLAIM_SLACK = timedelta(seconds=30)  # beyond the request's own limit, before anybody may take a claim over
MAX_PAUSE_SECONDS = 60.0  # a longer Retry-After is left to the poller
RESENDING = Policy(base_seconds=10.0, factor=2.0, cap_seconds=600.0, jitter=0.25)
SAVING = Policy(attempts=6, base_seconds=0.2, factor=2.0, cap_seconds=5.0)

Clock = Callable[[], datetime]
Pause = Callable[[float], Awaitable[None]]
Chance = Callable[[], float]


def utc_now() -> datetime:
    """Give the time of the real clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What one sending came to. `ending` is None when somebody else holds the claim, or none may send any more."""

    task: Task
    ending: Ending | None = None
    pause_seconds: float | None = None  # set when this process shall try again after so long


async def find_task(ledger: Ledger, task_id: str) -> Task:
    """Read one task by our id, without its story.

    Raises:
        NotFound: there is none.
    """
    found = await ledger.tasks(Query(task_id=task_id, limit=1))
    if not found:
        raise NotFound(f"no task {task_id}")
    return found[0]


def first_deadlines(settings: Settings, provider: Provider, task: Task) -> Task:
    """Set what brings a new task back to the poller: unsent after a crash, or never heard of again."""
    unsent = task.created_at + send_patience(settings)
    return structs.replace(task, resend_at=unsent, fetch_at=task.created_at + provider.longest)


def is_sendable(task: Task, now: datetime) -> bool:
    """Tell whether a stored task may be sent now: never claimed, or its claim has run out."""
    if task.accepted_at is not None or task.form is None or task.state is not TaskState.PENDING:
        return False
    return task.sent_at is None or (task.resend_at is not None and task.resend_at <= now)


def send_patience(settings: Settings) -> timedelta:
    """Say for how long whoever claimed a sending may be at it."""
    return timedelta(seconds=settings.request_timeout_seconds) + CLAIM_SLACK


class Sender:
    """Sends stored tasks."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        outbound: Outbound,
        *,
        clock: Clock = utc_now,
        pause: Pause = asyncio.sleep,
        chance: Chance = random.random,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._outbound = outbound
        self._expecting = Expecting(settings, ledger, clock)
        self._clock = clock
        self._pause = pause
        self._chance = chance
        # Before the claim and not only in `outbound`: a claim that waits for a slot looks like a lost request.
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.provider_concurrency)
        )

    async def begin(self, draft: Task, budget: Budget | None) -> Sending:
        """Store a new task and send it. Where it can be sent at once it is stored as claimed: one commit, not two.

        Raises:
            KeyConflict: its key belongs to another request.
            BudgetExceeded: a budget has no room for it.
        """
        provider = get_provider(draft.provider, self._settings.catalogue)
        slot = self._slots[provider.name]
        if slot.locked():  # it is stored before it waits
            return await self._deliver_stored((await self._ledger.add_task(draft, budget))[0])
        async with slot:
            wait, now = await self._wait(provider, draft), self._clock()
            claimed = structs.replace(draft, sent_at=now, sends=1, resend_at=self._lease(provider, draft, now))
            task, is_new = await self._ledger.add_task(claimed, budget)
            if is_new:
                sending = await self._send(provider, task, now, 1, wait, doubted=False)
        return await self._go_on(sending) if is_new else await self._deliver_stored(task)

    async def _deliver_stored(self, task: Task) -> Sending:
        """Send a task unless somebody else has; its key may have been used before."""
        if not is_sendable(task, self._clock()):
            return Sending(task=task)
        return await self._go_on(await self._attempt(task, 1))

    async def _go_on(self, sending: Sending) -> Sending:
        """Send again in this process where that is allowed and soon; later tries are the poller's."""
        for number in range(2, SENDING.attempts + 1):
            if sending.pause_seconds is None:
                break
            await self._pause(sending.pause_seconds)
            sending = await self._attempt(sending.task, number)
        return sending

    async def resume(self, task: Task) -> Sending:
        """Send a task once more, for the poller."""
        return await self._attempt(task, SENDING.attempts)

    async def _attempt(self, task: Task, number: int) -> Sending:
        provider = get_provider(task.provider, self._settings.catalogue)
        doubted = task.sent_at is not None
        async with self._slots[provider.name]:
            wait, now = await self._wait(provider, task), self._clock()
            if doubted and not self._honoured(provider, task, now):
                return await self._give_up(task, now)
            if not await self._ledger.claim_send(task, now, self._lease(provider, task, now)):
                return Sending(task=await find_task(self._ledger, task.id))
            return await self._send(provider, task, now, number, wait, doubted=doubted)

    async def _wait(self, provider: Provider, task: Task) -> timedelta:
        """Tell when to ask first, once it is accepted.

        Before anything is bought: an answer that is paid for must not wait for a reader that is busy.
        """
        pushed = task_url(self._settings, task) is not None
        return await self._expecting.wait(provider, task) if pushed else poll_delay(timedelta(0))

    async def _send(
        self, provider: Provider, task: Task, claimed_at: datetime, number: int, wait: timedelta, *, doubted: bool
    ) -> Sending:
        """Send a task that is claimed, and store what comes of it."""
        ending = await self._exchange(provider, task, task_url(self._settings, task), doubted=doubted)
        return await self._save(provider, task, ending, claimed_at, number, wait)

    def _honoured(self, provider: Provider, task: Task, at: datetime) -> bool:
        """Tell whether a request sent at this time still falls under the task's idempotency key."""
        window = provider.idempotency_window
        timeout = timedelta(seconds=self._settings.request_timeout_seconds)
        return window is not None and at + timeout < task.created_at + window

    def _lease(self, provider: Provider, task: Task, now: datetime) -> datetime | None:
        """Say when somebody may take this claim over, should we die; None where that could buy a second time."""
        until = now + send_patience(self._settings)
        return until if self._honoured(provider, task, until) else None

    async def _exchange(self, provider: Provider, task: Task, url: str | None, *, doubted: bool) -> Ending:
        try:
            response = await self._outbound.send(provider, provider.build_submission(task, url))
        except (Unreachable, SettingsError, InvalidSubmission) as error:
            ending = ending_of_failure(error, doubted=doubted)
        else:
            ending = ending_of_answer(provider, response, self._clock(), doubted=doubted)
        key = self._settings.provider(provider.name).api_key
        return scrub(ending, [secret for secret in (url and url.rpartition(".")[2], key) if secret])

    async def _save(
        self, provider: Provider, task: Task, ending: Ending, sent_at: datetime, number: int, wait: timedelta
    ) -> Sending:
        now = self._clock()
        pause = self._pause_after(ending, number)
        resend_at = self._resend_at(provider, task, ending, pause, now)
        sent = Sent(
            task_id=task.id,
            sent_at=sent_at,
            now=now,
            note=ending.note,
            reading=ending.reading,
            callback=Callback(body=ending.answer, received_at=now) if ending.reading else None,
            fetch_at=now + wait if ending.fate is Fate.ACCEPTED else None,
            resend_at=resend_at,
            release=ending.fate is Fate.NOT_BOUGHT,
        )
        saved = await self._store(task, sent)
        sending = Sending(task=saved, ending=ending, pause_seconds=pause if saved.resend_at else None)
        _tell(sending)
        return sending

    def _pause_after(self, ending: Ending, number: int) -> float | None:
        asked = ending.wait_seconds or 0.0
        if number >= SENDING.attempts or asked > MAX_PAUSE_SECONDS:
            return None
        return max(asked, SENDING.delay(number, self._chance()).total_seconds())

    def _resend_at(
        self, provider: Provider, task: Task, ending: Ending, pause: float | None, now: datetime
    ) -> datetime | None:
        """Say when the poller may send; while this process still tries by itself, only after it should have."""
        if ending.reading is not None:
            return None
        if pause is not None:
            at = now + timedelta(seconds=pause) + CLAIM_SLACK
        else:
            own = RESENDING.delay(max(1, task.sends + 2 - SENDING.attempts), self._chance())
            at = now + max(own, min(timedelta(seconds=ending.wait_seconds or 0.0), LONGEST_ASKED))
        return at if ending.fate is Fate.NOT_BOUGHT or self._honoured(provider, task, at) else None

    async def _give_up(self, task: Task, now: datetime) -> Sending:
        """Keep a doubtful task as it is: its idempotency window has passed, so nobody may send it again."""
        note = f"{task.send_note or 'no answer was seen'}; too late to send it again"
        sent = Sent(task_id=task.id, sent_at=task.sent_at or now, now=now, note=note)
        saved = await self._store(task, sent)
        log.warning("submission.unknown_end", task=task.id, provider=task.provider, note=note)
        return Sending(task=saved)

    async def _store(self, task: Task, sent: Sent) -> Task:
        """Save with patience: this answer is paid for and will not come again."""
        provider_id = sent.reading.provider_id if sent.reading else None
        names = {"task": task.id, "provider": task.provider, "provider_id": provider_id}
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._ledger.save_send(sent)
            except LedgerUnavailable as error:
                if attempt >= SAVING.attempts:
                    log.error("submission.save_failed", **names, error=str(error))  # noqa: TRY400 -- expected
                    if provider_id is None:
                        raise
                    raise LedgerUnavailable(_unsaved(task, provider_id, error)) from error
                # With the id from the first try on: whoever stops us now would lose it.
                log.warning("submission.save_delayed", **names, error=str(error))
                await self._pause(SAVING.delay(attempt, self._chance()).total_seconds())
            except LedgerRejected as error:
                if sent.reading is None:
                    raise
                # Another task holds this id: sending again would not change that.
                log.warning("submission.unsaved", **names)
                sent = replace(sent, reading=None, callback=None, fetch_at=None, note=str(error))


def _unsaved(task: Task, provider_id: str, error: LedgerUnavailable) -> str:
    """Say what is paid for and not on record; this is the last place where the provider's id is told."""
    return (
        f"{task.provider} accepted {task.id} as {provider_id}, and that could not be stored: {error}; keep that id and "
        f"ask {task.provider} by it, since submitting it anew may buy a second one"
    )


def _tell(sending: Sending) -> None:
    task, ending = sending.task, sending.ending
    assert ending is not None  # noqa: S101 -- only told of sendings that happened
    names = {"task": task.id, "provider": task.provider, "provider_id": task.provider_id}
    if ending.fate is Fate.ACCEPTED:
        log.info("task.submitted", **names, state=task.state.value)
    elif ending.fate is Fate.REFUSED:
        log.warning("task.refused", **names, note=ending.note)
    elif sending.pause_seconds is not None:
        log.info("submission.retried", **names, note=ending.note, pause_seconds=round(sending.pause_seconds, 2))
    elif task.resend_at is not None:
        log.info("submission.postponed", **names, note=ending.note, resend_at=task.resend_at.isoformat())
    elif task.state is TaskState.PENDING:
        log.warning("submission.unknown_end", **names, note=ending.note)
    else:
        log.info("task.submitted", **names, state=task.state.value)  # a callback said so before the answer could

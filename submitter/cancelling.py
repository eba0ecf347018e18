"""Cancelling a task: the provider is asked to, and only its own word makes the task `cancelled`.

Called by `Submitter.cancel`. A task that was never sent is withdrawn without asking anybody: its sending is claimed, so
that nobody else can send it, and it ends as `failed` by our own word, since `cancelled` is the provider's to say.
"""

from datetime import timedelta

import structlog

from ringback.errors import NotCancelled, RingbackError, Unreachable, Unreadable, Unsupported
from ringback.intake import Intake
from ringback.ledger import Ledger
from ringback.lifecycle import is_presumed, is_terminal
from ringback.model import Reading, Source, Task, TaskState
from ringback.outbound import Outbound
from ringback.providers import Provider, Response, get_provider
from ringback.providers import reading as texts
from ringback.settings import Settings
from submitter.inquiring import Lack, Said, Silence, inquire, silence_of
from submitter.sending import Clock, find_task

log = structlog.get_logger("ringback.submitter")

WITHDRAWN = "withdrawn before it was sent"
# For a withdrawal. Should its process die in the middle, the poller finds a claim whose sending is in doubt: it sends
# the task after all, or under no idempotency key keeps it.
CLAIM = timedelta(seconds=30)
WHO = {
    Source.CALLBACK: "by a callback",
    Source.POLL: "by a poll",
    Source.SUBMISSION: "by the answer to its submission",
    Source.RINGBACK: "as Ringback presumed",
}


class Canceller:
    """Cancels one task at a time."""

    def __init__(self, settings: Settings, ledger: Ledger, outbound: Outbound, intake: Intake, clock: Clock) -> None:
        self._settings = settings
        self._ledger = ledger
        self._outbound = outbound
        self._intake = intake
        self._clock = clock

    async def cancel(self, task: Task) -> Task:
        """Cancel a task, and give it as it stands then; see `Submitter.cancel`."""
        if task.state is TaskState.CANCELLED:
            return task
        # What we only presumed may well go on at the provider.
        asking = task.provider_id is not None
        if is_terminal(task.state) and not (asking and is_presumed(task.state, task.settled_by)):
            raise NotCancelled(f"{task.id} has ended already: {ended(task)}")
        if not asking:
            return await self._withdraw(task)
        provider = get_provider(task.provider, self._settings.catalogue)
        if not provider.can_cancel:
            raise Unsupported(f"{provider.name} has no way to cancel a task that was submitted; {task.id} goes on")
        if provider.cancel_deletes:
            await self._look_first(provider, task)
        return await self._ask(provider, task)

    async def _withdraw(self, task: Task) -> Task:
        if task.sent_at is not None or task.form is None:
            note = f" ({task.send_note})" if task.send_note else ""
            raise NotCancelled(
                f"{task.id} may be at {task.provider}{note}, but its id there is not known, so nobody can be asked to "
                f"cancel it; try again once it is, see: ringback tasks show {task.id}"
            )
        now = self._clock()
        if not await self._ledger.claim_send(task, now, now + CLAIM):
            raise NotCancelled(f"{task.id} is just being sent; try again in a moment")
        await self._intake.presume(task, TaskState.FAILED, WITHDRAWN, now)
        log.info("task.withdrawn", task=task.id, provider=task.provider)
        return await find_task(self._ledger, task.id)

    async def _look_first(self, provider: Provider, task: Task) -> None:
        """See to it that the task still waits: the call that cancels it would delete it once it has ended."""
        said = await inquire(self._outbound, provider, task, self._clock)
        if isinstance(said, Silence):
            raise NotCancelled(f"{task.id} was not cancelled, since how it stands is not known: {said.why}")
        if is_terminal(said.reading.status):
            await self._take_in(provider, task, said.reading, said.body)
            current = await find_task(self._ledger, task.id)
            raise NotCancelled(f"{task.id} has ended already: {ended(current)}")
        if said.reading.status is not TaskState.SUBMITTED:
            raise NotCancelled(f"{provider.name} cancels only what waits; {task.id} is {said.reading.status} there")

    async def _ask(self, provider: Provider, task: Task) -> Task:
        confirmed = False
        try:
            response = await self._outbound.send(provider, provider.build_cancel(task))
        except Unreachable as error:
            problem: str | None = f"{error}; it may have been asked" if error.sent else str(error)
        else:
            problem = self._refusal(provider, response)
            confirmed = problem is None and await self._confirmed(provider, task, response)
        current = await find_task(self._ledger, task.id) if confirmed else await self._learn(provider, task)
        if current.state is TaskState.CANCELLED:
            log.info("task.cancelled", task=task.id, provider=task.provider, provider_id=task.provider_id)
            return current
        if confirmed:
            raise NotCancelled(f"{task.id} has ended both ways: cancelled says the answer, but {ended(current)}")
        if is_terminal(current.state) and not is_presumed(current.state, current.settled_by):
            raise NotCancelled(f"{task.id} has ended already: {ended(current)}")
        if problem is not None:
            raise NotCancelled(f"{task.id} was not cancelled: {problem}; it is {current.state}")
        # The wish was accepted, and the end is still to come, by a push or by asking soon.
        await self._ledger.plan_fetches({task.id: self._clock()})
        return current

    def _refusal(self, provider: Provider, response: Response) -> str | None:
        """Give the provider's own words where it does not cancel; None where it does, or will."""
        silence = silence_of(provider, response.status, response)
        if silence is None or silence.lack is not Lack.UNKNOWN:
            wait = f"; try again in {silence.wait_seconds:g} s" if silence and silence.wait_seconds else ""
            return None if silence is None else silence.why + wait
        said = str(texts.refusal(provider.name, response.status, texts.document_or_nothing(response.body)))
        key = self._settings.provider(provider.name).api_key
        return said.replace(key, "<secret>") if key else said

    async def _confirmed(self, provider: Provider, task: Task, response: Response) -> bool:
        """Take in the answer where it says that the task is cancelled."""
        try:
            reading = provider.read_cancellation(response, task, self._clock())
        except Unreadable:
            return False
        if reading is None or (reading.status, reading.provider_id) != (TaskState.CANCELLED, task.provider_id):
            return False
        await self._take_in(provider, task, reading, response.body)
        return True

    async def _learn(self, provider: Provider, task: Task) -> Task:
        """Ask how it stands now, and take in its end, where it has one."""
        try:
            said = await inquire(self._outbound, provider, task, self._clock)
        except RingbackError:  # cannot be asked about; what is known has to do
            said = None
        if isinstance(said, Said) and is_terminal(said.reading.status):
            await self._take_in(provider, task, said.reading, said.body)
        return await find_task(self._ledger, task.id)

    async def _take_in(self, provider: Provider, task: Task, reading: Reading, body: bytes) -> None:
        await self._intake.polled(provider, task, reading, body, self._clock())


def ended(task: Task) -> str:
    """Say how and when a task has ended, and who said so."""
    who = WHO[task.settled_by] if task.settled_by else ""
    return f"{task.state} since {task.settled_at:%Y-%m-%d %H:%M:%SZ}, {who}"

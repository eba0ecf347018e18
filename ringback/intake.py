"""The one door in: by which an event enters the ledger, pushed, polled or presumed.

It reads what came, in the provider's words, gives it to the ledger in ours, and tells the log. It never runs
a handler and never sends anything. Called by `receiver.web` for every push and by `submitter.poller`.
"""

import asyncio
from datetime import datetime
from functools import lru_cache

import structlog

from ringback.errors import Unreadable, Unsupported
from ringback.ledger import IntakeLedger, Waiter
from ringback.model import Arrival, Callback, EventType, Kind, Notice, Reading, Receipt, Source, Task, TaskState, Trust
from ringback.providers import Provider
from ringback.settings import Settings

log = structlog.get_logger("ringback.intake")

TOLD = {Source.CALLBACK: "callback.received", Source.POLL: "poll.received", Source.RINGBACK: "task.presumed"}


class Intake:
    """Turns what providers say into arrivals at the ledger."""

    def __init__(self, ledger: IntakeLedger, settings: Settings) -> None:
        self._ledger = ledger
        self._timeout_seconds = settings.commit_timeout_seconds
        self._confirms = lru_cache(maxsize=256)(settings.confirms)
        self._tells = settings.log_level in ("debug", "info")
        self._log = log.bind()  # now, rather than anew for every line

    async def pushed(self, provider: Provider, task_id: str | None, trust: Trust, callback: Callback) -> Receipt:
        """Take in an authentic callback. `task_id` is ours, from the URL; None on an account endpoint.

        Raises:
            LedgerUnavailable: it could not be stored in time; the provider shall send it again.
            LedgerRejected: this one can never be stored.
        """
        arrival = self.arrival(provider, task_id, trust, callback)
        return self.tell(arrival, await self.enter(arrival))

    def arrival(self, provider: Provider, task_id: str | None, trust: Trust, callback: Callback) -> Arrival:
        """Read an authentic callback, or keep it as a hint where its trust is below what its provider needs."""
        if self._confirms(provider, trust):
            return _hint(provider, task_id, trust, callback, "unconfirmed")
        said, reason = _read(provider, callback)
        reading, notice = (None, said) if isinstance(said, Notice) else (said, None)
        return Arrival(
            kind=Kind.FACT if reading else Kind.RECEIVED if notice else Kind.UNRECOGNISED,
            provider=provider.name,
            source=Source.CALLBACK,
            trust=trust,
            callback=callback,
            task_id=task_id,
            reading=reading,
            notice=notice,
            reason=reason,
        )

    async def hinted(
        self, provider: Provider, task_id: str | None, trust: Trust, callback: Callback, reason: str
    ) -> Receipt:
        """Take in a request that proves nothing by itself: its task becomes due for a fetch, nothing else moves."""
        arrival = _hint(provider, task_id, trust, callback, reason)
        return self.tell(arrival, await self.enter(arrival))

    async def polled(self, provider: Provider, task: Task, reading: Reading, body: bytes, now: datetime) -> Receipt:
        """Take in the provider's answer to our question about a task: trusted, since we asked it ourselves."""
        arrival = Arrival(
            kind=Kind.FACT,
            provider=provider.name,
            source=Source.POLL,
            trust=Trust.SIGNED,  # our own request, over TLS and under our key
            callback=Callback(body=body, received_at=now),
            task_id=task.id,
            reading=reading,
        )
        return self.tell(arrival, await self.enter(arrival))

    async def presume(self, task: Task, status: TaskState, reason: str, now: datetime) -> Receipt:
        """Settle a task by our own judgement; the provider's word will replace it, should it ever come."""
        arrival = Arrival(
            kind=Kind.FACT,
            provider=task.provider,
            source=Source.RINGBACK,
            trust=Trust.NONE,
            callback=Callback(body=b"", received_at=now),
            task_id=task.id,
            reading=Reading(status=status, provider_id=task.provider_id),
            reason=reason,
        )
        return self.tell(arrival, await self.enter(arrival))

    async def silence(self, provider: str, key: str, body: bytes, now: datetime) -> Receipt:
        """Take in that pushes of a provider never came, which nobody else would say; once for each key."""
        arrival = Arrival(
            kind=Kind.RECEIVED,
            provider=provider,
            source=Source.RINGBACK,
            trust=Trust.NONE,
            callback=Callback(body=body, received_at=now),
            notice=Notice(event_id=key, type=EventType.RECEIVER_PUSH_MISSING),
        )
        return await self.enter(arrival)

    def enter_for(self, waiter: Waiter, arrival: Arrival) -> None:
        """Give an arrival to the ledger on the hot path; the waiter is told."""
        self._ledger.record_for(waiter, arrival, timeout_seconds=self._timeout_seconds)

    def enter(self, arrival: Arrival) -> "asyncio.Future[Receipt]":
        """Give an arrival to the ledger; the future raises what `pushed` does."""
        return self._ledger.record(arrival, timeout_seconds=self._timeout_seconds)

    def tell(self, arrival: Arrival, receipt: Receipt) -> Receipt:
        """Tell the log what became of an arrival."""
        if not self._tells:  # what is never written shall not be put together either
            return receipt
        self._log.info(
            TOLD[arrival.source],
            provider=arrival.provider,
            task=receipt.task_id,
            event_id=receipt.event_id,
            verdict=receipt.verdict,
            state=receipt.state,
            trust=arrival.trust,
            reason=arrival.reason,
        )
        return receipt


def _hint(provider: Provider, task_id: str | None, trust: Trust, callback: Callback, reason: str) -> Arrival:
    said, _ = _read(provider, callback)
    return Arrival(
        kind=Kind.HINT,
        provider=provider.name,
        source=Source.CALLBACK,
        trust=trust,
        callback=callback,
        task_id=task_id,
        reading=said if isinstance(said, Reading) else None,
        reason=reason,
    )


def _read(provider: Provider, callback: Callback) -> tuple[Reading | Notice | None, str | None]:
    try:
        return provider.read_callback(callback), None
    except (Unreadable, Unsupported) as error:
        return None, str(error)

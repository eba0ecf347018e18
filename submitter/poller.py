"""The poller: asks about tasks that no push has settled, and sends again what a crash or a busy provider left unsent.

`run` looks once a second, less often while nothing is due. Each question and each sending is a task of its own, so
that a slow answer holds up nobody else. What an answer means is `asking`'s business, the resend rule `sending`'s.
"""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any

import structlog

from ringback.errors import LedgerError, RingbackError, SettingsError
from ringback.intake import Intake
from ringback.ledger import Ledger, Process, silence_of
from ringback.model import DeliveryState, Task, new_id
from ringback.outbound import Outbound
from ringback.settings import Settings
from submitter.asking import Asker, Lane
from submitter.bookkeeping import Bookkeeper
from submitter.housekeeping import Housekeeper
from submitter.sending import CLAIM_SLACK, Chance, Clock, Sender, utc_now
from submitter.silence import PushWatch

log = structlog.get_logger("ringback.poller")

ROUND_SECONDS = 1.0
IDLE_SECONDS = 1.0
LOOKED_AT = 200  # sendings that are due, per round
AFTER_TROUBLE = timedelta(seconds=30)


class Poller:
    """The process, or the part of one, that asks. `clock` and `chance` are for tests."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        outbound: Outbound,
        intake: Intake,
        *,
        clock: Clock = utc_now,
        chance: Chance = random.random,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._outbound = outbound
        self._clock = clock
        self._watch = PushWatch(settings, ledger, intake, clock)
        self._asker = Asker(settings, ledger, outbound, intake, self._watch, clock=clock, chance=chance)
        self._sender = Sender(settings, ledger, outbound, clock=clock, chance=chance)
        self._housekeeper = Housekeeper(settings, ledger, clock)
        self._bookkeeper = Bookkeeper(ledger, clock)
        self._lanes = {name: Lane(provider) for name, provider in settings.catalogue.items()}
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, datetime] = {}  # sendings that the ledger's trouble kept back
        started_at = clock()
        self._process = Process(
            id=new_id("poller", started_at),
            role="poller",
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=started_at,
            silence=silence_of(settings.heartbeat_seconds),
        )
        self._beaten_at: datetime | None = None
        self._failures = 0  # rounds that the ledger's trouble has ended, without one between that went well
        self._seen = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until `stop` is set, then let what is running end, for `grace_seconds` at most."""
        log.info("poller.started", process=self._process.id)
        beside = [asyncio.create_task(work) for work in self._beside()]
        try:
            while not stop.is_set():
                started = await self._round_or_wait()
                await self._rest(stop, busy=started > 0)
        finally:
            for work in beside:
                work.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._end(self._settings.grace_seconds if stop.is_set() else 0)
            with contextlib.suppress(LedgerError):
                await self._beat(self._clock(), leaving=True)
            log.info("poller.stopped", process=self._process.id)

    async def run_once(self, time_limit_seconds: float) -> int:
        """Do whatever is due, and give how much that was. Past the limit nothing is begun; what runs is let end."""
        limit = asyncio.get_running_loop().time() + time_limit_seconds
        total = 0
        try:
            while asyncio.get_running_loop().time() < limit:
                before = self._running()
                total += (started := await self._round())
                if started:
                    continue
                # Those of before may have ended since their lane was looked at, and made room: even all of them.
                waits = before | self._running()
                if not waits:
                    break
                await asyncio.wait(waits, timeout=ROUND_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._running():
                await asyncio.wait(self._running())
            await self._watch.once()
            await self._housekeeper.once(limit - asyncio.get_running_loop().time())
        finally:
            await self._end(0)
            with contextlib.suppress(LedgerError):
                await self._beat(self._clock(), leaving=True)
        return total

    def _beside(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """Give what goes on beside the asking, each at a pace of its own."""
        return self._housekeeper.run(), self._watch.run(), self._bookkeeper.run()

    def _running(self) -> set[asyncio.Task[None]]:
        return set(self._sending.values()).union(*(lane.running for lane in self._lanes.values()))

    async def _end(self, grace_seconds: float) -> None:
        if running := self._running():
            await asyncio.wait(running, timeout=grace_seconds)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _round_or_wait(self) -> int:
        try:
            started = await self._round()
        except LedgerError as error:
            self._failures += 1
            if self._failures == 1:  # once for each outage
                log.warning("poller.ledger_trouble", process=self._process.id, error=str(error))
            for lane in self._lanes.values():  # what was due can wait a second
                lane.more = False
            return 0
        if self._failures:
            log.info("poller.ledger_available", process=self._process.id, failures=self._failures)
            self._failures = 0
        return started

    async def _round(self) -> int:
        """Begin whatever is due and there is room for; gives how much was."""
        now = self._clock()
        beat = timedelta(seconds=self._settings.heartbeat_seconds)
        if self._beaten_at is None or now >= self._beaten_at + beat:
            await self._beat(now)
        started = await self._send_due(now)
        for lane in self._lanes.values():
            started += await self._ask_due(lane, now)
        return started

    async def _beat(self, now: datetime, *, leaving: bool = False) -> None:
        dead_before = now - self._process.silence
        for delivery in await self._ledger.beat(self._process, now, dead_before, leaving=leaving):
            if delivery.state is DeliveryState.DISCARDED:  # no worker will ever tell of it
                fields = {"delivery": delivery.id, "event_id": delivery.event_id, "handler": delivery.handler}
                log.error("delivery.discarded", error=delivery.reason, **fields)
        self._beaten_at = now

    async def _ask_due(self, lane: Lane, now: datetime) -> int:
        if lane.is_paused(now):
            lane.more = False
            return 0
        room = self._settings.provider_concurrency - len(lane.running)
        if room <= 0:
            return 0
        lease_until = now + timedelta(seconds=self._settings.request_timeout_seconds) + CLAIM_SLACK
        tasks = await self._ledger.claim_fetches(lane.provider.name, now, lease_until, room)
        lane.more = len(tasks) == room
        for task in tasks:
            asking = asyncio.create_task(self._asker.ask(lane, task))
            lane.running.add(asking)
            asking.add_done_callback(lane.running.discard)
        return len(tasks)

    async def _send_due(self, now: datetime) -> int:
        due = await self._sendable(now)
        if len(self._not_before) > LOOKED_AT:  # those that somebody else has sent meanwhile are never taken out
            self._not_before = {task: at for task, at in self._not_before.items() if now < at}
        started = 0
        for task in due:
            if len(self._sending) >= self._settings.provider_concurrency * 2:
                break
            if self._may_send(task, now):
                self._begin_sending(task, self._send(task))
                started += 1
        return started

    async def _sendable(self, now: datetime) -> list[Task]:
        """List what is due to be sent; many tasks of a provider that cannot be asked now must not hide the others."""
        providers = set(self._lanes)
        while True:
            due = await self._ledger.due_sends(sorted(providers), now, LOOKED_AT)
            open_ones = {name for name in {task.provider for task in due} if self._is_open(self._lanes[name], now)}
            sendable = [task for task in due if task.provider in open_ones]
            if len(due) < LOOKED_AT or len(sendable) == len(due):
                return sendable
            providers -= {task.provider for task in due} - open_ones

    def _may_send(self, task: Task, now: datetime) -> bool:
        not_before = self._not_before.get(task.id, now)
        return task.id not in self._sending and not_before <= now

    def _is_open(self, lane: Lane, now: datetime) -> bool:
        """Tell whether anything can be sent to a provider."""
        if lane.is_paused(now):
            return False
        try:
            self._outbound.check(lane.provider)
        except SettingsError as error:
            lane.say_once("poller.not_configured", str(error))
            return False
        return True

    def _begin_sending(self, task: Task, work: Coroutine[Any, Any, None]) -> None:
        sending = asyncio.create_task(work)
        self._sending[task.id] = sending
        sending.add_done_callback(lambda _: self._sending.pop(task.id, None))

    async def _send(self, task: Task) -> None:
        """Send one task again; whatever goes wrong stays with it."""
        try:
            self._not_before.pop(task.id, None)
            if await self._asker.presume_expired(self._lanes[task.provider].provider, task):
                return
            sending = await self._sender.resume(task)
            if sending.ending is not None:
                log.info("task.resent", task=task.id, provider=task.provider, provider_id=sending.task.provider_id)
        except Exception as error:
            self._not_before[task.id] = self._clock() + AFTER_TROUBLE
            reason = str(error) if isinstance(error, RingbackError) else type(error).__name__
            log.warning("resend.failed", task=task.id, provider=task.provider, reason=reason)

    async def _rest(self, stop: asyncio.Event, *, busy: bool) -> None:
        """Wait a second, or until a lane with more to do has room; when nothing was due, until somebody writes, too."""
        more = [lane for lane in self._lanes.values() if lane.more]
        if any(len(lane.running) < self._settings.provider_concurrency for lane in more):
            return  # answers came while the other lanes were looked at
        ended = [asyncio.wait(set(lane.running), return_when=asyncio.FIRST_COMPLETED) for lane in more]
        await _first(ROUND_SECONDS, stop.wait(), *ended)
        if not busy and not more and not stop.is_set():
            await _first(IDLE_SECONDS, stop.wait(), self._news())

    async def _news(self) -> None:
        try:
            self._seen = await self._ledger.changed(self._seen, IDLE_SECONDS)
        except LedgerError:
            await asyncio.sleep(IDLE_SECONDS)


async def _first(timeout_seconds: float, *waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of these is done, or the time is over."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

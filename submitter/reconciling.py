"""Comparing the ledger with the providers for a time: every task there is asked about once, and what differs is told.

What the provider says and we did not know is taken in as any poll is, so a second pass finds nothing to do. What it
says against what stands is shown and left: the first final word stands, and a person has to look. Called by
`ringback reconcile`; it never sends a task, and never asks again about one that was told.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog

from ringback.errors import SettingsError, Unsupported
from ringback.intake import Intake
from ringback.ledger import Ledger, Query
from ringback.lifecycle import is_presumed, is_terminal
from ringback.model import Event, Reading, Result, Task, TaskState, Verdict
from ringback.outbound import Outbound
from ringback.providers import Provider
from ringback.retry import Policy
from ringback.settings import Settings
from submitter.inquiring import Lack, Said, Silence, inquire
from submitter.sending import Chance, Clock, Pause, send_patience, utc_now

log = structlog.get_logger("ringback.reconcile")

PAGE = 200  # tasks at a time, in memory
AGAIN = Policy(attempts=5, base_seconds=1.0, factor=3.0, cap_seconds=30.0)  # where there was no answer
BUSY_SECONDS = 30.0  # where a 429 does not say
LONGEST_BUSY_SECONDS = 300.0  # a provider that wants more is left alone for this pass
MOST_QUESTIONS = 30  # about one task, where each answer is that the provider is busy
SILENT_AFTER = 10  # tasks in a row without an answer: the provider is away, and the rest need not be tried


class What(StrEnum):
    """How a task's two records differ, or why that cannot be told."""

    ENDED = "ended there"
    REPLACED = "only presumed here"
    CHARGE_MISSING = "no charge here"
    CONTRADICTED = "ended otherwise there"
    STILL_OPEN = "goes on there"
    CHARGE = "another charge there"
    RESULTS = "other results there"
    UNKNOWN_THERE = "not known there"
    UNKNOWN_SEND = "end of its sending unknown"
    UNASKED = "could not be asked"


MENDED = frozenset({What.ENDED, What.REPLACED, What.CHARGE_MISSING})  # by taking the provider's word in
TAKEN_IN = MENDED | {What.CONTRADICTED}  # a second final word is an event, too, which no handler gets
DONE = {
    What.ENDED: "taken in",
    What.REPLACED: "taken in, in place of what we presumed",
    What.CHARGE_MISSING: "filled in",
    What.CONTRADICTED: "both are kept and the first stands; ask the provider which is true",
    What.STILL_OPEN: "left: only a push or another reconcile can tell its end",
    What.CHARGE: "left; compare it with the provider's bill",
    What.RESULTS: "left; the body of the event has those that were handled",
    What.UNKNOWN_THERE: "left to the poller; is the API key that of the account which submitted it?",
    What.UNKNOWN_SEND: "look for it in the provider's own list; if it is not there, submit it again under another key",
    What.UNASKED: "run this again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which tasks to compare: those created from `since` on and before `until`."""

    since: datetime
    until: datetime
    provider: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing in which a task's two records differ; `here` and `there` are for people."""

    what: What
    here: str
    there: str

    @property
    def mended(self) -> bool:
        """Tell whether taking the provider's word in is all there is to do."""
        return self.what in MENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One task of the window. `asked` is False where there was nothing to ask, or nobody answered."""

    task: Task
    asked: bool
    differences: tuple[Difference, ...] = ()
    forgotten: bool = False  # ended here, and the provider keeps no record of it any more


@dataclass(slots=True, eq=False)
class _Lane:
    """What this pass has learnt of one provider."""

    provider: Provider
    slots: asyncio.Semaphore
    not_before: float = 0.0  # nobody asks earlier, in seconds since 1970
    unanswered: int = 0  # tasks in a row
    closed: str | None = None  # why it is asked no more


class Reconciler:
    """One pass. `reached` is the moment down to which the window is done: one that was interrupted goes on there."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        outbound: Outbound,
        intake: Intake,
        *,
        clock: Clock = utc_now,
        pause: Pause = asyncio.sleep,
        chance: Chance = random.random,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._outbound = outbound
        self._intake = intake
        self._clock, self._pause, self._chance = clock, pause, chance
        self._lanes: dict[str, _Lane] = {}
        self.reached: datetime | None = None

    async def run(self, window: Window, *, dry_run: bool = False) -> AsyncIterator[Compared]:
        """Compare the tasks of the window, the newest first, and give each as it is done."""
        before, below = window.until, ""
        while True:
            query = Query(provider=window.provider, since=window.since, before=before, below=below, limit=PAGE)
            page = await self._ledger.tasks(query)
            for compared in await self._all(page, dry_run):
                yield compared
            if len(page) < PAGE:
                return
            before, below = page[-1].created_at, page[-1].id
            self.reached = before + timedelta(microseconds=1)

    async def _all(self, page: Sequence[Task], dry_run: bool) -> list[Compared]:
        """Compare a page at once; each provider gets so many requests at a time as its setting allows."""
        asking = [asyncio.create_task(self._one(task, dry_run)) for task in page]
        try:
            return await asyncio.gather(*asking)
        finally:
            for one in asking:  # after an error nobody waits for the rest
                one.cancel()

    async def _one(self, task: Task, dry_run: bool) -> Compared:
        provider = self._settings.catalogue.get(task.provider)
        if task.provider_id is None:
            return Compared(task=task, asked=False, differences=self._unsent(task))
        if provider is None or not provider.fetches:
            return Compared(task=task, asked=False)
        lane = self._lanes.get(provider.name)
        if lane is None:
            slots = asyncio.Semaphore(self._settings.provider_concurrency)
            lane = self._lanes[provider.name] = _Lane(provider, slots)
        try:
            said = await self._ask(lane, task)
        except Unsupported:
            return Compared(task=task, asked=False)
        if isinstance(said, Said):
            return await self._compare(provider, task, said, dry_run)
        if said.lack is not Lack.UNKNOWN:
            difference = Difference(what=What.UNASKED, here=task.state, there=said.why)
            return Compared(task=task, asked=False, differences=(difference,))
        if is_terminal(task.state):  # providers forget, sooner or later
            return Compared(task=task, asked=True, forgotten=True)
        difference = Difference(what=What.UNKNOWN_THERE, here=task.state, there=said.why)
        return Compared(task=task, asked=True, differences=(difference,))

    async def _ask(self, lane: _Lane, task: Task) -> Said | Silence:
        """Ask with patience; a provider that wants no questions, or gives no answers, gets no more of them."""
        last, failures = Silence(lack=Lack.TROUBLE, why="not asked"), 0
        async with lane.slots:
            for _ in range(MOST_QUESTIONS):
                said = await self._ask_once(lane, task)
                if isinstance(said, Said) or said.lack is Lack.UNKNOWN:
                    lane.unanswered = 0
                    return said
                last = said
                if said.lack is Lack.BUSY:
                    self._hold(lane, said)
                elif said.lack is Lack.TROUBLE and failures < AGAIN.attempts - 1:
                    failures += 1
                    await self._pause(AGAIN.delay(failures, self._chance()).total_seconds())
                else:
                    break
            self._give_up(lane, last)
        return last

    async def _ask_once(self, lane: _Lane, task: Task) -> Said | Silence:
        while lane.closed is None and (left := lane.not_before - self._now()) > 0:
            await self._pause(left)
        if lane.closed is not None:
            return Silence(lack=Lack.KEY, why=lane.closed)
        try:
            return await inquire(self._outbound, lane.provider, task, self._clock)
        except SettingsError as error:
            return Silence(lack=Lack.KEY, why=str(error))

    def _hold(self, lane: _Lane, silence: Silence) -> None:
        """Let nobody ask a busy provider for as long as it wants."""
        seconds = BUSY_SECONDS if silence.wait_seconds is None else silence.wait_seconds
        if seconds > LONGEST_BUSY_SECONDS:
            lane.closed = f"{silence.why} and asks for {seconds:g} s"
        lane.not_before = max(lane.not_before, self._now() + seconds)

    def _give_up(self, lane: _Lane, silence: Silence) -> None:
        if lane.closed is not None:
            return
        lane.unanswered += 1
        if silence.lack is Lack.KEY or lane.unanswered >= SILENT_AFTER:
            lane.closed = silence.why
            log.warning("reconcile.provider_silent", provider=lane.provider.name, reason=silence.why)

    def _now(self) -> float:
        return self._clock().timestamp()

    def _unsent(self, task: Task) -> tuple[Difference, ...]:
        """Tell of a sending whose end nobody knows; what waits to be sent, or is just being sent, is in order."""
        if is_terminal(task.state) or task.sent_at is None or task.resend_at is not None:
            return ()
        if self._clock() < task.sent_at + send_patience(self._settings):
            return ()
        return (Difference(what=What.UNKNOWN_SEND, here=task.send_note or "no answer was seen", there="?"),)

    async def _compare(self, provider: Provider, task: Task, said: Said, dry_run: bool) -> Compared:
        found = differences(task, said.reading, await self._results(task, said.reading))
        if dry_run or not any(difference.what in TAKEN_IN for difference in found):
            return Compared(task=task, asked=True, differences=found)
        receipt = await self._intake.polled(provider, task, said.reading, said.body, self._clock())
        (first, *_) = found
        if first.what in (What.ENDED, What.REPLACED) and receipt.verdict is not Verdict.NEW:
            # A push or the poller was faster: it said the same, or otherwise.
            same = receipt.state is said.reading.status
            here = str(receipt.state)
            found = () if same else (Difference(what=What.CONTRADICTED, here=here, there=first.there),)
        return Compared(task=task, asked=True, differences=found)

    async def _results(self, task: Task, reading: Reading) -> tuple[Result, ...] | None:
        """Give the results that were handled; None where that cannot be told, or means nothing."""
        if not reading.results or task.state is not TaskState.COMPLETED or task.settled_event is None:
            return None
        events: Sequence[Event] = await self._ledger.events(Query(ids=(task.settled_event,), limit=1))
        return events[0].results if events and events[0].body else None  # a pruned one has lost both


def differences(task: Task, said: Reading, results: tuple[Result, ...] | None) -> tuple[Difference, ...]:
    """Compare a task with its provider's word; `results` are those that the ledger has."""
    state = _state_difference(task, said)
    if state is not None:
        return (state,)
    if said.status is not task.state:
        return ()
    charge, found = _charge_difference(task, said), _results_difference(said, results)
    return tuple(difference for difference in (charge, found) if difference is not None)


def _state_difference(task: Task, said: Reading) -> Difference | None:
    presumed = is_presumed(task.state, task.settled_by)
    here = f"{task.state}, presumed" if presumed else task.state.value
    if not is_terminal(said.status):  # on its way there; how far is the poller's business
        return Difference(what=What.STILL_OPEN, here=here, there=said.status) if presumed else None
    if not is_terminal(task.state):
        return Difference(what=What.ENDED, here=here, there=said.status)
    if presumed:
        return Difference(what=What.REPLACED, here=here, there=said.status)
    return None if said.status is task.state else Difference(what=What.CONTRADICTED, here=here, there=said.status)


def _charge_difference(task: Task, said: Reading) -> Difference | None:
    here, there = task.charged_microdollars, said.charged_microdollars
    if there is None or here == there:
        return None
    what = What.CHARGE_MISSING if here is None else What.CHARGE
    return Difference(what=what, here=_dollars(here), there=_dollars(there))


def _results_difference(said: Reading, results: tuple[Result, ...] | None) -> Difference | None:
    """Compare what results are called, without what changes with every answer: signatures and times in their URLs."""
    if results is None or _named(results) == _named(said.results):
        return None
    return Difference(what=What.RESULTS, here=_counted(results), there=_counted(said.results))


def _named(results: Sequence[Result]) -> list[tuple[str, str]]:
    return sorted((result.kind, result.url.partition("?")[0].partition("#")[0]) for result in results)


def _counted(results: Sequence[Result]) -> str:
    first = f": {results[0].url.partition('?')[0]}" if results else ""
    return f"{len(results)}{first}{', …' if len(results) > 1 else ''}"


def _dollars(micro: int | None) -> str:
    return "-" if micro is None else f"${micro / 1_000_000:.6f}"

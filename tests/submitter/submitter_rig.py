"""What the tests of the submitter and the poller stand on: a real ledger, a scripted wire, a clock that is moved."""

import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx

from ringback.intake import Intake
from ringback.ledger import Ledger, open_ledger
from ringback.model import Arrival, Callback, Kind, Reading, Source, Task, TaskState, Trust
from ringback.outbound import Outbound
from ringback.providers.signatures import fingerprint
from ringback.settings import ProviderSettings, Settings
from submitter import Poller, Submitter
from submitter.sending import Sender, find_task

SECRET = b"a-secret-of-at-least-32-bytes-length"
KEYS = {"qingbo": "sk-very-private", "reapi": "rk_live_private"}
START = datetime(2026, 5, 1, 12, tzinfo=UTC)
PUBLIC_URL = "https://hooks.example.com"

Answer = httpx.Response | Exception | Callable[[httpx.Request], Awaitable[httpx.Response]]


def answer(status: int, body: Any = None, **headers: str) -> httpx.Response:
    """Make an answer with a JSON body."""
    content = b"" if body is None else json.dumps(body).encode()
    return httpx.Response(status, content=content, headers={k.replace("_", "-"): v for k, v in headers.items()})


def accepted(provider: str, number: int = 1, status: str | None = None) -> httpx.Response:
    """Answer as the provider does to a submission, or to a question."""
    if provider == "qingbo":
        return answer(200, {"task_id": f"task-wave{number}", "status": status or "queued", "progress": 0})
    return answer(200, {"id": f"task_r{number}", "status": status or "processing"})


def completed(provider: str, number: int = 1) -> httpx.Response:
    """Answer that the task is done."""
    return accepted(provider, number, "completed")


def refusal(status: int, message: str = "no") -> httpx.Response:
    """Answer with an error, in the envelope that both providers use."""
    return answer(status, {"error": {"code": "some_code", "message": message}})


class Wire(httpx.AsyncBaseTransport):
    """A network that gives the scripted answers in order, then the last one for ever, and keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers: list[Answer] = list(answers)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Give the next answer."""
        self.requests.append(request)
        given = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(given, Exception):
            raise given
        if isinstance(given, httpx.Response):
            return httpx.Response(given.status_code, headers=given.headers, content=given.content)
        return await given(request)

    def body(self, index: int = -1) -> dict[str, Any]:
        """Decode what was sent."""
        sent: dict[str, Any] = json.loads(self.requests[index].content)
        return sent


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START
        self.pauses: list[float] = []

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.now

    def advance(self, **delta: float) -> None:
        """Move it."""
        self.now += timedelta(**delta)

    async def pause(self, seconds: float) -> None:
        """Stand in for asyncio.sleep."""
        self.pauses.append(seconds)
        self.now += timedelta(seconds=seconds)


class Rig:
    """Everything that one process has, on a ledger in a temporary folder. `make` changes settings."""

    def __init__(self, folder: Path, *answers: Answer, **settings: Any) -> None:
        self.wire = Wire(*answers)
        self.clock = Clock()
        providers = {name: ProviderSettings(api_key=key) for name, key in KEYS.items()}
        self.settings = replace(
            Settings(database_url=f"sqlite:///{folder}/ringback.db", secret=(SECRET,), providers=providers), **settings
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.ledger = await self.open_ledger()
        self.outbound = await self._stack.enter_async_context(Outbound(self.settings, transport=self.wire))
        self.intake = Intake(self.ledger, self.settings)
        self.submitter = await self._stack.enter_async_context(self.make_submitter())
        self.poller = self.make_poller()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def open_ledger(self) -> Ledger:
        """Open the file once more, as another process would."""
        ledger = await open_ledger(self.settings, create=True)
        self._stack.push_async_callback(ledger.close)
        return ledger

    def make_submitter(self) -> Submitter:
        """Make a submitter on this rig's ledger and wire."""
        return Submitter(
            self.settings,
            ledger=self.ledger,
            outbound=self.outbound,
            clock=self.clock,
            pause=self.clock.pause,
            chance=lambda: 0.5,
        )

    def make_sender(self, ledger: Ledger) -> Sender:
        """Make what sends, on another process's ledger."""
        return Sender(self.settings, ledger, self.outbound, clock=self.clock, pause=self.clock.pause)

    def make_poller(self, settings: Settings | None = None) -> Poller:
        """Make a poller that remembers nothing."""
        settings = settings or self.settings
        return Poller(settings, self.ledger, self.outbound, self.intake, clock=self.clock, chance=lambda: 0.5)

    async def task(self, task: Task) -> Task:
        """Read a task again."""
        return await find_task(self.ledger, task.id)

    async def poll(self, **delta: float) -> int:
        """Move the clock, then let the poller do what is due."""
        self.clock.advance(**delta)
        return await self.poller.run_once(10)

    async def push(self, task_id: str, provider_id: str, status: TaskState, provider: str = "qingbo") -> None:
        """Record a callback, as the receiver would."""
        arrival = Arrival(
            kind=Kind.FACT,
            provider=provider,
            source=Source.CALLBACK,
            trust=Trust.TOKEN,
            callback=Callback(body=b"{}", received_at=self.clock()),
            task_id=task_id,
            reading=Reading(status=status, provider_id=provider_id),
        )
        await self.ledger.record(arrival)


URL_KEY = fingerprint(SECRET)

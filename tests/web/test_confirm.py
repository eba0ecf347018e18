"""Confirmation by fetch, end to end: push, hint, question, event; with a real receiver and a running poller."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from receiver.web import create_app
from ringback.errors import SettingsError, Unreadable
from ringback.intake import Intake
from ringback.ledger import Ledger, Query, Sent
from ringback.lifecycle import is_terminal
from ringback.model import Callback, Confirm, Event, Origin, Reading, Result, Source, Task, TaskState, Trust
from ringback.outbound import Outbound
from ringback.providers import Provider, Request, Response
from ringback.providers.signatures import Scheme
from ringback.providers.signatures.fields_hmac import FieldsHmac
from ringback.sandbox import SandboxConfig, exports, running
from ringback.settings import ProviderSettings, Secret, Settings
from submitter import Poller, Submitter

from .conftest import MakeSettings, Receiver, Serve, Start, path_of

KEY = "what partly signs with"
SCHEME = FieldsHmac(header="x-signature", timestamp_header="x-time", field=("id",))
PATH, URL = "/callbacks/partly", "https://cdn.example"
STORED = {"received": True, "event": None, "duplicate": False}


class Partly(Provider):
    """Signs the task's id and the time, and nothing else of the body."""

    name = "partly"
    base_url = "https://api.partly.example"
    scheme: Scheme | None = SCHEME
    account_endpoint = True

    def build_fetch(self, task: Task) -> Request:
        """Ask for the task."""
        return Request(method="GET", path=f"/tasks/{task.provider_id}")

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:  # noqa: ARG002
        """Read the same shape that is pushed."""
        return _reading(response.body)

    def read_callback(self, callback: Callback) -> Reading:
        """Read `{"id", "state", "url"}`."""
        return _reading(callback.body)


class Open(Partly):
    """Signs nothing, and pushes to one URL for the whole account."""

    scheme = None
    open_endpoint = True


class Mute(Partly):
    """Cannot be asked."""

    build_fetch = Provider.build_fetch


def _reading(body: bytes) -> Reading:
    try:
        said = msgspec.json.decode(body)
        url = said.get("url")
        return Reading(
            status=TaskState(said["state"]),
            provider_id=said["id"],
            results=(Result(kind="video", url=url),) if url else (),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unreadable("not a task") from None


def body_of(state: str, provider_id: str = "p1", host: str = URL) -> bytes:
    """Give what is pushed, and what the API answers."""
    return msgspec.json.encode({"id": provider_id, "state": state, "url": f"{host}/v.mp4"})


def signed(body: bytes) -> Mapping[str, str]:
    """Give the headers that partly sends."""
    return SCHEME.sign(body, KEY.encode(), now=datetime.now(UTC), event_id="")


class Api:
    """The provider's API: says how each task really stands, and what it was asked."""

    def __init__(self, **states: str) -> None:
        self.states = states
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a question."""
        provider_id = request.url.path.rpartition("/")[2]
        self.asked.append(provider_id)
        if provider_id not in self.states:
            return httpx.Response(404)
        return httpx.Response(200, content=body_of(self.states[provider_id], provider_id))


def knobs(provider: Provider, **set_up: Any) -> dict[str, Any]:
    """Configure a provider with key and secret."""
    usual: dict[str, Any] = {"api_key": "k", "secret": (Secret(text=KEY),) if provider.scheme else ()}
    return {"catalogue": {provider.name: provider}, "providers": {provider.name: ProviderSettings(**usual | set_up)}}


@asynccontextmanager
async def polled(settings: Settings, ledger: Ledger, api: Api | None = None) -> AsyncIterator[None]:
    """Run a poller beside, as a process does."""
    stop = asyncio.Event()
    async with Outbound(settings, transport=httpx.MockTransport(api) if api else None) as outbound:
        poller = asyncio.create_task(Poller(settings, ledger, outbound, Intake(ledger, settings)).run(stop))
        try:
            yield
        finally:
            stop.set()
            await poller


async def settled(ledger: Ledger) -> tuple[Task, Event]:
    """Wait until the one task has ended; gives it and the event that ended it."""
    seen = 0
    async with asyncio.timeout(10):
        while True:
            seen = await ledger.changed(seen, 1)
            (task,) = await ledger.tasks(Query())
            if is_terminal(task.state):
                (event,) = await ledger.events(Query(event_id=task.settled_event))
                return task, event


async def submitted(ledger: Ledger, provider: str, task_id: str = "task_one", provider_id: str = "p1") -> None:
    """Store a task as the submitter does; its push is not overdue yet."""
    now = datetime.now(UTC)
    task, _ = await ledger.add_task(Task(id=task_id, provider=provider, created_at=now))
    assert await ledger.claim_send(task, now, None)
    reading = Reading(status=TaskState.SUBMITTED, provider_id=provider_id)
    await ledger.save_send(Sent(task_id=task_id, sent_at=now, now=now, note="accepted", reading=reading))


async def push(receiver: Receiver, path: str, body: bytes, **headers: str) -> dict[str, Any]:
    """Send a callback that is taken; gives the answer."""
    response = await receiver.client.post(path, content=body, headers=headers)
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


async def test_partial_callback_is_fetched_and_the_fetch_is_the_event(start: Start) -> None:
    """What the body says beside the id is not believed: the answer to our question is, and it comes within a second."""
    api = Api(p1="completed")
    async with start(**knobs(Partly())) as receiver:
        lie = body_of("failed", host="https://evil.example")
        async with polled(receiver.settings, receiver.ledger, api):
            began = asyncio.get_running_loop().time()
            assert await push(receiver, PATH, lie, **signed(lie)) == STORED
            task, event = await settled(receiver.ledger)
            assert asyncio.get_running_loop().time() - began < 2
        assert (task.state, task.settled_by, task.origin) == (TaskState.COMPLETED, Source.POLL, Origin.CALLBACK)
        assert (event.source, event.trust, event.results[0].url) == (Source.POLL, Trust.SIGNED, f"{URL}/v.mp4")
        story = await receiver.ledger.story("p1")
        assert [(c.verdict, c.trust, c.callback.body) for c in story.callbacks] == [("hint", Trust.PARTIAL, lie)]
        assert [found.id for found in story.events] == [event.id]
    assert api.asked == ["p1"]


async def test_partial_callback_of_a_task_whose_answer_is_not_there_yet(start: Start) -> None:
    """It tells the provider's id of the URL's task, or there would be nothing to ask about."""
    async with start(**knobs(Partly())) as receiver:
        now = datetime.now(UTC)
        task, _ = await receiver.ledger.add_task(Task(id="task_one", provider="partly", created_at=now))
        assert await receiver.ledger.claim_send(task, now, None)
        async with polled(receiver.settings, receiver.ledger, Api(p1="completed")):
            body = body_of("completed")
            assert await push(receiver, path_of("task_one", "partly"), body, **signed(body)) == STORED
            ended, _ = await settled(receiver.ledger)
    assert (ended.id, ended.origin, ended.provider_id) == ("task_one", Origin.SUBMISSION, "p1")


async def test_many_hints_are_one_question(start: Start) -> None:
    """A task is asked about once in five seconds at most, however often somebody knocks."""
    api = Api(p1="processing")
    async with start(**knobs(Partly())) as receiver:
        async with polled(receiver.settings, receiver.ledger, api):
            for _ in range(20):
                body = body_of("completed")
                await push(receiver, PATH, body, **signed(body))
            seen = 0
            async with asyncio.timeout(10):
                while (await receiver.ledger.tasks(Query()))[0].state is not TaskState.PROCESSING:
                    seen = await receiver.ledger.changed(seen, 1)
        assert (await receiver.ledger.summary(datetime.now(UTC))).hints == 20
        (task,) = await receiver.ledger.tasks(Query())
    assert api.asked == ["p1"]
    assert task.fetch_at is not None
    assert task.fetched_at is not None
    assert (task.fetch_at - task.fetched_at).total_seconds() >= 5


async def test_open_endpoint_confirms_tasks_that_we_know(start: Start) -> None:
    """Where nothing is verified at all, a known id is worth one question."""
    async with start(**knobs(Open())) as receiver:
        await submitted(receiver.ledger, "partly")
        async with polled(receiver.settings, receiver.ledger, Api(p1="completed")):
            assert await push(receiver, PATH, body_of("failed")) == STORED
            task, event = await settled(receiver.ledger)
        assert (task.id, task.state, event.source) == ("task_one", TaskState.COMPLETED, Source.POLL)
        (hint,) = (await receiver.ledger.story("task_one")).callbacks
        assert (hint.verdict, hint.trust) == ("hint", Trust.NONE)


async def test_stranger_at_an_open_endpoint_leaves_nothing_behind(start: Start) -> None:
    """An id that nobody knows, and a body that nobody reads, are answered like any other, and only counted."""
    api = Api()
    async with start(**knobs(Open())) as receiver:
        async with polled(receiver.settings, receiver.ledger, api):
            for number in range(30):
                assert await push(receiver, PATH, body_of("completed", f"x{number}")) == STORED
                assert await push(receiver, PATH, b"\xff" * 1000) == STORED
        summary = await receiver.ledger.summary(datetime.now(UTC))
        assert (summary.tasks, summary.events, summary.hints) == ({}, {}, 0)
        told = await receiver.get("/metrics")
        assert 'provider="partly",verdict="counted"} 60' in told.text
    assert api.asked == []


async def test_the_token_of_an_open_provider_is_believed(start: Start) -> None:
    """On a per-task URL it is the token that counts."""
    async with start(**knobs(Open())) as receiver:
        answer = await push(receiver, path_of("task_one", "partly"), body_of("completed"))
        (event,) = await receiver.ledger.events(Query())
    assert (answer["event"], event.trust) == (event.id, Trust.TOKEN)


async def test_confirm_never_takes_a_partial_callback_at_its_word(start: Start) -> None:
    """The user's word outranks the grade: one event at once, and no question."""
    async with start(**knobs(Partly(), confirm=Confirm.NEVER)) as receiver:
        body = body_of("completed")
        answer = await push(receiver, PATH, body, **signed(body))
        (event,) = await receiver.ledger.events(Query())
        assert (answer["event"], event.source, event.trust) == (event.id, Source.CALLBACK, Trust.PARTIAL)
        (task,) = await receiver.ledger.tasks(Query())
        assert (task.state, task.fetch_at) == (TaskState.COMPLETED, None)


async def test_confirm_always_on_a_token_provider(make_settings: MakeSettings, serve: Serve) -> None:
    """RINGBACK_QINGBO_CONFIRM=always, with the sandbox for qingbo: each real push is a hint, each end was fetched."""
    config = SandboxConfig(port=0, delay_seconds=(0.05, 0.1))
    async with running(config) as url:
        given = Settings.from_environ(exports(config, url) | {"RINGBACK_QINGBO_CONFIRM": "always"})
        app = create_app(settings := make_settings(providers=given.providers))
        settings = replace(settings, public_url=f"http://127.0.0.1:{await serve(app)}")
        ledger: Ledger = app.state.receiver.ledger
        async with polled(settings, ledger), Submitter(settings, ledger=ledger) as submitter:
            submitted = await submitter.submit("qingbo", prompt="a dog")
            task, event = await settled(ledger)
        story = await ledger.story(submitted.id)
        async with httpx.AsyncClient(base_url=url) as client:
            (known,) = (await client.get("/_sandbox/tasks")).json()["tasks"]
    assert (task.id, task.state, event.source) == (submitted.id, TaskState.COMPLETED, Source.POLL)
    assert {(kept.verdict, kept.reason, kept.trust) for kept in story.callbacks} == {
        ("hint", "unconfirmed", Trust.TOKEN)
    }
    assert [found.source for found in story.events if found.type == "task.completed"] == [Source.POLL]
    assert known["pushes"][-1]["status_code"] == 200


@contextlib.contextmanager
def refused(text: str) -> Iterator[None]:
    """Expect a configuration to be refused with this text."""
    with pytest.raises(SettingsError, match=text):
        yield


def test_provider_without_any_authentication_must_be_confirmed() -> None:
    """Who sets `never` there would believe everybody: such a process does not start."""
    with refused("RINGBACK_PARTLY_CONFIRM: .*only `always` is safe"):
        Settings(**knobs(Open(), confirm=Confirm.NEVER))
    with refused("nothing can confirm a callback"):
        Settings(**knobs(Mute(), confirm=Confirm.ALWAYS))


def warnings_of(settings: Settings) -> list[tuple[str, str]]:
    """Start a receiver and give what it says about providers that it cannot confirm."""

    async def begin() -> None:
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            pass

    with capture_logs() as lines:
        asyncio.run(begin())
    return [(line["provider"], line["fix"]) for line in lines if line["event"] == "receiver.cannot_confirm"]


@pytest.mark.parametrize(
    ("provider", "set_up", "fix"),
    [
        (Partly(), {}, None),
        (Partly(), {"api_key": None}, "set RINGBACK_PARTLY_API_KEY"),
        (Open(), {"api_key": None}, "set RINGBACK_PARTLY_API_KEY"),
        (Mute(), {}, "say how its tasks are fetched, or set RINGBACK_PARTLY_CONFIRM=never"),
        (Partly(), {"api_key": None, "confirm": Confirm.NEVER}, None),
    ],
)
def test_what_cannot_be_confirmed_is_said_at_the_start(
    make_settings: MakeSettings, provider: Provider, set_up: dict[str, Any], fix: str | None
) -> None:
    """Without a key, or a way to ask, hints would stay hints for ever: the log names the setting."""
    settings = make_settings(**knobs(provider, **set_up))
    assert warnings_of(settings) == ([("partly", fix)] if fix else [])


def test_providers_that_are_not_used_are_not_warned_about(make_settings: MakeSettings) -> None:
    """Nor those whose callbacks are believed."""
    assert warnings_of(make_settings(providers={"qingbo": ProviderSettings(api_key="k")})) == []
    assert warnings_of(make_settings()) == []

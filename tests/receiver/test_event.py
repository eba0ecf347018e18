"""The view that a handler receives, and the follow-up tasks that it submits."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver import Event, Handlers
from receiver.worker import Worker
from ringback.errors import HandlersError
from ringback.ledger import Ledger
from ringback.model import EventType, Source, Task, TaskState, Trust
from ringback.retry import Policy
from ringback.settings import Settings

from .receiver_case import NOW, VIDEO, owed, ring, view


async def test_contents(ledger: Ledger, settings: Settings) -> None:
    """A handler gets the fact, the task, the payload, and which try this is."""
    seen: list[Event] = []
    handlers = Handlers()
    handlers.on("*", name="store")(seen.append)
    event_id = await ring(ledger, TaskState.FAILED, body=b'{"n": 1}')
    await Worker(settings, ledger, handlers).run_once(5)
    (event,) = seen
    assert (event.id, event.type, event.provider, event.status) == (
        event_id,
        EventType.TASK_FAILED,
        "qingbo",
        TaskState.FAILED,
    )
    assert event.task is not None
    assert event.task.form is not None
    assert (event.task.state, event.task.form.model) == (TaskState.FAILED, "grok-video")
    assert event.error is not None
    assert (event.error.code, event.results) == ("7", (VIDEO,))
    assert (event.raw, event.payload, event.headers["content-type"]) == (b'{"n": 1}', {"n": 1}, "application/json")
    assert (event.trust, event.source, event.received_at) == (Trust.TOKEN, Source.CALLBACK, NOW)
    assert (event.run, event.attempt, event.key, event.state) == (1, 1, f"{event_id}:store", None)
    assert event.delivery_id.startswith("dlv_")


@pytest.mark.parametrize("raw", [b"", b"not json", b"\xff", b"[" * 100_000])
def test_payload_that_is_not_json(raw: bytes) -> None:
    """A payload that is not JSON is None, and the bytes are there all the same."""
    event = view(raw=raw)
    assert event.payload is None
    assert event.raw == raw


def test_payload_is_decoded_once() -> None:
    """Asking twice gives the same object."""
    event = view()
    assert event.payload is event.payload


def test_frozen() -> None:
    """A view cannot be changed."""
    with pytest.raises(AttributeError):
        view().id = "evt_2"  # type: ignore[misc]


def test_repr_shows_ids_only() -> None:
    """What may land in a log line holds neither the payload nor a signed URL."""
    assert repr(view()) == (
        "Event(id='evt_1', type='task.completed', provider='qingbo', task='task_1', "
        "delivery_id='dlv_1', run=1, attempt=1)"
    )
    assert "task=None" in repr(view(task=None))


class Submissions:
    """Stands where the composition root puts `Submitter.submit`; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, provider: str, **request: Any) -> Task:
        """Give some task."""
        self.asked.append({"provider": provider} | request)
        return Task(id="task_child", provider=provider, key=request["key"])


async def test_a_follow_up_task(ledger: Ledger, settings: Settings) -> None:
    """Its key is made of event, handler and name, the same in every attempt; its parent is the event's task."""
    submissions, given = Submissions(), []
    handlers = Handlers()

    @handlers.on("*", name="h", retry=Policy(attempts=2, base_seconds=0.0001))
    async def _chain(event: Event) -> None:
        given.append(await event.submit(name="upscale", provider="qingbo", prompt="x", metadata={"a": 1}))
        if event.attempt == 1:
            raise ValueError("again")

    event_id = await ring(ledger)
    worker = Worker(settings, ledger, handlers, submit=submissions)
    with capture_logs():
        while any(item.delivery.settled_at is None for item in await owed(ledger)) or not given:
            await worker.run_once(10)
    (item,) = await owed(ledger)
    key = f"event:{event_id}:h:upscale"
    request = {"provider": "qingbo", "prompt": "x", "metadata": {"a": 1}, "key": key, "parent": item.task_id}
    assert submissions.asked == [request] * 2
    assert [task.id for task in given] == ["task_child"] * 2


@pytest.mark.parametrize("handler", ["app:charge", "h" * 170, "app.\ncharge"])
async def test_a_handler_with_an_unwieldy_name(ledger: Ledger, settings: Settings, handler: str) -> None:
    """A key stays within what keys may be, and no two pairs of handler and name share one."""
    submissions, handlers = Submissions(), Handlers()

    async def chain(event: Event) -> None:
        await event.submit(name="a", provider="qingbo")
        await event.submit(name="b", provider="qingbo")

    handlers.on("*", name=handler)(chain)
    event_id = await ring(ledger)
    await Worker(settings, ledger, handlers, submit=submissions).run_once(10)
    keys = [asked["key"] for asked in submissions.asked]
    assert len(set(keys)) == 2
    assert all(key.startswith(f"event:{event_id}:") and len(key) <= 200 and key.isprintable() for key in keys)


@pytest.mark.parametrize(
    ("submit", "request_", "problem"),
    [
        (None, {}, "made without a way to submit"),
        (Submissions(), {"key": "mine"}, "makes key by itself"),
        (Submissions(), {"parent": "task_1"}, "makes parent by itself"),
    ],
)
async def test_what_cannot_be_submitted(
    ledger: Ledger, settings: Settings, submit: Any, request_: dict[str, Any], problem: str
) -> None:
    """A worker without a submitter, and what is not the handler's to choose, are told in words."""
    errors: list[str] = []
    handlers = Handlers()

    @handlers.on("*", name="h")
    async def _chain(event: Event) -> None:
        with pytest.raises(HandlersError) as caught:
            await event.submit(name="upscale", provider="qingbo", **request_)
        errors.append(str(caught.value))

    await ring(ledger)
    await Worker(settings, ledger, handlers, submit=submit).run_once(10)
    assert [problem in error for error in errors] == [True]

"""The view that a handler receives."""

import dataclasses

import pytest

from receiver import Event, Handlers
from receiver.worker import Worker
from ringback.ledger import Ledger
from ringback.model import EventType, Source, TaskState, Trust
from ringback.settings import Settings

from .receiver_case import NOW, VIDEO, ring, view


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
    with pytest.raises(dataclasses.FrozenInstanceError):
        view().id = "evt_2"  # type: ignore[misc]


def test_repr_shows_ids_only() -> None:
    """What may land in a log line holds neither the payload nor a signed URL."""
    assert repr(view()) == (
        "Event(id='evt_1', type='task.completed', provider='qingbo', task='task_1', "
        "delivery_id='dlv_1', run=1, attempt=1)"
    )
    assert "task=None" in repr(view(task=None))

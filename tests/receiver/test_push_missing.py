"""A handler that listens for silence gets it like any other event."""

from datetime import UTC, datetime

import pytest

from receiver import Event, Handlers
from receiver.worker import Worker
from ringback.errors import HandlersError
from ringback.intake import Intake
from ringback.ledger import Ledger
from ringback.model import EventType, Source, Trust
from ringback.settings import Settings

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("pattern", ["receiver.push_missing", "receiver.*", "*"])
async def test_a_handler_hears_of_missing_pushes(ledger: Ledger, settings: Settings, pattern: str) -> None:
    """With the payload as JSON, about a provider and no task; entered twice, it is handed over once."""
    seen: list[Event] = []
    handlers = Handlers()

    @handlers.on(pattern, provider="qingbo", name="silence")
    async def _silence(event: Event) -> None:
        seen.append(event)

    intake = Intake(ledger, settings)
    for provider in ("qingbo", "qingbo", "replicate"):
        await intake.silence(provider, "push_missing:2026-07-01T12", b'{"missing": 3}', NOW)
    assert await Worker(settings, ledger, handlers).run_once(10) == 1
    (event,) = seen
    assert (event.type, event.provider, event.task) == (EventType.RECEIVER_PUSH_MISSING, "qingbo", None)
    assert event.payload == {"missing": 3}
    assert (event.source, event.trust, event.status) == (Source.RINGBACK, Trust.NONE, None)


def test_a_pattern_that_is_nearly_right_is_corrected() -> None:
    """The type is known to the check of patterns."""
    with pytest.raises(HandlersError, match=r"did you mean 'receiver\.push_missing'"):
        Handlers().on("receiver.push_misssing")

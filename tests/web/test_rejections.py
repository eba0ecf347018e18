"""Counting what was turned away."""

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

import receiver.web.rejections as rejections_module
from receiver.web import create_app
from ringback.ledger import Ledger

from .conftest import TASK, MakeSettings, Receiver, Start, client_of, path_of
from .test_health import locked

FORGED = f"/callbacks/qingbo/{TASK}.x"


async def saved(ledger: Ledger) -> dict[tuple[str, str], int]:
    """Read the counts in the ledger."""
    return dict((await ledger.summary(datetime.now(UTC))).rejections)


async def test_rejections_reach_the_ledger(start: Start) -> None:
    """Counts are saved by provider and reason, at the latest when the receiver stops."""
    async with start() as receiver:
        for _ in range(3):
            await receiver.client.post(FORGED)
        await receiver.client.get(path_of())
        await receiver.state.rejections.close()
        assert await saved(receiver.ledger) == {("qingbo", "token"): 3, ("unknown", "method"): 1}


async def test_flood_of_forgeries_does_not_flood_the_log(receiver: Receiver) -> None:
    """A thousand forgeries in a second give one line at once and one with their number."""
    with capture_logs() as logs:
        for _ in range(1000):
            await receiver.client.post(FORGED)
        await receiver.state.rejections.close()
    lines = [line for line in logs if line["event"] == "callback.rejected"]
    assert len(lines) < 10
    assert sum(line.get("count", 1) for line in lines) == 1000
    assert lines[0]["task"] == TASK


async def test_counts_are_saved_while_it_runs(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in a while (a second) the counts go to the ledger, and the log hears of those that came since."""
    monkeypatch.setattr(rejections_module, "FLUSH_SECONDS", 0.02)
    seen = await receiver.ledger.changed(0, 0)
    with capture_logs() as logs:
        for _ in range(3):
            await receiver.client.post(FORGED)
        while sum((await saved(receiver.ledger)).values()) < 3:
            seen = await receiver.ledger.changed(seen, 2)
    assert [line.get("count") for line in logs] == [None, 2]


async def test_counts_wait_for_a_ledger(make_settings: MakeSettings) -> None:
    """What was refused before the ledger was open is counted there later."""
    app = create_app(make_settings())
    async with client_of(app) as client:
        await client.post(FORGED)
        await client.post(path_of(), content=b"{}")
        state = app.state.receiver
        await state.rejections.close()
        assert await saved(state.ledger) == {("qingbo", "token"): 1}
        await state.close()


async def test_counts_that_the_ledger_refuses_stay_due(receiver: Receiver) -> None:
    """A ledger in trouble loses no count, as long as the process lives."""
    await receiver.client.post(FORGED)
    ledger = receiver.ledger
    await ledger.close()
    await receiver.state.rejections.close()
    assert receiver.state.rejections.totals["qingbo", "token"] == 1
    await receiver.state.close()
    await receiver.state.open()
    await receiver.state.rejections.close()
    assert await saved(receiver.ledger) == {("qingbo", "token"): 1}


async def test_stopping_does_not_wait_for_ever(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end a locked ledger has a moment to take the counts; then the log says how many are lost."""
    monkeypatch.setattr(rejections_module, "CLOSE_SECONDS", 0.05)
    async with start() as receiver:
        await receiver.client.post(FORGED)
        with locked(receiver.settings.database_path), capture_logs() as logs:
            await receiver.state.rejections.close()
    assert logs[-1] == {"event": "rejections.lost", "count": 1, "log_level": "warning"}

"""The way past the coroutines: what goes there, what does not, and that nobody can tell the difference."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from receiver.web.callbacks import Callbacks
from ringback.errors import LedgerRejected, LedgerUnavailable
from ringback.ledger import Query
from ringback.model import Arrival

from .conftest import Receiver, Serve, Start, body_of, path_of, submitted
from .test_sockets import head_of, wire_to

pytestmark = pytest.mark.parametrize("serve", ["direct"], indirect=True)
BODY = body_of()


class Ordinary(list[str]):
    """The addresses that took the ordinary way."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()


@pytest.fixture
async def served(start: Start, serve: Serve) -> AsyncIterator[tuple[Receiver, int]]:
    """Give a receiver and its port."""
    async with start() as receiver:
        await submitted(receiver.ledger)
        yield receiver, await serve(receiver.app)


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> Ordinary:
    """List the addresses that took the ordinary way."""
    taken = Ordinary()
    serve = Callbacks.serve

    async def noting(self: Callbacks, scope: Any, receive: Any, send: Any, address: str) -> None:
        taken.append(address)
        taken.begun.set()
        await serve(self, scope, receive, send, address)

    monkeypatch.setattr(Callbacks, "serve", noting)
    return taken


def failing(receiver: Receiver, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the ledger fail."""

    def record(_: Arrival, **__: Any) -> "asyncio.Future[Any]":
        future = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        return future

    monkeypatch.setattr(receiver.ledger, "record", record)


async def test_a_whole_callback_needs_no_coroutine(served: tuple[Receiver, int], ordinary: Ordinary) -> None:
    """A callback in one packet is stored and answered past the endpoint, and counted as any other."""
    receiver, port = served
    async with wire_to(port) as wire:
        for duplicate in (False, True):
            await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
            status, headers, body = await wire.answer()
            assert (status, headers["content-type"], "date" in headers) == (200, "application/json", True)
            assert (b'"duplicate":true' in body) is duplicate
    assert ordinary == []
    assert receiver.state.tally.verdicts == {("qingbo", "new"): 1, ("qingbo", "duplicate"): 1}
    assert receiver.state.inflight_bytes == 0


async def test_a_body_in_parts_goes_the_ordinary_way(served: tuple[Receiver, int], ordinary: Ordinary) -> None:
    """A body that comes after its headers is read under its time limit, as ever."""
    async with wire_to(served[1]) as wire:
        await wire.send(head_of(f"Content-Length: {len(BODY)}"))
        await asyncio.wait_for(ordinary.begun.wait(), 5)
        await wire.send("", BODY)
        assert (await wire.answer())[0] == 200


async def test_a_connection_that_shall_close_is_closed(served: tuple[Receiver, int], ordinary: Ordinary) -> None:
    """HTTP/1.0 and `Connection: close` end with the answer."""
    for head in (
        head_of(f"Content-Length: {len(BODY)}", version="1.0"),
        head_of(f"Content-Length: {len(BODY)}", "Connection: close"),
    ):
        async with wire_to(served[1]) as wire:
            await wire.send(head, BODY)
            status, headers, _ = await wire.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await wire.closed()
    assert ordinary == []


async def test_a_wrong_token_is_turned_away_once(served: tuple[Receiver, int], ordinary: Ordinary) -> None:
    """401, counted once, and the connection stays usable."""
    receiver, port = served
    async with wire_to(port) as wire:
        wrong = head_of(f"Content-Length: {len(BODY)}").replace(path_of(), path_of()[:-1] + "!")
        await wire.send(wrong, BODY)
        assert (await wire.answer())[0] == 401
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        assert (await wire.answer())[0] == 200
    assert receiver.state.rejections.totals == {("qingbo", "token"): 1}
    assert ordinary == []


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [(LedgerUnavailable("full"), 503, "unavailable"), (LedgerRejected("odd"), 400, "rejected")],
)
async def test_trouble_in_the_ledger_is_told(
    served: tuple[Receiver, int], monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, reason: str
) -> None:
    """What could not be stored gets the status that says whether to try again."""
    receiver, port = served
    failing(receiver, error, monkeypatch)
    async with wire_to(port) as wire:
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        assert (await wire.answer())[0] == status
    assert receiver.state.rejections.totals == {("qingbo", reason): 1}
    assert receiver.state.inflight_bytes == 0


async def test_a_sender_that_left_is_no_trouble(served: tuple[Receiver, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its callback is stored all the same, and nothing is written to the connection that is gone."""
    receiver, port = served
    record, begun, go_on, stored = receiver.ledger.record, asyncio.Event(), asyncio.Event(), asyncio.Event()

    def slow(arrival: Arrival, **options: Any) -> "asyncio.Future[Any]":
        async def later() -> Any:
            begun.set()
            await go_on.wait()
            receipt = await record(arrival, **options)
            stored.set()
            return receipt

        return asyncio.ensure_future(later())

    monkeypatch.setattr(receiver.ledger, "record", slow)
    async with wire_to(port) as wire:
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        await asyncio.wait_for(begun.wait(), 5)
        wire.abort()
    go_on.set()
    await asyncio.wait_for(stored.wait(), 5)
    assert [event.status for event in await receiver.ledger.events(Query())] == ["completed"]


async def test_a_bug_harms_no_neighbour(
    served: tuple[Receiver, int], ordinary: Ordinary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails unexpectedly is served in the ordinary way, where it is answered and logged."""

    def broken(*_: Any) -> bool:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Callbacks, "_take_whole", broken)
    async with wire_to(served[1]) as wire:
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        assert (await wire.answer())[0] == 200
    assert len(ordinary) == 1


async def test_what_needs_more_goes_the_ordinary_way(served: tuple[Receiver, int], ordinary: Ordinary) -> None:
    """Before the ledger is open, or with no room left, the endpoint decides."""
    receiver, port = served
    receiver.state.inflight_bytes = receiver.settings.max_inflight_bytes
    async with wire_to(port) as wire:
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        assert (await wire.answer())[0] == 503
    receiver.state.inflight_bytes = 0
    assert len(ordinary) == 1
    assert receiver.state.rejections.totals == {("qingbo", "busy"): 1}

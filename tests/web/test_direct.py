"""The way past the coroutines: what goes there, what does not, and that nobody can tell the difference."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from receiver.web.answers import Refused
from receiver.web.callbacks import Callbacks
from receiver.web.direct import DirectProtocol
from ringback.errors import LedgerRejected, LedgerUnavailable
from ringback.ledger import Query, Waiter
from ringback.ledger.fold import Fold
from ringback.model import Arrival, Receipt

from .conftest import Receiver, Serve, Start, body_of, path_of, submitted
from .test_sockets import head_of, wire_to

DIRECT = pytest.mark.parametrize("serve", ["direct"], indirect=True)
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

    def record_for(waiter: Waiter, *_: Any, **__: Any) -> None:
        waiter.set_exception(error)

    monkeypatch.setattr(receiver.ledger, "record_for", record_for)


@DIRECT
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


@DIRECT
async def test_a_body_in_parts_goes_the_ordinary_way(served: tuple[Receiver, int], ordinary: Ordinary) -> None:
    """A body that comes after its headers is read under its time limit, as ever."""
    async with wire_to(served[1]) as wire:
        await wire.send(head_of(f"Content-Length: {len(BODY)}"))
        await asyncio.wait_for(ordinary.begun.wait(), 5)
        await wire.send("", BODY)
        assert (await wire.answer())[0] == 200


@DIRECT
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
    assert len(ordinary) == 2


@DIRECT
async def test_a_wrong_token_is_turned_away_once(served: tuple[Receiver, int], ordinary: Ordinary) -> None:
    """401, counted once, and the connection stays usable."""
    receiver, port = served
    async with wire_to(port) as wire:
        wrong = head_of(f"Content-Length: {len(BODY)}").replace(
            path_of(), path_of()[:-1] + ("x" if path_of()[-1] != "x" else "y")
        )
        await wire.send(wrong, BODY)
        assert (await wire.answer())[0] == 401
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        assert (await wire.answer())[0] == 200
    assert receiver.state.rejections.totals == {("qingbo", "token"): 1}
    assert ordinary == []


@DIRECT
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (LedgerUnavailable("full"), 503, "unavailable"),
        (LedgerRejected("odd"), 400, "rejected"),
        (RuntimeError("a bug"), 503, "unavailable"),
    ],
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


async def test_a_bug_of_ours_loses_no_callback(served: tuple[Receiver, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that it cannot take is to come again, with 503, and is stored then; its neighbours are, with 200."""
    apply, tasks = Fold._apply, ("task_two", "task_odd", "task_three")

    def odd(fold: Fold, arrival: Arrival, *known: Any) -> Receipt:
        assert arrival.task_id != "task_odd"
        return apply(fold, arrival, *known)

    async def push(task_id: str) -> int:
        body = body_of(provider_id=f"their-{task_id}")
        async with wire_to(served[1]) as wire:
            await wire.send(head_of(f"Content-Length: {len(body)}").replace(path_of(), path_of(task_id)), body)
            return (await wire.answer())[0]

    with monkeypatch.context() as patch:
        patch.setattr(Fold, "_apply", odd)
        assert await asyncio.gather(*map(push, tasks)) == [200, 503, 200]
    assert await asyncio.gather(*map(push, tasks)) == [200, 200, 200]


@DIRECT
async def test_a_sender_that_left_is_no_trouble(served: tuple[Receiver, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its callback is stored all the same, and nothing is written to the connection that is gone."""
    receiver, port = served
    begun, go_on, stored = asyncio.Event(), asyncio.Event(), asyncio.Event()
    tasks = set()

    def slow(waiter: Waiter, arrival: Arrival, **options: Any) -> None:
        async def later() -> None:
            begun.set()
            await go_on.wait()
            waiter.set_result(await receiver.ledger.record(arrival, **options))
            stored.set()

        tasks.add(asyncio.create_task(later()))

    monkeypatch.setattr(receiver.ledger, "record_for", slow)
    async with wire_to(port) as wire:
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        await asyncio.wait_for(begun.wait(), 5)
        wire.abort()
    go_on.set()
    await asyncio.wait_for(stored.wait(), 5)
    assert [event.status for event in await receiver.ledger.events(Query())] == ["completed"]


@DIRECT
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


@DIRECT
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


@DIRECT
async def test_requests_sent_ahead_are_answered_in_order(served: tuple[Receiver, int]) -> None:
    """What comes before an answer waits for it, whichever way it takes then."""
    other = b'{"task_id":"provider-one","status":"processing"}'
    async with wire_to(served[1]) as wire:
        first = (head_of(f"Content-Length: {len(BODY)}").replace("\n", "\r\n") + "\r\n\r\n").encode() + BODY
        second = (head_of(f"Content-Length: {len(other)}").replace("\n", "\r\n") + "\r\n\r\n").encode() + other
        await wire.send("", first)
        await wire.send("", second + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answered = [await wire.answer() for _ in range(3)]
    assert [status for status, _, _ in answered] == [200, 200, 200]
    assert b"evt_" in answered[0][2]
    assert answered[2][2] == b'{"status":"ok"}'


@DIRECT
async def test_a_silent_connection_is_closed(served: tuple[Receiver, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """After its answer a connection has uvicorn's keep-alive time, counted anew from each answer."""
    monkeypatch.setattr(DirectProtocol, "_keep_alive_seconds", 0.15)
    async with wire_to(served[1]) as wire:
        for _ in range(3):
            await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
            assert (await wire.answer())[0] == 200
            await asyncio.sleep(0.1)
        assert await wire.closed()


async def test_a_stopping_server_answers_what_it_took(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uvicorn closes idle connections when it stops; one with a callback in hand gets its answer first."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    async with start() as receiver:
        await submitted(receiver.ledger)
        tasks = set()

        def slow(waiter: Waiter, arrival: Arrival, **options: Any) -> None:
            async def later() -> None:
                begun.set()
                await go_on.wait()
                waiter.set_result(await receiver.ledger.record(arrival, **options))

            tasks.add(asyncio.create_task(later()))

        monkeypatch.setattr(receiver.ledger, "record_for", slow)
        config = uvicorn.Config(
            receiver.app, port=0, http=DirectProtocol, proxy_headers=False, log_config=None, lifespan="off"
        )
        server = uvicorn.Server(config)
        config.load()
        loop = asyncio.get_running_loop()
        state = server.server_state

        def make() -> DirectProtocol:
            return DirectProtocol(config=config, server_state=state, app_state={})

        listening = await loop.create_server(make, "127.0.0.1", 0)
        async with wire_to(listening.sockets[0].getsockname()[1]) as wire:
            await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
            await asyncio.wait_for(begun.wait(), 5)
            for connection in list(state.connections):
                connection.shutdown()
            go_on.set()
            status, headers, _ = await wire.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await wire.closed()
        listening.close()


@DIRECT
async def test_a_connection_that_goes_both_ways_is_not_silent(
    served: tuple[Receiver, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that uvicorn gave begins the keep-alive time anew as well."""
    monkeypatch.setattr(DirectProtocol, "_keep_alive_seconds", 0.4)
    async with wire_to(served[1]) as wire:
        for head, body in (
            (head_of(f"Content-Length: {len(BODY)}"), BODY),
            ("GET /healthz HTTP/1.1\nHost: x", b""),
            (head_of(f"Content-Length: {len(BODY)}"), BODY),
        ):
            await wire.send(head, body)
            assert (await wire.answer())[0] == 200
            await asyncio.sleep(0.3)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[DirectProtocol]:
    """List the connections that are made."""
    made: list[DirectProtocol] = []
    connect = DirectProtocol.connection_made

    def noting(self: DirectProtocol, transport: asyncio.Transport) -> None:
        connect(self, transport)
        made.append(self)

    monkeypatch.setattr(DirectProtocol, "connection_made", noting)
    return made


@DIRECT
async def test_who_takes_no_answers_in_has_to_wait(
    served: tuple[Receiver, int], ordinary: Ordinary, connections: list[DirectProtocol]
) -> None:
    """Answers that nobody reads do not pile up: uvicorn waits until they are read."""
    async with wire_to(served[1]) as wire:
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        assert (await wire.answer())[0] == 200
        connections[0].pause_writing()
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        await asyncio.wait_for(ordinary.begun.wait(), 5)
        connections[0].resume_writing()
        assert (await wire.answer())[0] == 200


@DIRECT
async def test_a_stopping_server_answers_what_it_gives_back(
    served: tuple[Receiver, int], connections: list[DirectProtocol], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What turns out to need the ordinary way while the server stops takes it, and the connection ends with it."""
    handed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(Callbacks, "take_soon", lambda *given: handed.set_result(given[-1]))
    async with wire_to(served[1]) as wire:
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        exchange = await asyncio.wait_for(handed, 5)
        connections[0].shutdown()
        exchange.decline()
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.closed()


class Told:
    """An exchange that notes how it was answered, or breaks."""

    def __init__(self, *, broken: bool = False) -> None:
        self.answered = asyncio.Event()
        self._broken = broken

    def _note(self) -> None:
        self.answered.set()
        if self._broken:
            raise RuntimeError("a bug")

    def accept(self, receipt: Receipt) -> None:  # noqa: ARG002 -- the protocol's
        """Note it."""
        self._note()

    def refuse(self, refused: Refused) -> None:  # noqa: ARG002 -- the protocol's
        """Note it."""
        self._note()

    def decline(self) -> None:
        """Note it."""
        self._note()


@pytest.mark.parametrize("path", [path_of(), path_of()[:-1] + "~"])
async def test_an_answer_that_fails_harms_no_neighbour(start: Start, path: str) -> None:
    """Others of the same turn are answered though one connection breaks."""
    async with start() as receiver:
        await submitted(receiver.ledger)
        told = [Told(broken=True), Told()]
        for one in told:
            receiver.app.callbacks.take_soon(path, [], BODY, one)  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            await asyncio.gather(*(one.answered.wait() for one in told))
        assert receiver.state.inflight_bytes == 0


@DIRECT
async def test_what_is_stored_is_answered_though_it_cannot_be_counted(
    served: tuple[Receiver, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in what follows the commit does not leave the sender without an answer."""

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(served[0].state.tally, "accept", broken)
    async with wire_to(served[1]) as wire:
        await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
        assert (await wire.answer())[0] == 200

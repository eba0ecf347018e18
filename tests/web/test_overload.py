"""What a receiver does while as many wait for their commit as it lets in."""

import pytest

from receiver.web.admission import FIRST
from ringback.errors import LedgerUnavailable
from ringback.ledger import Query

from .conftest import Receiver, Serve, Start, body_of
from .test_sockets import head_of, wire_to

BODY = body_of()


def fill(receiver: Receiver) -> None:
    """Have as many wait as are let in at first."""
    for _ in range(FIRST):
        receiver.state.admission.enter(0.0)


async def test_an_overload_is_no_trouble_of_the_ledger(receiver: Receiver) -> None:
    """Who comes too much gets 503 and is counted; the receiver stays ready, and takes the next when one has left."""
    fill(receiver)
    refused = await receiver.push()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert receiver.state.rejections.totals == {("qingbo", "overloaded"): 1}
    assert (await receiver.client.get("/readyz")).status_code == 200
    receiver.state.admission.leave(0.0)
    assert (await receiver.push()).status_code == 200
    assert receiver.state.admission.inside == FIRST - 1


async def test_one_that_cannot_be_stored_leaves_too(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of a callback, it is counted out."""

    def record(*_: object, **__: object) -> None:
        raise LedgerUnavailable

    monkeypatch.setattr(receiver.ledger, "record", record)
    assert (await receiver.push()).status_code == 503
    assert receiver.state.admission.inside == 0


async def test_on_a_socket_too(start: Start, serve: Serve) -> None:
    """On either way 503 comes, the connection stays, and it is used again."""
    async with start() as receiver:
        port = await serve(receiver.app)
        fill(receiver)
        async with wire_to(port) as wire:
            await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
            status, headers, _ = await wire.answer()
            assert (status, headers["retry-after"]) == (503, "5")
            receiver.state.admission.leave(0.0)
            await wire.send(head_of(f"Content-Length: {len(BODY)}"), BODY)
            assert (await wire.answer())[0] == 200
        assert receiver.state.rejections.totals == {("qingbo", "overloaded"): 1}
        assert receiver.state.admission.inside == FIRST - 1
        assert len(await receiver.ledger.events(Query())) == 1

"""What receiver and scribe say to each other: frames cut anywhere, and values that come out as they went in."""

from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.errors import LedgerMismatch, LedgerRejected, LedgerUnavailable
from ringback.ledger import wire
from ringback.model import Arrival, Kind, Notice, Receipt, Source, TaskError, TaskState, Trust, Verdict

from .builders import COMPLETED, FAILED, NOW, PROCESSING, fact, other

ARRIVALS = {
    "completed": lambda: fact(COMPLETED, event_id="evt-1", charged_microdollars=2**40),
    "failed": lambda: fact(FAILED, None, "p-a", error=TaskError(message="no «luck»", code="e1"), trust=Trust.SIGNED),
    "progress": lambda: fact(PROCESSING, progress=50, source=Source.POLL),
    "bytes": lambda: fact(COMPLETED, body=bytes(range(256)) * 100),
    "microseconds": lambda: fact(COMPLETED, seconds=0.123457),
    "hint": lambda: other(Kind.HINT, reason="unconfirmed"),
    "nothing": lambda: other(Kind.UNRECOGNISED, None, body=b"", reason=None),
    "received": lambda: other(Kind.RECEIVED, None, notice=Notice(event_id="n-1"), reason=None),
}


@given(st.lists(st.binary(max_size=300), max_size=6), st.data())
def test_frames_may_be_cut_anywhere(contents: list[bytes], data: st.DataObject) -> None:
    """However a stream is cut, the same frames come out, and nothing of one that is not whole."""
    stream = b"".join(map(wire.frame, contents))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    frames, found = wire.Frames(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames.feed(stream[begin:end])
        found += list(frames)
    assert found == contents
    frames.feed(wire.frame(b"whole") + wire.frame(b"cut off")[:-1])
    assert list(frames) == [b"whole"]


@pytest.mark.parametrize("name", ARRIVALS)
def test_arrivals_come_out_as_they_went_in(name: str) -> None:
    """Every kind of arrival is the same on the other side, alone and by its part of the list."""
    arrivals = [ARRIVALS[name](), fact(COMPLETED)]
    content = wire.write_arrivals(arrivals)
    assert wire.read_arrivals(content) == arrivals
    assert [wire.read_arrival(part) for part in wire.parted(content)] == arrivals


def test_moment_of_another_zone_is_the_same_moment() -> None:
    """A time keeps its moment, to the microsecond, whatever zone it was told in."""
    moment = NOW.astimezone(timezone(timedelta(hours=5, minutes=45))) + timedelta(microseconds=1)
    arrival = fact(COMPLETED)
    there = Arrival(kind=arrival.kind, provider="qingbo", source=arrival.source, trust=arrival.trust,
                    callback=type(arrival.callback)(body=b"", received_at=moment))  # fmt: skip
    (here,) = wire.read_arrivals(wire.write_arrivals([there]))
    assert here.callback.received_at == moment
    assert here.callback.received_at.utcoffset() == timedelta()


def test_order_and_reply_come_out_as_they_went_in() -> None:
    """What the scribe is told first, and what it answers, is the same on the other side."""
    order = wire.Order(
        database_url="sqlite:///x.db", path="/x.db", dedup_days=90, log_level="info", log_format=None, secrets=("s",)
    )
    assert wire.read_order(wire.write_order(order)) == order
    receipt = Receipt(verdict=Verdict.NEW, event_id="evt_1", task_id="task_a", state=TaskState.COMPLETED)
    reply = wire.Reply([receipt, None], {1: wire.Failure(True, "because")}, True)
    assert wire.read_reply(wire.write_reply(reply)) == reply


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (LedgerUnavailable("the disk is full"), LedgerUnavailable, "the disk is full"),
        (LedgerRejected("never"), LedgerRejected, "never"),
        (LedgerMismatch("another version"), LedgerUnavailable, "another version"),
        (MemoryError(), LedgerUnavailable, "MemoryError"),
        (OSError("/a\udcff: no"), LedgerUnavailable, "/a?: no"),
    ],
)
def test_errors_keep_what_they_mean(error: Exception, kind: type[Exception], reason: str) -> None:
    """Only the ledger's word about this very record is final; all else may go better the next time."""
    reply = wire.read_reply(wire.write_reply(wire.Reply([None], {0: wire.Failure.of(error)}, False)))
    told: Any = reply.failures[0].error()
    assert (type(told), str(told)) == (kind, reason)

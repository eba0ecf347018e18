"""A bug of ours that one record brings out: it comes again, its neighbours are stored, and the log says where it is."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from ringback.errors import LedgerUnavailable
from ringback.ledger import Ledger, Query, fold
from ringback.ledger.sqlite import decided, intake
from ringback.model import Arrival, Receipt

from .builders import COMPLETED, fact
from .conftest import Engine

BODY = b"what was said in confidence"


def raise_for(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the rules fail at one task."""
    apply = fold.Fold._apply

    def odd(self: fold.Fold, arrival: Arrival, *known: Any) -> Receipt:
        if arrival.task_id == "task_odd":
            raise error
        return apply(self, arrival, *known)

    monkeypatch.setattr(fold.Fold, "_apply", odd)


async def record_all(ledger: Ledger) -> list[type]:
    """Record three at once, one of them odd; gives what became of each."""
    arrivals = [fact(COMPLETED, name, None, body=BODY) for name in ("task_a", "task_odd", "task_b")]
    told = await asyncio.gather(*map(ledger.record, arrivals), return_exceptions=True)
    return [type(answer) for answer in told]


@pytest.mark.parametrize(
    "error",
    [KeyError("new"), AssertionError(), TypeError("an object"), AttributeError("gone"), msgspec.DecodeError("odd")],
    ids=lambda error: type(error).__name__,
)
async def test_a_bug_in_the_rules_loses_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Its record is refused for now alone, and the log shows the way to the bug, but nothing of the body."""
    with monkeypatch.context() as patch, capture_logs() as logs:
        raise_for(patch, error)
        assert await record_all(ledger) == [Receipt, LedgerUnavailable, Receipt]
        (line,) = logs
    assert (line["event"], line["log_level"], line["error"]) == ("ledger.failed", "error", type(error).__name__)
    assert line["exc_info"] is error
    assert BODY.decode() not in str(line)
    assert await record_all(ledger) == [Receipt] * 3
    assert len(await ledger.events(Query())) == 3


async def test_a_bug_in_what_is_written_loses_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that no driver knows how to send is no fault of the record either."""
    new_event = decided.new_event

    def odd(value: fold.EventRow) -> tuple[Any, ...]:
        row = new_event(value)
        return (object(), *row[1:]) if value.task_id == "task_odd" else row

    with monkeypatch.context() as patch:
        patch.setattr(decided, "new_event", odd)
        assert await record_all(ledger) == [Receipt, LedgerUnavailable, Receipt]
    assert await record_all(ledger) == [Receipt] * 3


async def test_a_bug_in_a_question_loses_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a parameter that a driver refuses before any database has seen it."""
    ledger, waiting = await engine.open(), intake._waiting

    def odd(db: Any, arrivals: Sequence[Arrival], known: Any) -> frozenset[str]:
        if any(arrival.task_id == "task_odd" for arrival in arrivals):
            if engine.settings.embedded:
                db.execute("SELECT ?", [object()])
            else:
                db._db.ask(b"SELECT %s", [object()])
        return waiting(db, arrivals, known)

    with monkeypatch.context() as patch:
        patch.setattr(intake, "_waiting", odd)
        assert await record_all(ledger) == [Receipt, LedgerUnavailable, Receipt]
    assert await record_all(ledger) == [Receipt] * 3

"""What past tasks tell about the next ones, and which pushes never came; the rule is in `ledger.expectations`."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ringback.ledger.expectations import (
    MICROSECOND,
    SAMPLE,
    Expectation,
    Expected,
    Learn,
    Learned,
    Pushed,
    Pushes,
    learned,
)
from ringback.ledger.queries import load
from ringback.ledger.sqlite import rows
from ringback.model import microseconds, moment

SQL = load("sqlite/expectations.sql")
MOST_PUSHES = 20_000  # tasks that a report looks at


def look(db: sqlite3.Connection, wish: Learn) -> Learned:
    """Find what can be learned anew; on the connection that cannot write."""
    known = {(found.provider, found.model): found for found in expected(db, Expected())}
    samples = db.execute(SQL["newest_settled"], {"most": SAMPLE})
    return Learned(
        expectations=tuple(
            found for found in learned(samples, wish.now) if not _same(found, known.get((found.provider, found.model)))
        )
    )


def _same(found: Expectation, known: Expectation | None) -> bool:
    return known is not None and replace(known, learned_at=found.learned_at) == found


def learn(db: sqlite3.Connection, found: Sequence[Learned]) -> Sequence[Learned]:
    """Keep what was learned."""
    data = [
        [
            one.provider,
            one.model,
            one.count,
            one.median // MICROSECOND,
            one.p95 // MICROSECOND,
            microseconds(one.learned_at),
        ]
        for step in found
        for one in step.expectations
    ]
    db.execute(SQL["learn"], {"rows": rows.parameter(data)})
    return found


def expected(db: sqlite3.Connection, ask: Expected) -> tuple[Expectation, ...]:  # noqa: ARG001 -- as all reports are asked
    """List what was learned."""
    return tuple(
        Expectation(
            provider=provider,
            model=model,
            count=count,
            median=median * MICROSECOND,
            p95=p95 * MICROSECOND,
            learned_at=moment(learned_at),
        )
        for provider, model, count, median, p95, learned_at in db.execute(SQL["expectations"])
    )


def pushes(db: sqlite3.Connection, ask: Pushes) -> tuple[Pushed, ...]:
    """Tell by provider what became of the pushes that were expected."""
    names = {"since": microseconds(ask.since), "most": MOST_PUSHES}
    reach = db.execute(SQL["pushes_reach"], names).fetchone()
    since = ask.since if reach is None else moment(reach[0])
    found: dict[str, Pushed] = {}
    for provider, outcome, count, polled, given_up in db.execute(SQL["pushes"], names):
        one = found.get(provider, Pushed(provider=provider, since=since))
        counts: dict[str, Any] = {outcome: count, "expired": one.expired + given_up}
        if outcome != "on_time":  # there a poll was what a hint asked for
            counts["recovered"] = one.recovered + polled
        found[provider] = replace(one, **counts)
    return tuple(found[provider] for provider in sorted(found))

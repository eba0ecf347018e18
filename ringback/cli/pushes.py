"""What became of the pushes that were expected: a part of `ringback status`, and what `doctor` says of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.checks import Check, doubtful, good
from ringback.ledger import Expectation, Expected, Pushed, Pushes
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Ledger

DAY = timedelta(days=1)
PUSH_COLUMNS = ("provider", "pushes expected", "received", "late", "recovered", "expired", "missing", "share")
EXPECTED_COLUMNS = ("provider", "model", "tasks", "median", "p95", "asked after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The pushes of the last day by provider, and how long tasks take."""

    pushes: Sequence[Pushed]
    expectations: Sequence[Expectation]


async def listen(ledger: "Ledger", now: datetime) -> Heard:
    """Ask the ledger."""
    pushes = await ledger.report(Pushes(since=now - DAY))
    return Heard(pushes=pushes, expectations=await ledger.report(Expected()))


def shape(heard: Heard, settings: Settings) -> dict[str, Any]:
    """Give it for programs."""
    from submitter.silence import shape as shape_of_pushes

    expectations = [
        {
            "provider": one.provider,
            "model": one.model,
            "tasks": one.count,
            "median_seconds": one.median.total_seconds(),
            "p95_seconds": one.p95.total_seconds(),
            "asked_after_seconds": _asked_after(one, settings),
            "learned_at": one.learned_at,
        }
        for one in heard.expectations
    ]
    return {"pushes": [shape_of_pushes(one) for one in heard.pushes], "expectations": expectations}


def print_heard(heard: Heard, settings: Settings) -> None:
    """Print two tables, where there is anything."""
    from ringback.cli.show import print_table, span

    if heard.pushes:
        click.echo()
        print_table(PUSH_COLUMNS, (_row(one) for one in heard.pushes), empty="")
    if heard.expectations:
        click.echo()
        rows = [
            (one.provider, one.model, one.count, span(one.median), span(one.p95), _asked_text(one, settings))
            for one in heard.expectations
        ]
        print_table(EXPECTED_COLUMNS, rows, empty="")


def _row(one: Pushed) -> tuple[Any, ...]:
    counts = (one.expected, one.received, one.late, one.recovered, one.expired, one.missing)
    return (one.provider, *(f"{count:,}" for count in counts), f"{one.share_missing:.1%}")


def _asked_after(one: Expectation, settings: Settings) -> float | None:
    """Tell when a task is asked about whose push does not come; None where none ever does."""
    from submitter.expecting import first_question

    provider = settings.catalogue.get(one.provider)
    if provider is None or not provider.pushes:
        return None
    return first_question(provider, timedelta(seconds=settings.push_deadline_seconds), one).total_seconds()


def _asked_text(one: Expectation, settings: Settings) -> str | None:
    from ringback.cli.show import span

    seconds = _asked_after(one, settings)
    return None if seconds is None else span(timedelta(seconds=seconds))


def of_pushes(pushes: Sequence[Pushed]) -> Iterator[Check]:
    """Say where pushes do not come; tasks end all the same, but late."""
    for one in pushes:
        name = f"{one.provider} pushes"
        if not one.missing:
            late = f", {one.late} of them late" if one.late else ""
            yield good(name, f"all {one.expected} of the last day came{late}")
        elif not one.received:
            found = f"none of the {one.expected} that were expected in the last day came"
            advice = "see that RINGBACK_PUBLIC_URL leads here from outside (proxy, firewall, tunnel)"
            yield doubtful(name, found, f"{advice}; for what came and was refused: ringback status")
        else:
            found = f"{one.missing} of {one.expected} never came in the last day ({one.share_missing:.1%})"
            advice = "was the receiver down, or full? The poller asked instead; see docs/how-to/silence.md"
            yield doubtful(name, found, advice)

"""`ringback status`: what the ledger holds and what waits, in one screen; `doctor` says what to do about it."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import examples
from ringback.cli.options import json_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Queue, Summary


@click.command(epilog=examples("ringback status", "ringback status --watch 2"))
@click.option(
    "--watch", type=click.FloatRange(0.1, 3600), metavar="SECONDS", help="Again every so many seconds, until Ctrl-C."
)
@json_option
def status(watch: float | None, as_json: bool) -> None:
    """Show counts of tasks, callbacks and deliveries, and what waits how long.

    In a large ledger, numbers of the past are estimates: those say "about". What waits or runs is always counted.

    The lag of a handler is how long its oldest due delivery has waited. Pushes are those of the last 24 hours: late is
    what came after the poller had begun to ask, missing what never came, recovered what a poll settled instead.
    """
    run(_show(load_settings(quiet=True), watch, as_json))


async def _show(settings: Settings, watch: float | None, as_json: bool) -> None:
    from ringback.cli import pushes, spending, stored
    from ringback.cli.show import print_json

    async with opened_ledger(settings) as ledger:
        while True:
            now = datetime.now(UTC)
            summary, heard = await ledger.summary(now), await pushes.listen(ledger, now)
            results, spent = await stored.count(ledger, now), await spending.ask(ledger, now)
            if as_json:
                parts = pushes.shape(heard, settings), stored.shape(results, settings), spending.shape(spent, settings)
                print_json({**shape(summary, now), **parts[0], **parts[1], **parts[2]})
            else:
                _print(summary, now)
                pushes.print_heard(heard, settings)
                stored.print_counts(results, settings, now)
                spending.print_spent(spent, settings)
            if watch is None:
                return
            await asyncio.sleep(watch)
            click.clear()  # does nothing in a pipe


def shape(summary: "Summary", now: datetime) -> dict[str, Any]:
    """Give it for programs."""
    refused = [
        {"provider": provider, "reason": reason, "count": count}
        for (provider, reason), count in sorted(summary.new_rejections.items())
    ]
    return {
        "at": now,
        "tasks": summary.tasks,
        "tasks_by_provider": summary.tasks_by_provider,
        "callbacks": summary.callbacks,
        "duplicates": summary.duplicates,
        "refused_since_yesterday": refused,
        "waiting_events": summary.waiting_events,
        "deliveries": summary.deliveries,
        "discarded": summary.discarded,
        "lag_seconds": max((queue.lag_seconds(now) for queue in summary.queues.values()), default=0.0),
        "handlers": [_queue_shape(name, queue, summary, now) for name, queue in queues(summary)],
        "processes": summary.processes,
        "estimated": sorted(summary.estimated),
    }


def _queue_shape(name: str, queue: "Queue", summary: "Summary", now: datetime) -> dict[str, Any]:
    return {
        "name": name,
        "pending": queue.pending,
        "running": queue.running,
        "discarded": queue.discarded,
        "oldest_due_at": queue.oldest_due_at,
        "lag_seconds": queue.lag_seconds(now),
        "seen_at": summary.handlers.get(name),
    }


def queues(summary: "Summary") -> "Iterator[tuple[str, Queue]]":
    """Give every handler that is known or owed anything, by name."""
    from ringback.ledger import Queue

    for name in sorted({*summary.handlers, *summary.queues}):
        yield name, summary.queues.get(name, Queue())


def _print(summary: "Summary", now: datetime) -> None:
    from ringback.cli.show import print_fields, print_table

    print_fields(_fields(summary))
    known = list(queues(summary))
    if known:
        click.echo()
        columns = ("handler", "pending", "running", "discarded", "lag", "last seen")
        print_table(columns, (_row(name, queue, summary, now) for name, queue in known), empty="")


def _fields(summary: "Summary") -> Iterator[tuple[str, Any]]:
    tasks, deliveries = (name in summary.estimated for name in ("tasks", "deliveries"))
    callbacks = not summary.estimated.isdisjoint(("tasks", "events"))
    again = f", {_number(summary.duplicates, about=callbacks)} of them duplicates" if summary.duplicates else ""
    refused = {
        " ".join(filter(None, (provider, reason))): count
        for (provider, reason), count in sorted(summary.new_rejections.items())
    }
    yield "tasks", _counted(summary.tasks, about=tasks)
    yield "by provider", _counted(summary.tasks_by_provider, about=tasks) if summary.tasks_by_provider else None
    yield "callbacks", ("about " if callbacks else "") + _number(summary.callbacks, about=callbacks) + again
    yield "turned away since yesterday", _counted(refused)
    yield "events to be fanned out", f"{summary.waiting_events:,}"
    yield "deliveries", _counted(summary.deliveries, about=deliveries)
    yield "discarded, not replayed", f"{summary.discarded:,}"
    for role in ("worker", "poller"):
        seen = [f"{process.host} pid {process.pid}" for process in summary.processes if process.role == role]
        yield f"{role}s", ", ".join(seen) or "none seen in the last minute"


def _counted(counts: Mapping[Any, int], *, about: bool = False) -> str:
    """Write the total, and its parts by size."""
    largest = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    parts = ", ".join(f"{name} {_number(count, about=about)}" for name, count in largest)
    total = ("about " if about else "") + _number(sum(counts.values()), about=about)
    return f"{total}: {parts}" if parts else total


def _number(count: int, *, about: bool) -> str:
    """Write a number; three digits of one that is an estimate."""
    return f"{float(f'{count:.3g}'):,.0f}" if about else f"{count:,}"


def _row(name: str, queue: "Queue", summary: "Summary", now: datetime) -> tuple[Any, ...]:
    from ringback.cli.show import span

    lag = queue.lag_seconds(now)
    waited = span(timedelta(seconds=lag)) if lag else None
    return name, queue.pending, queue.running, queue.discarded, waited, summary.handlers.get(name)

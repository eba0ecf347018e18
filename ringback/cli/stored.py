"""What `status` and `doctor` say of results: how many are stored, what waits, and what is about to be lost."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.checks import Check, bad, doubtful, good
from ringback.errors import SettingsError, StorageError
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Ledger, ResultCounts

NAMED = 5


async def count(ledger: "Ledger", now: datetime) -> "ResultCounts":
    """Ask the ledger."""
    from ringback.ledger import CountResults

    return await ledger.report(CountResults(now=now))


def is_told(settings: Settings, counts: "ResultCounts") -> bool:
    """Tell whether there is anything to say: storing is on here, or was."""
    return settings.results_url is not None or bool(counts.stored or counts.waiting or counts.given_up)


def shape(counts: "ResultCounts", settings: Settings) -> dict[str, Any]:
    """Give it for programs."""
    if not is_told(settings, counts):
        return {"results": None}
    expiring = [
        {"task_id": row.task_id, "position": row.position, "expires_at": row.expires_at} for row in counts.expiring
    ]
    told = {name: getattr(counts, name) for name in ("stored", "stored_bytes", "waiting", "given_up", "lost")}
    return {"results": {"url": settings.results_url} | told | {"expiring": expiring}}


def print_counts(counts: "ResultCounts", settings: Settings, now: datetime) -> None:
    """Print it for people; nothing where nothing was ever stored."""
    from ringback.cli.show import print_fields

    if is_told(settings, counts):
        click.echo()
        print_fields(_fields(counts, settings, now))


def _fields(counts: "ResultCounts", settings: Settings, now: datetime) -> Iterator[tuple[str, Any]]:
    yield "results stored", f"{counts.stored:,} ({size_text(counts.stored_bytes)})"
    yield "stored in", settings.results_url or "RINGBACK_RESULTS_URL is not set here"
    yield "to be stored", f"{counts.waiting:,}"
    yield "given up", f"{counts.given_up:,}" if counts.given_up else None
    yield "URL ends within an hour", _soon(counts, now) if counts.expiring else None
    yield "URL ended, not stored", f"{counts.lost:,}" if counts.lost else None


def _soon(counts: "ResultCounts", now: datetime) -> str:
    named = [f"{row.task_id} {row.position} in {_minutes(row.expires_at - now)}" for row in counts.expiring[:NAMED]]
    more = len(counts.expiring) - len(named)
    return f"{len(counts.expiring):,}: {', '.join(named)}" + (f" and {more:,} more" if more else "")


def _minutes(left: timedelta) -> str:
    return f"{int(left.total_seconds() // 60)} min"


def size_text(size: int) -> str:
    """Write a size as people read it."""
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


async def of_results(settings: Settings, counts: "ResultCounts", now: datetime) -> list[Check]:
    """Look at the place, and at what is to go there."""
    checks = [check async for check in _place(settings, counts)]
    if counts.expiring:
        advice = "see that a worker runs and reaches them, or store them now: ringback results fetch --all"
        checks.append(bad("results", f"not stored, and their URLs end within an hour: {_soon(counts, now)}", advice))
    if counts.lost:
        found = f"{counts.lost:,} were not stored before their URLs ended"
        advice = "the provider may still give fresh URLs: ringback results fetch --all"
        checks.append(doubtful("results", found, advice))
    return checks


async def _place(settings: Settings, counts: "ResultCounts") -> "Any":
    from ringback.results.places import open_place

    if settings.results_url is None:
        if counts.waiting:
            advice = "set RINGBACK_RESULTS_URL here too, if a worker shall run here"
            yield doubtful("results", f"{counts.waiting:,} wait to be stored, but no place is named here", advice)
        return
    try:
        place = open_place(settings)
        assert place is not None  # noqa: S101 -- the settings name one
        await place.check()
    except (SettingsError, StorageError) as error:
        yield bad("results", str(error), "results are not stored until this is repaired, and their URLs end")
        return
    size = size_text(counts.stored_bytes)
    yield good("results", f"{settings.results_url}; {counts.stored:,} stored ({size}), {counts.waiting:,} wait")

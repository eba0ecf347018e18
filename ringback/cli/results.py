"""`ringback results list|verify|fetch`: which are stored where, whether they still are, and storing what is missing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import CommandGroup, Failure, examples
from ringback.cli.options import json_option, limit_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import NotFound, RingbackError, SettingsError
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.cli.storing import Store
    from ringback.ledger import KeptResult, Ledger, ResultRow
    from ringback.results.places import Place

COLUMNS = ("task id", "no", "kind", "size", "stored", "URL ends", "where")
PAGE = 200  # events read at once
task_option = click.option("--task", "task_id", metavar="ID", help="Only this task's: our id (task_…).")


@dataclass(slots=True)
class Tally:
    """How it went, result by result."""

    good: int = 0
    bad: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: "ResultRow", problem: str | None) -> None:
        """Count one, and keep what is wrong with it."""
        if problem is None:
            self.good += 1
        else:
            self.bad.append({"task_id": row.task_id, "position": row.position, "problem": problem})


@click.group(cls=CommandGroup)
def results() -> None:
    """List results, read stored ones again, or store now what is missing."""


@results.command("list", epilog=examples("ringback results list", "ringback results list --missing --json"))
@task_option
@click.option("--missing", is_flag=True, help="Only those that are not stored.")
@limit_option
@json_option
def list_results(task_id: str | None, missing: bool, limit: int, as_json: bool) -> None:
    """List the results of completed tasks, newest task first. The limit counts tasks."""
    from ringback.cli import show

    found = run(_list(load_settings(quiet=True), task_id, missing, limit))
    if as_json:
        show.print_json({"results": [_shape(row) for row in found]})
        return
    show.print_table(COLUMNS, (_row(row) for row in found), empty="no results")


@results.command(epilog=examples("ringback results verify", "ringback results verify --task task_…"))
@task_option
@json_option
def verify(task_id: str | None, as_json: bool) -> None:
    """Read every stored result again, and compare its size and SHA-256 with the ledger. Exit code 1 if any differs."""
    tally = run(_verify(_with_place(), task_id))
    _report(tally, as_json, "verified", "are not as they were stored")


@results.command(epilog=examples("ringback results fetch --task task_…", "ringback results fetch --all"))
@task_option
@click.option("--all", "everything", is_flag=True, help="Those of all tasks.")
@json_option
def fetch(task_id: str | None, everything: bool, as_json: bool) -> None:
    """Store now what is not stored yet, also what was given up. Exit code 1 if any cannot be.

    Where a URL has ended, the provider is asked for a fresh one, once.
    """
    if (task_id is not None) == everything:
        raise click.UsageError("say whose: --task ID, or --all")
    tally = run(_fetch(_with_place(), task_id))
    _report(tally, as_json, "stored", "could not be stored")


def _with_place() -> Settings:
    """Read the settings, which must name a place.

    Raises:
        SettingsError: they do not.
    """
    settings = load_settings(quiet=True)
    if settings.results_url is None:
        raise SettingsError("RINGBACK_RESULTS_URL is not set, so no results are stored; name a place there")
    return settings


async def _list(settings: Settings, task_id: str | None, missing: bool, limit: int) -> "list[ResultRow]":
    async with opened_ledger(settings) as ledger:
        found: list[ResultRow] = []
        tasks: set[str] = set()
        async for page in _pages(ledger, task_id, min(limit, PAGE)):
            for row in page:
                if missing and row.kept is not None:
                    continue
                if row.task_id not in tasks and len(tasks) == limit:
                    return found
                tasks.add(row.task_id)
                found.append(row)
        return found


async def _pages(ledger: "Ledger", task_id: str | None, size: int = PAGE) -> "AsyncIterator[Sequence[ResultRow]]":
    """Read results in parts, newest event first.

    Raises:
        NotFound: there is no such task.
    """
    from ringback.ledger import ListResults, Query

    if task_id is not None:
        if not await ledger.tasks(Query(task_id=task_id, limit=1)):
            raise NotFound(f"there is no task {task_id!r}; see: ringback tasks list")
        yield await ledger.report(ListResults(task_id=task_id))
        return
    below: int | None = None
    while page := await ledger.report(ListResults(limit=size, below=below)):
        yield page
        below = min(row.seq for row in page)


async def _verify(settings: Settings, task_id: str | None) -> Tally:
    from ringback.results.places import open_place

    place, tally = open_place(settings), Tally()
    assert place is not None  # noqa: S101 -- the settings name one
    async with opened_ledger(settings) as ledger:
        async for page in _pages(ledger, task_id):
            for row in page:
                if row.kept is not None:
                    tally.add(row, await _problem(place, row.kept))
    return tally


async def _problem(place: "Place", kept: "KeptResult") -> str | None:
    from ringback.results.keeper import verify as read_again

    try:
        return await read_again(place, kept)
    except RingbackError as error:
        return str(error)


async def _fetch(settings: Settings, task_id: str | None) -> Tally:
    from ringback.cli.storing import opened_store
    from ringback.outbound import Outbound

    tally = Tally()
    async with (
        opened_ledger(settings) as ledger,
        Outbound(settings) as outbound,
        opened_store(settings, ledger, outbound) as store,
    ):
        assert store is not None  # noqa: S101 -- the settings name a place
        async for page in _pages(ledger, task_id):
            missing = sorted((row for row in page if row.kept is None), key=lambda row: row.expires_at)
            slots = asyncio.Semaphore(settings.results_concurrency)
            async with asyncio.TaskGroup() as group:
                for row in missing:
                    group.create_task(_fetch_one(ledger, store, row, slots, tally))
    return tally


async def _fetch_one(
    ledger: "Ledger", store: "Store", row: "ResultRow", slots: asyncio.Semaphore, tally: Tally
) -> None:
    from ringback.ledger import Query
    from ringback.results.keeper import Wanted

    async with slots:
        try:
            (task,) = await ledger.tasks(Query(task_id=row.task_id, limit=1))
            wanted = Wanted(event_id=row.event_id, task=task, position=row.position, result=row.result)
            await store.keeper.keep(wanted)
        except (RingbackError, OSError) as error:
            tally.add(row, str(error))
        else:
            tally.add(row, None)


def _report(tally: Tally, as_json: bool, done: str, failed: str) -> None:
    from ringback.cli import show

    if as_json:
        show.print_json({done: tally.good, "problems": tally.bad})
    else:
        for problem in tally.bad:
            click.echo(show.line(f"{problem['task_id']} {problem['position']}: {problem['problem']}"))
        click.echo(f"{done} {tally.good:,}" + (f"; {len(tally.bad):,} {failed}" if tally.bad else ""))
    if tally.bad:
        raise Failure(f"{len(tally.bad):,} of {tally.good + len(tally.bad):,} results {failed}")


def _row(row: "ResultRow") -> tuple[Any, ...]:
    kept = row.kept
    size, stored_at, where = (kept.size, kept.stored_at, kept.stored_url) if kept else (None, None, None)
    return row.task_id, row.position, row.result.kind, size, stored_at, row.expires_at, where


def _shape(row: "ResultRow") -> dict[str, Any]:
    """Give one for programs."""
    names = ("task_id", "event_id", "provider", "position", "expires_at")
    kept = row.kept
    stored = {"content_type": kept.content_type, "stored_at": kept.stored_at} if kept else {}
    result = row.result
    told = {"kind": result.kind, "url": result.url, "stored_url": result.stored_url}
    sums = {"size": result.size, "sha256": result.sha256, "content_type": None, "stored_at": None}
    return {name: getattr(row, name) for name in names} | told | sums | stored

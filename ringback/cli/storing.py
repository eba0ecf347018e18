"""Puts together what stores results: the place, the downloads, the provider that is asked for fresh URLs, the handler.

Called by the commands that run a worker, and by `ringback results`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ringback.cli.run import Part
from ringback.settings import Settings

if TYPE_CHECKING:
    from receiver.handlers import Handlers
    from ringback.ledger import Ledger
    from ringback.model import Result, Task
    from ringback.outbound import Outbound
    from ringback.results.keeper import Keeper
    from ringback.results.places import Place


@dataclass(frozen=True, slots=True)
class Store:
    """An open place, and what keeps results there."""

    place: "Place"
    keeper: "Keeper"


@asynccontextmanager
async def opened_store(settings: Settings, ledger: "Ledger", outbound: "Outbound") -> "AsyncIterator[Store | None]":
    """Open the place that the settings name; None where they name none.

    Raises:
        SettingsError: it cannot be used as it is named, or needs obstore.
    """
    if settings.results_url is None:
        yield None
        return
    from ringback.outbound.downloads import Downloads
    from ringback.results.keeper import Keeper
    from ringback.results.places import open_place
    from submitter.refreshing import fresh_results

    place = open_place(settings)
    assert place is not None  # noqa: S101 -- the settings name one

    async def refresh(task: "Task") -> "tuple[Result, ...]":
        return await fresh_results(settings, outbound, task, datetime.now(UTC))

    async with Downloads(settings) as downloads:
        yield Store(
            place, Keeper(ledger, downloads, place, refresh=refresh, timeout_seconds=settings.results_timeout_seconds)
        )


@asynccontextmanager
async def with_storing(
    settings: Settings, handlers: "Handlers | None", ledger: "Ledger", outbound: "Outbound"
) -> "AsyncIterator[Handlers | None]":
    """Add the built-in handler where there is a place; gives None where there is nothing to run at all."""
    async with opened_store(settings, ledger, outbound) as store:
        if store is None:
            _warn(handlers)
            yield handlers
            return
        from receiver.handlers import Handlers
        from receiver.storing import Storing

        yield (Handlers() if handlers is None else handlers).plus(Storing(settings, store.keeper).handler())


def alarm(settings: Settings, ledger: "Ledger") -> "list[Part]":
    """Give the part of a process that tells of results whose URLs end soon; nothing where none are stored."""
    if settings.results_url is None:
        return []
    from ringback.results.watch import Watch

    return [Watch(ledger).run]


async def look_once(settings: Settings, ledger: "Ledger") -> None:
    """Raise that alarm once."""
    if settings.results_url is not None:
        from ringback.results.watch import Watch

        await Watch(ledger).look()


def _warn(handlers: "Handlers | None") -> None:
    if waiting := [handler.name for handler in handlers or () if handler.stored]:
        import structlog

        hint = "set RINGBACK_RESULTS_URL, or take stored=True away"
        structlog.get_logger("ringback").warning("results.not_stored", handlers=waiting, hint=hint)

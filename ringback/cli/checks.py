"""What `ringback doctor` looks at. Nothing is changed but the row that proves that the ledger can be written."""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ringback.cli.placement import ADVICE, look
from ringback.confirming import confirmed, unconfirmable
from ringback.errors import HandlersError, LedgerError
from ringback.ledger import Awaited, Ledger, Query, Summary
from ringback.lifecycle import TERMINAL
from ringback.model import TaskState
from ringback.providers.signatures import fingerprint
from ringback.secret_file import secret_path
from ringback.settings import CONFIG_FILE, PREFIX, Settings

OPEN = [state for state in TaskState if state not in TERMINAL]
FAST_CLOCK = timedelta(minutes=1)
SAME_TIME = timedelta(minutes=2)  # a worker renews what it tells of its handlers at least once a minute


class Mark(StrEnum):
    """How a check ended."""

    GOOD = "✓"
    DOUBTFUL = "!"
    BAD = "✗"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, what was found (`details`: the parts of it, by name), and what to do about it."""

    mark: Mark
    name: str
    found: str
    advice: str | None = None
    details: Sequence[tuple[str, str]] = ()


def good(name: str, found: str, details: Sequence[tuple[str, str]] = ()) -> Check:
    """All is well."""
    return Check(mark=Mark.GOOD, name=name, found=found, details=details)


def doubtful(name: str, found: str, advice: str) -> Check:
    """It works, but perhaps not as meant."""
    return Check(mark=Mark.DOUBTFUL, name=name, found=found, advice=advice)


def bad(name: str, found: str, advice: str) -> Check:
    """It does not work."""
    return Check(mark=Mark.BAD, name=name, found=found, advice=advice)


def of_settings(settings: Settings) -> Iterator[Check]:
    """Look at what is configured; needs no ledger."""
    names = [name for name, value in os.environ.items() if name.startswith(PREFIX) and value]
    file = Path.cwd() / CONFIG_FILE
    yield good("settings", f"{file if file.exists() else f'no {CONFIG_FILE} here'}; {len(names)} RINGBACK_ variables")
    yield _engine(settings)
    yield from _place(settings)
    yield _public_url(settings)
    for provider, advice in unconfirmable(settings):
        yield bad(f"{provider.name} callbacks", "are hints, which nothing here can confirm", advice)


def _engine(settings: Settings) -> Check:
    if settings.embedded:
        return good("SQLite", sqlite3.sqlite_version)
    try:
        return good("psycopg", version("psycopg"))
    except PackageNotFoundError:
        return bad("psycopg", "is not installed", "pip install 'ringback[postgres]'")


def _place(settings: Settings) -> Iterator[Check]:
    """Say where a database cannot stay; nothing where nothing is known against its place."""
    finding = look(settings.database_path) if settings.embedded else None
    if finding is None:
        return
    found = f"{settings.database_path}: {finding.why}"
    if finding.may or settings.allow_ephemeral:
        yield doubtful("place", found, ADVICE if not finding.may else "put it on a volume, unless it is one for tests")
    else:
        yield bad("place", found, f"{ADVICE}; `up` and `serve` refuse it without RINGBACK_ALLOW_EPHEMERAL=true")


def of_both(settings: Settings, summary: Summary) -> Iterator[Check]:
    """Look at what is configured beside what the ledger knows of it; an empty summary where there is no ledger."""
    yield _secret(settings, summary)
    yield _handlers(settings, summary)


def _secret(settings: Settings, summary: Summary) -> Check:
    newest = next(iter(summary.url_keys), None)
    if newest is not None and newest not in map(fingerprint, settings.secret):
        found = f"the newest that this ledger was used with, {newest}, is not set here: nothing starts without it"
        advice = "put it back (RINGBACK_SECRET, or the secret file beside the database); if it is lost or has leaked:"
        return bad("secret", found, f"{advice} ringback migrate --forget-secret {newest}")
    if not settings.secret:
        advice = "start `ringback up`, which makes one, or set RINGBACK_SECRET"
        return doubtful("secret", "none: callbacks would get 503", advice)
    from_file = (
        settings.embedded and "RINGBACK_SECRET" not in os.environ and secret_path(settings.database_path).exists()
    )
    where = f" (from {secret_path(settings.database_path)})" if from_file else ""
    prints = ", ".join(fingerprint(secret) for secret in settings.secret)
    return good("secret", f"{len(settings.secret)}, newest first, by fingerprint: {prints}{where}")


def _public_url(settings: Settings) -> Check:
    if settings.public_url is None:
        advice = "set RINGBACK_PUBLIC_URL to where providers reach this receiver, to be called back"
        return doubtful("public URL", "none: no callback_url is sent, the poller fetches", advice)
    if not settings.public_url.startswith("https://"):
        advice = "use https outside of this machine: who reads a callback URL can speak for the provider"
        return doubtful("public URL", settings.public_url, advice)
    return good("public URL", settings.public_url)


def _handlers(settings: Settings, summary: Summary) -> Check:
    from receiver.handlers import Handlers

    if settings.handlers is None:
        return _handlers_elsewhere(summary)
    try:
        loaded = Handlers.load(settings.handlers)
    except HandlersError as error:
        return bad("handlers", str(error), "correct RINGBACK_HANDLERS, or the module")
    listed = [f"{name} ({', '.join(p.event for p in patterns)})" for name, patterns in loaded.patterns().items()]
    if not listed:
        return doubtful("handlers", f"{settings.handlers} declares none", 'write @handlers.on("task.completed")')
    return good("handlers", "; ".join(listed))


def _handlers_elsewhere(summary: Summary) -> Check:
    """None are set here, but a worker may have been given its own: `ringback up --handlers …`."""
    if not summary.handlers:
        return doubtful("handlers", "none: events are stored only", "set RINGBACK_HANDLERS=module:name")
    newest = max(summary.handlers.values())
    seen = [name for name, at in sorted(summary.handlers.items()) if newest - at < SAME_TIME]
    if any(process.role == "worker" for process in summary.processes):
        return good("handlers", f"none are set here; a running worker has {', '.join(seen)}")
    since = f"{newest.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    found = f"none are set here, and no worker runs; until {since} one had {', '.join(seen)}"
    return doubtful("handlers", found, "start their worker: `ringback up` or `ringback work`, with --handlers")


async def of_ledger(settings: Settings, ledger: Ledger, summary: Summary, now: datetime) -> list[Check]:
    """Look at what the ledger says."""
    checks = [*of_both(settings, summary), await _writable(settings, ledger, now)]
    checks += [
        *_keys(settings, summary, await ledger.report(Awaited())),
        *_processes(settings, summary),
        *_work(summary),
    ]
    return [*checks, await _clock(ledger, now)]


async def waiting(settings: Settings, ledger: Ledger) -> frozenset[str]:
    """Name the providers that nobody can be asked of, since there is no API key, and of which a task is open."""
    asked = [name for name in settings.catalogue if settings.provider(name).secret]
    found = set()
    for name in (name for name in asked if settings.provider(name).api_key is None):
        for state in OPEN:
            if await ledger.tasks(Query(provider=name, state=state, limit=1)):
                found.add(name)
    return frozenset(found)


async def _writable(settings: Settings, ledger: Ledger, now: datetime) -> Check:
    try:
        await ledger.reject({}, now)  # writes, counts or not
    except LedgerError as error:
        return bad("database", f"{settings.database_place}: {error}", "callbacks get 503 until it can be written")
    return good("database", f"{settings.database_place}, writable")


def _keys(settings: Settings, summary: Summary, awaited: Mapping[str, int]) -> Iterator[Check]:
    """Open tasks whose callback URL was made with a secret that is not listed would be turned away."""
    listed = {fingerprint(secret) for secret in settings.secret}
    for key, count in sorted(awaited.items()):
        if key in listed:
            yield good("open tasks", f"{count} called back under the secret {key}")
        elif key in summary.url_keys:
            found = f"{count} wait for callbacks under the secret {key}, which is not listed"
            advice = "add that secret to the end of RINGBACK_SECRET until they have ended; if it is lost or has leaked:"
            yield bad("open tasks", found, f"{advice} ringback migrate --forget-secret {key}")
        else:
            found = f"{count} were sent under the secret {key}, which was forgotten: their callbacks are refused"
            yield doubtful("open tasks", found, "nothing to do while a poller runs: it asks when a push is overdue")


def _processes(settings: Settings, summary: Summary) -> Iterator[Check]:
    roles = {process.role for process in summary.processes}
    seen = {role: [f"{p.host} pid {p.pid}" for p in summary.processes if p.role == role] for role in roles}
    if "poller" in roles:
        yield good("poller", ", ".join(seen["poller"]))
    else:
        waiting = ", ".join(sorted(provider.name for provider in confirmed(settings)))
        found = "none was seen in the last minute" + (f": callbacks of {waiting} are hints, and wait" * bool(waiting))
        yield doubtful("poller", found, "start `ringback up` or `ringback poll`")
    if "worker" in roles:
        yield good("worker", ", ".join(seen["worker"]))
    elif settings.handlers or summary.handlers:
        yield doubtful("worker", "none was seen in the last minute", "start `ringback up` or `ringback work`")


def _work(summary: Summary) -> Iterator[Check]:
    for handler, count in sorted(summary.orphaned.items()):
        advice = "start a worker that has its code, or bring the name back with name="
        yield doubtful("deliveries", f"{count} wait for {handler}, which no worker has had for a day", advice)
    if summary.discarded:
        advice = "see: ringback deliveries list --state discarded --latest; then replay"
        yield doubtful("deliveries", f"{summary.discarded} were discarded after their last attempt", advice)
    if summary.unknown_sends:
        advice = "look at the provider's own list before submitting again; see: ringback tasks list --state pending"
        yield doubtful("submissions", f"{summary.unknown_sends} were sent, and their end is unknown", advice)


async def _clock(ledger: Ledger, now: datetime) -> Check:
    """What is stored cannot be younger than now, unless a clock was set back or two machines disagree."""
    newest = [event.received_at for event in await ledger.events(Query(limit=1))]
    newest += [task.created_at for task in await ledger.tasks(Query(limit=1))]
    if newest and max(newest) > now + FAST_CLOCK:
        found = f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}, but the ledger holds {max(newest):%Y-%m-%d %H:%M:%SZ}"
        return bad("clock", found, "set the clock: due times and signatures depend on it")
    return good("clock", f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}")

"""`ringback events list|show|replay`: the deduplicated facts that came in, and handing them out again."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ringback.cli import operate
from ringback.cli.group import CommandGroup, examples, printable
from ringback.cli.operate import dry_run_option, fresh_option, reason_option, yes_option
from ringback.cli.options import json_option, limit_option, provider_option, read_moment
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import NotFound
from ringback.model import Event, EventType, Source, TaskState
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Query

COLUMNS = ("id", "type", "provider", "task id", "source", "trust", "standing", "duplicates", "received")
STATUSES = [state.value for state in TaskState if state is not TaskState.PENDING]


@click.group(cls=CommandGroup)
def events() -> None:
    """List events, show one with its body, or hand many to one handler again."""


@events.command("list", epilog=examples("ringback events list --type task.failed"))
@click.option("--type", "kind", type=click.Choice([kind.value for kind in EventType]), help="Only events of this type.")
@provider_option
@click.option("--task", metavar="ID", help="Only this task's: our id (task_…).")
@limit_option
@json_option
def list_events(kind: str | None, provider: str | None, task: str | None, limit: int, as_json: bool) -> None:
    """List events, newest first."""
    from receiver.web.shapes import event_shape
    from ringback.cli import show
    from ringback.ledger import Query

    query = Query(type=kind, provider=provider, task_id=task, limit=limit)
    found = run(_events(load_settings(quiet=True), query))
    if as_json:
        show.print_json({"events": [event_shape(event, whole=False) for event in found]})
        return
    show.print_table(COLUMNS, (_row(event) for event in found), empty="no events")


@events.command("show", epilog=examples("ringback events show evt_…", "ringback events show evt_… --body | jq"))
@click.argument("event_id", metavar="ID")
@click.option("--body", is_flag=True, help="Print the body alone, as it came.")
@json_option
def show_event(event_id: str, body: bool, as_json: bool) -> None:
    """Show one event: headers and body as they came, tokens masked."""
    from receiver.web.shapes import event_shape, mask_tokens
    from ringback.cli import show
    from ringback.ledger import Query

    if body and as_json:
        raise click.UsageError("give --body or --json, not both: the JSON document holds the body")
    found = run(_events(load_settings(quiet=True), Query(event_id=event_id, limit=1)))
    if not found:
        raise NotFound(f"there is no event {event_id!r}; see: ringback events list")
    if as_json:
        show.print_json(event_shape(found[0], whole=True))
    elif body:
        _print_body(mask_tokens(found[0].body))
    else:
        show.print_fields(_fields(found[0]))
        click.echo()
        _print_body(mask_tokens(found[0].body))


@events.command(
    epilog=examples(
        "ringback events replay --handler app.store --since 3d --dry-run",
        "ringback events replay --handler app.store --since 2026-07-01T12:00Z --status completed --yes",
    )
)
@click.option("--handler", metavar="NAME", required=True, help="For which handler.")
@click.option(
    "--since", metavar="TIME", required=True, callback=read_moment, help="Received since then: a time, or 2h, 3d."
)
@click.option("--until", metavar="TIME", callback=read_moment, help="Received before then; up to now by default.")
@click.option("--status", type=click.Choice(STATUSES), help="Only events that say this of a task.")
@provider_option
@click.option("--type", "kind", type=click.Choice([kind.value for kind in EventType]), help="Only events of this type.")
@fresh_option
@reason_option
@dry_run_option
@yes_option
@json_option
def replay(since: datetime, until: datetime | None, yes: bool, as_json: bool, **options: Any) -> None:
    """Hand many events to one handler once more, or for the first time: how a new handler catches up.

    A new delivery is made of each event that the handler's patterns fit; events of which it has one still pending or
    running are left alone. Any worker that has its code runs them. Steps that the handler has recorded are not done
    again, unless --fresh has them forgotten.
    """
    from receiver.web.shapes import event_shape
    from ringback.cli import show
    from ringback.ledger import Query

    settings, deed = load_settings(quiet=True), _deed(since, until, **options)
    done = operate.perform(settings, deed, named=False, yes=yes)
    query = Query(ids=done.ids[: operate.SHOWN] if deed.action.dry_run else (), limit=operate.SHOWN)
    found = run(_events(settings, query))
    if as_json:
        show.print_json(operate.shape(deed, done, events=(event_shape(event, whole=False) for event in found)))
        return
    click.echo(operate.told(deed, done))
    if found:
        show.print_table(COLUMNS, (_row(event) for event in found), empty="")


def _deed(
    since: datetime, until: datetime | None, status: str | None, kind: str | None, **options: Any
) -> operate.Deed:
    """Say what is to be done.

    Raises:
        UsageError: no time lies between both times.
    """
    from ringback.ledger import ReplayEvents

    now = datetime.now(UTC)
    until = min(until or now, now)
    if since >= until:
        raise click.UsageError("--since must be before --until, and in the past")
    action = ReplayEvents(
        since=since,
        until=until,
        status=TaskState(status) if status else None,
        type=EventType(kind) if kind else None,
        by=operate.operator(),
        now=now,
        limit=operate.STEP,
        **options,
    )
    return operate.Deed(action, "replay", "replayed", f"event for {action.handler}", f"events for {action.handler}")


async def _events(settings: Settings, query: "Query") -> list[Event]:
    async with opened_ledger(settings) as ledger:
        return list(await ledger.events(query))


def _row(event: Event) -> tuple[Any, ...]:
    from ringback.cli.show import standing_text

    return (
        event.id,
        event.type,
        event.provider,
        event.task_id,
        event.source,
        event.trust if event.source is Source.CALLBACK else None,
        standing_text(event),
        event.duplicates,
        event.received_at,
    )


def _fields(event: Event) -> list[tuple[str, Any]]:
    from ringback.cli.show import moment_text, standing_text, trust_text

    fields: list[tuple[str, Any]] = [
        ("event", event.id),
        ("type", event.type),
        ("provider", event.provider),
        ("task", event.task_id),
        ("source", f"{event.source}, {trust_text(event)}"),
        ("standing", standing_text(event)),
        ("received", event.received_at),
        ("duplicates", f"{event.duplicates}, the last at {moment_text(event.last_seen_at)}" if event.duplicates else 0),
        ("fanned out", event.fanned_out_at),
        ("error", f"{event.error.code or '-'}: {event.error.message}" if event.error else None),
    ]
    fields += [(result.kind, result.url) for result in event.results]
    return fields + [(f"header {name}", value) for name, value in event.headers]


def _print_body(body: bytes) -> None:
    """Print it byte for byte into a pipe; on a terminal only what is printable."""
    if sys.stdout.isatty():
        click.echo(printable(body.decode("utf-8", "backslashreplace")))
    else:
        click.echo(body, nl=False)

"""`ringback events list|show`: the deduplicated facts that callbacks and polls carried."""

import sys
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import CommandGroup, examples, printable
from ringback.cli.options import json_option, limit_option, provider_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import NotFound
from ringback.model import Event, EventType, Source
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Query


@click.group(cls=CommandGroup)
def events() -> None:
    """List events, or show one with its body."""


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
    columns = ("id", "type", "provider", "task id", "source", "trust", "standing", "duplicates", "received")
    show.print_table(columns, (_row(event) for event in found), empty="no events")


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

"""`ringback deliveries list|show|replay|cancel|discard`: what is owed to which handler, how it went, changing that."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ringback.cli import operate
from ringback.cli.group import CommandGroup, Failure, examples, printable
from ringback.cli.operate import dry_run_option, fresh_option, reason_option, yes_option
from ringback.cli.options import json_option, limit_option, provider_option, read_age
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import NotFound
from ringback.model import Attempt, Delivery, DeliveryState
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Cancel, Discard, Owed, Query, Replay

Function = TypeVar("Function", bound=Callable[..., Any])
COLUMNS = ("id", "handler", "event", "task id", "run", "state", "attempts", "due", "replayed as", "reason")
STATES = click.Choice([state.value for state in DeliveryState])
WHICH = {
    "replay": "only what has settled is run again, and not beside a run that has not",
    "cancel": "only what is pending can be cancelled",
    "discard": "only what is pending can be discarded",
}
FILTERS = (
    click.option("--state", type=STATES, help="Only deliveries in this state."),
    click.option("--handler", metavar="NAME", help="Only this handler's."),
    provider_option,
    click.option("--task", metavar="ID", help="Only those about this task: our id (task_…)."),
    click.option("--event", metavar="ID", help="Only those of this event."),
    click.option(
        "--older-than", metavar="DURATION", callback=read_age, help="Only those made longer ago: 90s, 15m, 2h, 3d."
    ),
    click.option("--latest", is_flag=True, help="Leave out those that were replayed later."),
    click.option("--text", metavar="TEXT", help="Only those whose last error or reason contains this."),
)


@click.group(cls=CommandGroup)
def deliveries() -> None:
    """List deliveries, show one with its attempts, run some again, or end what waits."""


def filter_options(command: Function) -> Function:
    """Let a command choose deliveries as `list` does."""
    for option in reversed(FILTERS):
        command = option(command)
    return command


@deliveries.command("list", epilog=examples("ringback deliveries list --state discarded --latest"))
@filter_options
@limit_option
@json_option
def list_deliveries(as_json: bool, limit: int, **filters: Any) -> None:
    """List deliveries, newest first."""
    from receiver.web.shapes import owed_shape
    from ringback.cli import show

    found = run(_deliveries(load_settings(quiet=True), _query(filters, limit)))
    if as_json:
        show.print_json({"deliveries": [owed_shape(owed) for owed in found]})
        return
    show.print_table(COLUMNS, (_row(owed) for owed in found), empty="no deliveries")


@deliveries.command("show", epilog=examples("ringback deliveries show dlv_…"))
@click.argument("delivery_id", metavar="ID")
@json_option
def show_delivery(delivery_id: str, as_json: bool) -> None:
    """Show one delivery, and each attempt with its traceback."""
    from receiver.web.shapes import owed_shape
    from ringback.cli import show
    from ringback.ledger import Query

    found = run(_deliveries(load_settings(quiet=True), Query(ids=(delivery_id,), limit=1)))
    if not found:
        raise NotFound(f"there is no delivery {delivery_id!r}; see: ringback deliveries list")
    if as_json:
        show.print_json(owed_shape(found[0]))
        return
    show.print_fields(_fields(found[0]))
    for attempt in found[0].attempts:
        click.echo()
        _print_attempt(attempt)


def action_options(command: Function) -> Function:
    """Let a command change deliveries: those that are named, or those that a filter chooses."""
    argument = click.argument("delivery_ids", metavar="[ID]...", nargs=-1)
    for option in reversed((argument, filter_options, reason_option, dry_run_option, yes_option, json_option)):
        command = option(command)
    return command


@deliveries.command(
    epilog=examples(
        "ringback deliveries replay dlv_…",
        "ringback deliveries replay --state discarded --handler app.store --reason 'disk was full'",
    )
)
@action_options
@fresh_option
def replay(fresh: bool, **options: Any) -> None:
    """Run settled deliveries again: a new run of each, with the same event and handler. A worker does the work.

    Name them, or choose them by a filter: then the latest run of each counts. Those still pending or running are left
    alone; where they were named the exit code is 1. More than one that you have not named is asked about first.
    Steps that a handler has recorded are not done again, unless --fresh has them forgotten.
    """
    from ringback.ledger import Replay

    _change(partial(Replay, fresh=fresh), "replay", "replayed", options)


@deliveries.command(
    epilog=examples("ringback deliveries cancel dlv_…", "ringback deliveries cancel --handler app.old --older-than 2d")
)
@action_options
def cancel(**options: Any) -> None:
    """End pending deliveries as cancelled. Running ones are left alone.

    Name them, or choose them by a filter. More than one that you have not named is asked about first.
    """
    from ringback.ledger import Cancel

    _change(Cancel, "cancel", "cancelled", options)


@deliveries.command(
    epilog=examples(
        "ringback deliveries discard dlv_… --reason 'no such customer'",
        "ringback deliveries discard --text 'no such customer'",
    )
)
@action_options
def discard(**options: Any) -> None:
    """Give pending deliveries up, as after a last attempt. Running ones are left alone.

    Name them, or choose them by a filter. More than one that you have not named is asked about first.
    """
    from ringback.ledger import Discard

    _change(Discard, "discard", "discarded", options)


def _change(kind: "Callable[..., Replay | Cancel | Discard]", verb: str, past: str, options: dict[str, Any]) -> None:
    """Do it, and tell."""
    from receiver.web.shapes import owed_shape
    from ringback.cli import show
    from ringback.ledger import Query

    ids = tuple(dict.fromkeys(options.pop("delivery_ids")))
    given = {name: options.pop(name) for name in ("reason", "dry_run", "yes", "as_json")}
    query = _chosen(ids, options)
    settings, now = load_settings(quiet=True), datetime.now(UTC)
    action = kind(query=query, by=operate.operator(), now=now, reason=given["reason"], dry_run=given["dry_run"])
    deed = operate.Deed(action, verb, past, "delivery", "deliveries")
    done = operate.perform(settings, deed, named=bool(ids), yes=given["yes"])
    named = done.ids if ids else done.ids[: operate.SHOWN]
    found = run(_deliveries(settings, Query(ids=named, limit=max(1, len(named)))))
    if given["as_json"]:
        show.print_json(operate.shape(deed, done, deliveries=map(owed_shape, found)))
    else:
        click.echo(operate.told(deed, done))
        if found and (ids or action.dry_run):
            show.print_table(COLUMNS, (_row(owed) for owed in found), empty="")
    if ids and done.skipped and not action.dry_run:
        raise Failure(f"{sum(done.skipped.values())} of those named were left alone: {WHICH[verb]}")


def _chosen(ids: tuple[str, ...], filters: dict[str, Any]) -> "Query":
    """Give what is meant.

    Raises:
        UsageError: nothing is, or ids and filters both.
    """
    from ringback.ledger import Query

    if bool(ids) == any(filters.values()):
        raise click.UsageError("name deliveries (dlv_…), or choose them by filters such as --handler: one of both")
    return Query(ids=ids) if ids else _query(filters, operate.STEP)


def _query(filters: dict[str, Any], limit: int) -> "Query":
    from ringback.ledger import Query

    names = {"task": "task_id", "event": "event_id", "older_than": "before"}
    return Query(limit=limit, **{names.get(name, name): value for name, value in filters.items()})


async def _deliveries(settings: Settings, query: "Query") -> "list[Owed]":
    async with opened_ledger(settings) as ledger:
        return list(await ledger.deliveries(query))


def _row(owed: "Owed") -> tuple[Any, ...]:
    delivery = owed.delivery
    due = delivery.due_at if delivery.state is DeliveryState.PENDING else None
    return (
        delivery.id,
        delivery.handler,
        owed.event_type,
        owed.task_id,
        delivery.run,
        delivery.state,
        delivery.attempts,
        due,
        owed.replayed_as,
        delivery.reason,
    )


def _fields(owed: "Owed") -> list[tuple[str, Any]]:
    from ringback.cli.show import moment_text

    delivery = owed.delivery
    pending = delivery.state is DeliveryState.PENDING
    return [
        ("delivery", delivery.id),
        ("handler", delivery.handler),
        ("event", f"{delivery.event_id} ({owed.event_type})"),
        ("task", owed.task_id),
        ("state", delivery.state),
        ("run", _run_text(delivery)),
        ("attempts", f"{delivery.attempts}" + (f", lapsed {delivery.lapses}" if delivery.lapses else "")),
        ("due", delivery.due_at if pending else None),
        ("settled", delivery.settled_at),
        ("reason", delivery.reason),
        ("replayed as", owed.replayed_as),
        *(("step done", f"{step.name}, {moment_text(step.done_at)}") for step in owed.steps),
    ]


def _run_text(delivery: Delivery) -> str:
    by = f", by {delivery.replayed_by}" if delivery.replayed_by else ""
    return f"{delivery.run}{by}" + (f": {delivery.replay_reason}" if delivery.replay_reason else "")


def _print_attempt(attempt: Attempt) -> None:
    from ringback.cli.show import line, moment_text, span

    took = f" after {span(attempt.finished_at - attempt.started_at)}" if attempt.finished_at else ""
    outcome = attempt.outcome or "running"
    click.echo(
        f"attempt {attempt.number}: {outcome}{took}, begun {moment_text(attempt.started_at)} by {attempt.worker}"
    )
    if attempt.error:
        click.echo(f"  {line(attempt.error)}")
    if attempt.traceback:
        click.echo("".join(f"  {text}\n" for text in printable(attempt.traceback).splitlines()), nl=False)

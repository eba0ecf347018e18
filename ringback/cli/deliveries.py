"""`ringback deliveries list|show|replay`: what is owed to which handler, how it went, and running it again."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import CommandGroup, examples, printable
from ringback.cli.options import json_option, limit_option, provider_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import NotFound
from ringback.model import Attempt, Delivery, DeliveryState
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Owed, Query


@click.group(cls=CommandGroup)
def deliveries() -> None:
    """List deliveries, show one with its attempts, or run some again."""


@deliveries.command("list", epilog=examples("ringback deliveries list --state discarded --latest"))
@click.option(
    "--state", type=click.Choice([state.value for state in DeliveryState]), help="Only deliveries in this state."
)
@click.option("--handler", metavar="NAME", help="Only this handler's.")
@provider_option
@click.option("--task", metavar="ID", help="Only those about this task: our id (task_…).")
@click.option("--event", metavar="ID", help="Only those of this event.")
@click.option("--latest", is_flag=True, help="Leave out those that were replayed later.")
@click.option("--text", metavar="TEXT", help="Only those whose last error or reason contains this.")
@limit_option
@json_option
def list_deliveries(task: str | None, event: str | None, as_json: bool, **filters: Any) -> None:
    """List deliveries, newest first."""
    from receiver.web.shapes import owed_shape
    from ringback.cli import show
    from ringback.ledger import Query

    found = run(_deliveries(load_settings(quiet=True), Query(task_id=task, event_id=event, **filters)))
    if as_json:
        show.print_json({"deliveries": [owed_shape(owed) for owed in found]})
        return
    columns = ("id", "handler", "event", "task id", "run", "state", "attempts", "due", "replayed as", "reason")
    show.print_table(columns, (_row(owed) for owed in found), empty="no deliveries")


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


@deliveries.command(epilog=examples("ringback deliveries replay dlv_…"))
@click.argument("delivery_ids", metavar="ID...", nargs=-1, required=True)
@json_option
def replay(delivery_ids: tuple[str, ...], as_json: bool) -> None:
    """Run settled deliveries again: a new run of each, with the same event and handler.

    Those still pending or running are left alone; then the exit code is 1. A worker does the work.
    """
    from ringback.cli import show

    made, left = run(_replay(load_settings(quiet=True), delivery_ids))
    if as_json:
        show.print_json({"deliveries": made, "left_alone": left})
    else:
        rows = [(new.id, new.handler, new.run, new.state) for new in made]
        show.print_table(("id", "handler", "run", "state"), rows, empty="nothing was run again")
    for delivery in left:
        message = f"{delivery.id} was left alone: it has not settled yet, it is {delivery.state}"
        click.echo(f"error: {message}", err=True)
    if left:
        raise click.exceptions.Exit(1)


async def _deliveries(settings: Settings, query: "Query") -> "list[Owed]":
    async with opened_ledger(settings) as ledger:
        return list(await ledger.deliveries(query))


async def _replay(settings: Settings, ids: tuple[str, ...]) -> tuple[list[Delivery], list[Delivery]]:
    """Replay, and give the new runs and those that were left alone."""
    from ringback.ledger import Query

    ids = tuple(dict.fromkeys(ids))
    async with opened_ledger(settings) as ledger:
        made = list(await ledger.replay(ids, operator(), datetime.now(UTC)))
        again = {(new.event_id, new.handler) for new in made}
        found = await ledger.deliveries(Query(ids=ids, limit=len(ids)))
    known = [owed.delivery for owed in found]
    return made, [delivery for delivery in known if (delivery.event_id, delivery.handler) not in again]


def operator() -> str:
    """Name who asks: the user of the operating system."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number that has no name
        return f"uid {os.getuid()}"


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
    delivery = owed.delivery
    pending = delivery.state is DeliveryState.PENDING
    return [
        ("delivery", delivery.id),
        ("handler", delivery.handler),
        ("event", f"{delivery.event_id} ({owed.event_type})"),
        ("task", owed.task_id),
        ("state", delivery.state),
        ("run", delivery.run if delivery.replayed_by is None else f"{delivery.run}, by {delivery.replayed_by}"),
        ("attempts", f"{delivery.attempts}" + (f", lapsed {delivery.lapses}" if delivery.lapses else "")),
        ("due", delivery.due_at if pending else None),
        ("settled", delivery.settled_at),
        ("reason", delivery.reason),
        ("replayed as", owed.replayed_as),
    ]


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

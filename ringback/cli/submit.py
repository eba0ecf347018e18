"""`ringback submit`: one task from options, or many from a file of JSON lines."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import Failure, examples
from ringback.cli.options import json_option, read_dollars, read_pairs
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.lifecycle import is_terminal
from ringback.model import Task, TaskState
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Story

FORM_OPTIONS = ("model", "prompt", "image_urls", "aspect_ratio", "resolution", "duration", "action", "callback_events")


@click.command(
    epilog=examples(
        'ringback submit qingbo --prompt "A rainy night street" --duration 6 --wait',
        "ringback submit qingbo --file tasks.jsonl --max-cost 0.25",
        'ringback submit reapi --prompt "A dog" --extra \'style="anime"\' --dry-run',
    )
)
@click.argument("provider", required=False)
@click.option("--model", metavar="M", help="The model; by default the provider's first.")
@click.option("--prompt", metavar="TEXT", help="What to make.")
@click.option(
    "--image-url", "image_urls", multiple=True, metavar="URL", help="An image to begin with; may be repeated."
)
@click.option("--aspect-ratio", metavar="R", help="Such as 16:9.")
@click.option("--resolution", metavar="R", help="Such as 720p.")
@click.option("--duration", type=int, metavar="SECONDS", help="How long it shall be.")
@click.option("--action", metavar="A", help="The provider's action; by default what the images imply.")
@click.option(
    "--callback-event",
    "callback_events",
    multiple=True,
    metavar="E",
    help="Be called back for this only: completed, failed, cancelled or progressed; may be repeated.",
)
@click.option(
    "--extra",
    multiple=True,
    callback=read_pairs,
    metavar="KEY=JSON",
    help="A parameter in the provider's own words; may be repeated.",
)
@click.option("--key", metavar="K", help="Your own name for the task: the same key and request never submit twice.")
@click.option(
    "--metadata",
    multiple=True,
    callback=read_pairs,
    metavar="KEY=JSON",
    help="For your handlers, never sent; may be repeated.",
)
@click.option(
    "--max-cost",
    callback=read_dollars,
    metavar="USD",
    help="Refuse what would cost more in all, or whose price is unknown.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Submit every line of this file; - is standard input.",
)
@click.option("--dry-run", is_flag=True, help="Show request, callback URL and price; send and store nothing.")
@click.option("--wait", is_flag=True, help="Wait until the task has ended; exit code 1 unless it completed.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 172_800),
    default=1800.0,
    show_default=True,
    metavar="SECONDS",
    help="With --wait: how long at most.",
)
@json_option
def submit(provider: str | None, path: str | None, as_json: bool, **options: Any) -> None:
    """Submit a task, or many.

    With --file, each line is a JSON object with the same names (prompt, image_urls, duration, …), and provider, key and
    metadata where wanted; - reads standard input. It may be interrupted and started again: nothing is submitted twice.
    """
    if path is not None:
        from ringback.cli.submit_file import submit_file

        submit_file(provider, path, _file_options(options), as_json)
        return
    if provider is None:
        raise click.UsageError("name a provider, such as: ringback submit qingbo --prompt …; or give --file")
    request = request_of(options)
    if options["dry_run"]:
        _dry_run(provider, request, as_json)
        return
    timeout = options["timeout"] if options["wait"] else None
    story, late = run(_submit(load_settings(quiet=True), provider, request, timeout))
    _print(story, as_json)
    _judge(story.task, late, waited=options["wait"])


def request_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give the options as `Submitter.submit` takes them."""
    request = {name: options[name] or None for name in FORM_OPTIONS if name != "duration"}
    request |= {"duration": options["duration"], "key": options["key"], "max_cost": options["max_cost"]}
    return request | {"extra": options["extra"] or None, "metadata": options["metadata"] or None}


def _file_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what belongs into the file's lines."""
    for name in (*FORM_OPTIONS, "extra", "key", "metadata", "wait"):
        if options[name] not in (None, (), {}, False):
            option = {"image_urls": "image-url", "callback_events": "callback-event"}.get(name, name.replace("_", "-"))
            raise click.UsageError(f"--{option} cannot be given with --file")
    return {"dry_run": options["dry_run"], "max_cost": options["max_cost"]}


async def _submit(
    settings: Settings, provider: str, request: dict[str, Any], timeout_seconds: float | None
) -> "tuple[Story, str | None]":
    """Submit, and wait where asked; gives the task's story, and why the waiting ended early."""
    from submitter import Submitter

    late = None
    async with opened_ledger(settings) as ledger, Submitter(settings, ledger=ledger) as submitter:
        task = await submitter.submit(provider, **request)
        if timeout_seconds is not None and not is_terminal(task.state):
            click.echo(f"{task.id} is {task.state}; waiting…", err=True)
            try:
                await submitter.wait(task, timeout_seconds)
            except TimeoutError as error:
                late = str(error)
        return await ledger.story(task.id), late


def _print(story: "Story", as_json: bool) -> None:
    from ringback.cli.show import dollars, print_fields, print_json

    task = story.task
    settled = next((event for event in story.events if event.id == task.settled_event), None)
    results, error = (settled.results, settled.error) if settled else ((), None)
    if as_json:
        print_json({"task": task, "results": results, "error": error})
        return
    fields: list[tuple[str, Any]] = [
        ("task", task.id),
        ("provider's id", task.provider_id),
        ("state", task.state),
        ("callback URL", "sent" if task.url_key else "none: the poller fetches"),
        ("price", dollars(task.price_microdollars)),
        ("error", f"{error.code or '-'}: {error.message}" if error else None),
    ]
    print_fields(fields + [(result.kind, result.url) for result in results])


def _judge(task: Task, late: str | None, *, waited: bool) -> None:
    """Fail where the task was not accepted, or did not complete in time."""
    if late is not None:
        raise Failure(late)
    if waited and task.state is not TaskState.COMPLETED:
        raise Failure(f"{task.id} ended as {task.state}; see: ringback tasks show {task.id}")
    if task.state is not TaskState.PENDING:
        return
    if task.resend_at is None:
        raise Failure(
            f"{task.id} was sent, but its end is unknown ({task.send_note}); it is never sent again by itself, "
            "because that could buy it twice"
        )
    click.echo(f"note: not accepted yet ({task.send_note or 'unsent'}); the poller sends it again", err=True)


def _dry_run(provider: str, request: dict[str, Any], as_json: bool) -> None:
    import msgspec

    from ringback.cli.group import printable
    from ringback.cli.show import dollars, print_json
    from submitter import Submitter

    plan = Submitter(load_settings(quiet=True)).plan(provider, **request)
    body = plan.request.body or b"null"
    if as_json:
        shown = {"method": plan.method, "url": plan.url, "body": msgspec.json.decode(body)}
        print_json(shown | {"callback_url": plan.callback_url, "price_microdollars": plan.price_microdollars})
        return
    click.echo(f"{plan.method} {plan.url}")
    click.echo(printable(msgspec.json.format(body, indent=2).decode()))
    click.echo(f"callback URL: {plan.callback_url or 'none: the poller fetches'}")
    click.echo(f"price: {dollars(plan.price_microdollars) or 'unknown: no rate is known'}")
    click.echo("nothing was sent: this was a dry run", err=True)

"""`ringback tasks list|show|cancel`: what was asked of the providers, and all that became of it."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ringback.cli.group import CommandGroup, examples, printable
from ringback.cli.options import json_option, limit_option, provider_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import NotCancelled, NotFound, SettingsError, Unsupported
from ringback.model import Task, TaskState
from ringback.providers.signatures import callback_url, fingerprint
from ringback.settings import Settings

if TYPE_CHECKING:
    from ringback.ledger import Query, Story


@click.group(cls=CommandGroup)
def tasks() -> None:
    """List tasks, tell one task's whole story, or cancel some."""


@tasks.command("list", epilog=examples("ringback tasks list --provider qingbo --state failed"))
@provider_option
@click.option("--state", type=click.Choice([state.value for state in TaskState]), help="Only tasks in this state.")
@limit_option
@json_option
def list_tasks(provider: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List tasks, newest first."""
    from ringback.cli import show
    from ringback.ledger import Query

    found = run(_tasks(load_settings(quiet=True), Query(provider=provider, state=state, limit=limit)))
    if as_json:
        show.print_json({"tasks": found})
        return
    columns = ("id", "provider", "state", "model", "key", "created", "price")
    show.print_table(columns, (_row(task) for task in found), empty="no tasks")


@tasks.command("show", epilog=examples("ringback tasks show task_…", "ringback tasks show my-key --json"))
@click.argument("reference", metavar="REF")
@click.option("--reveal", is_flag=True, help="Print the whole callback URL. Who has it can speak for the provider.")
@json_option
def show_task(reference: str, reveal: bool, as_json: bool) -> None:
    """Tell all about one task.

    REF is our id (task_…), your key, or the provider's id.
    """
    settings = load_settings(quiet=True)
    story = run(_story(settings, reference))
    url = revealed_url(settings, story.task) if reveal else masked_url(settings, story.task)
    if as_json:
        from ringback.cli.show import print_json

        print_json(_shape(story), callback_url=url)
    else:
        _print_story(story, url)


@tasks.command("cancel", epilog=examples("ringback tasks cancel task_…", "ringback tasks cancel my-key my-other-key"))
@click.argument("references", metavar="TASK...", nargs=-1, required=True)
@json_option
def cancel_tasks(references: tuple[str, ...], as_json: bool) -> None:
    """Have providers cancel tasks.

    TASK is our id (task_…), your key, or the provider's id. Only what the provider says counts: one that has ended, or
    runs already, may be refused; exit code 1. A task that was never sent is withdrawn, and ends as failed.
    """
    settled = run(_cancel(load_settings(quiet=True), references))
    failed = any(error for _, _, error in settled)
    if as_json:
        from ringback.cli.show import print_json

        print_json({"tasks": [{"task": task, "error": error} for _, task, error in settled]})
    else:
        for reference, task, error in settled:
            click.echo(f"error: {printable(error)}" if error else _cancelled(reference, task), err=bool(error))
    if failed:
        raise click.exceptions.Exit(1)


async def _cancel(settings: Settings, references: Sequence[str]) -> list[tuple[str, Task | None, str | None]]:
    """Cancel one after the other; gives each with its task, or with what kept it."""
    from submitter import Submitter

    done: list[tuple[str, Task | None, str | None]] = []
    async with opened_ledger(settings) as ledger, Submitter(settings, ledger=ledger) as submitter:
        for reference in references:
            try:
                done.append((reference, await submitter.cancel(reference), None))
            except (NotCancelled, NotFound, Unsupported) as error:
                done.append((reference, None, str(error)))
    return done


def _cancelled(reference: str, task: Task | None) -> str:
    """Say what became of a task."""
    if task is None or task.state is TaskState.CANCELLED:
        return f"{printable(reference)}: cancelled"
    if task.state is TaskState.FAILED:
        return f"{task.id}: it was never sent, and never will be; it counts as failed"
    return f"{task.id}: {task.provider} will cancel it; until it says so the task is {task.state}"


def masked_url(settings: Settings, task: Task) -> str | None:
    """Give a task's callback URL without its token; None where it has none or we cannot know it."""
    if task.url_key is None or settings.public_url is None:
        return None
    return f"{settings.public_url}/callbacks/{task.provider}/{task.id}.<mac>"


def revealed_url(settings: Settings, task: Task) -> str | None:
    """Give a task's whole callback URL, made with the secret that the task names.

    Raises:
        SettingsError: what is needed for it is not set.
    """
    if task.url_key is None:
        return None
    if settings.public_url is None:
        raise SettingsError("the callback URL cannot be shown: RINGBACK_PUBLIC_URL is not set")
    for secret in settings.secret:
        if fingerprint(secret) == task.url_key:
            return callback_url(settings.public_url, secret, task.provider, task.id)
    raise SettingsError(
        f"the callback URL cannot be shown: it was made with a secret (fingerprint {task.url_key}) "
        "that RINGBACK_SECRET does not list"
    )


async def _tasks(settings: Settings, query: "Query") -> list[Task]:
    async with opened_ledger(settings) as ledger:
        return list(await ledger.tasks(query))


async def _story(settings: Settings, reference: str) -> "Story":
    async with opened_ledger(settings) as ledger:
        return await ledger.story(reference)


def _row(task: Task) -> tuple[Any, ...]:
    from ringback.cli.show import dollars

    model = task.form.model if task.form else None
    price = dollars(task.price_microdollars)
    return task.id, task.provider, task.state, model, task.key, task.created_at, price


def _shape(story: "Story") -> dict[str, Any]:
    """Give the story as /api/tasks/{ref} does, and its timeline."""
    from receiver.web.shapes import story_shape
    from ringback.cli.timeline import timeline

    return story_shape(story) | {"timeline": [dataclasses.asdict(step) for step in timeline(story)]}


def _print_story(story: "Story", url: str | None) -> None:
    from ringback.cli.show import is_narrow, print_fields, print_table
    from ringback.cli.timeline import timeline, written

    print_fields(_fields(story, url))
    click.echo()
    rows = [written(step, story.task.created_at) for step in timeline(story)]
    first = 1 if is_narrow() else 0  # there the notes need the room more than the dates
    columns = ("when", "after", "what", "verdict", "note")[first:]
    print_table(columns, [row[first:] for row in rows], empty="nothing happened yet")


def _fields(story: "Story", url: str | None) -> list[tuple[str, Any]]:
    from ringback.cli.show import dollars, moment_text, unmasked
    from ringback.cli.spending import charged_text

    task, form = story.task, story.task.form
    fields: list[tuple[str, Any]] = [
        ("task", task.id),
        ("provider", task.provider),
        ("provider's id", task.provider_id),
        ("state", task.state.value + (f" ({task.send_note})" if task.state == "pending" and task.send_note else "")),
        ("key", task.key),
        ("model", form.model if form else None),
        ("prompt", form.prompt if form else None),
        ("metadata", task.metadata or None),
        ("created", task.created_at),
        ("parent", task.parent_id),
        ("callback URL", unmasked(url or ("sent" if task.url_key else "none: the poller fetches"))),
        ("price", dollars(task.price_microdollars)),
        ("charged", charged_text(task)),
    ]
    fields += [("child", f"{child.id} ({child.provider}, {child.state})") for child in story.children]
    settled = next((event for event in story.events if event.id == task.settled_event), None)
    for result in settled.results if settled else ():
        until = f"  until {moment_text(result.expires_at)}" if result.expires_at else ""
        fields.append((result.kind, f"{result.url}{until}"))
    if settled and settled.error:
        fields.append(("error", f"{settled.error.code or '-'}: {settled.error.message}"))
    return fields

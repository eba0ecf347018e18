"""`ringback trigger`: one synthetic, correctly authenticated callback to a running receiver."""

import http.client
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from ringback.cli.group import Failure, examples, printable
from ringback.cli.options import json_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.errors import RingbackError, SettingsError, Unsupported
from ringback.model import Task, new_id
from ringback.providers import get_provider
from ringback.providers.signatures import callback_url
from ringback.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES = ("completed", "failed", "cancelled", "processing")
TIMEOUT_SECONDS = 15.0


@click.command(epilog=examples("ringback trigger qingbo", "ringback trigger qingbo --task task_… --status failed"))
@click.argument("provider")
@click.option(
    "--task", "reference", metavar="REF", help="About this task of the ledger; by default about an invented one."
)
@click.option("--status", type=click.Choice(STATUSES), default="completed", show_default=True, help="What it says.")
@click.option(
    "--url", "base", metavar="BASE", help="Where the receiver is; by default http://HOST:PORT of the settings."
)
@json_option
def trigger(provider: str, reference: str | None, status: str, base: str | None, as_json: bool) -> None:
    """Send one callback as the provider would, to see your receiver and handlers work.

    The receiver takes it for genuine: about a real task, it settles it.
    """
    from ringback.cli.server import local_url

    settings = load_settings(quiet=True)
    known = get_provider(provider, settings.catalogue)
    if not known.pushes:
        raise Unsupported(f"{provider} never calls back; its tasks are polled")
    if not settings.secret:
        raise SettingsError(
            "there is no secret to make a callback URL with: start `ringback up`, or set RINGBACK_SECRET"
        )
    task = run(_find(settings, reference)) if reference else _invented(provider)
    if task.provider != provider:
        raise Failure(f"{task.id} is a task of {task.provider}, not of {provider}")
    url = callback_url(base or local_url(settings.host, settings.port), settings.secret[0], provider, task.id)
    code, answer = _post(url, body_of(task, status))
    _report(url, code, answer, as_json)
    if code != 200:
        raise click.exceptions.Exit(1)


async def _find(settings: Settings, reference: str) -> Task:
    async with opened_ledger(settings) as ledger:
        return (await ledger.story(reference)).task


def _invented(provider: str) -> Task:
    now = datetime.now(UTC)
    return Task(
        id=new_id("task", now), provider=provider, provider_id=f"trigger-{secrets.token_hex(6)}", created_at=now
    )


def body_of(task: Task, status: str) -> bytes:
    """Write the push as the sandbox would, which knows the wire format from the provider's own pages."""
    import msgspec

    from ringback.sandbox.book import Order, SandboxTask, State
    from ringback.sandbox.qingbo_shape import push_body

    order = Order(
        provider=task.provider,
        model=task.form.model if task.form else "grok-imagine-1.0-video",
        prompt="",
        duration_seconds=6,
        price_micro_usd=0,
        origin="https://example.com/",
    )
    told = SandboxTask(
        number=0,
        id=task.provider_id or f"trigger-{secrets.token_hex(6)}",
        order=order,
        faults=frozenset(),
        created_at=task.created_at,
        state=State(status),
        ended_at=datetime.now(UTC),
    )
    return msgspec.json.encode(push_body(told))


def _post(url: str, body: bytes) -> tuple[int, str]:
    """Send it, and give the answer.

    Raises:
        RingbackError: nobody answers there.
    """
    parts = urlsplit(url)
    kinds: Mapping[str, type[http.client.HTTPConnection]] = {
        "http": http.client.HTTPConnection,
        "https": http.client.HTTPSConnection,
    }
    if parts.scheme not in kinds or not parts.hostname:
        raise SettingsError("--url: expected an http(s) URL such as http://127.0.0.1:8000")
    place = f"{parts.scheme}://{parts.netloc}"
    connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(
            "POST", parts.path, body, {"Content-Type": "application/json", "User-Agent": "ringback-trigger"}
        )
        response = connection.getresponse()
        return response.status, response.read(65_536).decode("utf-8", "replace")
    except ConnectionRefusedError:
        raise RingbackError(
            f"nothing listens at {place}; start `ringback up`, or name another place with --url"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise RingbackError(f"{place} did not answer: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()


def _report(url: str, code: int, answer: str, as_json: bool) -> None:
    from ringback.logs import mask

    if as_json:
        from ringback.cli.show import print_json

        print_json({"url": mask(url), "status": code, "answer": answer})
    else:
        click.echo(f"POST {mask(url)}\n{code} {printable(answer)}")

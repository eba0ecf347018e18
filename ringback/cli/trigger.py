"""`ringback trigger`: one synthetic, correctly authenticated callback to a running receiver."""

import http.client
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from urllib.parse import urlsplit

import click

from ringback.cli.group import Failure, examples, printable
from ringback.cli.options import json_option
from ringback.cli.run import load_settings, opened_ledger, run
from ringback.confirming import confirmed, unconfirmable
from ringback.errors import RingbackError, SettingsError, Unsupported
from ringback.model import Task, TaskState, new_id
from ringback.providers import Provider, Sample, get_provider
from ringback.providers.signatures import callback_url
from ringback.settings import Settings, variable_name

STATUSES = ("completed", "failed", "cancelled", "expired", "processing")
TIMEOUT_SECONDS = 15.0


class _Signing(Enum):
    """What is done about the provider's signature."""

    GENUINE = auto()
    MISSING = auto()
    FORGED = auto()


@click.command(
    epilog=examples(
        "ringback trigger qingbo",
        "ringback trigger qingbo --task task_… --status failed",
        "ringback trigger standard --bad-signature",
    )
)
@click.argument("provider")
@click.option(
    "--task", "reference", metavar="REF", help="About this task of the ledger; by default about an invented one."
)
@click.option("--status", type=click.Choice(STATUSES), default="completed", show_default=True, help="What it says.")
@click.option(
    "--url", "base", metavar="BASE", help="Where the receiver is; by default http://HOST:PORT of the settings."
)
@click.option("--unsigned", is_flag=True, help="Leave the signature out, to see the refusal.")
@click.option("--bad-signature", is_flag=True, help="Make a wrong signature, or a wrong token where nothing is signed.")
@json_option
def trigger(
    provider: str,
    reference: str | None,
    status: str,
    base: str | None,
    unsigned: bool,
    bad_signature: bool,
    as_json: bool,
) -> None:
    """Send one callback as the provider would, to see your receiver and handlers work.

    The receiver takes it for genuine: about a real task, it settles it. Where the provider sends all callbacks to one
    URL, so does this, unless a task is named.
    """
    from ringback.cli.server import local_url

    if unsigned and bad_signature:
        raise click.UsageError("give --unsigned or --bad-signature, not both")
    signing = _Signing.MISSING if unsigned else _Signing.FORGED if bad_signature else _Signing.GENUINE
    settings = load_settings(quiet=True)
    known = get_provider(provider, settings.catalogue)
    _check_possible(known)
    now = datetime.now(UTC)
    task = run(_find(settings, reference)) if reference else _invented(provider, now)
    if task.provider != provider:
        raise Failure(f"{task.id} is a task of {task.provider}, not of {provider}")
    keys = _keys(known, settings, now)
    one_url = not reference and _has_one_url(known)
    _check_signing(known, signing, signs=keys is not None, one_url=one_url)
    place = base or local_url(settings.host, settings.port)
    url = f"{place.rstrip('/')}/callbacks/{provider}"
    if not one_url:
        url = _url_of_task(settings, place, task, forged=signing is _Signing.FORGED and keys is None)
    sample_id = task.provider_id or _chance()
    sample = known.build_sample(sample_id, TaskState(status), now)
    signature: Mapping[str, str] = {}
    if known.scheme is not None and keys is not None and signing is not _Signing.MISSING:
        event_id = _chance()
        signature = known.scheme.sign(sample.body, _key(provider, keys, signing), now=now, event_id=event_id)
    code, answer = _post(url, sample, signature)
    about = None if one_url and known.open_endpoint else sample_id if one_url else task.id
    _report(url, code, answer, _note(known, settings, about) if _is_without_event(code, answer) else None, as_json)
    if code != 200:
        raise click.exceptions.Exit(1)


def _check_possible(provider: Provider) -> None:
    """Refuse where only the provider itself could send it.

    Raises:
        Unsupported: it never calls back, or signs with a key that nobody else has.
    """
    if not provider.pushes:
        raise Unsupported(f"{provider.name} never calls back; its tasks are polled")
    if provider.scheme is not None and provider.scheme.fetches_keys:
        raise Unsupported(
            f"{provider.name} signs with a private key that only {provider.name} has, so nobody else can send its "
            f"callbacks; check one that you have saved with: ringback providers test {provider.name}"
        )


def _has_one_url(provider: Provider) -> bool:
    """Tell whether it knows only one URL for the whole account, since tasks are not submitted to it by us."""
    return (provider.account_endpoint or provider.open_endpoint) and not provider.submits


def _url_of_task(settings: Settings, place: str, task: Task, *, forged: bool) -> str:
    if not settings.secret:
        raise SettingsError(
            "there is no secret to make a callback URL with: start `ringback up`, or set RINGBACK_SECRET"
        )
    secret = secrets.token_bytes(32) if forged else settings.secret[0]
    return callback_url(place, secret, task.provider, task.id)


def _keys(provider: Provider, settings: Settings, now: datetime) -> list[bytes] | None:
    """Give the secrets that are still valid, newest first; None where nothing is signed."""
    if provider.scheme is None:
        return None
    keys = [key.material for key in settings.keys(provider.name) if key.until is None or now < key.until]
    return None if provider.scheme_optional and not keys else keys


def _check_signing(provider: Provider, signing: _Signing, *, signs: bool, one_url: bool) -> None:
    """Refuse to spoil what is not there."""
    if signs or signing is _Signing.GENUINE:
        return
    if one_url:
        raise click.UsageError(f"{provider.name}: nothing authenticates its callbacks here, so nothing can be wrong")
    if signing is _Signing.MISSING:
        raise click.UsageError(f"{provider.name} signs nothing here; --bad-signature sends a wrong token in the URL")


def _key(provider: str, keys: Sequence[bytes], signing: _Signing) -> bytes:
    """Give the newest key, or one like it that is wrong: as long, and printable where the true one is.

    Raises:
        SettingsError: there is none.
    """
    if not keys:
        name = variable_name((provider, "secret"))
        raise SettingsError(f"{name}: no valid secret is set, so the receiver answers 503 as well")
    if signing is _Signing.FORGED:
        return keys[0][:-1] + (b"1" if keys[0].endswith(b"0") else b"0")
    return keys[0]


async def _find(settings: Settings, reference: str) -> Task:
    async with opened_ledger(settings) as ledger:
        return (await ledger.story(reference)).task


def _invented(provider: str, now: datetime) -> Task:
    return Task(id=new_id("task", now), provider=provider, provider_id=_chance(), created_at=now)


def _chance() -> str:
    return f"trigger-{secrets.token_hex(6)}"


def _post(url: str, sample: Sample, signature: Mapping[str, str]) -> tuple[int, str]:
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
            "POST", parts.path, sample.body, {"User-Agent": "ringback-trigger", **sample.headers, **signature}
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


def _is_without_event(code: int, answer: str) -> bool:
    """Tell whether it was stored without an event."""
    import msgspec

    try:
        said = msgspec.json.decode(answer)
    except ValueError:  # --url may lead anywhere
        return False
    return code == http.client.OK and type(said) is dict and "event" in said and said["event"] is None


def _note(provider: Provider, settings: Settings, about: str | None) -> str:
    """Say why there is no event, and what makes one. `about` is None where a stranger could have said as much."""
    fix = next((fix for one, fix in unconfirmable(settings) if one is provider), None)
    if fix is not None:
        return f"a hint, which nothing here can confirm: {fix}"
    if about is None:
        return "a hint about a task that the ledger does not know, so nobody is asked; name one of its with --task"
    if provider in confirmed(settings):
        return f"a hint: the poller asks {provider.name}, and its answer counts; see: ringback tasks show {about}"
    return f"stored, but it made no event; see: ringback tasks show {about}"


def _report(url: str, code: int, answer: str, note: str | None, as_json: bool) -> None:
    from ringback.logs import mask

    if as_json:
        from ringback.cli.show import print_json

        print_json({"url": mask(url), "status": code, "answer": answer, "note": note})
        return
    click.echo(f"POST {mask(url)}\n{code} {printable(answer)}")
    if note:
        click.echo(note)

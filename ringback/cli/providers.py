"""`ringback providers list|show|test`: the catalogue, and what becomes of a saved request."""

from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import click

from ringback.cli.group import CommandGroup, examples, printable
from ringback.cli.options import json_option
from ringback.cli.run import load_settings, run
from ringback.confirming import trust_here
from ringback.errors import RingbackError, Unreadable
from ringback.providers import Provider, get_provider
from ringback.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ringback.cli.rehearsal import Step
    from ringback.providers.signatures import Key

COLUMNS = ("provider", "scheme", "trust", "event id", "submits", "polls", "URLs live", "retries for", "configured")
NOT_WHERE_NARROW = ("event id", "URLs live", "retries for")  # `show` has them
MARKS = {True: "✓", False: "✗", None: "-"}


@click.group(cls=CommandGroup)
def providers() -> None:
    """List the providers, show one, or test a saved request."""


@providers.command("list", epilog=examples("ringback providers list", "ringback providers list --json"))
@json_option
def list_providers(as_json: bool) -> None:
    """List every provider, your own included, with how its callbacks are verified."""
    from ringback.cli import show

    settings = load_settings(quiet=True)
    known = [settings.catalogue[name] for name in sorted(settings.catalogue)]
    if as_json:
        show.print_json({"providers": [_shape(provider, settings) for provider in known]})
        return
    left_out = NOT_WHERE_NARROW if show.is_narrow() else ()
    columns = [name for name in COLUMNS if name not in left_out]
    rows = (_row(provider, settings) for provider in known)
    told = ([value for name, value in zip(COLUMNS, row, strict=True) if name in columns] for row in rows)
    show.print_table(columns, told, empty="no providers", unbroken=True)


@providers.command("show", epilog=examples("ringback providers show replicate"))
@click.argument("name")
@json_option
def show_provider(name: str, as_json: bool) -> None:
    """Show all that is known about one provider, and what is set for it here."""
    from ringback.cli import facts, show

    settings = load_settings(quiet=True)
    provider = get_provider(name, settings.catalogue)
    if as_json:
        show.print_json(_shape(provider, settings) | _shape_in_full(provider, settings))
        return
    show.print_fields(_fields(provider, settings))
    if not facts.is_custom(provider):
        click.echo("\n" + facts.notes(provider))


@providers.command(
    "test",
    epilog=examples(
        "ringback providers test replicate --headers headers.txt --body body.json",
        "ringback providers test standard --headers request.http --at 2026-01-31T12:00:00Z",
    ),
)
@click.argument("name")
@click.option(
    "--headers",
    "headers_file",
    type=click.File("rb"),
    required=True,
    help="Its headers: `Name: value` lines, what curl -v prints, or a whole HTTP request.",
)
@click.option(
    "--body",
    "body_file",
    type=click.File("rb"),
    help="Its body, byte for byte; - reads standard input. Left out where the first file is a whole request.",
)
@click.option("--url", "path", metavar="PATH", help="Where it was posted to: /callbacks/…; checks the token in it.")
@click.option("--at", "at", metavar="TIME", help="When it came (2026-01-31T12:00:00Z, or seconds); by default now.")
@click.option("--jwks", "jwks_file", type=click.File("rb"), help="The provider's public keys, instead of a fetch.")
@json_option
def test(
    name: str,
    headers_file: IO[bytes],
    body_file: IO[bytes] | None,
    path: str | None,
    at: str | None,
    jwks_file: IO[bytes] | None,
    as_json: bool,
) -> None:
    """Run a saved request through a provider, as the receiver would, up to the first step that fails.

    Nothing is stored. Exit code 1 if a step fails.
    """
    from ringback.cli.rehearsal import Rehearsal, Step
    from ringback.cli.saved import NoRequest, read_saved

    settings = load_settings(quiet=True)
    provider = get_provider(name, settings.catalogue)
    now = _moment(at)
    jwks = jwks_file.read() if jwks_file else None
    steps: Sequence[Step]
    try:
        saved = read_saved(headers_file.read())
    except NoRequest as error:
        steps = [Step(name="headers", ok=False, found=str(error), advice="save them anew, one a line")]
    else:
        body = body_file.read() if body_file else saved.body
        if body is None:
            raise click.UsageError("--body is missing: the file of headers holds no body")
        rehearsal = Rehearsal(
            provider, settings, saved, body, now=now, path=path, fetch_keys=_fetcher(provider, settings, jwks)
        )
        steps = rehearsal.run()
    _report(provider, steps, as_json)
    if any(step.ok is False for step in steps):
        raise click.exceptions.Exit(1)


def _moment(text: str | None) -> datetime:
    """Read the time of --at."""
    if text is None:
        return datetime.now(UTC)
    try:
        if text.isascii() and text.isdigit():
            return datetime.fromtimestamp(int(text), UTC)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{text!r}: expected a time such as 2026-01-31T12:00:00Z, or seconds since 1970", param_hint="--at"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _fetcher(provider: Provider, settings: Settings, jwks: bytes | None) -> "Callable[[], tuple[Key, ...]]":
    """Give the keys of a file, or a way to fetch them."""
    from ringback.providers.signatures.ed25519 import read_jwks

    def keys() -> "tuple[Key, ...]":
        if jwks is None:
            return run(_fetch(settings.provider(provider.name).jwks_url or provider.jwks_url or ""))
        try:
            return read_jwks(jwks)
        except Unreadable as error:
            raise Unreadable(f"--jwks: {error}") from None

    return keys


async def _fetch(place: str) -> "tuple[Key, ...]":
    """Fetch public keys as the receiver does.

    Raises:
        RingbackError: none came; says why.
    """
    from ringback.outbound.jwks import NoKeys, fetch_keys

    try:
        return await fetch_keys(place)
    except NoKeys as error:
        raise RingbackError(f"no keys could be fetched from {place}: {error}") from None


def _report(provider: Provider, steps: "Sequence[Step]", as_json: bool) -> None:
    from ringback.cli import show

    if as_json:
        ok = not any(step.ok is False for step in steps)
        show.print_json({"provider": provider.name, "ok": ok, "steps": steps})
        return
    for step in steps:
        click.echo(f"{MARKS[step.ok]} {step.name}: {show.line(step.found)}")
        if step.advice:
            click.echo(f"    → {printable(step.advice)}")


def _row(provider: Provider, settings: Settings) -> tuple[Any, ...]:
    from ringback.cli import facts

    return (
        provider.name,
        facts.scheme_text(provider),
        facts.trust_text(provider),
        facts.event_id_name(provider),
        facts.yes(provider.submits),
        facts.yes(provider.fetches),
        facts.length(provider.result_life),
        facts.length(provider.retry_window) if provider.retry_window is not None else "-",
        facts.configured_text(provider, settings),
    )


def _shape(provider: Provider, settings: Settings) -> dict[str, Any]:
    """Give a provider's facts for programs; times in seconds."""
    from ringback.cli import facts

    given = settings.provider(provider.name)
    return {
        "name": provider.name,
        "custom": facts.is_custom(provider),
        "pushes": provider.pushes,
        "scheme": provider.scheme.name if provider.scheme else None,
        "scheme_optional": provider.scheme_optional,
        "trust": provider.trust if provider.pushes else None,
        "event_id": provider.event_id or None,
        "submits": provider.submits,
        "polls": provider.fetches,
        "result_life_seconds": provider.result_life.total_seconds(),
        "retry_window_seconds": provider.retry_window.total_seconds() if provider.retry_window is not None else None,
        "handshakes": sorted(provider.handshakes),
        "documents": provider.documents or None,
        "secrets": len(given.secret),
        "api_key": given.api_key is not None,
    }


def _shape_in_full(provider: Provider, settings: Settings) -> dict[str, Any]:
    from ringback.cli import facts

    return {
        "callback_urls": [url for url, _ in facts.callback_urls(provider, settings)],
        "headers": provider.scheme.header_names if provider.scheme else (),
        "secret_form": facts.secret_text(provider),
        "confirm": settings.confirms(provider, trust_here(provider, settings)) if provider.pushes else None,
        "retries": provider.retries or None,
        "base_url": settings.provider(provider.name).base_url or getattr(provider, "base_url", None),
        "models": provider.models,
        "settings": dict(facts.variables(provider, settings)),
        "notes": facts.notes(provider) or None,
    }


def _fields(provider: Provider, settings: Settings) -> list[tuple[str, Any]]:
    """Give all there is to say, one fact a line; None is left out."""
    from ringback.cli import facts

    scheme, pushes, trust = provider.scheme, provider.pushes, trust_here(provider, settings)
    fields: list[tuple[str, Any]] = [
        ("provider", provider.name + (", made in ringback.toml" if facts.is_custom(provider) else "")),
        ("documents", provider.documents or None),
        ("calls back", "yes" if pushes else "never: its tasks are polled"),
        ("verified by", facts.scheme_text(provider) if pushes else None),
        ("headers", ", ".join(scheme.header_names) if scheme else None),
        ("trust", f"{trust}: {facts.TRUST_WORDS[trust]}" if pushes else None),
        ("secret", facts.secret_text(provider)),
        ("public keys", facts.jwks_text(provider, settings)),
        ("confirm", facts.confirm_text(provider, settings) if pushes else None),
        *(("callback URL", f"{url}  ({when})") for url, when in facts.callback_urls(provider, settings)),
        *(("handshake", facts.HANDSHAKE_WORDS[kind]) for kind in sorted(provider.handshakes)),
        ("event id", (provider.event_id or "none: a fact is known by task and status") if pushes else None),
        ("retries", facts.retry_text(provider) if pushes else None),
        ("submits", facts.submits_text(provider)),
        ("polls", facts.yes(provider.fetches)),
        ("result URLs live", facts.length(provider.result_life)),
        *((name, "set" if is_set else "not set") for name, is_set in facts.variables(provider, settings)),
    ]
    return fields + facts.further(provider)

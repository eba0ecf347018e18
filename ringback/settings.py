"""Every knob, read once from the environment and `ringback.toml` into one frozen record.

A knob is declared here alone; docs/reference/settings.md is tested against this file. Nothing else reads the
environment.
"""

import difflib
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import urlsplit

from ringback.errors import SettingsError
from ringback.model import Confirm, Trust
from ringback.providers import CATALOGUE, Provider
from ringback.providers.signatures import Key
from ringback.secret_file import read_secret, secret_path

PREFIX = "RINGBACK_"
SECRET_BYTES = 32
CONFIG_FILE = "ringback.toml"
EMPTY_IS_WRONG = frozenset({"RINGBACK_SECRET"})


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("expected some text, got none")
    return value.strip()


def _secrets(value: str) -> tuple[bytes, ...]:
    items = [item.strip().encode() for item in value.split(",")]
    if not all(items):
        raise ValueError("one of the comma-separated secrets is empty; remove the extra comma")
    if any(len(item) < SECRET_BYTES for item in items):
        raise ValueError(
            f"each secret needs at least {SECRET_BYTES} bytes; make one with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    return tuple(items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret that a provider signs with, as configured, and until when it is valid (rotation)."""

    text: str = field(repr=False)
    until: datetime | None = None


def _provider_secrets(value: str) -> tuple[Secret, ...]:
    """Read a list such as `whsec_new, whsec_old until=2026-12-31T00:00:00Z`."""
    items = [item.strip() for item in value.split(",")]
    if not all(items):
        raise ValueError("one of the comma-separated secrets is empty; remove the extra comma")
    return tuple(map(_provider_secret, items))


def _provider_secret(item: str) -> Secret:
    text, marker, until = item.rpartition(" until=")
    if not marker:
        return Secret(text=item)
    try:
        end = datetime.fromisoformat(until.strip())
    except ValueError:
        raise ValueError("expected a time such as 2026-12-31T00:00:00Z after until=") from None
    return Secret(text=text.strip(), until=end if end.tzinfo else end.replace(tzinfo=UTC))


def _https_url(value: str) -> str:
    parts = urlsplit(value.strip())
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise ValueError("expected an https URL (http only for this machine)")
    return value.strip()


def _url(value: str) -> str:
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an http(s) URL such as https://example.com")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("expected a URL without a query, a fragment or a password")
    return value.strip().rstrip("/")


def _database_url(value: str) -> str:
    text = value.strip()
    if text.startswith("sqlite:///") and len(text) > len("sqlite:///"):
        return text
    raise ValueError("expected sqlite:///relative/path.db or sqlite:////absolute/path.db")


def _handlers(value: str) -> str:
    module, colon, name = value.strip().partition(":")
    if not (module and colon and name):
        raise ValueError("expected module:name, for example app:handlers")
    return value.strip()


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        text = value.strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 20) or not least <= int(text) <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return int(text)

    return parse


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            raise ValueError(f"expected a number of seconds from {least:g} to {most:g}")
        return number

    return parse


def _boolean(value: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return words[value.strip().lower()]
    except KeyError:
        raise ValueError("expected true or false") from None


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        word = value.strip().lower()
        if word not in allowed:
            near = difflib.get_close_matches(word, allowed, n=1)
            raise ValueError(f"expected one of {', '.join(allowed)}" + (f"; did you mean {near[0]}?" if near else ""))
        return word

    return parse


def _confirm(value: str) -> Confirm:
    return Confirm(_choice(*Confirm)(value))


def _dollars(value: str) -> Decimal:
    try:
        amount = Decimal(value.strip())
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= 1000:
        raise ValueError("expected an amount in US dollars from 0 to 1000, for example 0.0074375")
    return amount


def _knob(parse: Callable[[str], Any], doc: str, default: Any = None, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"parse": parse, "doc": doc, "secret": secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What a user configures for one provider: RINGBACK_<PROVIDER>_<KNOB>, or a [providers.<name>] table."""

    api_key: str | None = _knob(_text, "The key that authorises our requests to the provider.", secret=True)
    secret: tuple[Secret, ...] = _knob(
        _provider_secrets,
        "Secrets that the provider signs callbacks with, comma-separated; ` until=<time>` after one ends it.",
        (),
        secret=True,
    )
    confirm: Confirm | None = _knob(
        _confirm,
        "`always`: callbacks are hints, and the truth is fetched; `never`: they are taken at their word.",
    )
    jwks_url: str | None = _knob(_https_url, "Where the provider's public keys are, instead of the documented place.")
    base_url: str | None = _knob(
        _url, "Where its API lives, instead of the public one; without a path, its own is added."
    )
    usd_per_second: Decimal | None = _knob(_dollars, "Price per second of output, to show and limit costs beforehand.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every knob. Make one with `Settings.from_environ()`, or directly in code and tests."""

    database_url: str = _knob(
        _database_url,
        "Where the ledger lives: sqlite:///path, relative to the working directory.",
        "sqlite:///ringback.db",
    )
    public_url: str | None = _knob(
        _url,
        "Where providers reach the receiver. Without it no callback_url is sent and the poller fetches.",
    )
    secret: tuple[bytes, ...] = _knob(
        _secrets,
        "Secrets behind our callback URLs, newest first, comma-separated; 32 bytes or more each.",
        (),
        secret=True,
    )
    admin_token: str | None = _knob(_text, "Opens /api and /metrics to `Authorization: Bearer …`.", secret=True)
    handlers: str | None = _knob(_handlers, "Your handlers, as module:name.")
    host: str = _knob(_text, "Where the receiver listens; 0.0.0.0 where PORT is set.", "127.0.0.1")
    port: int = _knob(_integer(0, 65535), "The receiver's port; else PORT, else 8000. 0 takes any free one.", 8000)
    max_body_bytes: int = _knob(_integer(1024, 1 << 30), "Largest callback body.", 1 << 20)
    max_inflight_bytes: int = _knob(_integer(1024, 1 << 32), "Largest sum of callback bodies being read.", 64 << 20)
    body_timeout_seconds: float = _knob(_seconds(0.05, 300), "How long a callback body may take to arrive.", 10.0)
    commit_timeout_seconds: float = _knob(
        _seconds(0.05, 60), "How long a callback waits for its commit before 503.", 5.0
    )
    tolerance_seconds: int = _knob(_integer(1, 86_400), "How far a signed timestamp may be from our clock.", 300)
    dedup_days: int = _knob(
        _integer(1, 3650), "How long a fact is remembered at least, to recognise a late redelivery.", 90
    )
    concurrency: int = _knob(_integer(1, 10_000), "Handlers running at once in one worker.", 32)
    handler_timeout_seconds: float = _knob(_seconds(0.01, 86_400), "How long one attempt of a handler may take.", 300.0)
    grace_seconds: float = _knob(_seconds(0, 3600), "How long a stopping process waits for what is running.", 10.0)
    heartbeat_seconds: float = _knob(_seconds(0.05, 60), "How often a worker says that it lives; dead after six.", 5.0)
    push_deadline_seconds: float = _knob(
        _seconds(0.1, 172_800), "A push is overdue, and its task asked about, after this.", 300.0
    )
    request_timeout_seconds: float = _knob(_seconds(0.1, 600), "How long a provider may take to answer.", 30.0)
    provider_concurrency: int = _knob(_integer(1, 1000), "Requests to one provider at once, per process.", 8)
    log_level: str = _knob(
        _choice("debug", "info", "warning", "error"), "The least important log line to write.", "info"
    )
    log_format: str | None = _knob(
        _choice("console", "json"), "How log lines look; by default console on a terminal, else json."
    )
    metrics_public: bool = _knob(_boolean, "Serve /metrics without a token.", False)
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict, metadata={"doc": "Per provider."})
    catalogue: Mapping[str, Provider] = field(
        default_factory=lambda: CATALOGUE, metadata={"doc": "Every provider by name, the user's own included."}
    )

    def __post_init__(self) -> None:
        """Refuse a configuration of providers under which callbacks could be forged or never verified.

        Raises:
            SettingsError: names the setting and what was expected.
        """
        for name in self.providers:
            if name in self.catalogue:
                self.keys(name)
                self._check_confirm(self.catalogue[name])

    def keys(self, name: str) -> tuple[Key, ...]:
        """Give what a provider's callbacks are verified with; nothing where nothing is configured or needed.

        Raises:
            SettingsError: a secret has not the form that the provider's scheme needs; says which.
        """
        scheme = self.catalogue[name].scheme
        if scheme is None or scheme.fetches_keys:
            return ()
        try:
            return tuple(Key(scheme.key(item.text), item.until) for item in self.provider(name).secret)
        except ValueError as error:
            raise SettingsError(f"{variable_name((name, 'secret'))}: {error}") from None

    def confirms(self, provider: Provider, trust: Trust) -> bool:
        """Tell whether a callback of this trust is only a hint."""
        chosen = self.provider(provider.name).confirm or provider.confirm
        if chosen is not None:
            return chosen is Confirm.ALWAYS
        return trust in (Trust.PARTIAL, Trust.NONE)

    def _check_confirm(self, provider: Provider) -> None:
        chosen, name = self.provider(provider.name).confirm, variable_name((provider.name, "confirm"))
        if chosen is Confirm.NEVER and provider.trust is Trust.NONE:
            raise SettingsError(f"{name}: {provider.name} does not authenticate its callbacks; only `always` is safe")
        if chosen is Confirm.ALWAYS and not provider.fetches:
            raise SettingsError(
                f"{name}: tasks of {provider.name} cannot be fetched, so nothing can confirm a callback"
            )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, directory: Path | None = None) -> Self:
        """Read the environment, and beneath it `ringback.toml` in `directory` (default: the working directory).

        Raises:
            SettingsError: a name or a value is wrong; says what was expected.
        """
        environ = os.environ if environ is None else environ
        values = _from_file((directory or Path.cwd()) / CONFIG_FILE)
        for name, value in _our_variables(environ):
            knob = _knob_of_variable(name)
            values[knob] = _parse(name, knob, value)
        if port := environ.get("PORT", "").strip():
            if (None, "port") not in values:
                values[None, "port"] = _parse("PORT", (None, "port"), port)
            values.setdefault((None, "host"), "0.0.0.0")  # noqa: S104 -- PORT means: a platform routes to us
        settings = cls(**{name: value for (provider, name), value in values.items() if provider is None})
        return replace(settings, providers=_provider_settings(values)).with_secret_file()

    @property
    def database_path(self) -> Path:
        """The SQLite file, absolute."""
        return Path(self.database_url.removeprefix("sqlite:///")).expanduser().absolute()

    def with_secret_file(self) -> Self:
        """Take the generated secret beside the database where none is set."""
        if self.secret or (text := read_secret(self.database_path)) is None:
            return self
        try:
            return replace(self, secret=_secrets(text))
        except ValueError as error:
            raise SettingsError(f"{secret_path(self.database_path)}: {error}") from None

    def provider(self, name: str) -> ProviderSettings:
        """Give what is configured for a provider; the defaults where nothing is."""
        return self.providers.get(name, ProviderSettings())

    def secret_values(self) -> Iterator[str]:
        """Give every secret text, for redaction."""
        yield from (item.decode(errors="replace") for item in self.secret)
        if self.admin_token:
            yield self.admin_token
        for provider in self.providers.values():
            yield from (item.text for item in provider.secret)
            if provider.api_key:
                yield provider.api_key


Knob = tuple[str | None, str]  # provider (None: general), field name

GENERAL: Mapping[str, "Field[Any]"] = MappingProxyType({f.name: f for f in fields(Settings) if "parse" in f.metadata})
PER_PROVIDER: Mapping[str, "Field[Any]"] = MappingProxyType({f.name: f for f in fields(ProviderSettings)})


def variable_name(knob: Knob) -> str:
    """Give the environment variable of a knob."""
    provider, name = knob
    return PREFIX + (f"{provider}_{name}" if provider else name).upper()


def knobs(catalogue: Mapping[str, Provider] = CATALOGUE) -> Mapping[str, Knob]:
    """Give every knob by its variable."""
    general: list[Knob] = [(None, name) for name in GENERAL]
    per_provider: list[Knob] = [(provider, name) for provider in catalogue for name in PER_PROVIDER]
    return {variable_name(knob): knob for knob in general + per_provider}


KNOBS: Mapping[str, Knob] = MappingProxyType(knobs())


def _our_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give the RINGBACK_ variables that are set, without what tests and Kubernetes put there.

    An empty one is not set, as compose files write it; but an empty secret is a mistake to stop at, since `up` would
    make another one in its place.
    """
    foreign = []
    for name in sorted(environ):
        value = environ[name]
        if not name.startswith(PREFIX) or name.startswith("RINGBACK_TEST_"):
            continue
        # Kubernetes injects these for a Service that is called ringback.
        if name.startswith(("RINGBACK_SERVICE_", "RINGBACK_PORT_")) or (
            name == "RINGBACK_PORT" and value.startswith("tcp://")
        ):
            foreign.append(name)
            continue
        if value or name in EMPTY_IS_WRONG or name not in KNOBS:
            yield name, value
    if foreign:
        # Settings come before logging is set up, so this one line goes to standard error as it is.
        print(f"warning: ignoring {', '.join(foreign)} (set by Kubernetes for a Service)", file=sys.stderr)


def _knob_of_variable(name: str) -> Knob:
    try:
        return KNOBS[name]
    except KeyError:
        near = difflib.get_close_matches(name, KNOBS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "see docs/reference/settings.md"
        raise SettingsError(f"{name} is not a setting: {hint}") from None


def _parse(label: str, knob: Knob, value: str) -> Any:
    provider, name = knob
    try:
        return (PER_PROVIDER if provider else GENERAL)[name].metadata["parse"](value)
    except ValueError as error:
        raise SettingsError(f"{label}: {error}") from None


def _from_file(path: Path) -> dict[Knob, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    values: dict[Knob, Any] = {}
    for provider, entries in _tables(path, table.pop("providers", {})):
        if provider not in CATALOGUE:
            raise SettingsError(f"{path}: providers.{provider}: expected one of {', '.join(sorted(CATALOGUE))}")
        _collect(path, f"providers.{provider}.", provider, entries, values)
    _collect(path, "", None, table, values)
    return values


def _tables(path: Path, providers: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(providers, dict) or not all(isinstance(entries, dict) for entries in providers.values()):
        raise SettingsError(f"{path}: expected a table per provider, for example [providers.qingbo]")
    yield from providers.items()


def _collect(path: Path, where: str, provider: str | None, entries: dict[str, Any], into: dict[Knob, Any]) -> None:
    known = PER_PROVIDER if provider else GENERAL
    for name, value in entries.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise SettingsError(f"{path}: {where}{name} is not a setting: {hint}")
        if isinstance(value, dict):
            raise SettingsError(f"{path}: {where}{name}: expected a value, got a table")
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        into[provider, name] = _parse(f"{path}: {where}{name}", (provider, name), text)


def _provider_settings(values: Mapping[Knob, Any]) -> dict[str, ProviderSettings]:
    names = {provider for provider, _ in values if provider}
    return {
        name: ProviderSettings(**{knob: value for (provider, knob), value in values.items() if provider == name})
        for name in sorted(names)
    }

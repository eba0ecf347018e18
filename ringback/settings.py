"""Every knob, read once from the environment and `ringback.toml` into one frozen record.

A knob is declared here alone; docs/reference/settings.md is tested against this file. Nothing else reads the
environment.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from ringback import settings_values as read
from ringback.errors import SettingsError
from ringback.model import Confirm, Trust
from ringback.providers import CATALOGUE, Provider
from ringback.providers.signatures import Key
from ringback.providers.table import dotted
from ringback.secret_file import read_secret, secret_path
from ringback.settings_file import ConfigFile
from ringback.settings_reading import PREFIX as PREFIX
from ringback.settings_reading import Declared, keys_of
from ringback.settings_reading import Knob as Knob
from ringback.settings_reading import variable_name as variable_name
from ringback.settings_values import Allowed
from ringback.settings_values import Secret as Secret

CONFIG_FILE = "ringback.toml"


def _knob(
    parse: Callable[[str], Any], doc: str, default: Any = None, *, secret: bool = False, hidden: bool = False
) -> Any:
    shown = not (secret or hidden)  # hidden: it may hold a secret
    return field(default=default, repr=shown, metadata={"parse": parse, "doc": doc, "secret": secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What a user configures for one provider: RINGBACK_<PROVIDER>_<KNOB>, or a [providers.<name>] table."""

    api_key: str | None = _knob(read.text, "The key that authorises our requests to the provider.", secret=True)
    secret: tuple[Secret, ...] = _knob(
        read.provider_secrets,
        "Secrets that the provider signs callbacks with, comma-separated; ` until=<time>` after one ends it.",
        (),
        secret=True,
    )
    confirm: Confirm | None = _knob(
        read.confirm,
        "`always`: callbacks are hints, and the truth is fetched; `never`: they are taken at their word.",
    )
    jwks_url: str | None = _knob(
        read.https_url, "Where the provider's public keys are, instead of the documented place."
    )
    base_url: str | None = _knob(
        read.url, "Where its API lives, instead of the public one; without a path, its own is added."
    )
    usd_per_second: Decimal | None = _knob(
        read.dollars, "Price per second of output, to show and limit costs beforehand."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every knob. Make one with `Settings.from_environ()`, or directly in code and tests."""

    database_url: str = _knob(
        read.database_url,
        "Where the ledger lives: sqlite:///path, relative to the working directory, or "
        "postgresql://user:password@host/database (needs `pip install 'ringback[postgres]'`).",
        "sqlite:///ringback.db",
        hidden=True,
    )
    allow_ephemeral: bool = _knob(
        read.boolean,
        "Let `serve` and `up` use a database where it may be lost or damaged: function platforms, tmpfs, NFS.",
        False,
    )
    public_url: str | None = _knob(
        read.url,
        "Where providers reach the receiver. Without it no callback_url is sent and the poller fetches.",
    )
    secret: tuple[bytes, ...] = _knob(
        read.secrets,
        "Secrets behind our callback URLs, newest first, comma-separated; 32 bytes or more each.",
        (),
        secret=True,
    )
    admin_token: str | None = _knob(read.text, "Opens /api and /metrics to `Authorization: Bearer …`.", secret=True)
    handlers: str | None = _knob(read.handlers, "Your handlers, as module:name.")
    host: str = _knob(read.text, "Where the receiver listens; 0.0.0.0 where PORT is set.", "127.0.0.1")
    port: int = _knob(read.integer(0, 65535), "The receiver's port; else PORT, else 8000. 0 takes any free one.", 8000)
    max_body_bytes: int = _knob(read.integer(1024, 1 << 30), "Largest callback body.", 1 << 20)
    max_inflight_bytes: int = _knob(read.integer(1024, 1 << 32), "Largest sum of callback bodies being read.", 64 << 20)
    body_timeout_seconds: float = _knob(read.seconds(0.05, 300), "How long a callback body may take to arrive.", 10.0)
    commit_timeout_seconds: float = _knob(
        read.seconds(0.05, 60), "How long a callback waits for its commit before 503.", 2.5
    )
    scribe: str = _knob(
        read.choice("auto", "always", "never"),
        "Whether `serve` stores callbacks in a process of its own, which a second core makes worth while; "
        "`auto`: where there are two.",
        "auto",
    )
    tolerance_seconds: int = _knob(read.integer(1, 86_400), "How far a signed timestamp may be from our clock.", 300)
    dedup_days: int = _knob(
        read.integer(1, 3650), "How long a fact is remembered at least, to recognise a late redelivery.", 90
    )
    retention_days: int = _knob(
        read.integer(0, 3650),
        "How long a settled task is kept whole, with its events, deliveries and attempts. 0: for ever, since they are "
        "also the record of what was bought, and nothing is deleted that nobody asked to delete.",
        0,
    )
    body_days: int = _knob(
        read.integer(0, 3650), "How long raw bodies and headers of settled tasks are kept. 0: as long as the rest.", 0
    )
    concurrency: int = _knob(read.integer(1, 10_000), "Handlers running at once in one worker.", 32)
    handler_timeout_seconds: float = _knob(
        read.seconds(0.01, 86_400), "How long one attempt of a handler may take.", 300.0
    )
    grace_seconds: float = _knob(read.seconds(0, 3600), "How long a stopping process waits for what is running.", 10.0)
    heartbeat_seconds: float = _knob(
        read.seconds(0.05, 60), "How often a worker says that it lives; dead after six.", 5.0
    )
    push_deadline_seconds: float = _knob(
        read.seconds(0.1, 172_800), "A push is overdue, and its task asked about, after this at the earliest.", 300.0
    )
    request_timeout_seconds: float = _knob(read.seconds(0.1, 600), "How long a provider may take to answer.", 30.0)
    provider_concurrency: int = _knob(read.integer(1, 1000), "Requests to one provider at once, per process.", 8)
    allow_private: tuple[Allowed, ...] = _knob(
        read.allowed, "Names, addresses and networks that results may come from although private, comma-separated.", ()
    )
    results_url: str | None = _knob(
        read.results_url,
        "Where results are stored before their URLs end: file:///absolute/folder, s3://bucket/prefix, gs://…, az://… "
        "(all but file: need `pip install 'ringback[results]'`). Without it they are not stored.",
    )
    results_concurrency: int = _knob(
        read.integer(1, 1000), "Results fetched and stored at once, in all workers together.", 4
    )
    results_max_bytes: int = _knob(read.integer(1, 1 << 42), "Largest result that is fetched.", 2 << 30)
    results_timeout_seconds: float = _knob(read.seconds(0.05, 86_400), "How long one result may take to arrive.", 600.0)
    budget_daily_usd: Decimal | None = _knob(
        read.budget, "What may be spent on submissions in a day (UTC); what would exceed it is refused."
    )
    budget_monthly_usd: Decimal | None = _knob(
        read.budget, "What may be spent on submissions in a month (UTC); what would exceed it is refused."
    )
    log_level: str = _knob(
        read.choice("debug", "info", "warning", "error"), "The least important log line to write.", "info"
    )
    log_format: str | None = _knob(
        read.choice("console", "json"), "How log lines look; by default console on a terminal, else json."
    )
    metrics_public: bool = _knob(read.boolean, "Serve /metrics without a token.", False)
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
            raise _KnobError((name, "secret"), str(error)) from None

    def confirms(self, provider: Provider, trust: Trust) -> bool:
        """Tell whether a callback of this trust is only a hint."""
        chosen = self.provider(provider.name).confirm or provider.confirm
        if chosen is not None:
            return chosen is Confirm.ALWAYS
        return trust in (Trust.PARTIAL, Trust.NONE)

    def _check_confirm(self, provider: Provider) -> None:
        chosen, knob = self.provider(provider.name).confirm, (provider.name, "confirm")
        if chosen is Confirm.NEVER and provider.trust is Trust.NONE:
            raise _KnobError(knob, f"{provider.name} does not authenticate its callbacks; only `always` is safe")
        if chosen is Confirm.ALWAYS and not provider.fetches:
            text = f"tasks of {provider.name} cannot be fetched, so nothing can confirm a callback"
            raise _KnobError(knob, text)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, directory: Path | None = None) -> Self:
        """Read the environment, and beneath it `ringback.toml` in `directory` (default: the working directory).

        Raises:
            SettingsError: a name or a value is wrong; says what was expected.
        """
        environ = os.environ if environ is None else environ
        file = ConfigFile.read((directory or Path.cwd()) / CONFIG_FILE)
        of_file, catalogue = DECLARED.from_file(file)
        of_environ = DECLARED.from_environ(environ, catalogue)
        values = of_file | of_environ
        if port := environ.get("PORT", "").strip():
            if (None, "port") not in values:
                values[None, "port"] = DECLARED.parse("PORT", (None, "port"), port)
            values.setdefault((None, "host"), "0.0.0.0")  # noqa: S104 -- PORT means: a platform routes to us
        general = {name: value for (provider, name), value in values.items() if provider is None}
        try:
            settings = cls(**general, providers=_provider_settings(values), catalogue=catalogue)
        except _KnobError as error:
            if error.knob in of_file and error.knob not in of_environ:
                keys = keys_of(error.knob)
                raise file.error(keys, f"{dotted(keys)}: {error.text}") from None
            raise
        return settings.with_secret_file()

    @property
    def embedded(self) -> bool:
        """Tell whether the ledger is a SQLite file, which one machine has to itself."""
        return self.database_url.startswith("sqlite:")

    @property
    def database_place(self) -> str:
        """Where the ledger lives, for people: an absolute path, or a URL without its password."""
        if self.embedded:
            return str(self.database_path)
        return read.without_password(self.database_url)

    @property
    def database_path(self) -> Path:
        """The SQLite file, absolute; only where the ledger is embedded."""
        return Path(self.database_url.removeprefix("sqlite:///")).expanduser().absolute()

    def with_secret_file(self) -> Self:
        """Take the generated secret beside the database where none is set."""
        if self.secret or not self.embedded or (text := read_secret(self.database_path)) is None:
            return self
        try:
            return replace(self, secret=read.secrets(text))
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
        if not self.embedded:
            yield from read.passwords(self.database_url)
        for provider in self.providers.values():
            yield from (item.text for item in provider.secret)
            if provider.api_key:
                yield provider.api_key


class _KnobError(SettingsError):
    """A setting does not fit its provider."""

    def __init__(self, knob: Knob, text: str) -> None:
        super().__init__(f"{variable_name(knob)}: {text}")
        self.knob = knob
        self.text = text


DECLARED = Declared(
    general=MappingProxyType({f.name: f for f in fields(Settings) if "parse" in f.metadata}),
    per_provider=MappingProxyType({f.name: f for f in fields(ProviderSettings)}),
)
GENERAL, PER_PROVIDER = DECLARED.general, DECLARED.per_provider
KNOBS: Mapping[str, Knob] = MappingProxyType(DECLARED.variables())


def _provider_settings(values: Mapping[Knob, Any]) -> dict[str, ProviderSettings]:
    names = {provider for provider, _ in values if provider}
    return {
        name: ProviderSettings(**{knob: value for (provider, knob), value in values.items() if provider == name})
        for name in sorted(names)
    }

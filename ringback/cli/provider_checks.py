"""What `ringback doctor` looks at in the providers: only those for which something is set here.

Called by `doctor`; looks at settings alone, and never shows a secret.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from ringback.cli import facts
from ringback.cli.checks import Check, bad, doubtful, good
from ringback.providers import Provider
from ringback.providers.signatures import Key, Scheme
from ringback.settings import ProviderSettings, Settings, variable_name

SOON = timedelta(days=7)


def of_providers(settings: Settings, now: datetime) -> Iterator[Check]:
    """Look at each provider that is set up here, and name the others in one line."""
    known = [settings.catalogue[name] for name in sorted(settings.catalogue)]
    used = [provider for provider in known if is_configured(provider, settings)]
    for provider in used:
        yield from _of_provider(provider, settings, now)
    others = ", ".join(provider.name for provider in known if provider not in used)
    if not used:
        advice = "set RINGBACK_<PROVIDER>_API_KEY or RINGBACK_<PROVIDER>_SECRET of the one that you use"
        yield doubtful("providers", f"not configured: {others}", advice)
    elif others:
        yield good("providers", f"not configured: {others}")


def is_configured(provider: Provider, settings: Settings) -> bool:
    """Tell whether anything is set for it, or it was made in ringback.toml."""
    return facts.is_custom(provider) or settings.provider(provider.name) != ProviderSettings()


def _of_provider(provider: Provider, settings: Settings, now: datetime) -> Iterator[Check]:
    if facts.is_custom(provider):
        rows = "; ".join(f"{name}: {value}" for name, value in facts.described(provider))
        yield good(provider.name, f"made in ringback.toml; {rows}")
    yield from _api_key(provider, settings)
    if provider.scheme is None:
        yield from _useless_secret(provider, settings, "signs nothing")
    elif provider.scheme.fetches_keys:
        yield from _useless_secret(provider, settings, "signs with keys that it publishes")
        yield good(f"{provider.name} signature", f"{provider.scheme.name}; {facts.jwks_text(provider, settings)}")
    else:
        yield _secrets(provider, provider.scheme, settings.keys(provider.name), now)


def _api_key(provider: Provider, settings: Settings) -> Iterator[Check]:
    if settings.provider(provider.name).api_key:
        yield good(f"{provider.name} API key", "set")
    elif provider.submits or provider.fetches:
        uses = " and ".join(
            use for use, has in (("submit to it", provider.submits), ("poll it", provider.fetches)) if has
        )
        variable = variable_name((provider.name, "api_key"))
        yield doubtful(f"{provider.name} API key", "not set", f"set {variable} to {uses}")


def _useless_secret(provider: Provider, settings: Settings, why: str) -> Iterator[Check]:
    if settings.provider(provider.name).secret:
        variable = variable_name((provider.name, "secret"))
        found = f"set, but {provider.name} {why}: this secret checks nothing"
        yield doubtful(f"{provider.name} secret", found, f"remove {variable}, or see: ringback providers list")


def _secrets(provider: Provider, scheme: Scheme, keys: tuple[Key, ...], now: datetime) -> Check:
    """Look at what verifies its callbacks: whether there is something, and for how long."""
    name, variable = f"{provider.name} secret", variable_name((provider.name, "secret"))
    if not keys:
        if provider.scheme_optional:
            return good(name, "not set: the token in our URL is what counts")
        advice = f"set {variable}: {scheme.secret_form}"
        return doubtful(name, f"not set: its callbacks get 503, since {scheme.name} needs one", advice)
    valid = [key for key in keys if key.until is None or now < key.until]
    if not valid:
        return bad(name, "expired: its callbacks get 503", f"set {variable} to the secret that it signs with now")
    expired = f", {len(keys) - len(valid)} expired" if len(valid) < len(keys) else ""
    found = f"{len(valid)} valid{expired}; {scheme.name}"
    ends = sorted(key.until for key in valid if key.until is not None and key.until < now + SOON)
    if not ends:
        return good(name, found)
    last = f"{found}; one ends at {ends[0].astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    if len(ends) == len(valid):
        return doubtful(name, f"{last}, and none is left then", f"put the new secret in front in {variable}")
    return doubtful(name, last, "see that the provider signs with the new one by then: after that, the old gets 401")

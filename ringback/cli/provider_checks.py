"""What `ringback doctor` looks at in the providers: only those for which something is set here.

Called by `doctor`; looks at settings alone, and never shows a secret.
"""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta

from ringback.cli import facts
from ringback.cli.checks import Check, bad, doubtful, good
from ringback.providers import Provider
from ringback.providers.signatures import Key, Scheme
from ringback.settings import ProviderSettings, Settings, variable_name

SOON = timedelta(days=7)
USELESS = {
    "api_key": "API key",
    "secret": "secret",
    "confirm": "confirm",
    "jwks_url": "JWKS URL",
    "base_url": "base URL",
    "usd_per_second": "price",
}


def of_providers(settings: Settings, now: datetime, waiting: Collection[str] = ()) -> Iterator[Check]:
    """Look at each provider that is set up here, and name the others in one line.

    `waiting` names those of which a task is open that nobody can ask about, for want of an API key.
    """
    known = [settings.catalogue[name] for name in sorted(settings.catalogue)]
    used = [provider for provider in known if is_configured(provider, settings)]
    for provider in used:
        yield from _of_provider(provider, settings, now, provider.name in waiting)
    others = ", ".join(provider.name for provider in known if provider not in used)
    if not used:
        advice = "set RINGBACK_<PROVIDER>_API_KEY or RINGBACK_<PROVIDER>_SECRET of the one that you use"
        yield doubtful("providers", f"not configured: {others}", advice)
    elif others:
        yield good("providers", f"not configured: {others}")


def is_configured(provider: Provider, settings: Settings) -> bool:
    """Tell whether anything is set for it, or it was made in ringback.toml."""
    return facts.is_custom(provider) or settings.provider(provider.name) != ProviderSettings()


def _of_provider(provider: Provider, settings: Settings, now: datetime, is_waiting: bool) -> Iterator[Check]:
    if facts.is_custom(provider):
        yield good(provider.name, "made in ringback.toml, which means:", facts.described(provider))
    if provider.submits or provider.fetches:
        yield _api_key(provider, settings, is_waiting)
    yield from _useless(provider, settings)
    scheme = provider.scheme
    if scheme is not None and scheme.fetches_keys:
        yield good(f"{provider.name} signature", f"{scheme.name}; {facts.jwks_text(provider, settings)}")
    elif scheme is not None:
        yield _secrets(provider, scheme, settings.keys(provider.name), now)


def _api_key(provider: Provider, settings: Settings, is_waiting: bool) -> Check:
    """Look at the API key; who has set a secret alone, and waits for nothing, only wants to receive."""
    name, given = f"{provider.name} API key", settings.provider(provider.name)
    if given.api_key:
        return good(name, "set")
    uses = " and ".join(use for use, has in (("submit to it", provider.submits), ("poll it", provider.fetches)) if has)
    advice = f"set {variable_name((provider.name, 'api_key'))} to {uses}"
    if is_waiting:
        return doubtful(name, "not set, and a task is open that cannot be asked about", advice)
    if given.secret and _verifies(provider):
        return good(name, f"not set: it only receives; {advice}")
    return doubtful(name, "not set", advice)


def _verifies(provider: Provider) -> bool:
    """Tell whether a secret of its own authenticates what it sends."""
    return provider.scheme is not None and not provider.scheme.fetches_keys


def _useless(provider: Provider, settings: Settings) -> Iterator[Check]:
    """Name each setting that changes nothing with this provider."""
    told = facts.meaningful(provider)
    for name in facts.given_settings(provider, settings):
        if name not in told:
            advice = f"remove {variable_name((provider.name, name))}, or see: ringback providers show {provider.name}"
            found = f"set, but {_why_useless(provider, name)}"
            yield doubtful(f"{provider.name} {USELESS[name]}", found, advice)


def _why_useless(provider: Provider, name: str) -> str:
    if name == "secret":
        signs = provider.scheme is not None
        why = (
            "signs with keys that it publishes" if signs else "signs nothing" if provider.pushes else "never calls back"
        )
        return f"{provider.name} {why}: this secret checks nothing"
    if name == "jwks_url":
        return f"{provider.name} does not sign with keys that it publishes: nothing is fetched from there"
    if name == "usd_per_second":
        return f"nothing that is submitted to {provider.name} is priced by it"
    if name == "confirm":
        return f"callbacks of {provider.name} cannot be confirmed, or never come"
    return f"nothing is submitted to {provider.name}, nor asked of it"


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

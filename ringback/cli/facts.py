"""The facts of a provider in words: for `ringback providers`, `ringback doctor` and docs/reference/providers.md.

Says nothing that is not in the provider's class, its scheme or the settings. Never shows a secret.
"""

import inspect
from collections.abc import Iterator
from datetime import timedelta

from ringback.confirming import trust_here
from ringback.model import Confirm, Trust
from ringback.providers import CATALOGUE, Provider
from ringback.providers.handshakes import Handshake
from ringback.settings import PER_PROVIDER, Settings, variable_name

TRUST_WORDS = {
    Trust.SIGNED: "a signature that covers the body",
    Trust.TOKEN: "a secret that comes along, in our URL or in a header; the body is not covered",
    Trust.PARTIAL: "a signature that does not cover the body",
    Trust.NONE: "nothing",
}
HANDSHAKE_WORDS = {
    Handshake.CHALLENGE: "a POST whose JSON holds `challenge` is answered with it",
    Handshake.WEBSUB: "a GET with `hub.challenge` is answered with it",
    Handshake.CLOUDEVENTS: "OPTIONS with WebHook-Request-Origin is answered with WebHook-Allowed-Origin",
}
# The rows about a provider of the user's own that `ringback providers show` has for every provider.
TOLD_OF_ALL = frozenset(
    {"scheme", "trust", "secret", "keys from", "callbacks", "handshakes", "event id", "retry window"}
)
UNITS = ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min"))


def length(span: timedelta) -> str:
    """Write a documented length of time: 7 d, 24 h, 15 min, 1.5 s."""
    for unit, word in UNITS:
        if span % unit == timedelta(0) and (span > timedelta(days=2) or word != "d"):
            return f"{span // unit} {word}"
    return f"{span.total_seconds():g} s"


def is_custom(provider: Provider) -> bool:
    """Tell whether a user has made it in ringback.toml."""
    return CATALOGUE.get(provider.name) is not provider


def scheme_text(provider: Provider) -> str:
    """Name what authenticates its callbacks."""
    if not provider.pushes:
        return "-"
    if provider.scheme is None:
        return "none" if provider.open_endpoint else "token in our URL"
    return provider.scheme.name + (" (optional)" if provider.scheme_optional else "")


def trust_text(provider: Provider) -> str:
    """Name the grade that its callbacks reach."""
    if not provider.pushes:
        return "-"
    optional = provider.scheme_optional and provider.trust is not Trust.TOKEN
    return f"{provider.trust}, else {Trust.TOKEN}" if optional else str(provider.trust)


def event_id_text(provider: Provider) -> str:
    """Tell where its own event id stands."""
    return provider.event_id or "-"


def event_id_name(provider: Provider) -> str:
    """Tell the same in a word, for a table with little room: the first header, or path."""
    return provider.event_id.removeprefix("header ").partition(" ")[0] or "-"


def retry_text(provider: Provider) -> str:
    """Tell for how long, and how, it sends a callback again."""
    if not provider.pushes:
        return "-"
    if provider.retry_window is None:
        return provider.retries or "not documented"
    return length(provider.retry_window) + (f" ({provider.retries})" if provider.retries else "")


def handshake_text(provider: Provider) -> str:
    """Name the challenges that are answered."""
    return ", ".join(sorted(provider.handshakes)) or "-"


def yes(value: bool) -> str:
    """Write a truth in a table."""
    return "yes" if value else "no"


def notes(provider: Provider) -> str:
    """Give what the provider's file says about it in general: the docstring of its class."""
    return inspect.cleandoc(type(provider).__doc__ or "")


def configured_text(provider: Provider, settings: Settings) -> str:
    """Tell what is set up for it here: secret, key, or nothing."""
    given = settings.provider(provider.name)
    parts = [
        "ringback.toml" if is_custom(provider) else "",
        "secret" if given.secret else "",
        "API key" if given.api_key else "",
    ]
    return ", ".join(part for part in parts if part) or "no"


def callback_urls(provider: Provider, settings: Settings) -> Iterator[tuple[str, str]]:
    """Give the forms of its callback URLs, each with when it is served."""
    if not provider.pushes:
        return
    place = f"{settings.public_url or '<RINGBACK_PUBLIC_URL>'}/callbacks/{provider.name}"
    if provider.submits or not (provider.account_endpoint or provider.open_endpoint):
        yield f"{place}/<task id>.<mac>", "each task gets its own"
    if provider.open_endpoint:
        yield place, "everything there is only a hint"
    elif provider.account_endpoint:
        served = bool(settings.keys(provider.name)) or not provider.scheme_optional
        yield place, "for the whole account" if served else "for the whole account, once a secret is set"


def confirm_text(provider: Provider, settings: Settings) -> str:
    """Tell whether its callbacks are believed, and by whose choice."""
    chosen = settings.provider(provider.name).confirm
    trust = trust_here(provider, settings)
    by = "as set" if chosen else "as the provider needs" if provider.confirm else f"as trust {trust} needs"
    if settings.confirms(provider, trust):
        return f"{Confirm.ALWAYS}, {by}: a callback is a hint, and its task is fetched"
    return f"{Confirm.NEVER}, {by}: a callback is taken at its word"


def secret_text(provider: Provider) -> str | None:
    """Tell what its secret must look like; None where it needs none."""
    scheme = provider.scheme
    if scheme is None:
        return None
    if scheme.fetches_keys:
        return "none: its public keys are fetched"
    return scheme.secret_form + (" (only if you have set one up with it)" if provider.scheme_optional else "")


def meaningful(provider: Provider) -> frozenset[str]:
    """Give the settings that mean something for it."""
    asks, signs = provider.submits or provider.fetches, provider.scheme is not None
    fetches_keys = provider.scheme is not None and provider.scheme.fetches_keys
    matters = {
        "api_key": asks,
        "base_url": asks,
        "usd_per_second": type(provider).price is not Provider.price,
        "secret": signs and not fetches_keys,
        "jwks_url": fetches_keys,
        "confirm": provider.pushes and (provider.fetches or provider.trust is Trust.PARTIAL),
    }
    return frozenset(name for name in PER_PROVIDER if matters.get(name, True))


def given_settings(provider: Provider, settings: Settings) -> Iterator[str]:
    """Give the settings that are set for it (by variable or in ringback.toml)."""
    given = settings.provider(provider.name)
    return (name for name in PER_PROVIDER if getattr(given, name) not in (None, ()))


def variables(provider: Provider, settings: Settings) -> Iterator[tuple[str, bool]]:
    """Give the variables that mean something for it, and whether each is set."""
    told, given = meaningful(provider), set(given_settings(provider, settings))
    return ((variable_name((provider.name, name)), name in given) for name in PER_PROVIDER if name in told)


def jwks_text(provider: Provider, settings: Settings) -> str | None:
    """Tell where its public keys are fetched from; None where none are."""
    if provider.scheme is None or not provider.scheme.fetches_keys:
        return None
    return settings.provider(provider.name).jwks_url or provider.jwks_url


def submits_text(provider: Provider) -> str:
    """Tell whether tasks are submitted to it, and whether that can be tried again."""
    if not provider.submits:
        return "no: it only receives"
    if provider.idempotency_window is None:
        return "yes; never sent again where its end is unknown"
    return f"yes; safe to send again for {length(provider.idempotency_window)}"


def described(provider: Provider) -> list[tuple[str, str]]:
    """Give what ringback.toml says about a provider that a user made there; nothing for the others."""
    from ringback.providers.custom import describe

    return describe(provider) if is_custom(provider) else []


def further(provider: Provider) -> list[tuple[str, str]]:
    """Give of that what is not a fact of every provider, and told as such already."""
    rows = described(provider)
    return [(name, value) for name, value in rows if name not in TOLD_OF_ALL and not value.startswith("no: ")]

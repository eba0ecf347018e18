"""Whose callbacks are only hints here, so that nothing becomes an event until a poller has asked; and whose get 503.

For what tells people about it: readiness, `ringback doctor`, and the log at the start. Whether a callback is a hint is
`Settings.confirms`.
"""

from collections.abc import Iterator
from datetime import datetime

from ringback.model import Confirm, Trust
from ringback.providers import CATALOGUE, Provider
from ringback.settings import Settings, variable_name


def trust_here(provider: Provider, settings: Settings) -> Trust:
    """Give the grade that its callbacks reach with what is set here."""
    unsigned = provider.scheme_optional and not settings.provider(provider.name).secret
    return Trust.TOKEN if unsigned else provider.trust


def confirmed(settings: Settings) -> tuple[Provider, ...]:
    """Give the providers in use whose callbacks have to be confirmed by a fetch."""
    return tuple(one for one in _in_use(settings) if settings.confirms(one, trust_here(one, settings)))


def unconfirmable(settings: Settings) -> Iterator[tuple[Provider, str]]:
    """Give those of them that cannot be asked, each with what to do about it."""
    for provider in confirmed(settings):
        if not provider.fetches:
            never = f", or set {variable_name((provider.name, 'confirm'))}=never"
            yield provider, "say how its tasks are fetched" + (never if provider.trust is not Trust.NONE else "")
        elif settings.provider(provider.name).api_key is None:
            yield provider, f"set {variable_name((provider.name, 'api_key'))}"


def unverifiable(settings: Settings, now: datetime) -> Iterator[tuple[Provider, str]]:
    """Give the providers in use that sign, where no secret is valid: all they send gets 503. Each with what to do."""
    for provider in _in_use(settings):
        scheme, variable = provider.scheme, variable_name((provider.name, "secret"))
        if scheme is None or scheme.fetches_keys:
            continue
        keys = settings.keys(provider.name)
        if keys and not any(key.until is None or now < key.until for key in keys):
            yield provider, f"set {variable} to the secret that it signs with now: all that are set have ended"
        elif not keys and not provider.scheme_optional:
            yield provider, f"set {variable}: {scheme.secret_form}"


def _in_use(settings: Settings) -> Iterator[Provider]:
    """Give the providers that call back and with which the user has set anything up."""
    return (one for one in settings.catalogue.values() if one.pushes and _is_used(settings, one))


def _is_used(settings: Settings, provider: Provider) -> bool:
    """Tell whether the user has set anything up with it; who wrote it into ringback.toml has."""
    given = settings.provider(provider.name)
    set_up = bool(given.secret or given.api_key) or given.confirm is Confirm.ALWAYS
    return set_up or CATALOGUE.get(provider.name) is not provider

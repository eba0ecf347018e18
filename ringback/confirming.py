"""Whose callbacks are only hints here, so that nothing becomes an event until a poller has asked.

For what tells people about it: readiness, `ringback doctor`, and the log at the start. Whether a callback is a hint is
`Settings.confirms`.
"""

from collections.abc import Iterator

from ringback.model import Confirm, Trust
from ringback.providers import CATALOGUE, Provider
from ringback.settings import Settings, variable_name


def confirmed(settings: Settings) -> tuple[Provider, ...]:
    """Give the providers in use whose callbacks have to be confirmed by a fetch."""
    found = (provider for provider in settings.catalogue.values() if provider.pushes and _is_used(settings, provider))
    return tuple(provider for provider in found if settings.confirms(provider, _grade(settings, provider)))


def unconfirmable(settings: Settings) -> Iterator[tuple[Provider, str]]:
    """Give those of them that cannot be asked, each with what to do about it."""
    for provider in confirmed(settings):
        if not provider.fetches:
            never = f", or set {variable_name((provider.name, 'confirm'))}=never"
            yield provider, "say how its tasks are fetched" + (never if provider.trust is not Trust.NONE else "")
        elif settings.provider(provider.name).api_key is None:
            yield provider, f"set {variable_name((provider.name, 'api_key'))}"


def _is_used(settings: Settings, provider: Provider) -> bool:
    """Tell whether the user has set anything up with it; who wrote it into ringback.toml has."""
    given = settings.provider(provider.name)
    set_up = bool(given.secret or given.api_key) or given.confirm is Confirm.ALWAYS
    return set_up or CATALOGUE.get(provider.name) is not provider


def _grade(settings: Settings, provider: Provider) -> Trust:
    """Give the grade that its callbacks reach as it is configured."""
    if provider.scheme_optional and not settings.provider(provider.name).secret:
        return Trust.TOKEN
    return provider.trust

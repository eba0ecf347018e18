"""The catalogue of providers. Each lives in its own file, and its words are known nowhere else."""

import difflib
from collections.abc import Mapping

from ringback.errors import UnknownProvider
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.qingbo import Qingbo
from ringback.providers.reapi import Reapi

__all__ = ["CATALOGUE", "Provider", "Request", "Response", "Sample", "get_provider"]

CATALOGUE: dict[str, Provider] = {provider.name: provider for provider in (Qingbo(), Reapi())}


def get_provider(name: str, catalogue: Mapping[str, Provider] = CATALOGUE) -> Provider:
    """Find a provider by name; `Settings.catalogue` holds the user's own as well.

    Raises:
        UnknownProvider: naming the nearest ones.
    """
    try:
        return catalogue[name]
    except KeyError:
        near = difflib.get_close_matches(name, catalogue, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(catalogue))}"
        raise UnknownProvider(f"unknown provider {name!r}: {hint}") from None

"""The catalogue of providers. Each lives in its own file, and its words are known nowhere else."""

import difflib
from collections.abc import Mapping

from ringback.errors import UnknownProvider
from ringback.providers.ark import Ark
from ringback.providers.assemblyai import AssemblyAI
from ringback.providers.fal import Fal
from ringback.providers.github import GitHub
from ringback.providers.ideogram import Ideogram
from ringback.providers.kie import Kie
from ringback.providers.kling import Kling
from ringback.providers.luma import Luma
from ringback.providers.minimax import MiniMax
from ringback.providers.openai import OpenAI
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.qingbo import Qingbo
from ringback.providers.reapi import Reapi
from ringback.providers.replicate import Replicate
from ringback.providers.scale import Scale
from ringback.providers.standard import Standard
from ringback.providers.wavespeed import WaveSpeed

__all__ = ["CATALOGUE", "Provider", "Request", "Response", "Sample", "get_provider"]

CATALOGUE: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Qingbo(),
        Reapi(),
        Standard(),
        Replicate(),
        OpenAI(),
        WaveSpeed(),
        GitHub(),
        Kie(),
        Kling(),
        MiniMax(),
        AssemblyAI(),
        Ark(),
        Fal(),
        Ideogram(),
        Luma(),
        Scale(),
    )
}


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

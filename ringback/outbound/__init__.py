"""The one door out: requests to providers, and the public keys that some of them sign with.

`requests` sends what the providers build, over `connections`; `jwks` fetches and keeps key sets. Nothing else of this
project opens a connection. Called by `submitter` and, for keys, by `receiver.web`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringback.outbound.connections import Transport
    from ringback.outbound.jwks import KeySets
    from ringback.outbound.requests import Outbound, request_url, require_key

__all__ = ["KeySets", "Outbound", "Transport", "request_url", "require_key"]

PLACES = {"KeySets": "jwks", "Transport": "connections"}  # all others are in `requests`


def __getattr__(name: str) -> Any:
    """Import when it is first used: httpx costs a receiver time and memory that most never need."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ringback.outbound.{PLACES.get(name, 'requests')}"), name)

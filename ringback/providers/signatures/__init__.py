"""PURE. The signing schemes: bytes in, bytes compared, constant time.

A scheme says what a provider adds to a request so that a stranger's can be told from its own; which one is asked is
decided by the route's configuration, never by which headers happen to be there. `scheme` has the contract and the
words for what went wrong; each family has a file. Called by the provider files, `receiver.web` and `ringback.cli`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ringback.providers.signatures.body_hmac import BodyHmac
from ringback.providers.signatures.capability import (
    MAC_CHARACTERS,
    TASK_ID,
    callback_mac,
    callback_url,
    fingerprint,
    token_is_valid,
)
from ringback.providers.signatures.ed25519 import Ed25519Lines
from ringback.providers.signatures.fields_hmac import FieldsHmac
from ringback.providers.signatures.fixed import Basic, Bearer, FixedHeader
from ringback.providers.signatures.scheme import Headers, Key, Scheme
from ringback.providers.signatures.standard import StandardWebhooks
from ringback.providers.signatures.timestamped_hmac import TimestampedHmac

__all__ = [
    "MAC_CHARACTERS",
    "SCHEMES",
    "TASK_ID",
    "Basic",
    "Bearer",
    "BodyHmac",
    "Ed25519Lines",
    "FieldsHmac",
    "FixedHeader",
    "Headers",
    "Key",
    "Scheme",
    "StandardWebhooks",
    "TimestampedHmac",
    "callback_mac",
    "callback_url",
    "fingerprint",
    "token_is_valid",
]

SCHEMES: Mapping[str, type[Scheme]] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            StandardWebhooks,
            BodyHmac,
            TimestampedHmac,
            FieldsHmac,
            Ed25519Lines,
            FixedHeader,
            Basic,
            Bearer,
        )
    }
)
"""The schemes by the names that ringback.toml knows them by."""

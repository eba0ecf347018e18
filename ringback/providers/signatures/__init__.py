"""PURE. The signing schemes: bytes in, bytes compared, constant time.

A scheme says what a provider adds to a request so that a stranger's can be told from its own; which one is asked is
decided by the route's configuration, never by which headers happen to be there. `scheme` has the contract and the
words for what went wrong; each family has a file. Called by the provider files, `receiver.web` and `ringback.cli`.
"""

from ringback.providers.signatures.capability import (
    MAC_CHARACTERS,
    TASK_ID,
    callback_mac,
    callback_url,
    fingerprint,
    token_is_valid,
)
from ringback.providers.signatures.scheme import Headers, Key, Scheme

__all__ = [
    "MAC_CHARACTERS",
    "TASK_ID",
    "Headers",
    "Key",
    "Scheme",
    "callback_mac",
    "callback_url",
    "fingerprint",
    "token_is_valid",
]

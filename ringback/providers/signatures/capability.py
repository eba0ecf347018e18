"""PURE. The capability URL, `{public_url}/callbacks/{provider}/{task_id}.{mac}`.

By it a provider that signs nothing can still be told from a stranger: its token is a secret of ours.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence

TASK_ID = re.compile(r"task_[0-9A-Za-z_]{1,64}")
MAC_CHARACTERS = 32


def callback_mac(secret: bytes, provider: str, task_id: str) -> bytes:
    """Give the token of one task's callback URL: 32 characters of HMAC-SHA256 over `provider:task_id`."""
    digest = hmac.digest(secret, f"{provider}:{task_id}".encode(), "sha256")
    return urlsafe_b64encode(digest)[:MAC_CHARACTERS]


def callback_url(public_url: str, secret: bytes, provider: str, task_id: str) -> str:
    """Give the URL to hand to the provider for one task."""
    mac = callback_mac(secret, provider, task_id).decode()
    return f"{public_url.rstrip('/')}/callbacks/{provider}/{task_id}.{mac}"


def token_is_valid(mac: bytes, provider: str, task_id: str, secrets: Sequence[bytes]) -> bool:
    """Tell whether one of the secrets made this token; every secret is tried, whichever fits."""
    valid = False
    for secret in secrets:
        valid |= hmac.compare_digest(callback_mac(secret, provider, task_id), mac)
    return valid


def fingerprint(secret: bytes) -> str:
    """Name a secret without giving it away: 16 hex digits, safe to store and to show."""
    return hashlib.sha256(b"ringback fingerprint\0" + secret).hexdigest()[:16]

"""Request bodies as the documents show them, and a round through a provider's own scheme."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringback.errors import Unauthentic
from ringback.model import Callback, Notice, Reading, Trust
from ringback.providers import Provider
from ringback.providers.signatures.scheme import Headers, Key

FOLDER = Path(__file__).parent / "fixtures"
NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One saved request; `body` is its JSON, encoded anew."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        """The body as it was saved."""
        return msgspec.json.decode(self.body)


def recorded(provider: str, name: str) -> Recorded:
    """Load tests/providers/fixtures/<provider>/<name>.json."""
    saved = msgspec.json.decode((FOLDER / provider / f"{name}.json").read_bytes())
    assert saved["_source"].startswith("https://")
    return Recorded(body=msgspec.json.encode(saved["body"]), headers=saved.get("headers", {}))


def read(provider: Provider, body: bytes, headers: Mapping[str, str] | None = None) -> Reading | Notice:
    """Read a body as a callback that came at NOW."""
    pairs = tuple((name.lower(), value) for name, value in (headers or {}).items())
    return provider.read_callback(Callback(body=body, headers=pairs, received_at=NOW))


def verify(provider: Provider, secret: str, body: bytes, headers: Mapping[str, str]) -> Trust:
    """Verify headers and body at NOW with one secret."""
    assert provider.scheme is not None
    raw = Headers([(name.lower().encode(), value.encode()) for name, value in headers.items()])
    return provider.verify(raw, body, (Key(provider.scheme.key(secret)),), NOW, TOLERANCE)


def check_signed(provider: Provider, secret: str, other: str, body: bytes) -> None:
    """Check that what the provider signs is taken, and neither a changed byte nor another secret nor no signature."""
    assert provider.scheme is not None
    headers = provider.scheme.sign(body, provider.scheme.key(secret), now=NOW, event_id="msg_1")
    assert verify(provider, secret, body, headers) is Trust.SIGNED
    for key, changed, given in ((secret, body + b" ", headers), (other, body, headers), (secret, body, {})):
        with pytest.raises(Unauthentic):
            verify(provider, key, changed, given)

"""PURE. Ed25519: signatures over the newline recipe of fal and Ideogram, and the key sets that they publish.

The primitives at the end are the only use of `cryptography`; it is imported when the first key is used, so that a
receiver without such a provider never loads it. Nothing here fetches a key: `ringback.outbound.jwks` does.
"""

import re
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from ringback.errors import Unreadable
from ringback.providers.signatures.scheme import Flaw, Headers, Key, Scheme, check_timestamp, flawed, valid_keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_KEYS = 100  # of a set; providers publish one to three
MAX_KEY_ID = 200
SAMPLE_USER = "ringback"  # stands in for an account of the provider where we sign
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64

# The points of order 1, 2, 4 and 8 in every encoding, without the sign bit. For such a key, all zeros among them,
# signatures can be made by anybody, and OpenSSL accepts them.
_WEAK = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


VISIBLE = re.compile(rb"[!-~]+")
_ENCODED = {
    "hex": re.compile(rb"[0-9a-f]{128}"),
    "base64": re.compile(rb"[A-Za-z0-9+/]{85}[AQgw]=="),  # the unused bits of the last character are zero
}
_COORDINATE = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]=?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ed25519Lines(Scheme):
    """Ed25519 over four lines: id, user, timestamp and the SHA-256 of the raw body in lower-case hex.

    The lines are joined by LF, without one at the end. Source: PROVIDERS C, fal and Ideogram. Both send the signature
    in hex, Ideogram's page says lower-case; other spellings of the same signature are refused. Header names are given
    in lower case.
    """

    id_header: str
    user_header: str
    timestamp_header: str
    signature_header: str
    key_id_header: str | None = None
    """Names the key to try first; never needed, since a set holds few keys (developer.ideogram.ai: "a hint")."""
    encoding: str = "hex"
    """Of the signature: "hex" or "base64"."""

    name = "ed25519-jwks"
    secret_form = "none: the provider publishes its public keys"  # noqa: S105 -- a description
    fetches_keys = True

    def __post_init__(self) -> None:
        """Refuse an encoding that is not known.

        Raises:
            ValueError: says which ones are.
        """
        if self.encoding not in _ENCODED:
            raise ValueError(f"expected the encoding to be one of {', '.join(_ENCODED)}")

    @property
    def header_names(self) -> tuple[str, ...]:
        """The headers that it reads."""
        names = (self.id_header, self.user_header, self.timestamp_header, self.signature_header)
        return names if self.key_id_header is None else (*names, self.key_id_header)

    def key(self, secret: str) -> bytes:
        """Refuse any secret.

        Raises:
            ValueError: always; the keys are fetched.
        """
        raise ValueError("expected no secret: this provider signs with a key of its own and publishes the public one")

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> None:
        """Verify a request with the keys of a fetched set.

        Raises:
            Unauthentic: with the flaw; `signature` where no key of the set fits, and only then may a fresh set help.
        """
        about, user = self._line(headers, self.id_header), self._line(headers, self.user_header)
        timestamp = headers.need(self.timestamp_header.encode())
        signature = self._decode(headers.need(self.signature_header.encode()))
        candidates = valid_keys(self._ordered(headers, keys), now)
        check_timestamp(timestamp, now, tolerance)
        message = _message(about, user, timestamp, body)
        if not any(is_signed_by(public, signature, message) for public in candidates):
            raise flawed(Flaw.SIGNATURE, "no key of the provider's set fits the signature")

    def sign(self, body: bytes, key: bytes, *, now: datetime, event_id: str) -> Mapping[str, str]:
        """Give the headers that a provider with this private key (32 bytes) would send.

        No key id is among them: a receiver tries every key.

        Raises:
            ValueError: the private key has not 32 bytes.
        """
        timestamp = str(int(now.timestamp()))
        message = _message(event_id.encode(), SAMPLE_USER.encode(), timestamp.encode(), body)
        signature = sign_with(key, message)
        return {
            self.id_header: event_id,
            self.user_header: SAMPLE_USER,
            self.timestamp_header: timestamp,
            self.signature_header: signature.hex() if self.encoding == "hex" else b64encode(signature).decode(),
        }

    def _line(self, headers: Headers, name: str) -> bytes:
        """Give the value of a header that becomes a line of its own: one that held LF could be read as two."""
        value = headers.need(name.encode())
        if not VISIBLE.fullmatch(value):
            raise flawed(Flaw.HEADER_MALFORMED, f"{name} is not visible ASCII")
        return value

    def _decode(self, text: bytes) -> bytes:
        if not _ENCODED[self.encoding].fullmatch(text):
            detail = f"{self.signature_header} is not {SIGNATURE_BYTES} bytes in {self.encoding}"
            raise flawed(Flaw.HEADER_MALFORMED, detail)
        return bytes.fromhex(text.decode()) if self.encoding == "hex" else b64decode(text)

    def _ordered(self, headers: Headers, keys: Sequence[Key]) -> Sequence[Key]:
        """Put the key that the request names first."""
        named = headers.find(self.key_id_header.encode()) if self.key_id_header else None
        if named is None:
            return keys
        return sorted(keys, key=lambda key: key.id is None or key.id.encode() != named)


def _message(about: bytes, user: bytes, timestamp: bytes, body: bytes) -> bytes:
    return b"\n".join((about, user, timestamp, sha256(body).hexdigest().encode()))


def read_jwks(body: bytes) -> tuple[Key, ...]:
    """Read a JSON Web Key Set (RFC 7517): its Ed25519 keys (RFC 8037), at most 100, in their order.

    Entries of another type or use, broken ones, and those for which anybody could sign are skipped. Never raises
    anything else, whatever the bytes are.

    Raises:
        Unreadable: it is no key set, or holds no usable key; without a word of what came.
    """
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors, bad UTF-8 included
        raise Unreadable("expected a key set as JSON, got text that is not valid JSON in UTF-8") from None
    entries = document.get("keys") if type(document) is dict else None
    if type(entries) is not list:
        raise Unreadable("expected a key set: a JSON object with a list of keys")
    keys = tuple(_usable(entries))[:MAX_KEYS]
    if not keys:
        raise Unreadable(f"expected a key set with an Ed25519 key, got {len(entries)} keys of which none is usable")
    return keys


def _usable(entries: list[Any]) -> Iterator[Key]:
    for entry in entries:
        if type(entry) is dict and entry.get("kty") == "OKP" and entry.get("crv") == "Ed25519":
            material = _coordinate(entry.get("x"))
            # A private key that was published, too, tells nobody from anybody.
            if material is not None and entry.get("use", "sig") == "sig" and "d" not in entry:
                name = entry.get("kid")
                yield Key(material, id=name if type(name) is str and 0 < len(name) <= MAX_KEY_ID else None)


def _coordinate(text: Any) -> bytes | None:
    """Decode base64url of 32 bytes; RFC 7515 wants no padding, one `=` is taken."""
    if type(text) is not str or not _COORDINATE.fullmatch(text):
        return None
    material = urlsafe_b64decode(text.rstrip("=") + "=")
    return material if is_public_key(material) else None


def is_public_key(material: bytes) -> bool:
    """Tell whether these bytes can be a public key: 32 of them, and not a point for which anybody can sign."""
    return len(material) == PUBLIC_BYTES and material[:-1] + bytes([material[-1] & 0x7F]) not in _WEAK


def is_signed_by(public: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether a signature (64 bytes) of this message fits a public key (32 bytes). Never raises."""
    if len(signature) != SIGNATURE_BYTES or not is_public_key(public):
        return False
    from cryptography.exceptions import InvalidSignature

    try:
        _public(public).verify(signature, message)
    except (InvalidSignature, ValueError):  # the second where a library looks at the point beforehand
        return False
    return True


def sign_with(private: bytes, message: bytes) -> bytes:
    """Give the 64 bytes of the signature of a message.

    Raises:
        ValueError: the private key (the seed of RFC 8032) has not 32 bytes.
    """
    return _private(private).sign(message)


def public_of(private: bytes) -> bytes:
    """Give the 32 bytes of the public key of a private one.

    Raises:
        ValueError: the private key has not 32 bytes.
    """
    return _private(private).public_key().public_bytes_raw()


@lru_cache(maxsize=256)
def _public(material: bytes) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(material)


@lru_cache(maxsize=16)
def _private(material: bytes) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(material)

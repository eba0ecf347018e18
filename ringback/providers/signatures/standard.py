"""PURE. Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`, and those who nearly follow it.

Sources: standard-webhooks.md 1.0.0 ("Signature scheme", "Webhook headers"); PROVIDERS C (WaveSpeed's `v3`) and D6 to D8
for what differs on the wire.
"""

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ringback.errors import Unsupported
from ringback.providers.signatures.scheme import (
    Headers,
    Key,
    Scheme,
    check_choice,
    check_event_id,
    check_timestamp,
    entries_of,
    is_among,
    misfit,
    valid_keys,
)
from ringback.providers.signatures.secrets import ENCODINGS, base64_key, decode, encode, text_key

SECRET_BYTES = range(24, 65)  # the specification's: 192 to 512 bits
KEY_BYTES = 32  # of either half of an Ed25519 key pair
ONE_HALF = range(KEY_BYTES, KEY_BYTES + 1)
# Svix writes the private key and the public one after it ("asymmetric-key generate"), others the private one alone.
HALVES = range(KEY_BYTES, 2 * KEY_BYTES + 1, KEY_BYTES)
SIGNATURE_BYTES = 64  # of Ed25519
# Each costs about 100 µs, and a stranger may list as many as he likes.
MAX_ASYMMETRIC = 8

FAMILIES = (
    (b"webhook-id", b"webhook-timestamp", b"webhook-signature"),
    (b"svix-id", b"svix-timestamp", b"svix-signature"),
)
SEPARATORS = (b".",)
LABEL = re.compile(r"[A-Za-z0-9_]{1,20}")

BASE64, TEXT = "base64", "text"
SECRET, PUBLIC, PRIVATE = "whsec_", "whpk_", "whsk_"
MEANINGS = {SECRET: "an HMAC secret, for v1", PUBLIC: "a public key, for v1a", PRIVATE: "a private key, for v1a"}
SYMMETRIC_FORM = "whsec_ followed by base64 of 24 to 64 bytes"
TEXT_FORM = "whsec_ followed by the text that is the key"
ASYMMETRIC_FORM = "whpk_ followed by base64 of the 32 bytes of an Ed25519 public key (or whsk_ and the private key)"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardWebhooks(Scheme):
    """`{version},{signature}`, several of them separated by spaces, over `{id}.{timestamp}.{body}`; any may fit.

    Entries with another version, and malformed ones, are passed over. The names with `svix-` count only where none with
    `webhook-` came, so that the `webhook-id` somebody reads is always the one that was signed.

    Raises:
        ValueError: an option is none that it knows.
    """

    version: str = "v1"
    """"v1" is HMAC-SHA256, "v1a" Ed25519, any other word HMAC-SHA256 under that label (WaveSpeed: "v3")."""
    encoding: str = BASE64
    """Of the signature: "base64", or "hex" (WaveSpeed)."""
    secret: str = BASE64
    """How the key follows from what stands after `whsec_`: "base64", or "text" for the letters themselves."""

    name = "standard-webhooks"

    def __post_init__(self) -> None:
        check_choice("encoding", self.encoding, ENCODINGS)
        check_choice("secret", self.secret, (BASE64, TEXT))
        if not LABEL.fullmatch(self.version):
            raise ValueError(f"version: expected a word such as v1 or v1a, got {self.version!r}")
        if self.is_asymmetric and self.secret != BASE64:
            raise ValueError("secret: the keys of v1a are written in base64")

    @property
    def is_asymmetric(self) -> bool:
        """Whether it is Ed25519."""
        return self.version == "v1a"

    @property
    def secret_form(self) -> str:
        """What a secret looks like."""
        return ASYMMETRIC_FORM if self.is_asymmetric else SYMMETRIC_FORM if self.secret == BASE64 else TEXT_FORM

    @property
    def header_names(self) -> tuple[str, ...]:
        """The headers that it reads, aliases included."""
        return tuple(name.decode() for family in FAMILIES for name in family)

    def key(self, secret: str) -> bytes:
        """Decode a secret. The prefix whsec_ may be missing, as for the official libraries; another is an error.

        For v1a: the 32 bytes of the public key, and after them the 32 of the private one where it was given.

        Raises:
            ValueError: says which form was expected.
        """
        prefix = next((prefix for prefix in MEANINGS if secret.startswith(prefix)), "")
        text = secret.removeprefix(prefix)
        if self.is_asymmetric:
            return self._asymmetric_key(prefix, text)
        if prefix not in (SECRET, ""):
            raise ValueError(f"expected {self.secret_form}; {prefix} marks {MEANINGS[prefix]}")
        if self.secret == TEXT:
            return text_key(text, self.secret_form)
        unlabelled = "" if prefix else ", and has no whsec_ prefix"
        return base64_key(text, self.secret_form, SECRET_BYTES, unlabelled=unlabelled)

    def _asymmetric_key(self, prefix: str, text: str) -> bytes:
        from ringback.providers.signatures.ed25519 import is_public_key, public_of

        if prefix not in (PUBLIC, PRIVATE):
            reason = f"{prefix} marks {MEANINGS[prefix]}" if prefix else "this has neither prefix"
            raise ValueError(f"expected {self.secret_form}; {reason}")
        if prefix == PUBLIC:
            public = base64_key(text, self.secret_form, ONE_HALF)
            if not is_public_key(public):
                raise ValueError(f"expected {self.secret_form}; with this one anybody could sign")
            return public
        raw = base64_key(text, self.secret_form, HALVES)
        private, public = raw[:KEY_BYTES], public_of(raw[:KEY_BYTES])
        if raw[KEY_BYTES:] not in (b"", public):
            raise ValueError(f"expected {self.secret_form}; the halves of this pair do not belong together")
        return public + private

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> None:
        """Verify that one of the listed signatures is that of this id, time and body by one of the keys.

        Raises:
            Unauthentic: with the flaw.
        """
        usable = valid_keys(keys, now)
        id_name, timestamp_name, name = _family(headers)
        event_id, timestamp = headers.need(id_name), headers.need(timestamp_name)
        entries = entries_of(headers.need(name), name, b" ")
        check_event_id(event_id, id_name, SEPARATORS)
        check_timestamp(timestamp, now, tolerance)
        message = b"%b.%b.%b" % (event_id, timestamp, body)
        if self.is_asymmetric:
            if not self._is_signed(entries, message, usable):
                raise misfit(entries, name, self._label, len(self._label + encode(bytes(64), self.encoding)))
            return
        expected = [self._entry(hmac.digest(key, message, "sha256")) for key in usable]
        if not is_among(entries, expected):
            raise misfit(entries, name, self._label, len(expected[0]))

    def _is_signed(self, entries: Sequence[bytes], message: bytes, publics: Iterable[bytes]) -> bool:
        from ringback.providers.signatures.ed25519 import is_signed_by

        texts = [entry.removeprefix(self._label) for entry in entries if entry.startswith(self._label)]
        decoded = [raw for text in texts if len(raw := decode(text, self.encoding) or b"") == SIGNATURE_BYTES]
        signatures = decoded[:MAX_ASYMMETRIC]
        return any(is_signed_by(key[:KEY_BYTES], signature, message) for key in publics for signature in signatures)

    def sign(self, body: bytes, key: bytes, *, now: datetime, event_id: str) -> Mapping[str, str]:
        """Give the three headers, with one signature.

        Raises:
            Unsupported: for v1a, the key is a public one alone.
        """
        timestamp = str(int(now.timestamp()))
        message = f"{event_id}.{timestamp}.".encode() + body
        signature = self._sign_asymmetric(message, key) if self.is_asymmetric else hmac.digest(key, message, "sha256")
        return {
            "webhook-id": event_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": self._entry(signature).decode(),
        }

    def _sign_asymmetric(self, message: bytes, key: bytes) -> bytes:
        from ringback.providers.signatures.ed25519 import sign_with

        if len(key) != 2 * KEY_BYTES:
            raise Unsupported("a public key cannot sign; for tests, configure the private one (whsk_)")
        return sign_with(key[KEY_BYTES:], message)

    @property
    def _label(self) -> bytes:
        return f"{self.version},".encode()

    def _entry(self, signature: bytes) -> bytes:
        return self._label + encode(signature, self.encoding)


def _family(headers: Headers) -> tuple[bytes, bytes, bytes]:
    """Choose between the names and their aliases, as one: never the id of one with the signature of the other."""
    for family in FAMILIES:
        for name in family:
            if headers.get(name) is not None:
                return family
    return FAMILIES[0]

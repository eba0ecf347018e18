"""PURE. HMAC over the raw body, in one header: GitHub's X-Hub-Signature-256 and the many that follow it.

It has no time in it: a recorded request stays valid, and only the ledger's keys tell a repetition (DESIGN rule 2).
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ringback.providers.signatures.scheme import (
    Headers,
    Key,
    Scheme,
    check_choice,
    check_header_names,
    is_among,
    misfit,
    valid_keys,
)
from ringback.providers.signatures.secrets import ALGORITHMS, ENCODINGS, encode, text_key


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyHmac(Scheme):
    """`{header}: {prefix}{signature}`, compared letter by letter: hex in upper case is another signature.

    Sources: docs.github.com "Validating webhook deliveries" (`sha256=` and hex); PROVIDERS C, auth shape 3.

    Raises:
        ValueError: an option is none that it knows.
    """

    header: str
    algorithm: str = "sha256"
    """"sha256", "sha512" or "sha1"."""
    encoding: str = "hex"
    """Of the signature: "hex" or "base64"."""
    prefix: str = ""
    """What stands before the signature, e.g. "sha256="."""

    name = "hmac"
    secret_form = "the secret as the provider shows it"  # noqa: S105 -- a description

    def __post_init__(self) -> None:
        check_header_names(self.header)
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("encoding", self.encoding, ENCODINGS)
        if not self.prefix.isascii():
            raise ValueError("prefix: expected ASCII")

    @property
    def header_names(self) -> tuple[str, ...]:
        """The one header that it reads."""
        return (self.header,)

    def key(self, secret: str) -> bytes:
        """Take the secret as it is, in UTF-8.

        Raises:
            ValueError: it is empty or unprintable.
        """
        return text_key(secret, self.secret_form)

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> None:
        """Verify that the header is the signature of this body by one of the keys.

        Raises:
            Unauthentic: with the flaw.
        """
        usable = valid_keys(keys, now)
        name = self.header.encode()
        given = [headers.need(name)]
        expected = [self._value(body, key) for key in usable]
        if not is_among(given, expected):
            raise misfit(given, name, self.prefix.encode(), len(expected[0]))

    def sign(self, body: bytes, key: bytes, *, now: datetime, event_id: str) -> Mapping[str, str]:
        """Give the header; neither the time nor the id is part of it."""
        return {self.header: self._value(body, key).decode()}

    def _value(self, body: bytes, key: bytes) -> bytes:
        return self.prefix.encode() + encode(hmac.digest(key, body, self.algorithm), self.encoding)

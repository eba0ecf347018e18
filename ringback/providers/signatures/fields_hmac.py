"""PURE. HMAC over one field of the body and a time: kie.ai's `taskId.timestamp`.

The rest of the body is not covered. Who has seen one such request can send any other body about the same task until
the tolerance is over: its trust is `partial`, and the truth is fetched (DESIGN rule 8).
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from ringback.model import Trust
from ringback.providers.paths import Path, parse_path
from ringback.providers.signatures.scheme import (
    Flaw,
    Headers,
    Key,
    Scheme,
    check_choice,
    check_header_names,
    check_timestamp,
    flawed,
    is_among,
    misfit,
    valid_keys,
)
from ringback.providers.signatures.secrets import ALGORITHMS, ENCODINGS, encode, text_key
from ringback.providers.signatures.timestamped_hmac import compile_template

PARTS = ("field", "timestamp")

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldsHmac(Scheme):
    """`{header}` is the signature of `{template}`, with a field of the JSON body and the time in `{timestamp_header}`.

    Source: PROVIDERS C, kie.ai, and docs.kie.ai/common-api/webhook-verification (the key is the text of
    `webhookHmacKey`; no tolerance is stated, ours applies).

    Raises:
        ValueError: an option is none that it knows.
    """

    header: str
    timestamp_header: str
    field: tuple[str, ...]
    """Paths into the body; the first that is found is the field that was signed: a text or a whole number."""
    template: str = "{field}.{timestamp}"
    algorithm: str = "sha256"
    """"sha256", "sha512" or "sha1"."""
    encoding: str = "base64"
    """Of the signature: "hex" or "base64"."""

    name = "fields-hmac"
    trust = Trust.PARTIAL
    secret_form = "the secret as the provider shows it"  # noqa: S105 -- a description

    def __post_init__(self) -> None:
        check_header_names(*self.header_names)
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("encoding", self.encoding, ENCODINGS)
        compile_template(self.template, PARTS)
        if not _paths(self.field):
            raise ValueError("field: expected at least one path into the body, such as data.taskId")

    @property
    def header_names(self) -> tuple[str, ...]:
        """The headers that it reads."""
        return (self.header, self.timestamp_header)

    def key(self, secret: str) -> bytes:
        """Take the secret as it is, in UTF-8.

        Raises:
            ValueError: it is empty or unprintable.
        """
        return text_key(secret, self.secret_form)

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> None:
        """Verify that the header is the signature of this field and time by one of the keys.

        Raises:
            Unauthentic: with the flaw.
        """
        usable = valid_keys(keys, now)
        name = self.header.encode()
        given = [headers.need(name)]
        timestamp = headers.need(self.timestamp_header.encode())
        check_timestamp(timestamp, now, tolerance)
        message = self._message(body, timestamp)
        expected = [self._value(message, key) for key in usable]
        if not is_among(given, expected):
            raise misfit(given, name, b"", len(expected[0]))

    def sign(self, body: bytes, key: bytes, *, now: datetime, event_id: str) -> Mapping[str, str]:
        """Give the headers.

        Raises:
            Unauthentic: the body has no such field.
        """
        timestamp = str(int(now.timestamp()))
        signature = self._value(self._message(body, timestamp.encode()), key)
        return {self.timestamp_header: timestamp, self.header: signature.decode()}

    def _message(self, body: bytes, timestamp: bytes) -> bytes:
        form, _ = compile_template(self.template, PARTS)
        return form % {b"field": self._field(body), b"timestamp": timestamp}

    def _field(self, body: bytes) -> bytes:
        """Find the field that was signed, as the text that the sender saw."""
        try:
            document = _decode(body)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors, bad UTF-8 included
            raise flawed(Flaw.BODY_MALFORMED, "the body, of which a field is signed, is not JSON in UTF-8") from None
        values = (path.first(document) for path in _paths(self.field))
        value = next((value for value in values if value is not None), None)
        if type(value) is int or (type(value) is str and value):
            return str(value).encode()  # strings that msgspec decodes have no surrogates
        raise flawed(Flaw.BODY_MALFORMED, "the field that is signed is not in the body, or is neither text nor number")

    def _value(self, message: bytes, key: bytes) -> bytes:
        return encode(hmac.digest(key, message, self.algorithm), self.encoding)


@lru_cache(maxsize=256)
def _paths(field: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(map(parse_path, field))

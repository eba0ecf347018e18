"""PURE. HMAC over a time and the raw body, joined as a template says: the shapes of Stripe, Slack and ToAPIs."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from string import Formatter

from ringback.providers.signatures.scheme import (
    Flaw,
    Headers,
    Key,
    Scheme,
    check_choice,
    check_event_id,
    check_header_names,
    check_timestamp,
    entries_of,
    flawed,
    is_among,
    misfit,
    valid_keys,
)
from ringback.providers.signatures.secrets import ALGORITHMS, ENCODINGS, encode, text_key


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampedHmac(Scheme):
    """A list of signatures, `{version}={signature}` joined by commas, any of which may fit; others are passed over.

    Without a `timestamp_header` the list holds the time as well: `t=…,v1=…[,v1=…]`. Entries are compared letter by
    letter: a space after a comma, or hex in upper case, makes another entry.

    Sources: docs.stripe.com "Verify webhook signatures"; docs.slack.dev "Verifying requests from Slack" (`v0=`, over
    `v0:{timestamp}:{body}`); PROVIDERS C, ToAPIs (`v1=`, hex, over `{id}.{timestamp}.{body}`).

    Raises:
        ValueError: an option is none that it knows, or they contradict one another.
    """

    header: str
    template: str = "{timestamp}.{body}"
    """What is signed; `{timestamp}` and `{body}`, and `{id}` where there is an `id_header`, each once."""
    version: str = "v1"
    """The label before the equals sign; empty: the header is the bare signature, beside a `timestamp_header`."""
    algorithm: str = "sha256"
    """"sha256", "sha512" or "sha1"."""
    encoding: str = "hex"
    """Of the signature: "hex" or "base64"."""
    timestamp_header: str | None = None
    id_header: str | None = None

    name = "timestamped-hmac"
    secret_form = "the secret as the provider shows it, with its whsec_ if it has one"  # noqa: S105 -- a description

    def __post_init__(self) -> None:
        check_header_names(*self.header_names)
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("encoding", self.encoding, ENCODINGS)
        compile_template(self.template, self._parts)
        if not (self.version.isascii() and self.version.isalnum()) and (self.version or self.timestamp_header is None):
            raise ValueError("version: expected a word such as v1; it may be empty only beside a timestamp_header")
        if self.version == "t" and self.timestamp_header is None:
            raise ValueError("version: t is the label of the time")

    @property
    def header_names(self) -> tuple[str, ...]:
        """The headers that it reads."""
        return (self.header, *(name for name in (self.timestamp_header, self.id_header) if name is not None))

    @property
    def _parts(self) -> tuple[str, ...]:
        return ("timestamp", "body") if self.id_header is None else ("id", "timestamp", "body")

    def key(self, secret: str) -> bytes:
        """Take the secret as it is, in UTF-8: Stripe signs with the text of its secret, `whsec_` included.

        Raises:
            ValueError: it is empty or unprintable.
        """
        return text_key(secret, self.secret_form)

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> None:
        """Verify that one of the listed signatures is that of this time and body by one of the keys.

        Raises:
            Unauthentic: with the flaw.
        """
        usable = valid_keys(keys, now)
        name = self.header.encode()
        entries = entries_of(headers.need(name), name, b",")
        if self.timestamp_header is None:
            timestamp = _time_among(entries, self.header)
        else:
            timestamp = headers.need(self.timestamp_header.encode())
        check_timestamp(timestamp, now, tolerance)
        event_id = b"" if self.id_header is None else headers.need(self.id_header.encode())
        message = self._message(event_id, timestamp, body)
        expected = [self._entry(message, key) for key in usable]
        if not is_among(entries, expected):
            raise misfit(entries, name, self._label(), len(expected[0]))

    def sign(self, body: bytes, key: bytes, *, now: datetime, event_id: str) -> Mapping[str, str]:
        """Give the headers, with one signature in the list."""
        timestamp = str(int(now.timestamp()))
        entry = self._entry(self._message(event_id.encode(), timestamp.encode(), body), key).decode()
        signed = {self.header: entry if self.timestamp_header else f"t={timestamp},{entry}"}
        if self.timestamp_header is not None:
            signed[self.timestamp_header] = timestamp
        if self.id_header is not None:
            signed[self.id_header] = event_id
        return signed

    def _message(self, event_id: bytes, timestamp: bytes, body: bytes) -> bytes:
        form, separators = compile_template(self.template, self._parts)
        if self.id_header is not None:
            check_event_id(event_id, self.id_header.encode(), separators)
        return form % {b"id": event_id, b"timestamp": timestamp, b"body": body}

    def _label(self) -> bytes:
        return f"{self.version}=".encode() if self.version else b""

    def _entry(self, message: bytes, key: bytes) -> bytes:
        return self._label() + encode(hmac.digest(key, message, self.algorithm), self.encoding)


def _time_among(entries: Sequence[bytes], name: str) -> bytes:
    """Find the one `t=` in the list; of two, a signer and we might each mean another one."""
    found = [entry[2:] for entry in entries if entry.startswith(b"t=")]
    if len(found) != 1:
        raise flawed(Flaw.HEADER_MALFORMED, f"{name} holds t= {len(found)} times")
    return found[0]


@lru_cache(maxsize=256)
def compile_template(template: str, names: tuple[str, ...]) -> tuple[bytes, tuple[bytes, ...]]:
    """Turn `{timestamp}.{body}` into a format for `bytes %`, and the texts between its names.

    An id beside another name, with nothing between them, is refused: where it ends would be anybody's guess.

    Raises:
        ValueError: it does not hold each of these names in braces, once, and no other; says what was expected.
    """
    wanted = f"template: expected {', '.join(f'{{{name}}}' for name in names)}, each once"
    try:
        pieces = [(text, name, spec, conversion) for text, name, spec, conversion in Formatter().parse(template)]
    except ValueError:
        raise ValueError(f"{wanted}; its braces do not match") from None
    found = [name + (spec or "") + (conversion or "") for _, name, spec, conversion in pieces if name is not None]
    if sorted(found) != sorted(names):
        raise ValueError(f"{wanted}, got {template!r}")
    if "}{id}" in template or "{id}{" in template:
        raise ValueError(f"{wanted}, with some text beside {{id}}")
    form = "".join(text.replace("%", "%%") + (f"%({name})b" if name else "") for text, name, _, _ in pieces)
    return form.encode(), tuple(text.encode() for text, _, _, _ in pieces if text)

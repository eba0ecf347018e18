"""PURE. What a signing scheme is: how a secret must look, what is verified, and how a refusal is explained.

Every scheme compares bytes in constant time, tries every key that is still valid, and turns whatever a stranger sends
into `Unauthentic` with one of `Flaw`'s words. It gets its keys and the time, and never fetches or logs anything.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from hmac import compare_digest

from msgspec import Struct

from ringback.errors import Unauthentic
from ringback.model import Trust

DIGITS = 12  # of a timestamp in seconds; the year 33658 has so many

# Signatures are listed so that secrets can be rotated: two or three. A stranger shall not make us look at thousands.
MAX_ENTRIES = 32
MAX_LIST_BYTES = 4_096

HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}")  # RFC 9110's token, in lower case
EVENT_ID = re.compile(rb"[!-~]{1,200}")  # visible ASCII: what can be stored and shown as it is


class Flaw(StrEnum):
    """Why a request is not authentic: the words of log and counters, never of an answer."""

    NO_KEY = "no_key"  # no secret that is still valid is configured
    HEADER_MISSING = "header_missing"
    HEADER_REPEATED = "header_repeated"
    HEADER_MALFORMED = "header_malformed"
    BODY_MALFORMED = "body_malformed"  # where the signature covers fields of the body
    TIMESTAMP_MALFORMED = "timestamp_malformed"
    TIMESTAMP_OLD = "timestamp_old"
    TIMESTAMP_FUTURE = "timestamp_future"
    SIGNATURE = "signature"  # everything is in its place, and it does not fit


class Key(Struct, frozen=True):
    """What a scheme verifies with: a decoded secret, or the 32 bytes of an Ed25519 public key."""

    material: bytes
    until: datetime | None = None  # valid before this moment; None: for good
    id: str | None = None  # of a key in a fetched set, where it has one

    def __repr__(self) -> str:
        return "Key(…)"


class Headers:
    """The headers of one request as they came: bytes, names in lower case, repeated ones included."""

    __slots__ = ("_all",)

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._all = headers if isinstance(headers, list) else list(headers)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._all)

    def get(self, name: bytes) -> bytes | None:
        """Give the first value of a header; for what decides nothing."""
        for found, value in self._all:
            if found == name:
                return value
        return None

    def find(self, *names: bytes) -> bytes | None:
        """Give the value of the first of these names (aliases) that is there; for what decides about authenticity.

        Raises:
            Unauthentic: it is there more than once: a proxy and we might each believe another one.
        """
        for name in names:
            value = None
            for found, given in self._all:  # a plain loop: this runs several times per callback
                if found == name:
                    if value is not None:
                        raise flawed(Flaw.HEADER_REPEATED, f"{name.decode('latin-1')} came more than once")
                    value = given
            if value is not None:
                return value
        return None

    def need(self, *names: bytes) -> bytes:
        """Give the value as `find` does.

        Raises:
            Unauthentic: it is missing, or there more than once.
        """
        value = self.find(*names)
        if value is None:
            raise flawed(Flaw.HEADER_MISSING, f"{names[0].decode('latin-1')} is missing")
        return value


class Scheme:
    """One way to authenticate a request. Instances are frozen values: the options that providers differ in."""

    name: str
    """What it is called in ringback.toml and the docs, e.g. "standard-webhooks"."""
    trust: Trust = Trust.SIGNED
    """The grade of a request that passes."""
    fetches_keys: bool = False
    """Whether its keys are public ones that the provider publishes, so that no secret is configured."""

    @property
    def secret_form(self) -> str:
        """What a secret looks like, for people: "whsec_ followed by base64 of 24 to 64 bytes"."""
        raise NotImplementedError

    @property
    def header_names(self) -> tuple[str, ...]:
        """The headers that it reads, in lower case, for docs and diagnosis."""
        raise NotImplementedError

    def key(self, secret: str) -> bytes:
        """Decode a configured secret strictly; never to nothing.

        Raises:
            ValueError: says which form was expected, without repeating the secret.
        """
        raise NotImplementedError

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> None:
        """Verify a request.

        Raises:
            Unauthentic: with the flaw, and a detail for our log that holds no value of a header.
        """
        raise NotImplementedError

    def sign(self, body: bytes, key: bytes, *, now: datetime, event_id: str) -> Mapping[str, str]:
        """Give the headers that authenticate this body, as the provider would: for `ringback trigger` and tests.

        `key` is what `key()` gave; for Ed25519 with fetched keys, a private key's 32 bytes.
        """
        raise NotImplementedError


def flawed(flaw: Flaw, detail: str = "") -> Unauthentic:
    """Make the error for a flaw."""
    return Unauthentic(detail or flaw.value.replace("_", " "), flaw=flaw.value)


def valid_keys(keys: Sequence[Key], now: datetime) -> Iterator[bytes]:
    """Give the material of the keys that have not expired.

    Raises:
        Unauthentic: there is none; no request can be authentic then.
    """
    found = [key.material for key in keys if key.material and (key.until is None or now < key.until)]
    if not found:
        raise flawed(Flaw.NO_KEY, "no valid secret is configured")
    return iter(found)


def check_timestamp(text: bytes, now: datetime, tolerance: timedelta) -> int:
    """Read a timestamp in whole seconds since 1970, within the tolerance of now, in either direction.

    Raises:
        Unauthentic: it is no plain number (`+1`, ` 1`, `01`, `1.5`, `1e9`, `-1`), or too far away.
    """
    # bytes.isdigit knows ASCII digits only. A zero in front could have come from the signed text beside it.
    if not (0 < len(text) <= DIGITS and text.isdigit()) or (text[0] == 0x30 and len(text) > 1):
        raise flawed(Flaw.TIMESTAMP_MALFORMED, "the timestamp is not a number of seconds since 1970")
    seconds = int(text)
    difference = int(now.timestamp()) - seconds
    if abs(difference) > tolerance.total_seconds():
        flaw = Flaw.TIMESTAMP_OLD if difference > 0 else Flaw.TIMESTAMP_FUTURE
        detail = f"{abs(difference)} s {'behind' if difference > 0 else 'ahead of'} our clock"
        raise flawed(flaw, detail + f", {int(tolerance.total_seconds())} s are allowed")
    return seconds


def check_event_id(text: bytes, name: bytes, separators: Sequence[bytes]) -> None:
    """Refuse an id that cannot be stored, or holds what separates it from its neighbours in the signed text.

    With a separator in it, `a.1` + `2` and `a` + `1.2` would carry the same signature (standard-webhooks.md, "Signature
    scheme": neither id nor timestamp may include a full stop).

    Raises:
        Unauthentic: it is not 1 to 200 visible ASCII characters without these separators.
    """
    if not EVENT_ID.fullmatch(text):
        raise flawed(Flaw.HEADER_MALFORMED, f"{name.decode()} is not 1 to 200 visible ASCII characters")
    for separator in separators:
        if separator in text:
            detail = f"{name.decode()} holds {separator.decode()!r}, which separates the parts of what is signed"
            raise flawed(Flaw.HEADER_MALFORMED, detail)


def entries_of(text: bytes, name: bytes, separator: bytes) -> list[bytes]:
    """Split a header that lists signatures: its first 32 entries, empty and malformed ones among them.

    Raises:
        Unauthentic: it has more than 4,096 bytes.
    """
    if len(text) > MAX_LIST_BYTES:
        raise flawed(Flaw.HEADER_MALFORMED, f"{name.decode()} has {len(text)} bytes, {MAX_LIST_BYTES} are allowed")
    return text.split(separator, MAX_ENTRIES)[:MAX_ENTRIES]


def is_among(entries: Sequence[bytes], expected: Sequence[bytes]) -> bool:
    """Tell whether an entry equals an expected text. All are compared, so that time tells nothing of which one fits."""
    found = False
    for text in expected:
        for entry in entries:
            found |= compare_digest(text, entry)
    return found


def misfit(entries: Sequence[bytes], name: bytes, prefix: bytes, length: int) -> Unauthentic:
    """Make the error for a header of which no entry fits: says what is strange about them, and repeats none."""
    ours = [entry for entry in entries if entry.startswith(prefix)]
    if not ours:
        return flawed(Flaw.HEADER_MALFORMED, f"no entry of {name.decode()} begins with {prefix.decode()!r}")
    if all(len(entry) != length for entry in ours):
        return flawed(Flaw.HEADER_MALFORMED, f"no signature in {name.decode()} has {length - len(prefix)} characters")
    return flawed(Flaw.SIGNATURE, f"no signature in {name.decode()} fits")


def check_header_names(*names: str) -> None:
    """Check the names of headers among the options of a scheme.

    Raises:
        ValueError: one is not a header's name in lower case.
    """
    for name in names:
        if not HEADER_NAME.fullmatch(name):
            raise ValueError(f"expected the name of a header in lower case, got {name!r}")


def check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    """Check an option of a scheme that is one of a few words.

    Raises:
        ValueError: it is not.
    """
    if value not in allowed:
        raise ValueError(f"{option}: expected {' or '.join(allowed)}, got {value!r}")

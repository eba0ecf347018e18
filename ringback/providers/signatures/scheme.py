"""PURE. What a signing scheme is: how a secret must look, what is verified, and how a refusal is explained.

Every scheme compares bytes in constant time, tries every key that is still valid, and turns whatever a stranger sends
into `Unauthentic` with one of `Flaw`'s words. It gets its keys and the time, and never fetches or logs anything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from ringback.errors import Unauthentic
from ringback.model import Trust

DIGITS = 12  # of a timestamp in seconds; the year 33658 has so many


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
            values = [value for found, value in self._all if found == name]
            if len(values) > 1:
                raise flawed(Flaw.HEADER_REPEATED, f"{name.decode('latin-1')} came {len(values)} times")
            if values:
                return values[0]
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
    secret_form: str
    """What a secret looks like, for people: "whsec_ and base64 of 24 to 64 bytes"."""
    fetches_keys: bool = False
    """Whether its keys are public ones that the provider publishes, so that no secret is configured."""

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
        Unauthentic: it is no plain number (`+1`, ` 1`, `1.5`, `1e9`, `-1`), or too far away.
    """
    if not (0 < len(text) <= DIGITS and text.isdigit()):  # bytes.isdigit knows ASCII digits only
        raise flawed(Flaw.TIMESTAMP_MALFORMED, "the timestamp is not a number of seconds since 1970")
    seconds = int(text)
    difference = int(now.timestamp()) - seconds
    if abs(difference) > tolerance.total_seconds():
        flaw = Flaw.TIMESTAMP_OLD if difference > 0 else Flaw.TIMESTAMP_FUTURE
        detail = f"{abs(difference)} s {'behind' if difference > 0 else 'ahead of'} our clock"
        raise flawed(flaw, detail + f", {int(tolerance.total_seconds())} s are allowed")
    return seconds

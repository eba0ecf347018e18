"""PURE. A secret that is the same in every request: a header of its own, HTTP Basic, a bearer token.

Nothing is signed: who sees one request can send any other. It says as much about the body as the token in our URL
does, so the trust is `token`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ringback.model import Trust
from ringback.providers.signatures.scheme import (
    Flaw,
    Headers,
    Key,
    Scheme,
    check_header_names,
    flawed,
    is_among,
    valid_keys,
)
from ringback.providers.signatures.secrets import encode, text_key

AUTHORIZATION = "authorization"
BASIC, BEARER = "Basic ", "Bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedHeader(Scheme):
    """`{header}: {prefix}{secret}`, compared letter by letter.

    Sources: PROVIDERS C, Scale (`scale-callback-auth`) and AssemblyAI (the name and value that we gave it).

    Raises:
        ValueError: an option is none that it knows.
    """

    header: str
    prefix: str = ""
    """What stands before the secret, e.g. "Token "."""

    name = "header"
    trust = Trust.TOKEN
    secret_form = "the value of the header, in ASCII, without its prefix"  # noqa: S105 -- a description

    def __post_init__(self) -> None:
        check_header_names(self.header)
        if not self.prefix.isascii():
            raise ValueError("prefix: expected ASCII")

    @property
    def header_names(self) -> tuple[str, ...]:
        """The one header that it reads."""
        return (self.header,)

    def key(self, secret: str) -> bytes:
        """Take the secret as it is.

        Raises:
            ValueError: it is empty, or no text that a header can carry unchanged.
        """
        return _ascii_key(secret, self.secret_form)

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> None:
        """Verify that the header is one of the secrets.

        Raises:
            Unauthentic: with the flaw.
        """
        prefix = self.prefix.encode()
        _verify(headers, self.header, prefix, [prefix + key for key in valid_keys(keys, now)])

    def sign(self, body: bytes, key: bytes, *, now: datetime, event_id: str) -> Mapping[str, str]:
        """Give the header; it depends on the key alone."""
        return {self.header: self.prefix + key.decode()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic(Scheme):
    """HTTP Basic (RFC 7617) with the user and password that stand in the URL that the provider was given.

    Narrower than the RFC: `Basic` must be written so, with one space after it.
    """

    name = "basic"
    trust = Trust.TOKEN
    secret_form = "user:password"  # noqa: S105 -- a description

    @property
    def header_names(self) -> tuple[str, ...]:
        """The one header that it reads."""
        return (AUTHORIZATION,)

    def key(self, secret: str) -> bytes:
        """Take `user:password`, in UTF-8; the user may be empty.

        Raises:
            ValueError: there is no colon, or no password after it.
        """
        key = text_key(secret, self.secret_form)
        _, colon, password = secret.partition(":")
        if not (colon and password):
            raise ValueError(f"expected {self.secret_form}; this has no {'password' if colon else 'colon'}")
        return key

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> None:
        """Verify that the header holds one of the pairs.

        Raises:
            Unauthentic: with the flaw.
        """
        prefix = BASIC.encode()
        _verify(headers, AUTHORIZATION, prefix, [prefix + encode(key, "base64") for key in valid_keys(keys, now)])

    def sign(self, body: bytes, key: bytes, *, now: datetime, event_id: str) -> Mapping[str, str]:
        """Give the header; it depends on the key alone."""
        return {AUTHORIZATION: BASIC + encode(key, "base64").decode()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer(Scheme):
    """A bearer token (RFC 6750). Narrower than the RFC: `Bearer` must be written so, with one space after it."""

    name = "bearer"
    trust = Trust.TOKEN
    secret_form = "the token, in ASCII, without the word Bearer"  # noqa: S105 -- a description

    @property
    def header_names(self) -> tuple[str, ...]:
        """The one header that it reads."""
        return (AUTHORIZATION,)

    def key(self, secret: str) -> bytes:
        """Take the token as it is.

        Raises:
            ValueError: it is empty, no text that a header can carry unchanged, or begins with `Bearer`.
        """
        if secret.lower().startswith(BEARER.lower()):
            raise ValueError(f"expected {self.secret_form}; this begins with it")
        return _ascii_key(secret, self.secret_form)

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> None:
        """Verify that the header holds one of the tokens.

        Raises:
            Unauthentic: with the flaw.
        """
        prefix = BEARER.encode()
        _verify(headers, AUTHORIZATION, prefix, [prefix + key for key in valid_keys(keys, now)])

    def sign(self, body: bytes, key: bytes, *, now: datetime, event_id: str) -> Mapping[str, str]:
        """Give the header; it depends on the key alone."""
        return {AUTHORIZATION: BEARER + key.decode()}


def _ascii_key(secret: str, form: str) -> bytes:
    if not secret.isascii():  # what a server makes of other bytes in a header differs from one to the next
        raise ValueError(f"expected {form}; this holds other characters")
    return text_key(secret, form)


def _verify(headers: Headers, name: str, prefix: bytes, expected: Sequence[bytes]) -> None:
    given = headers.need(name.encode())
    if is_among([given], expected):
        return
    if not given.startswith(prefix):
        raise flawed(Flaw.HEADER_MALFORMED, f"{name} does not begin with {prefix.decode()!r}")
    raise flawed(Flaw.SIGNATURE, f"{name} is not a secret that is configured")

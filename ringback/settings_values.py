"""How the text of each setting is read: every function here takes text and gives a value, or a ValueError.

Its message says what was expected, and never repeats a secret. Also how a provider's secrets are written as TOML.
Called by `ringback.settings`, which declares the settings.
"""

import difflib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from urllib.parse import unquote, urlsplit

from ringback.model import Confirm
from ringback.providers.table import Keys, Table, TableError, type_name

SECRET_BYTES = 32
BUCKETS = frozenset({"s3", "gs", "az"})
URL_TEXT = re.compile(r"[!-\[\]-~]+")  # no backslash: what stands before it is the host for some, a path for others
HOST_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*(?P<last>[a-z0-9_-]{1,63})\.?")
MAX_HOST_NAME = 253
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # C libraries read a name that ends in one as an address
LEFT_OVER_UNTIL = re.compile(r"\suntil\b", re.IGNORECASE)


def text(value: str) -> str:
    """Read any text but an empty one."""
    if not value.strip():
        raise ValueError("expected some text, got none")
    return value.strip()


def unquoted(value: str) -> str:
    """Refuse secrets in quotes, which a shell removes and the env file of a container does not; gives the value."""
    for item in (value, *value.split(",")):
        secret = item.partition(" until=")[0].strip()
        if len(secret) > 1 and secret[0] == secret[-1] and secret[0] in "\"'":
            raise ValueError("stands in quotes, which would be a part of it; remove them")
    return value


def _items(value: str) -> list[str]:
    """Take a list of secrets apart."""
    items = [item.strip() for item in value.split(",")]
    if items == [""]:
        raise ValueError("expected a secret, got none; set one, or remove the setting")
    if not all(items):
        raise ValueError("one of the comma-separated secrets is empty; remove the extra comma")
    return items


def secrets(value: str) -> tuple[bytes, ...]:
    """Read a comma-separated list of secrets of ours."""
    items = [item.encode() for item in _items(value)]
    if LEFT_OVER_UNTIL.search(value):
        raise ValueError("these secrets have no until=; take the old one out when no task waits under it any more")
    if any(len(item) < SECRET_BYTES for item in items):
        raise ValueError(
            f"each secret needs at least {SECRET_BYTES} bytes; make one with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    return tuple(items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret that a provider signs with, as configured, and until when it is valid (rotation)."""

    text: str = field(repr=False)
    until: datetime | None = None


def provider_secrets(value: str) -> tuple[Secret, ...]:
    """Read a list such as `whsec_new, whsec_old until=2026-12-31T00:00:00Z`."""
    return tuple(map(_provider_secret, _items(value)))


def _provider_secret(item: str) -> Secret:
    secret, marker, until = item.rpartition(" until=")
    if LEFT_OVER_UNTIL.search(secret if marker else item):
        raise ValueError("did you mean until=? It stands once, behind the secret: ` until=2026-12-31T00:00:00Z`")
    if not marker:
        return Secret(text=item)
    try:
        end = datetime.fromisoformat(until.strip())
    except ValueError:
        raise ValueError("expected a time such as 2026-12-31T00:00:00Z after until=") from None
    return Secret(text=secret.strip(), until=_aware(end))


def secrets_of_file(value: Any, keys: Keys) -> tuple[Secret, ...]:
    """Read a provider's secrets from TOML: a text as in the environment, or a list of texts and of {value, until}.

    Raises:
        TableError: says what was expected, and where.
    """
    if type(value) is str:
        try:
            return provider_secrets(value)
        except ValueError as error:
            raise TableError(keys, str(error)) from None
    if type(value) is not list or not value:
        came = "an empty list" if type(value) is list else type_name(value)
        raise TableError(keys, f"expected a secret, or a list of them, got {came}")
    return tuple(_secret_of_file(item, (*keys, place)) for place, item in enumerate(value))


def _secret_of_file(item: Any, keys: Keys) -> Secret:
    table = Table(item if type(item) is dict else {"value": item}, keys)
    table.only(("value", "until"))
    secret = table.text("value", str.strip)
    if secret is None:
        raise table.missing("value", "the secret")
    if type(item) is str and LEFT_OVER_UNTIL.search(secret):
        raise TableError(keys, 'did you mean { value = "…", until = 2026-12-31T00:00:00Z }?')
    until = table.values.get("until")
    if until is None:
        return Secret(text=secret)
    if isinstance(until, datetime):
        return Secret(text=secret, until=_aware(until))
    if isinstance(until, date):
        return Secret(text=secret, until=datetime.combine(until, time(), UTC))
    raise table.wrong("until", "expected a time such as 2026-12-31T00:00:00Z, without quotes")


def _aware(moment: datetime) -> datetime:
    """Take a time without an offset as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def https_url(value: str) -> str:
    """Read an https URL, whatever stands behind its host; one that could never be fetched is refused at once."""
    given = value.strip()
    parts = urlsplit(given)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise ValueError("expected an https URL (http only for this machine)")
    if "@" in parts.netloc:
        raise ValueError("expected a URL without a password")
    if not URL_TEXT.fullmatch(given) or parts.port == 0:  # `port` raises, too, where it is out of range
        raise ValueError("expected a URL of visible ASCII characters, with a port above 0 if any")
    return given


def url(value: str) -> str:
    """Read an http(s) URL that something can be appended to; gives it without a slash at its end."""
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an http(s) URL such as https://example.com")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("expected a URL without a query, a fragment or a password")
    return value.strip().rstrip("/")


Allowed = IPv4Network | IPv6Network | str  # a network of addresses, or a host by its name


def host_name(value: str) -> str:
    """Read the name of a host; gives it as it is compared and sent: ASCII, lower case, without a dot at its end."""
    name = value[: 2 * MAX_HOST_NAME]
    if not name.isascii():
        import idna  # rarely needed

        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise ValueError("expected the name of a host, this cannot be one") from None
    found = HOST_NAME.fullmatch(name := name.lower())
    if not found or len(name) > MAX_HOST_NAME:
        raise ValueError("expected the name of a host, such as media.example.com")
    if NUMBER.fullmatch(found["last"]):
        raise ValueError("expected an address in its usual form, such as 192.0.2.1, or a name that ends in no number")
    return name.removesuffix(".")


def allowed(value: str) -> tuple[Allowed, ...]:
    """Read a comma-separated list of hosts, addresses and networks."""
    return tuple(_allowed(item.strip()) for item in value.split(","))


def _allowed(item: str) -> Allowed:
    for parse in (ip_network, host_name) if "%" not in item else ():  # a zone is of this machine alone
        with suppress(ValueError):
            return parse(item)
    raise ValueError("expected names, addresses or networks such as media.local,10.0.0.7,10.1.0.0/16")


def results_url(value: str) -> str:
    """Read where results are stored; gives it without a slash at its end."""
    given = value.strip()
    parts = urlsplit(given)
    expected = "expected file:///absolute/folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{expected}, without a query or a password: credentials come from the cloud's own variables")
    if given.startswith("file:///") and parts.path.strip("/"):
        return given.rstrip("/")
    if parts.scheme in BUCKETS and parts.netloc and URL_TEXT.fullmatch(given):
        return given.rstrip("/")
    raise ValueError(expected)


_ESCAPED = "%(?!00)[0-9A-Fa-f]{2}"
# Whatever libpq would take apart otherwise is not matched: for it, all before the first @ is user and password, unless
# a / comes before that; and it quotes what it does not understand in its errors.
SERVER = re.compile(
    r"(?![^@/]*\?[^@/]*@)"
    rf"(?:(?P<user>(?:[^@/?:%]|{_ESCAPED})*)(?::(?P<password>(?:[^@/?%]|{_ESCAPED})*))?@)?"
    r"(?P<place>[^@?]*)"
    rf"(?:\?(?P<query>(?:(?:[A-Za-z_]|{_ESCAPED})+=(?:[^&=%]|{_ESCAPED})*(?:&|\Z))*))?"
)
PASSWORDS = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})


def database_url(value: str) -> str:
    """Read where the ledger lives."""
    given = value.strip()
    if given.startswith("sqlite:///") and len(given) > len("sqlite:///"):
        return given
    scheme, slashes, place = given.partition("://")
    if slashes and scheme in ("postgresql", "postgres") and place and place.isprintable() and " " not in place:
        if not SERVER.fullmatch(place):
            raise ValueError(
                "in its user and password, write @ as %40, / as %2F, ? as %3F and % as %25; "
                "its parameters are name=value, with & as %26, = as %3D and % as %25"
            )
        return f"postgresql://{place}"
    raise ValueError(
        "expected sqlite:///relative/path.db, sqlite:////absolute/path.db or postgresql://user:password@host/database"
    )


def without_password(url: str) -> str:
    """Write the URL of a database server for people: without its password and its parameters."""
    scheme, _, rest = url.partition("://")
    if (found := SERVER.fullmatch(rest)) is None:  # made by a program, and checked by nobody
        return f"{scheme}://…"
    return f"{scheme}://" + ("" if found["user"] is None else f"{found['user']}@") + found["place"]


def passwords(url: str) -> set[str]:
    """Give every secret in the URL of a database server, as it is written and as it is meant."""
    if (found := SERVER.fullmatch(url.partition("://")[2])) is None:
        return set()
    parameters = (pair.partition("=") for pair in (found["query"] or "").split("&"))
    given = [found["password"] or "", *(value for name, _, value in parameters if unquote(name) in PASSWORDS)]
    return {form for password in given if password for form in (password, unquote(password))}


def handlers(value: str) -> str:
    """Read the name of an object in a module."""
    module, colon, name = value.strip().partition(":")
    if not (module and colon and name):
        raise ValueError("expected module:name, for example app:handlers")
    return value.strip()


def integer(least: int, most: int) -> Callable[[str], int]:
    """Make a reader of whole numbers within a range."""

    def parse(value: str) -> int:
        digits = value.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20) or not least <= int(digits) <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return int(digits)

    return parse


def seconds(least: float, most: float) -> Callable[[str], float]:
    """Make a reader of seconds within a range."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            raise ValueError(f"expected a number of seconds from {least:g} to {most:g}")
        return number

    return parse


def boolean(value: str) -> bool:
    """Read a yes or no."""
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return words[value.strip().lower()]
    except KeyError:
        raise ValueError("expected true or false") from None


def choice(*allowed: str) -> Callable[[str], str]:
    """Make a reader of one of these words, in any case."""

    def parse(value: str) -> str:
        word = value.strip().lower()
        if word not in allowed:
            near = difflib.get_close_matches(word, allowed, n=1)
            raise ValueError(f"expected one of {', '.join(allowed)}" + (f"; did you mean {near[0]}?" if near else ""))
        return word

    return parse


def confirm(value: str) -> Confirm:
    """Read whether callbacks are confirmed."""
    return Confirm(choice(*Confirm)(value))


def dollars(value: str) -> Decimal:
    """Read a price in US dollars."""
    return _amount(value, 1000, "0.0074375")


def budget(value: str) -> Decimal:
    """Read what may be spent in US dollars; 0 is nothing."""
    return _amount(value, 1_000_000, "25.00")


def _amount(value: str, most: int, example: str) -> Decimal:
    try:
        amount = Decimal(value.strip())
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= most:
        raise ValueError(f"expected an amount in US dollars from 0 to {most}, for example {example}")
    return amount

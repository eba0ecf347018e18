"""What may be fetched from where, of all that a provider's answer or a redirect names. PURE: it opens nothing.

A result's URL is a stranger's word, and we stand where strangers do not: beside databases, clouds' metadata and other
services that ask nobody for a password. So a URL is read strictly (`read_target`, `follow`), its host is resolved
once by the caller, and `permit` gives the addresses to connect to: those very addresses, so that no second answer of
a name server counts.

What it decides:

- Only http and https, on any port, and never from https to http.
- No user name or password in the URL: they are of no use to us, and a host may be hidden behind them.
- An address has its usual form. What only C libraries read as one (2130706433, 0177.0.0.1, 0x7f.1) is refused, as
  are zones, percent signs and whatever else no name of a host holds. One dot at the end is taken off.
- A name is refused if *any* of its addresses is not public: a mixed answer is a mistake or an attack, and which one
  of them is tried first is a matter of luck.
- `RINGBACK_ALLOW_PRIVATE` lets a name be, whatever its addresses are, or an address, whatever its name is.

Called by `ringback.outbound.downloads`. Messages hold the host, never the rest of a URL: it may be a signed one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NoReturn
from urllib.parse import quote, urljoin

from ringback.errors import DownloadRefused
from ringback.settings_values import Allowed, host_name

Address = IPv4Address | IPv6Address

MAX_URL = 16 << 10
PORTS = {"http": 80, "https": 443}
URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<authority>[^/?#\\]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?)?"
)
AUTHORITY = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:]+))(?::(?P<port>[0-9]{0,5}))?")
FOUR = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}\.?")
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))

# IANA's registries of special-purpose addresses, and what is public by number only. A list of our own: what
# `ipaddress` calls global has changed within Python 3.11.
SPECIAL_FOUR = tuple(
    map(
        IPv4Network,
        [
            "0.0.0.0/8",  # this network; connects to ourselves
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers' own (CGNAT)
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's host agent: answers machines there, and nobody else
            "169.254.0.0/16",  # link-local; the clouds' metadata
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocols; Oracle's metadata
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # once the relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ],
    )
)
# Of IPv6 only this is given out to the public: it leaves out loopback, link-local, unique local, multicast, and the
# local NAT64 networks (64:ff9b:1::/48), where only the operator knows which IPv4 address is meant.
GLOBAL_SIX = IPv6Network("2000::/3")
SPECIAL_SIX = tuple(
    map(
        IPv6Network,
        [
            "2001::/23",  # protocols, Teredo (2001::/32) and benchmarks among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: a tunnel to any IPv4 address
            "3fff::/20",  # documentation
        ],
    )
)
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: how hosts without IPv4 see all of it


class Flaw(StrEnum):
    """Why something is not fetched."""

    URL = "url"  # it cannot be read
    SCHEME = "scheme"
    CREDENTIALS = "credentials"
    HOST = "host"  # it is neither a name nor an address in its usual form
    ADDRESS = "address"  # it is not public
    REDIRECT = "redirect"  # too many of them, or one from https to http
    SIZE = "size"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL, read. The host is in lower case and ASCII; the path, with the query, is as it was given."""

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None  # where the host is one

    @property
    def authority(self) -> str:
        """Give what the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def read_target(url: str) -> Target:
    """Read the URL of something to be fetched.

    Raises:
        DownloadRefused: it is not fetched, wherever it may lead.
    """
    given = url.strip()
    if len(given) > MAX_URL or not given.isprintable() or not (found := URL.match(given)):
        _refuse(Flaw.URL, "expected an http(s) URL, this cannot be read as one")
    scheme, authority = found["scheme"].lower(), found["authority"]
    if scheme not in PORTS:
        _refuse(Flaw.SCHEME, f"expected an http(s) URL, got one of {scheme[:20]}")
    if "@" in (authority or ""):
        _refuse(Flaw.CREDENTIALS, "expected a URL without a user name or password")
    if given[found.end() :][:1] not in ("", "#") or not (parts := AUTHORITY.fullmatch(authority or "")):
        _refuse(Flaw.URL, "expected a host, and behind it at most a port, a path and a query")
    port = int(parts["port"] or PORTS[scheme])
    if not 0 < port < 1 << 16:
        _refuse(Flaw.URL, f"expected a port from 1 to 65535, got {port}")
    host, address = _host(parts["six"], parts["host"])
    path = quote((found["path"] or "/") + (found["query"] or ""), safe=VISIBLE)
    return Target(scheme=scheme, host=host, port=port, path=path, address=address)


def follow(target: Target, location: str) -> Target:
    """Read where a redirect leads, which may be said relative to where we are.

    Raises:
        DownloadRefused: it is not followed.
    """
    if location.isprintable() and not URL.match(location):
        try:
            location = urljoin(f"{target.scheme}://{target.authority}{target.path}", location)
        except ValueError:
            _refuse(Flaw.URL, f"{target.host} redirects to what cannot be read as a URL")
    found = read_target(location)
    if target.scheme == "https" and found.scheme == "http":
        _refuse(Flaw.REDIRECT, f"{target.host} redirects from https to http")
    return found


def permit(target: Target, addresses: Iterable[str | Address], allowed: Iterable[Allowed] = ()) -> tuple[Address, ...]:
    """Give the addresses that may be connected to, in their order, each once; `addresses` are all that the host has.

    Raises:
        DownloadRefused: one of them is neither public nor allowed.
    """
    read = dict.fromkeys(map(_plain, map(ip_address, addresses)))
    allowed = tuple(allowed)
    if target.host not in allowed:
        networks = [entry for entry in allowed if not isinstance(entry, str)]
        for address in read:
            if not is_public(address) and not any(address in network for network in networks):
                leads = "is" if address == target.address else f"leads to {address}, which is"
                text = f"{target.host} {leads} not a public address; RINGBACK_ALLOW_PRIVATE can allow it"
                _refuse(Flaw.ADDRESS, text)
    return tuple(read)


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the public internet."""
    address = _plain(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in SPECIAL_FOUR)
    if address.scope_id is not None:
        return False
    if address in NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in GLOBAL_SIX and not any(address in network for network in SPECIAL_SIX)


def _plain(address: Address) -> Address:
    """Give the IPv4 address that is written as IPv6 (::ffff:10.0.0.1): a socket connects to that one."""
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _host(six: str | None, text: str) -> tuple[str, Address | None]:
    """Read a host; gives it in one form, and its address where it is one."""
    try:
        if six is not None:
            address: Address = IPv6Address(six)
            return str(address), address
        if FOUR.fullmatch(text):
            address = IPv4Address(text.removesuffix("."))
            return str(address), address
        return host_name(text), None
    except AddressValueError:
        _refuse(Flaw.HOST, "expected an address in its usual form, such as 192.0.2.1 or [2001:db8::1]")
    except ValueError as error:
        _refuse(Flaw.HOST, str(error))


def _refuse(flaw: Flaw, text: str) -> NoReturn:
    raise DownloadRefused(text, flaw=flaw)

"""Fetching results: from public addresses only, by their numbers, and with nothing of ours. Real sockets."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ringback.errors import DownloadInterrupted, DownloadRefused
from ringback.outbound import downloads as module
from ringback.outbound.downloads import MAX_REDIRECTS, Downloads, Part, Resolve, resolve
from ringback.settings import Settings
from tests.outbound.site import HERE, VIDEO, Asked, Items, Names, fetch, fetcher, serving, whole

PUBLIC = "93.184.216.34"
REFUSED = """
    http://127.0.0.1:{port}/ http://127.0.0.1.:{port}/ http://localhost:{port}/ http://2130706433:{port}/
    http://0177.0.0.1:{port}/ http://0x7f.1:{port}/ http://127.1:{port}/ http://0:{port}/ http://0.0.0.0:{port}/
    http://[::1]:{port}/ http://[::]:{port}/ http://[::ffff:127.0.0.1]:{port}/ http://[::ffff:7f00:1]:{port}/
    http://[64:ff9b::7f00:1]:{port}/ http://[64:ff9b:1::7f00:1]:{port}/ http://[2002:7f00:1::]:{port}/
    http://[2001:0:7f00:1::1]:{port}/ http://[fe80::1%25lo]:{port}/ http://10.0.0.1/ http://169.254.169.254/latest/
    http://100.64.0.1/ http://[fd00:ec2::254]/ http://[ff02::1]/ http://255.255.255.255/ http://192.0.2.1/
    http://private.example:{port}/ https://private.example:{port}/ http://u:p@media.example:{port}/
    file:///etc/passwd file://127.0.0.1:{port}/etc/passwd ftp://127.0.0.1:{port}/ gopher://127.0.0.1:{port}/
    http://\uff11\uff12\uff17.0.0.1:{port}/ http://127\u30020\u30020\u30021:{port}/ http://media.example:0/
"""


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """List every address that a socket connects to; beyond this machine no connection is made."""
    addresses: list[Any] = []
    connect = socket.socket.connect

    def spy(self: socket.socket, address: Any) -> None:
        addresses.append(address[0])
        if address[0] not in (HERE, "127.0.0.2", "::1"):
            raise ConnectionRefusedError
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", spy)
    return addresses


@pytest.mark.parametrize("url", REFUSED.split())
async def test_what_is_refused_gets_no_connection(url: str, connected: list[Any]) -> None:
    """Not one socket is opened, neither to this machine, which listens and counts, nor elsewhere."""
    async with serving(whole()) as four, serving(whole(), "::1") as six:
        for port in (four.port, six.port):
            with pytest.raises(DownloadRefused):
                await fetch(fetcher(allow=""), url.format(port=port))
        assert (four.connections, six.connections, connected) == (0, 0, [])


@pytest.mark.parametrize(
    "addresses", [[PUBLIC, HERE], [HERE, PUBLIC], [PUBLIC, "::ffff:7f00:1"], ["2606:4700::1", "fe80::1%lo"], ["::1"]]
)
async def test_a_name_with_one_private_address_gets_no_connection(addresses: list[str], connected: list[Any]) -> None:
    """Whichever of its addresses would be tried first, a name that leads inside is refused."""
    async with serving(whole()) as site:
        with pytest.raises(DownloadRefused, match="leads to"):
            await fetch(fetcher(Names(addresses), allow=""), f"http://media.example:{site.port}/")
        assert (site.connections, connected) == (0, [])


async def test_a_name_server_that_changes_its_mind_is_not_heard(connected: list[Any]) -> None:
    """The address that was judged is the one that is connected to: the name is not resolved again."""
    names = Names([PUBLIC], [HERE])
    async with serving(whole()) as site:
        with pytest.raises(DownloadInterrupted, match=r"^media.example: no connection$"):
            await fetch(fetcher(names, allow=""), f"http://media.example:{site.port}/")
        assert (site.connections, connected, names.questions) == (0, [PUBLIC], ["media.example"])


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://inner.example:{port}/",
        "//0x7f.1:{port}/",
        "file:///etc/passwd",
        "http://u:p@media.local:{port}/",
    ],
)
async def test_a_redirect_inside_is_not_followed(location: str) -> None:
    """A redirect gets no more than a URL would: what it leads to is judged anew, and gets no connection."""
    async with serving(whole()) as inner:
        reply = whole(b"secret", 302, location=location.format(port=inner.port))
        async with serving(reply) as outer:
            with pytest.raises(DownloadRefused):
                await fetch(fetcher(allow="media.local"), f"http://media.local:{outer.port}/")
        assert (outer.connections, inner.connections) == (1, 0)


async def test_redirects_are_followed_five_times() -> None:
    """Relative and absolute ones, with the range but with nothing that a server would have us keep."""

    def reply(asked: Asked) -> Items:
        step = int(asked.target.strip("/"))
        if step == 0:
            return whole(VIDEO[9:], 206, etag='"1"', content_range=f"bytes 9-{len(VIDEO) - 1}/{len(VIDEO)}")
        where = f"/{step - 1}" if step % 2 else f"http://media.local:{site.port}/{step - 1}"
        return whole(b"not this", 307, location=where, set_cookie="a=b")

    part = Part(size=9, validator='"1"')
    async with serving(reply) as site:
        url = f"http://media.local:{site.port}/"
        assert (await fetch(fetcher(), f"{url}{MAX_REDIRECTS}", part))[1] == VIDEO[9:]
        assert {asked.headers.get("range") for asked in site.asked} == {"bytes=9-"}
        assert not any("cookie" in asked.headers or "referer" in asked.headers for asked in site.asked)
        with pytest.raises(DownloadRefused, match="more than 5 redirects") as caught:
            await fetch(fetcher(), f"{url}{MAX_REDIRECTS + 1}")
        assert caught.value.flaw == "redirect"


async def test_a_request_is_plain_and_its_path_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of ours goes along, no proxy of the environment is used, and the signed path stays as it was."""
    target = "/a%2Fb/../c+d~'(*)!%7E?X-Amz-Signature=%2f+&=e;f&g|h"
    async with serving(whole()) as proxy, serving(whole(VIDEO, content_type="video/mp4", ETag='W/"x"')) as site:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        download, body = await fetch(fetcher(), f"http://media.local:{site.port}{target}#x")
        assert (proxy.connections, site.asked[0].target, body) == (0, target, VIDEO)
    assert site.asked[0].headers == {
        "host": f"media.local:{site.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "user-agent": "ringback",
    }
    told = (download.status, download.start, download.position, download.length, download.content_type, download.etag)
    assert told == (200, 0, len(VIDEO), len(VIDEO), "video/mp4", 'W/"x"')
    assert (download.host, download.part) == ("media.local", None)  # a weak tag is no ground to go on from


async def test_nothing_is_decoded() -> None:
    """What came compressed although nobody asked for that is given as it came, and said to be so."""
    body = gzip.compress(VIDEO)
    async with serving(whole(body, content_encoding="gzip")) as site:
        download, came = await fetch(fetcher(), f"http://127.0.0.1:{site.port}/")
    assert (came, download.content_encoding) == (body, "gzip")


def certified(names: list[str], folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a certificate for names: how a server shows it, and a client that trusts it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "pem").write_bytes(pem + key.private_bytes(*private))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "pem")
    return server, ssl.create_default_context(cadata=pem.decode())


async def test_the_certificate_is_of_the_name(tmp_path: Path) -> None:
    """The connection goes to a number, but the name is what is shown and checked; and it serves that name alone."""
    server, client = certified(["media.local", "other.local"], tmp_path)
    shown: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: shown.append(name)

    def source() -> Downloads:
        return fetcher(transport=httpx.AsyncHTTPTransport(verify=client, limits=module.LIMITS))

    async with serving(whole(VIDEO), tls=server, keeps=True) as site, source() as secure:
        for host in ("media.local", "other.local"):
            async with secure.open(f"https://{host}:{site.port}/") as download:
                assert b"".join([chunk async for chunk in download]) == VIDEO
        for host in ("wrong.local", HERE):
            with pytest.raises(DownloadInterrupted, match=f"^{host}: no connection$"):
                await fetch(source(), f"https://{host}:{site.port}/")
        assert (len(site.asked), site.connections) == (2, 2)
        assert shown == ["media.local", "other.local", "wrong.local", None]


async def test_a_redirect_does_not_leave_https(tmp_path: Path) -> None:
    """From https only https is reached; the plain server gets no connection."""
    server, client = certified(["media.local"], tmp_path)
    async with serving(whole()) as plain:
        async with serving(whole(status=301, location=f"http://media.local:{plain.port}/"), tls=server) as site:
            source = fetcher(transport=httpx.AsyncHTTPTransport(verify=client))
            with pytest.raises(DownloadRefused, match="redirects from https to http"):
                await fetch(source, f"https://media.local:{site.port}/")
        assert plain.connections == 0


async def test_the_next_address_is_tried(connected: list[Any]) -> None:
    """A name has several addresses so that one of them may fail; after four it is given up."""
    names = Names(["127.0.0.2", HERE], [f"127.0.0.{last}" for last in (3, 4, 5, 6, 1)])
    async with serving(whole(VIDEO)) as site:
        source, url = fetcher(names), f"http://media.local:{site.port}/"
        assert (await fetch(source, url))[1] == VIDEO
        with pytest.raises(DownloadInterrupted, match="no connection"):
            await fetch(source, url)
    assert connected == ["127.0.0.2", HERE, "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"]


async def test_a_name_that_does_not_resolve_may_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such name, none of its addresses, or no answer of the name server: try again."""

    async def unknown(*_: object) -> Collection[str]:
        raise socket.gaierror(-2, "unknown")

    async def silent(*_: object) -> Collection[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(module, "RESOLVE_SECONDS", 0.01)
    late, none = "its name was not resolved in time", "its name has no address"
    answers: list[tuple[Resolve, str]] = [(unknown, none), (Names([]), none), (silent, late)]
    for answer, text in answers:
        with pytest.raises(DownloadInterrupted, match=f"media.example: {text}"):
            await fetch(Downloads(Settings(), resolve=answer), "http://media.example/")


async def test_the_systems_resolver_is_asked() -> None:
    """By default names are resolved as everywhere on this machine, and `localhost` is no public name."""
    assert HERE in await resolve("localhost", 80)
    with pytest.raises(DownloadRefused, match="localhost leads to"):
        await fetch(Downloads(Settings()), "http://localhost/")

"""The address guard: which URLs are read, which addresses are public, and what an operator can allow."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.errors import DownloadRefused
from ringback.outbound.guard import MAX_URL, Flaw, follow, is_public, permit, read_target
from ringback.settings_values import allowed

NAMED = read_target("https://media.example/a")


@pytest.mark.parametrize(
    ("url", "authority", "path", "port"),
    [
        ("https://media.example", "media.example", "/", 443),
        ("HTTPS://Media.EXAMPLE:443/A?b=C#d", "media.example", "/A?b=C", 443),
        ("http://media.example:8080?b", "media.example:8080", "/?b", 8080),
        ("http://media.example:/x", "media.example", "/x", 80),
        ("https://media.example./x", "media.example", "/x", 443),
        ("https://my_bucket.s3.example/x", "my_bucket.s3.example", "/x", 443),
        ("https://a/%2F%zz+~;'\"<>|\\^`{}[]/../?&&=%20#f", "a", "/%2F%zz+~;'\"<>|\\^`{}[]/../?&&=%20", 443),
        ("https://a/\u00fc b?c=\u00e9 d", "a", "/%C3%BC%20b?c=%C3%A9%20d", 443),
        ("https://b\u00fccher.example/", "xn--bcher-kva.example", "/", 443),
        (" https://a/@b:c@d ", "a", "/@b:c@d", 443),
        ("http://8.8.8.8.:81/", "8.8.8.8:81", "/", 81),
        ("http://[2606:4700::0:1111]:81/", "[2606:4700::1111]:81", "/", 81),
    ],
)
def test_a_url_is_read(url: str, authority: str, path: str, port: int) -> None:
    """A host takes one form, and the path stays byte for byte what it was, since a signature may cover it."""
    target = read_target(url)
    assert (target.authority, target.path, target.port) == (authority, path, port)


@pytest.mark.parametrize(
    ("flaw", "urls"),
    [
        (
            Flaw.SCHEME,
            "file:///etc/passwd ftp://a/ data:text/plain,x javascript:x gopher://a s3://a/b file:x HTTPX://a/",
        ),
        (Flaw.CREDENTIALS, "http://u:p@a/ http://u@a/ http://@a/ http://a:80@10.0.0.1/ https://a%40b@c/"),
        (Flaw.URL, "a //a/b /b http: http:/a http:///a http:// http:a http://a:0/ http://a:65536/ http://a:1:2/"),
        (Flaw.URL, "http://a:x/ http://a:\u0661/ http://:80/ http://a\\b/ http:\\\\a\\b http://a\\@b/ http://a/\x00"),
        (
            Flaw.URL,
            "http://[::1%25eth0]/ http://[fe80::1%eth0]/ http://[::1/ http://[::1]a/ http://[v1.a]/ http://[::g]/",
        ),
        (Flaw.URL, f"http://a/{'x' * MAX_URL} http://a/\ud800 http://a\u00ad/ http://a\u200d/"),
        (Flaw.HOST, "http://2130706433/ http://0177.0.0.1/ http://0x7f.1/ http://0x7f000001/ http://127.1/ http://0/"),
        (Flaw.HOST, "http://127.0.0.0x1/ http://017700000001/ http://0X7F.0.0.1/ http://127.0.0.01/ http://1.2.3.4.5/"),
        (Flaw.HOST, "http://1.2.3.256/ http://1.2.3/ http://a.1/ http://127.0.0.1../ http://127%2e0.0.1/"),
        (Flaw.HOST, "http://\uff11\uff12\uff17.0.0.1/ http://127\u30020\u30020\u30021/ http://\u2460.\u2460/"),
        (Flaw.HOST, f"http://a..b/ http://./ http://a,b/ http://{'a' * 64}/ http://{'a.' * 130}a/ http://{300 * 'é'}/"),
        (Flaw.HOST, "http://[1.2.3.4]/ http://[:::]/ http://[::ffff:1.2.3.04]/ http://[::ffff:1.2.3.256]/"),
    ],
)
def test_a_url_is_refused(flaw: Flaw, urls: str) -> None:
    """Whatever is not plainly an http(s) URL of a host is refused before anything is resolved."""
    for url in urls.split(" "):
        with pytest.raises(DownloadRefused) as caught:
            read_target(url)
        assert caught.value.flaw == flaw, url


@pytest.mark.parametrize(
    "url", ["", "http://a b/", "http://a\tb/", "http://a/\nb", "http://a/b\rc", "http://a/\u2028b"]
)
def test_space_is_no_part_of_a_url(url: str) -> None:
    """Only in a path a plain space may stand, as some write it."""
    with pytest.raises(DownloadRefused):
        read_target(url)


@given(st.text(max_size=60) | st.text(alphabet="htps:/@[]%.\\0x17f#?a\u3002\uff10 ", max_size=40).map("http:".__add__))
def test_reading_ends_in_a_target_or_a_refusal(text: str) -> None:
    """No text makes the reader fail otherwise; what it lets through has a host of plain letters."""
    try:
        target = read_target(text)
    except DownloadRefused:
        return
    assert target.address is not None or set(target.host) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert target.path.startswith("/")
    assert target.path.isascii()


NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16
    169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255
    198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::ffff:0:127.0.0.1 ::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::7f00:1
    64:ff9b::169.254.169.254 64:ff9b:1::8.8.8.8 64:ff9b:1:abcd::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2
    2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:0808:0808::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254
    fe80::1 fe80::1%eth0 2606:4700::1111%eth0 fec0::1 ff02::1 ff0e::1
"""
PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.17
    169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 198.17.255.255 198.20.0.0 223.255.255.255
    ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2001:200::1 2001:4860:4860::8888 2606:4700::1111 2a00:1450::1
"""


@pytest.mark.parametrize("text", NOT_PUBLIC.split())
def test_what_is_not_public_is_refused(text: str) -> None:
    """Neither as the host itself nor behind a name, alone or among public ones."""
    assert not is_public(ip_address(text))
    for addresses in ([text], ["8.8.8.8", text], [text, "2606:4700::1111"]):
        with pytest.raises(DownloadRefused, match="leads to") as caught:
            permit(NAMED, addresses)
        assert caught.value.flaw == Flaw.ADDRESS
    if "%" not in text:
        target = read_target(f"http://[{text}]:8080/" if ":" in text else f"http://{text}:8080/")
        assert target.address is not None
        with pytest.raises(DownloadRefused, match="is not a public address; RINGBACK_ALLOW_PRIVATE"):
            permit(target, [target.address])


@pytest.mark.parametrize("text", PUBLIC.split())
def test_what_is_public_is_let_through(text: str) -> None:
    """The neighbours of what is refused are not, nor are public addresses that are written as IPv6."""
    assert is_public(ip_address(text))
    assert len(permit(NAMED, [text])) == 1


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**125 - 1).map(lambda n: IPv6Address(2**125 + n)))
def test_nothing_is_public_that_python_knows_to_be_private(address: IPv4Address | IPv6Address) -> None:
    """Python's own table is the second opinion: ours is never wider."""
    assert address.is_global or not is_public(address)


@given(st.ip_addresses(v=6, network="::ffff:0:0/96") | st.ip_addresses(v=6, network="64:ff9b::/96"))
def test_an_address_within_another_is_judged(address: IPv6Address) -> None:
    """An IPv4 address that is written as IPv6 is as public as it is."""
    assert is_public(address) == is_public(IPv4Address(int(address) & 0xFFFFFFFF))


@given(st.ip_addresses(v=6).filter(lambda six: six not in IPv6Network("2000::/3")))
def test_of_ipv6_only_the_public_part_is_public(address: IPv6Address) -> None:
    """Whatever is not given out is not connected to, but for what stands for a public IPv4 address."""
    within = [ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96")]
    assert not is_public(address) or any(address in network for network in within)


def test_each_address_is_given_once_in_order_and_as_it_is_connected_to() -> None:
    """Copies and other spellings of one address are one."""
    assert permit(NAMED, ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "1.1.1.1"]) == (
        IPv4Address("8.8.8.8"),
        IPv6Address("2606:4700::1"),
        IPv4Address("1.1.1.1"),
    )
    assert permit(NAMED, []) == ()


@pytest.mark.parametrize(
    ("setting", "url", "addresses", "passes"),
    [
        ("10.0.0.7", "http://10.0.0.7/", ["10.0.0.7"], True),
        ("10.0.0.7", "http://10.0.0.8/", ["10.0.0.8"], False),
        ("10.0.0.7", "http://media.local/", ["10.0.0.7"], True),
        ("10.0.0.0/8", "http://media.local/", ["10.9.9.9", "::ffff:10.0.0.1", "8.8.8.8"], True),
        ("10.0.0.0/8", "http://media.local/", ["10.9.9.9", "127.0.0.1"], False),
        ("other,Media.Local.", "http://MEDIA.local./", ["127.0.0.1", "fe80::1"], True),
        ("media.local", "http://media.local.example/", ["127.0.0.1"], False),
        ("media.local", "http://127.0.0.1/", ["127.0.0.1"], False),
        ("::1,fd00::/8", "http://media.local/", ["::1", "fd00::5"], True),
        ("::/0", "http://media.local/", ["10.0.0.1"], False),
        ("64:ff9b:1::/48", "http://media.local/", ["64:ff9b:1::a00:1"], True),
    ],
)
def test_an_operator_allows_names_addresses_and_networks(
    setting: str, url: str, addresses: list[str], passes: bool
) -> None:
    """A name stands for whatever it leads to; an address or a network for itself alone."""
    if passes:
        assert permit(read_target(url), addresses, allowed(setting))
    else:
        with pytest.raises(DownloadRefused):
            permit(read_target(url), addresses, allowed(setting))


@pytest.mark.parametrize(
    ("location", "authority", "path"),
    [
        ("https://other.example/x?y", "other.example", "/x?y"),
        ("/x?y", "media.example:81", "/x?y"),
        ("x", "media.example:81", "/a/x"),
        ("?y", "media.example:81", "/a/b?y"),
        ("//other.example:5/x", "other.example:5", "/x"),
        ("/\\other.example/x", "media.example:81", "/\\other.example/x"),
    ],
)
def test_a_redirect_is_read_from_where_we_are(location: str, authority: str, path: str) -> None:
    """Relative or not, it leads where a browser would go."""
    target = follow(read_target("https://media.example:81/a/b?c"), location)
    assert (target.authority, target.path) == (authority, path)


@pytest.mark.parametrize(
    ("location", "flaw"),
    [
        ("http://media.example/", Flaw.REDIRECT),
        ("file:///etc/passwd", Flaw.SCHEME),
        ("https://u:p@media.example/", Flaw.CREDENTIALS),
        ("//u:p@media.example/", Flaw.CREDENTIALS),
        ("//2130706433/", Flaw.HOST),
        ("//[::1/", Flaw.URL),
        ("/a\nb", Flaw.URL),
    ],
)
def test_a_redirect_is_refused(location: str, flaw: Flaw) -> None:
    """A redirect has no more rights than a URL, and does not lead from https to http."""
    with pytest.raises(DownloadRefused) as caught:
        follow(NAMED, location)
    assert caught.value.flaw == flaw


def test_from_http_to_https_is_no_step_down() -> None:
    """What only gets safer is followed."""
    assert follow(read_target("http://media.example/"), "https://media.example/").port == 443


@pytest.mark.parametrize("url", ["http://u:sesame@a/", "http://a:0/sesame", "http://1.1/sesame", "x://a/sesame"])
def test_a_refusal_keeps_the_urls_secrets(url: str) -> None:
    """A signed URL is as good as a password: no message holds its path or query."""
    with pytest.raises(DownloadRefused) as caught:
        read_target(url)
    assert "sesame" not in str(caught.value)

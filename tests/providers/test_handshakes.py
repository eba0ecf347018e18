"""The challenges: what is answered, exactly how, and that nothing a stranger sends raises."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringback.providers.handshakes import MAX_FIELDS, Handshake, Reply, answer
from ringback.providers.signatures import Headers

EVERY = frozenset(Handshake)
NOSNIFF = ("X-Content-Type-Options", "nosniff")
ORIGIN, RATE = b"webhook-request-origin", b"webhook-request-rate"


def challenged(body: Any, kinds: frozenset[Handshake] = EVERY) -> Reply | None:
    """Answer a POST of this."""
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return answer(kinds, "POST", b"", Headers([]), encoded)


def subscribed(query: bytes, kinds: frozenset[Handshake] = EVERY) -> Reply | None:
    """Answer a GET of this."""
    return answer(kinds, "GET", query, Headers([]), b"")


def asked(*headers: tuple[bytes, bytes], kinds: frozenset[Handshake] = EVERY) -> Reply | None:
    """Answer an OPTIONS with these headers."""
    return answer(kinds, "OPTIONS", b"", Headers(list(headers)), b"")


CHALLENGES: list[tuple[str, Any, bytes]] = [
    ("MiniMax", {"challenge": "1a3cs1j-601a"}, b'{"challenge":"1a3cs1j-601a"}'),
    ("Slack", {"token": "t", "challenge": "3eZb", "type": "url_verification"}, b'{"challenge":"3eZb"}'),
    ("escaped as JSON", {"challenge": '<"é">'}, '{"challenge":"<\\"é\\">"}'.encode()),
    ("the longest", {"challenge": "x" * 1000}, b'{"challenge":"' + b"x" * 1000 + b'"}'),
    (
        "the longest, escaped",
        b'{"challenge":"' + b"\\ud83d\\ude00" * 1000 + b'"}',
        f'{{"challenge":"{"😀" * 1000}"}}'.encode(),
    ),
]


@pytest.mark.parametrize(("body", "expected"), [pytest.param(*row[1:], id=row[0]) for row in CHALLENGES])
def test_a_challenge_is_echoed_as_json(body: Any, expected: bytes) -> None:
    """PROVIDERS C, MiniMax: {"challenge": …} and nothing else of what came."""
    assert challenged(body) == Reply(expected, "application/json", (NOSNIFF,))


NO_CHALLENGES: list[tuple[str, Any]] = [
    ("a callback", {"task_id": "1", "status": "success"}),
    ("a callback with a challenge beside it", {"task_id": "1", "challenge": "x"}),
    ("the same in camel case", {"taskId": "1", "challenge": "x"}),
    ("wrapped", {"task": {}, "challenge": "x"}),
    ("wrapped in data", {"data": {}, "challenge": "x"}),
    ("a state", {"status": "success", "challenge": "x"}),
    ("another type", {"type": "event_callback", "challenge": "x"}),
    ("a type that is no text", {"type": ["url_verification"], "challenge": "x"}),
    ("empty", {"challenge": ""}),
    ("too long", {"challenge": "x" * 1001}),
    ("unprintable", {"challenge": "a\nb"}),
    ("NUL", {"challenge": "a\0"}),
    ("a number", {"challenge": 7}),
    ("an object", {"challenge": {"a": 1}}),
    ("a list", [{"challenge": "x"}]),
    ("no JSON", b"challenge=x"),
    ("nothing", b""),
    ("bad UTF-8", b'{"challenge":"\xff"}'),
    ("a lone surrogate", b'{"challenge":"\\ud800"}'),
    ("deep", b"[" * 10_000),
    ("too large", {"challenge": "x", "padding": "y" * 20_000}),
]


@pytest.mark.parametrize("body", [pytest.param(row[1], id=row[0]) for row in NO_CHALLENGES])
def test_what_is_no_challenge_is_not_answered(body: Any) -> None:
    """A body about a task is a callback; what is malformed is left to be stored as unrecognised."""
    assert challenged(body) is None


def test_a_subscription_is_confirmed() -> None:
    """W3C WebSub, 5.3: the challenge itself, as plain text, percent-decoded."""
    query = b"hub.mode=subscribe&hub.topic=https%3A%2F%2Fa.example&hub.challenge=a%20%3Cb%3E%C3%A9&hub.lease_seconds=9"
    expected = Reply("a <b>é".encode(), "text/plain; charset=utf-8", (NOSNIFF,))
    assert subscribed(query) == expected
    assert subscribed(query.replace(b"=subscribe", b"=unsubscribe")) == expected


NO_SUBSCRIPTIONS = [
    b"",
    b"hub.mode=subscribe&hub.challenge=x",
    b"hub.mode=subscribe&hub.topic=&hub.challenge=x",
    b"hub.mode=subscribe&hub.topic=t",
    b"hub.mode=subscribe&hub.topic=t&hub.challenge=",
    b"hub.mode=denied&hub.topic=t&hub.challenge=x",
    b"hub.topic=t&hub.challenge=x",
    b"hub.mode=subscribe&hub.topic=t&hub.challenge=x&hub.challenge=y",
    b"hub.mode=subscribe&hub.topic=t&hub.challenge=a%0Ab",
    b"hub.mode=subscribe&hub.topic=t&hub.challenge=%FF",
    b"hub.mode=subscribe&hub.topic=t&hub.challenge=\xff",
    b"hub.mode=subscribe&hub.topic=t&hub.challenge=" + b"x" * 1001,
    b"hub.mode=subscribe&hub.topic=t&hub.challenge=x&" + b"a=1&" * MAX_FIELDS,
    b"hub.mode=subscribe&hub.topic=t&hub.challenge=x&a=" + b"y" * 9_000,
]


@pytest.mark.parametrize("query", NO_SUBSCRIPTIONS)
def test_what_is_no_subscription_is_not_answered(query: bytes) -> None:
    """All three fields, each once, and a challenge that is printable."""
    assert subscribed(query) is None


ALLOWED = [
    (b"eventgrid.azure.net", None, "*"),
    (b"eventemitter.example.com", b"120", "120"),
    (b"*", b"*", "*"),
    (b"localhost", b"999999999", "999999999"),
]


@pytest.mark.parametrize(("origin", "rate", "allowed"), ALLOWED)
def test_an_origin_is_allowed(origin: bytes, rate: bytes | None, allowed: str) -> None:
    """CloudEvents, "HTTP 1.1 Web Hooks": the origin that asked, at the rate that it asked for."""
    headers = [(ORIGIN, origin)] + ([(RATE, rate)] if rate else [])
    expected = (
        ("WebHook-Allowed-Origin", origin.decode()),
        ("WebHook-Allowed-Rate", allowed),
        ("Allow", "POST"),
        NOSNIFF,
    )
    assert asked(*headers) == Reply(b"", "text/plain; charset=utf-8", expected)


NOT_ALLOWED = [
    [],
    [(RATE, b"120")],
    [(ORIGIN, b"")],
    [(ORIGIN, b"a b")],
    [(ORIGIN, b"a.example\r\nx: y")],
    [(ORIGIN, b"https://a.example")],
    [(ORIGIN, b".example")],
    [(ORIGIN, b"a..example")],
    [(ORIGIN, b"a.example ")],
    [(ORIGIN, b"\xff")],
    [(ORIGIN, b"a" * 254)],
    [(ORIGIN, b"a.example"), (ORIGIN, b"b.example")],
    [(ORIGIN, b"a.example"), (RATE, b"0")],
    [(ORIGIN, b"a.example"), (RATE, b"-1")],
    [(ORIGIN, b"a.example"), (RATE, b"1.5")],
    [(ORIGIN, b"a.example"), (RATE, b"1" * 10)],
    [(ORIGIN, b"a.example"), (RATE, b"1"), (RATE, b"2")],
]


@pytest.mark.parametrize("headers", NOT_ALLOWED)
def test_what_is_no_origin_is_not_allowed(headers: list[tuple[bytes, bytes]]) -> None:
    """A name, once, and a whole number of requests a minute: nothing else reaches our own headers."""
    assert asked(*headers) is None


def test_each_kind_is_answered_only_where_it_is_configured() -> None:
    """A challenge to a provider that is not known to send any is an ordinary request."""
    calls: dict[Handshake, Callable[[frozenset[Handshake]], Reply | None]] = {
        Handshake.CHALLENGE: lambda kinds: challenged({"challenge": "x"}, kinds),
        Handshake.WEBSUB: lambda kinds: subscribed(b"hub.mode=subscribe&hub.topic=t&hub.challenge=x", kinds),
        Handshake.CLOUDEVENTS: lambda kinds: asked((ORIGIN, b"a.example"), kinds=kinds),
    }
    for kind, call in calls.items():
        assert call(frozenset({kind})) is not None
        assert call(EVERY - {kind}) is None
        assert call(frozenset()) is None
    assert answer(EVERY, "PUT", b"", Headers([]), b'{"challenge":"x"}') is None


HEADERS = st.lists(st.tuples(st.sampled_from([ORIGIN, RATE, b"x"]), st.binary(max_size=20) | st.just(b"a.example")))
PARTS = st.sampled_from([b"hub.mode=subscribe", b"hub.topic=t", b"hub.challenge=", b"&", b"%", b"=", b"%C3", b"+"])
QUERIES = st.binary(max_size=60) | st.lists(PARTS | st.binary(max_size=3), max_size=12).map(b"&".join)
BODIES = st.binary(max_size=60) | st.builds(
    lambda value: msgspec.json.encode({"challenge": value}), st.none() | st.integers(0, 9) | st.text(max_size=20)
)


@given(st.sampled_from(["POST", "GET", "OPTIONS", "HEAD", ""]), QUERIES, HEADERS, BODIES)
@example("GET", b"&".join([b"hub.mode=subscribe", b"hub.topic=t", b"hub.challenge=a"]), [], b"")
def test_nothing_raises_and_every_answer_is_safe(
    method: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Whatever comes: no error, no page, no header that could hold a second one, and no more than was sent."""
    reply = answer(EVERY, method, query, Headers(headers), body)
    if reply is not None:
        assert reply.content_type in ("application/json", "text/plain; charset=utf-8")
        assert NOSNIFF in reply.headers
        assert all(value.isascii() and value.isprintable() for _, value in reply.headers)
        assert len(reply.body) <= max(len(query), len(body))

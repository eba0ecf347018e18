"""HMAC over a time and the body: Slack's example, the list of Stripe, and what a template may be."""

from datetime import UTC, datetime

import pytest

from ringback.providers.signatures import TimestampedHmac
from ringback.providers.signatures.scheme import Flaw
from ringback.providers.signatures.timestamped_hmac import compile_template
from tests.providers.signatures.signed import (
    BODY,
    NOW,
    SECONDS,
    SLACK,
    STRIPE,
    TEXTS,
    TOAPIS,
    Case,
    Parts,
    b64,
    hexed,
    mac,
)

# docs.slack.dev, "Verifying requests from Slack".
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2F"
    b"hooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)


def test_slacks_example() -> None:
    """The documented secret, time and body give the documented signature, and no other body does."""
    case = Case("documented", SLACK.scheme, ("8f742231b10e8888abcd99yyyzzz85a5", "-"), SLACK.sign)
    lines = [
        (b"x-slack-signature", b"v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        (b"x-slack-request-timestamp", b"1531420618"),
    ]
    then = datetime.fromtimestamp(1531420618, UTC)
    assert case.flaw(lines, SLACK_BODY, now=then) is None
    assert case.flaw(lines, SLACK_BODY.replace(b"text=", b"text=x"), now=then) == Flaw.SIGNATURE


def stripe(value: str) -> str | None:
    """Verify a list in which {good} stands for the signature."""
    good = hexed(TEXTS[0].encode(), b"%d.%s" % (SECONDS, BODY)).decode()
    return STRIPE.flaw([(b"stripe-signature", value.format(t=f"t={SECONDS}", good=good, bad="0" * 64).encode())])


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        ("{t},v1={good}", None),
        ("v1={good},{t}", None),
        ("v1={bad},v1={good},{t}", None),
        ("{t},v1={good},v1={bad}", None),
        (",,{t},,v1={good},,", None),
        ("t,{t},v1,=,v1=,v1=={good},v1={good}", None),
        ("{t}, v1={good}", Flaw.HEADER_MALFORMED),
        (" {t},v1={good}", Flaw.HEADER_MALFORMED),
        ("{t} ,v1={good}", Flaw.TIMESTAMP_MALFORMED),
        ("{t};v1={good}", Flaw.TIMESTAMP_MALFORMED),
        ("{t}", Flaw.HEADER_MALFORMED),
        ("v1={good}", Flaw.HEADER_MALFORMED),
        ("{t},{t},v1={good}", Flaw.HEADER_MALFORMED),
        ("{t},v1={good},t=1", Flaw.HEADER_MALFORMED),
        ("t=,{t},v1={good}", Flaw.HEADER_MALFORMED),
        ("T={t},v1={good}", Flaw.HEADER_MALFORMED),
        ("{t},v0={good}", Flaw.HEADER_MALFORMED),
        ("{t},V1={good}", Flaw.HEADER_MALFORMED),
        ("{t},{good}", Flaw.HEADER_MALFORMED),
        ("{t},v1={good}0", Flaw.HEADER_MALFORMED),
        ("{t},v1={bad}", Flaw.SIGNATURE),
        ("{t}," + "v1={bad}," * 30 + "v1={good}", None),
        ("{t}," + "v1={bad}," * 31 + "v1={good}", Flaw.SIGNATURE),
        ("{t}," + "v1={bad}," * 70 + "v1={good}", Flaw.HEADER_MALFORMED),
    ],
)
def test_stripes_list(value: str, flaw: str | None) -> None:
    """The time stands in the list once, and any v1 of the first 32 entries may fit; nothing is trimmed."""
    assert stripe(value) == flaw


def test_two_signatures_of_toapis() -> None:
    """For a day after a rotation ToAPIs sends two (PROVIDERS C)."""
    lines, old = TOAPIS.sign(Parts(), 0), TOAPIS.sign(Parts(), 1)
    both = [*lines[:2], (lines[2][0], old[2][1] + b"," + lines[2][1])]
    assert TOAPIS.flaw(both) is None
    assert TOAPIS.flaw(both, keys=TOAPIS.keys(1)) is None


def test_a_bare_signature() -> None:
    """Without a version the header is the signature alone; its encoding and algorithm are options."""
    scheme = TimestampedHmac(
        header="x-s",
        timestamp_header="x-t",
        version="",
        template="{body}{timestamp}",
        algorithm="sha1",
        encoding="base64",
    )
    case = Case("bare", scheme, ("secret", "-"), SLACK.sign)
    parts = Parts()
    lines = [(b"x-t", parts.timestamp), (b"x-s", b64(mac(b"secret", parts.body + parts.timestamp, "sha1")))]
    assert case.flaw(lines) is None
    made = scheme.sign(parts.body, b"secret", now=NOW, event_id="")
    assert {name.encode(): value.encode() for name, value in made.items()} == dict(lines)
    assert case.flaw(lines, parts.body + b"0") == Flaw.SIGNATURE


def test_digits_cannot_move_from_the_body_into_the_time() -> None:
    """Where body and time touch, a zero of the body's end is not taken for the time's beginning."""
    scheme = TimestampedHmac(header="x-s", timestamp_header="x-t", version="", template="{body}{timestamp}")
    case = Case("touching", scheme, ("secret", "-"), SLACK.sign)
    time = Parts().timestamp
    signature = (b"x-s", hexed(b"secret", b"10" + time))
    assert case.flaw([signature, (b"x-t", time)], b"10") is None
    assert case.flaw([signature, (b"x-t", b"0" + time)], b"1") == Flaw.TIMESTAMP_MALFORMED


def test_templates() -> None:
    """Text around the names is kept as it is, percent signs and doubled braces included."""
    form, separators = compile_template("100% {{{id}}}|{timestamp}.{body}", ("id", "timestamp", "body"))
    assert form % {b"id": b"i", b"timestamp": b"t", b"body": b"{body}%"} == b"100% {i}|t.{body}%"
    assert separators == (b"100% {", b"}", b"|", b".")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"template": "{body}"}, r"expected {timestamp}, {body}, each once, got '{body}'"),
        ({"template": ""}, "each once"),
        ({"template": "{timestamp}.{timestamp}.{body}"}, "each once"),
        ({"template": "{id}.{timestamp}.{body}"}, "each once"),
        ({"template": "{timestamp}.{body}.{}"}, "each once"),
        ({"template": "{timestamp!r}.{body}"}, "each once"),
        ({"template": "{timestamp:>9}.{body}"}, "each once"),
        ({"template": "{timestamp.real}.{body}"}, "each once"),
        ({"template": "{timestamp}.{body"}, "its braces do not match"),
        ({"template": "{timestamp}.body}"}, "its braces do not match"),
        ({"template": "{timestamp}.{body}", "id_header": "x-i"}, r"expected {id}, {timestamp}, {body}"),
        ({"template": "{id}{timestamp}.{body}", "id_header": "x-i"}, r"with some text beside {id}"),
        ({"template": "{timestamp}.{body}{id}", "id_header": "x-i"}, r"with some text beside {id}"),
        ({"header": "X"}, "in lower case"),
        ({"timestamp_header": "x t"}, "expected the name of a header"),
        ({"id_header": "x:"}, "expected the name of a header"),
        ({"algorithm": "sha3"}, "algorithm: expected"),
        ({"encoding": "base16"}, "encoding: expected"),
        ({"version": ""}, "it may be empty only beside a timestamp_header"),
        ({"version": "v1="}, "expected a word such as v1"),
        ({"version": "v1,v2", "timestamp_header": "x-t"}, "expected a word such as v1"),
        ({"version": "ü"}, "expected a word such as v1"),
        ({"version": "t"}, "t is the label of the time"),
    ],
)
def test_wrong_options(options: dict[str, str], words: str) -> None:
    """An unknown option, or a template that could be read in two ways, is an error when the scheme is made."""
    with pytest.raises(ValueError, match=words):
        TimestampedHmac(**{"header": "x-s", **options})

"""`stripe`, whose shape, time and signatures in one header, is that of many others."""

import json

import pytest
import stripe
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.oracle import (
    LATER,
    MANY,
    SOME,
    Difference,
    Oracle,
    Verdict,
    compare,
    is_long,
    is_not_utf8,
    is_odd_time,
    last,
    named,
    our_verdict,
    repeats,
    show,
    signed_with,
)
from tests.oracles.secret_forms import SecretDifference, check_same_key, secret_texts
from tests.oracles.secret_forms import named as named_secrets
from tests.oracles.spoiled import Recipe, recipes
from tests.providers.signatures.signed import BODY, NOW, SECONDS, STRIPE, TEXTS, hexed
from tests.providers.signatures.test_mutations import Request

HEADER = b"stripe-signature"
SECRET = TEXTS[0]
KEY = SECRET.encode()


def ask(request: Request, secret: str = SECRET) -> None:
    """Verify with the tolerance of `Webhook.construct_event`."""
    header = last(request, HEADER).decode("latin-1")
    stripe.WebhookSignature.verify_header(request[1], header, secret, stripe.Webhook.DEFAULT_TOLERANCE)


def entries(request: Request) -> list[bytes]:
    """Split the list."""
    return last(request, HEADER).split(b",")


def times(request: Request) -> list[bytes]:
    """Find the times in the list."""
    return [entry[2:] for entry in entries(request) if entry.startswith(b"t=")]


def listed(text: bytes, body: bytes = BODY) -> Request:
    """Give a request with this list."""
    return [(HEADER, text)], body


def sign(time: bytes, body: bytes = BODY) -> bytes:
    """Give the entry of a time and a body."""
    return b"v1=" + hexed(KEY, time + b"." + body)


NUMBER = b"%d" % SECONDS
ENTRY = sign(NUMBER)
GOOD = b"t=" + NUMBER + b"," + ENTRY
FUTURE = b"%d" % (SECONDS + 301)
EDGE = b"%d" % (SECONDS - 300)

DIFFERENCES = (
    Difference("a header comes twice", Verdict.ACCEPTED, repeats(HEADER), ([(HEADER, GOOD)] * 2, BODY)),
    Difference(
        "a time ahead of the clock",
        Verdict.ACCEPTED,
        lambda request: any(time.isdigit() and int(time) > SECONDS + 300 for time in times(request)),
        listed(b"t=" + FUTURE + b"," + sign(FUTURE)),
    ),
    Difference(
        "less than a second too old",
        Verdict.REFUSED,
        lambda request: times(request) == [EDGE],
        listed(b"t=" + EDGE + b"," + sign(EDGE)),
        ours=True,
    ),
    Difference(
        "a time that is no plain number",
        Verdict.ACCEPTED,
        lambda request: any(is_odd_time(time) for time in times(request)),
        listed(b"t=+" + NUMBER + b"," + ENTRY),
    ),
    Difference(
        "several times", Verdict.ACCEPTED, lambda request: len(times(request)) > 1, listed(GOOD + b",t=" + FUTURE)
    ),
    Difference(
        "a signature with more behind it",
        Verdict.ACCEPTED,
        lambda request: any(entry.count(b"=") > 1 for entry in entries(request)),
        listed(GOOD + b"=more"),
    ),
    Difference(
        "a label without a value",
        Verdict.REFUSED,
        lambda request: any(entry in (b"v1", b"t") for entry in entries(request)),
        listed(b"v1," + GOOD),
        ours=True,
    ),
    Difference(
        "an entry that is not ASCII",
        Verdict.RAISED,
        lambda request: any(not entry.isascii() for entry in entries(request)),
        listed(b"v1=\xff," + GOOD),
        ours=True,
    ),
    Difference(
        "a body that is not UTF-8",
        Verdict.RAISED,
        is_not_utf8,
        listed(b"t=" + NUMBER + b"," + sign(NUMBER, b"\xff"), b"\xff"),
        ours=True,
    ),
    Difference(
        "a long list",
        Verdict.ACCEPTED,
        lambda request: is_long(last(request, HEADER), b","),
        listed(b"v0=0," * 32 + GOOD),
    ),
)
ORACLE = Oracle("stripe", STRIPE, ask, (stripe.SignatureVerificationError,), DIFFERENCES)

SECRETS = (SecretDifference("a secret with a line's end", "whsec_secret\n", b"whsec_secret\n"),)


@SOME
@given(st.text(), st.integers(-300, 300))
def test_what_they_sign_we_accept(text: str, offset: int) -> None:
    """Any text, signed by their library, passes ours; with another key, or one more letter, it does not."""
    header = stripe.WebhookSignature.generate_signature_header(text, SECRET, SECONDS + offset)
    lines, body = listed(header.encode(), text.encode())
    assert our_verdict(STRIPE, (lines, body), b"another", KEY) is None
    assert our_verdict(STRIPE, (lines, body), b"another") is not None
    assert our_verdict(STRIPE, (lines, body + b"x"), KEY) is not None


@SOME
@given(st.text())
def test_what_we_sign_they_accept(text: str) -> None:
    """Any text, signed by ours, passes their library, and is what it would have made of it; one more letter fails."""
    lines, body = signed_with(STRIPE, KEY, text.encode())
    assert lines[0][1].decode() == stripe.WebhookSignature.generate_signature_header(text, SECRET, SECONDS)
    assert ORACLE.verdict((lines, body)) is Verdict.ACCEPTED
    assert ORACLE.verdict((lines, body + b"x")) is Verdict.REFUSED


def test_they_construct_an_event_of_what_we_sign() -> None:
    """Their `construct_event` takes a body that we signed; where that is no JSON it raises, and ours does not."""
    (line,), body = signed_with(STRIPE, KEY)
    (other,), text = signed_with(STRIPE, KEY, b"not JSON")
    with time_machine.travel(LATER, tick=False):
        event = stripe.Webhook.construct_event(body, line[1].decode(), SECRET)
        with pytest.raises(json.JSONDecodeError):
            stripe.Webhook.construct_event(text, other[1].decode(), SECRET)
    assert event.id == "evt_1"
    assert our_verdict(STRIPE, ([other], text), KEY) is None


@MANY
@given(recipes)
def test_spoiled_requests(recipe: Recipe) -> None:
    """Both say the same, or differ as listed; ours accepts no changed byte and raises nothing but its own error."""
    compare(ORACLE, recipe)


@named(DIFFERENCES)
def test_difference(difference: Difference) -> None:
    """The input that shows it does."""
    show(ORACLE, difference)


@named_secrets(SECRETS)
def test_secret_difference(difference: SecretDifference) -> None:
    """The secret that shows it does."""
    difference.show(ORACLE, ask)


@SOME
@given(secret_texts)
def test_secrets(text: str) -> None:
    """A secret that we take gives the same key: its letters, prefix included."""
    check_same_key(ORACLE, ask, text)


def test_they_ask_for_no_time_where_none_is_given() -> None:
    """`verify_header` without a tolerance takes a request of last century; ours has no such setting."""
    lines, body = listed(b"t=1," + sign(b"1"))
    assert stripe.WebhookSignature.verify_header(body, lines[0][1].decode(), SECRET)
    assert STRIPE.flaw(lines, body, now=NOW) == "timestamp_old"

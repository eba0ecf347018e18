"""`standardwebhooks`, the reference library of the specification."""

import base64
import json
from datetime import UTC, datetime

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from tests.oracles import standard_family as family
from tests.oracles.oracle import (
    LATER,
    MANY,
    SOME,
    Difference,
    Oracle,
    Verdict,
    compare,
    named,
    our_verdict,
    show,
    signed_with,
)
from tests.oracles.secret_forms import SecretDifference, check_same_key, secret_texts
from tests.oracles.secret_forms import named as named_secrets
from tests.oracles.spoiled import Recipe, recipes
from tests.providers.signatures.signed import NOW, RAW, V1, Parts, b64
from tests.providers.signatures.test_mutations import Request


def ask(request: Request, secret: str = family.SECRET) -> None:
    """Verify as an application behind an ASGI server does: headers in Latin-1, the body as it came."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request[0]}
    Webhook(secret).verify(request[1], headers, json_parse=False)


DIFFERENCES = (
    family.REPEATED,
    family.ODD_ID,
    family.LONG,
    family.NOT_UTF8,
    family.RESPELLED,
    family.UNDECODABLE,
    family.MALFORMED_ENTRY,
    family.FLOAT_TIME,
    family.FRACTION,
    Difference("the names of Svix", Verdict.REFUSED, family.is_aliased, family.ALIASED, ours=True),
)
ORACLE = Oracle("standardwebhooks", V1, ask, (WebhookVerificationError,), DIFFERENCES)

KEY = RAW[0][:24]
SECRETS = (
    SecretDifference("a short secret", "whsec_AAAA", bytes(3)),
    SecretDifference("letters that are not base64", "whsec_" + b64(KEY).decode() + "\n", KEY),
    SecretDifference("a key of another scheme", "whpk_" + b64(RAW[0]).decode(), base64.b64decode("whpk") + RAW[0]),
)


@SOME
@given(st.text(), st.from_regex(r"[!-\-/-~]{1,50}", fullmatch=True), st.integers(-299, 299))
def test_what_they_sign_we_accept(text: str, identity: str, offset: int) -> None:
    """Any text, signed by their library, passes ours; with another key, or one more letter, it does not."""
    moment = datetime.fromtimestamp(NOW.timestamp() + offset, UTC)
    signature = Webhook(family.SECRET).sign(identity, moment, text)
    lines = [
        (b"webhook-id", identity.encode()),
        (b"webhook-timestamp", b"%d" % moment.timestamp()),
        (b"webhook-signature", signature.encode()),
    ]
    body = text.encode()
    assert our_verdict(V1, (lines, body), RAW[1], RAW[0]) is None
    assert our_verdict(V1, (lines, body), RAW[1]) is not None
    assert our_verdict(V1, (lines, body + b"x"), RAW[0]) is not None


@SOME
@given(st.text())
def test_what_we_sign_they_accept(text: str) -> None:
    """Any text, signed by ours, passes their library; one more letter does not."""
    lines, body = signed_with(V1, RAW[0], text.encode())
    assert ORACLE.verdict((lines, body)) is Verdict.ACCEPTED
    assert ORACLE.verdict((lines, body + b"x")) is Verdict.REFUSED


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
    """What stops our start makes some key for them."""
    difference.show(ORACLE, ask)


@SOME
@given(secret_texts)
def test_secrets(text: str) -> None:
    """A secret that we take gives the same key."""
    check_same_key(ORACLE, ask, text)


def test_empty_key() -> None:
    """They refuse a secret without bytes as well, since version 1.1."""
    with pytest.raises(EmptyWebhookSecretError):
        Webhook("whsec_")
    with pytest.raises(ValueError, match="0 bytes"):
        V1.scheme.key("whsec_")


def test_they_read_the_json_too() -> None:
    """Their verification may decode the body as well, and raises where that is no JSON; ours does not."""
    lines, body = family.signed(Parts(body=b"not JSON"))
    headers = {name.decode(): value.decode() for name, value in lines}
    with time_machine.travel(LATER, tick=False), pytest.raises(json.JSONDecodeError):
        Webhook(family.SECRET).verify(body, headers)
    assert our_verdict(V1, (lines, body), RAW[0]) is None

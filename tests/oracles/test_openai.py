"""`openai`, which verifies OpenAI's webhooks with code of its own."""

from datetime import datetime

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks.webhooks import Webhook

from tests.oracles import standard_family as family
from tests.oracles.oracle import (
    FAMILY,
    LATER,
    MANY,
    SOME,
    Difference,
    Oracle,
    Verdict,
    compare,
    last,
    named,
    our_verdict,
    show,
    signed_with,
    values,
)
from tests.oracles.secret_forms import SecretDifference, check_same_key, our_key, secret_texts
from tests.oracles.secret_forms import named as named_secrets
from tests.oracles.spoiled import Recipe, recipes
from tests.providers.signatures.signed import BODY, NOW, RAW, SECONDS, V1, b64
from tests.providers.signatures.test_mutations import Request

CLIENT = OpenAI(api_key="never used", webhook_secret=family.SECRET)


def ask(request: Request, secret: str | None = None) -> None:
    """Verify as an application behind an ASGI server does."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request[0]}
    CLIENT.webhooks.verify_signature(request[1], headers, secret=secret)


def entries(request: Request) -> list[str]:
    """Split the list as the library does."""
    return last(request, b"webhook-signature").decode("latin-1").split()


DIFFERENCES = (
    family.REPEATED,
    family.ODD_ID,
    family.LONG,
    family.NOT_UTF8,
    family.INTEGER_TIME,
    Difference(
        "a signature without its version",
        Verdict.ACCEPTED,
        lambda request: any(len(entry) == 44 for entry in entries(request)),
        family.listed(family.ENTRY.removeprefix(b"v1,")),
    ),
    Difference(
        "other blanks between the entries",
        Verdict.ACCEPTED,
        lambda request: entries(request) != last(request, b"webhook-signature").decode("latin-1").split(" "),
        family.listed(family.ENTRY + b"\t"),
    ),
    Difference(
        "an entry that is not ASCII",
        Verdict.RAISED,
        lambda request: any(not entry.isascii() for entry in entries(request)),
        family.listed(b"\xff " + family.ENTRY),
        ours=True,
    ),
    Difference(
        "a header is missing",
        Verdict.RAISED,
        lambda request: not all(values(request, name) for name in FAMILY) and not family.is_aliased(request),
        (family.GOOD[1:], BODY),
    ),
    Difference("the names of Svix", Verdict.RAISED, family.is_aliased, family.ALIASED, ours=True),
)
ORACLE = Oracle("openai", V1, ask, (InvalidWebhookSignatureError,), DIFFERENCES)

TEXT = b64(RAW[0]).decode()
SECRETS = (
    SecretDifference("an empty key", "whsec_", b""),
    SecretDifference("a short secret", "whsec_AAAA", bytes(3)),
    SecretDifference("a secret without its prefix", TEXT, TEXT.encode(), RAW[0]),
    SecretDifference("a secret without its padding", "whsec_" + TEXT.rstrip("="), Verdict.RAISED, RAW[0]),
    SecretDifference("letters that are not base64", family.SECRET + "\n", RAW[0]),
    SecretDifference("a key of another scheme", "whpk_" + TEXT, ("whpk_" + TEXT).encode()),
)


@SOME
@given(st.text())
def test_what_is_signed_for_both_they_and_we_accept(text: str) -> None:
    """They offer no signing. What the specification's own library signs passes theirs and ours."""
    signature = Webhook(family.SECRET).sign("wh_1", NOW, text)
    headers = {"webhook-id": "wh_1", "webhook-timestamp": str(SECONDS), "webhook-signature": signature}
    request = [(name.encode(), value.encode()) for name, value in headers.items()], text.encode()
    assert ORACLE.verdict(request) is Verdict.ACCEPTED
    assert our_verdict(V1, request, RAW[0]) is None


@SOME
@given(st.text())
def test_what_we_sign_they_accept(text: str) -> None:
    """Any text, signed by ours, passes their library; one more letter does not."""
    lines, body = signed_with(V1, RAW[0], text.encode())
    assert ORACLE.verdict((lines, body)) is Verdict.ACCEPTED
    assert ORACLE.verdict((lines, body + b"x")) is Verdict.REFUSED


def test_they_unwrap_what_we_sign() -> None:
    """Their `unwrap` makes an event of a body that we signed."""
    body = b'{"id":"evt_1","object":"event","type":"video.completed","created_at":1,"data":{"id":"video_1"}}'
    lines, _ = signed_with(V1, RAW[0], body)
    headers = {name.decode(): value.decode() for name, value in lines}
    with time_machine.travel(LATER, tick=False):
        event = CLIENT.webhooks.unwrap(body, headers)
        with pytest.raises(InvalidWebhookSignatureError):
            CLIENT.webhooks.unwrap(body + b" ", headers)
    assert (event.id, event.type) == ("evt_1", "video.completed")


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
    """A secret with its prefix and padding that we take gives the same key."""
    if text.startswith("whsec_") and (text.endswith("=") or len(our_key(ORACLE, text) or b"") % 3 == 0):
        check_same_key(ORACLE, ask, text)


def test_time_is_read_as_ours() -> None:
    """Unlike the others they drop the fraction of a second, as we do."""
    request = family.timed(b"%d" % (SECONDS - 300))
    assert ORACLE.verdict(request) is Verdict.ACCEPTED
    assert our_verdict(V1, request, RAW[0]) is None
    later = datetime.fromtimestamp(SECONDS + 1, tz=NOW.tzinfo)
    assert ORACLE.verdict(request, later) is Verdict.REFUSED
    assert V1.flaw(*request, now=later) == "timestamp_old"

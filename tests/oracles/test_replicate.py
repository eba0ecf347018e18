"""`replicate`, which verifies Replicate's webhooks with code of its own."""

from dataclasses import replace

import httpx
from hypothesis import given
from hypothesis import strategies as st
from replicate.webhook import Webhooks, WebhookSigningSecret, WebhookValidationError
from standardwebhooks.webhooks import Webhook

from tests.oracles import standard_family as family
from tests.oracles.oracle import (
    FAMILY,
    MANY,
    SOME,
    Difference,
    Oracle,
    Verdict,
    compare,
    is_odd_time,
    last,
    named,
    our_verdict,
    reading,
    show,
    signed_with,
    values,
)
from tests.oracles.secret_forms import SecretDifference, check_same_key, our_key, secret_texts
from tests.oracles.secret_forms import named as named_secrets
from tests.oracles.spoiled import Recipe, recipes
from tests.providers.signatures.signed import BODY, NOW, RAW, SECONDS, V1, Parts, b64, mac
from tests.providers.signatures.test_mutations import Request


def ask(request: Request, secret: str = family.SECRET, tolerance: int | None = 300) -> None:
    """Verify the request as `httpx` holds it, with the tolerance that the library leaves out by default."""
    held = httpx.Request("POST", "https://ring.example", headers=request[0], content=request[1])
    Webhooks.validate(held, secret=WebhookSigningSecret(key=secret), tolerance=tolerance)


def entries(request: Request) -> list[str]:
    """Split the list as the library does."""
    return last(request, b"webhook-signature").decode("latin-1").split()


def joined(request: Request) -> Request:
    """Give the headers as `httpx` does: those that come twice with a comma between."""
    return [(name, b", ".join(values(request, name))) for name in FAMILY], request[1]


def is_readable_time(request: Request) -> bool:
    """Tell whether `int` takes the time."""
    try:
        int(last(request, b"webhook-timestamp").decode("latin-1"))
    except ValueError:
        return False
    return True


ALONE = (
    replace(family.REPEATED, example=([*family.GOOD, family.GOOD[2]], BODY)),
    family.ODD_ID,
    family.LONG,
    family.NOT_UTF8,
    family.INTEGER_TIME,
    Difference(
        "another spelling of the base64",
        Verdict.ACCEPTED,
        lambda request: family.is_respelled(request, strictly=False),
        family.RESPELLED.example,
    ),
    Difference(
        "base64 that cannot be read",
        Verdict.RAISED,
        lambda request: family.is_undecodable(request, strictly=False),
        family.listed(b"v1,A " + family.ENTRY),
        ours=True,
    ),
    Difference(
        "an entry of another version",
        Verdict.ACCEPTED,
        lambda request: any(not entry.startswith("v1,") for entry in entries(request)),
        family.listed(b"v2" + family.ENTRY.removeprefix(b"v1")),
    ),
    Difference(
        "an entry with more behind it",
        Verdict.ACCEPTED,
        lambda request: any(entry.count(",") > 1 for entry in entries(request)),
        family.listed(family.ENTRY + b",more"),
    ),
    Difference(
        "other blanks between the entries",
        Verdict.ACCEPTED,
        lambda request: entries(request) != last(request, b"webhook-signature").decode("latin-1").split(" "),
        family.listed(family.ENTRY + b"\t"),
    ),
    Difference(
        "an entry without a comma",
        Verdict.REFUSED,
        lambda request: any("," not in entry for entry in entries(request)),
        family.listed(b"v1a " + family.ENTRY),
        ours=True,
    ),
    Difference(
        "a time that is no number",
        Verdict.RAISED,
        lambda request: is_odd_time(last(request, b"webhook-timestamp")) and not is_readable_time(request),
        family.timed(b"%d.9" % SECONDS),
    ),
    Difference("an empty body", Verdict.REFUSED, lambda request: not request[1], family.signed(Parts(body=b"")), True),
    Difference("the names of Svix", Verdict.REFUSED, family.is_aliased, family.ALIASED, ours=True),
)
AS_SENT = ("a header comes twice", "the names of Svix")
DIFFERENCES = tuple(each if each.name in AS_SENT else reading(joined, each) for each in ALONE)
ORACLE = Oracle("replicate", V1, ask, (WebhookValidationError,), DIFFERENCES)

TEXT = b64(RAW[0]).decode()
SECRETS = (
    SecretDifference("an empty key", "whsec_", b""),
    SecretDifference("a short secret", "whsec_AAAA", bytes(3)),
    SecretDifference("a secret without its prefix", TEXT, Verdict.REFUSED, RAW[0]),
    SecretDifference("a secret without its padding", "whsec_" + TEXT.rstrip("="), Verdict.RAISED, RAW[0]),
    SecretDifference("letters that are not base64", family.SECRET + "\n", RAW[0]),
    SecretDifference("a key of another scheme", "whpk_" + TEXT, RAW[0]),
)


@SOME
@given(st.text(min_size=1))
def test_what_is_signed_for_both_they_and_we_accept(text: str) -> None:
    """They offer no signing. What the specification's own library signs passes theirs and ours."""
    signature = Webhook(family.SECRET).sign("wh_1", NOW, text)
    headers = {"webhook-id": "wh_1", "webhook-timestamp": str(SECONDS), "webhook-signature": signature}
    request = [(name.encode(), value.encode()) for name, value in headers.items()], text.encode()
    assert ORACLE.verdict(request) is Verdict.ACCEPTED
    assert our_verdict(V1, request, RAW[0]) is None


@SOME
@given(st.text(min_size=1))
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
    """The secret that shows it does."""
    difference.show(ORACLE, ask)


@SOME
@given(secret_texts)
def test_secrets(text: str) -> None:
    """A secret with its prefix and padding that we take gives the same key."""
    if text.startswith("whsec_") and (text.endswith("=") or len(our_key(ORACLE, text) or b"") % 3 == 0):
        check_same_key(ORACLE, ask, text)


def test_they_ask_for_no_time_by_default() -> None:
    """Without a tolerance, which is their default, a request of last century passes; ours has no such setting."""
    old = Parts(timestamp=b"1")
    request = family.signed(old)
    assert request[0][2][1] == b"v1," + b64(mac(RAW[0], old.dotted))
    Webhooks.validate(
        httpx.Request("POST", "https://ring.example", headers=request[0], content=request[1]),
        secret=WebhookSigningSecret(key=family.SECRET),
    )
    assert V1.flaw(*request) == "timestamp_old"

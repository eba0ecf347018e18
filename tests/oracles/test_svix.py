"""`svix`, from whose headers the specification came: `standardwebhooks` with other names."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from svix.webhooks import Webhook, WebhookVerificationError

from tests.oracles import standard_family as family
from tests.oracles.oracle import (
    FAMILY,
    MANY,
    SOME,
    Difference,
    Oracle,
    Verdict,
    compare,
    named,
    our_verdict,
    put,
    reading,
    repeats,
    show,
    signed_with,
    values,
)
from tests.oracles.secret_forms import check_same_key, secret_texts
from tests.oracles.spoiled import Recipe, recipes
from tests.providers.signatures.signed import BODY, NOW, RAW, V1
from tests.providers.signatures.test_mutations import Request

SVIX = tuple(name.replace(b"webhook-", b"svix-") for name in FAMILY)


def ask(request: Request, secret: str = family.SECRET) -> None:
    """Verify as an application behind an ASGI server does."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request[0]}
    Webhook(secret).verify(request[1], headers)


def effective(request: Request) -> Request:
    """Give the headers that the library reads, under the names of the specification: each alias wins by itself."""
    lines = []
    for name, alias in zip(FAMILY, SVIX, strict=True):
        found = values(request, alias) or values(request, name)
        lines += [(name, found[-1])] if found else []
    return lines, request[1]


def is_mixed(request: Request) -> bool:
    """Tell whether names of both kinds came."""
    names = {name for name, _ in request[0]}
    return bool(names & set(FAMILY)) and bool(names & set(SVIX))


SHARED = tuple(
    reading(effective, each)
    for each in (
        family.ODD_ID,
        family.LONG,
        family.NOT_UTF8,
        family.RESPELLED,
        family.UNDECODABLE,
        family.MALFORMED_ENTRY,
        family.FLOAT_TIME,
        family.FRACTION,
    )
)
MIXED = ([*put(family.GOOD, b"webhook-id", b"another"), (b"svix-id", family.GOOD[0][1])], BODY)
DIFFERENCES = (
    *SHARED,
    replace(family.REPEATED, applies=repeats(*FAMILY, *SVIX)),
    Difference("the id of one kind, the signature of the other", Verdict.ACCEPTED, is_mixed, MIXED),
    Difference(
        "the names of both kinds",
        Verdict.REFUSED,
        is_mixed,
        ([*family.GOOD, (b"svix-id", b"another")], BODY),
        ours=True,
    ),
)
ORACLE = Oracle("svix", V1, ask, (WebhookVerificationError,), DIFFERENCES)


@SOME
@given(st.text(), st.integers(-299, 299))
def test_what_they_sign_we_accept(text: str, offset: int) -> None:
    """Any text, signed by their library and sent under their names, passes ours; with another key it does not."""
    moment = datetime.fromtimestamp(NOW.timestamp() + offset, UTC)
    signature = Webhook(family.SECRET).sign("msg_1", moment, text)
    lines = [
        (b"svix-id", b"msg_1"),
        (b"svix-timestamp", b"%d" % moment.timestamp()),
        (b"svix-signature", signature.encode()),
    ]
    assert our_verdict(V1, (lines, text.encode()), RAW[1], RAW[0]) is None
    assert our_verdict(V1, (lines, text.encode()), RAW[1]) is not None


@SOME
@given(st.text())
def test_what_we_sign_they_accept(text: str) -> None:
    """Any text, signed by ours, passes their library under both kinds of names; one more letter does not."""
    lines, body = signed_with(V1, RAW[0], text.encode())
    aliased = [(name.replace(b"webhook-", b"svix-"), value) for name, value in lines]
    assert ORACLE.verdict((lines, body)) is Verdict.ACCEPTED
    assert ORACLE.verdict((aliased, body)) is Verdict.ACCEPTED
    assert ORACLE.verdict((aliased, body + b"x")) is Verdict.REFUSED


@MANY
@given(recipes)
def test_spoiled_requests(recipe: Recipe) -> None:
    """Both say the same, or differ as listed; ours accepts no changed byte and raises nothing but its own error."""
    compare(ORACLE, recipe)


@named(DIFFERENCES)
def test_difference(difference: Difference) -> None:
    """The input that shows it does."""
    show(ORACLE, difference)


@SOME
@given(secret_texts)
def test_secrets(text: str) -> None:
    """A secret that we take gives the same key; the forms that we refuse are those of `standardwebhooks`."""
    check_same_key(ORACLE, ask, text)

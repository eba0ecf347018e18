"""Ten thousand spoiled requests: our verdict is that of the specifications, told again here, slowly and apart.

`BOOKS` imports nothing of ours. Each rule stands as the scheme's documents have it; where ours is deliberately narrower
(a time is plain digits, an id has no dot, a list has limits, nothing may come twice), so is the book.
"""

import base64
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.providers.signatures.signed import (
    BARE,
    BASIC,
    BEARER,
    BODY,
    CASES,
    GITHUB,
    KIE,
    RAW,
    SCALE,
    SECONDS,
    SLACK,
    STRIPE,
    TEXTS,
    TOAPIS,
    V1,
    V1A,
    V3,
    Case,
    Lines,
    Parts,
)

EXAMPLES = 850  # for each of 12 schemes: 10,200 requests


def one(lines: Lines, name: bytes) -> bytes | None:
    """Give the value of a header that came exactly once."""
    values = [value for found, value in lines if found == name]
    return values[0] if len(values) == 1 else None


def timely(text: bytes) -> bool:
    """Whole seconds since 1970 in plain digits, at most five minutes from now."""
    return re.fullmatch(rb"0|[1-9][0-9]{0,11}", text) is not None and SECONDS - 300 <= int(text) <= SECONDS + 300


def decent(identity: bytes) -> bool:
    """Visible ASCII without a full stop, 200 characters at most."""
    return 0 < len(identity) <= 200 and all(33 <= byte <= 126 and byte != ord(".") for byte in identity)


def sha256_of(key: bytes, message: bytes) -> bytes:
    """RFC 2104, written out; no key here is longer than a block."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()


def hex_of(raw: bytes) -> bytes:
    """Two lower-case digits a byte."""
    return b"".join(b"%02x" % byte for byte in raw)


def standard(lines: Lines, body: bytes, label: bytes, is_good: Callable[[bytes, bytes], bool]) -> bool:
    """standard-webhooks.md, with the svix- names where none of the others came."""
    family = b"webhook-" if any(name.startswith(b"webhook-") for name, _ in lines) else b"svix-"
    identity, time, listed = (one(lines, family + part) for part in (b"id", b"timestamp", b"signature"))
    if identity is None or time is None or listed is None:
        return False
    if not decent(identity) or not timely(time) or len(listed) > 4096:
        return False
    message = identity + b"." + time + b"." + body
    entries = [entry.partition(b",") for entry in listed.split(b" ")[:32]]
    return any(version == label and is_good(signature, message) for version, _, signature in entries)


def standard_v1(lines: Lines, body: bytes) -> bool:
    """HMAC-SHA256 with the decoded secret, in base64."""
    return standard(lines, body, b"v1", lambda given, message: given == base64.b64encode(sha256_of(RAW[0], message)))


def standard_v3(lines: Lines, body: bytes) -> bool:
    """wavespeed.ai/docs/verify-webhooks: hex, and the letters after whsec_ are the key."""
    return standard(lines, body, b"v3", lambda given, message: given == hex_of(sha256_of(b"plain text", message)))


def standard_v1a(lines: Lines, body: bytes) -> bool:
    """Ed25519, in base64 as RFC 4648 writes it."""

    def is_good(given: bytes, message: bytes) -> bool:
        try:
            raw = base64.b64decode(given, validate=True)
            Ed25519PrivateKey.from_private_bytes(RAW[0]).public_key().verify(raw, message)
        except (ValueError, InvalidSignature):
            return False
        return base64.b64encode(raw) == given

    return standard(lines, body, b"v1a", is_good)


def github(lines: Lines, body: bytes) -> bool:
    """docs.github.com, "Validating webhook deliveries"."""
    return one(lines, b"x-hub-signature-256") == b"sha256=" + hex_of(sha256_of(TEXTS[0].encode(), body))


def bare(lines: Lines, body: bytes) -> bool:
    """The same in SHA-512 and base64."""
    digest = hmac.new(TEXTS[0].encode(), body, hashlib.sha512).digest()
    return one(lines, b"x-signature") == base64.b64encode(digest)


def stripe(lines: Lines, body: bytes) -> bool:
    """docs.stripe.com, "Verify webhook signatures"; one t= only."""
    listed = one(lines, b"stripe-signature")
    if listed is None or len(listed) > 4096:
        return False
    entries = listed.split(b",")[:32]
    times = [entry[2:] for entry in entries if entry[:2] == b"t="]
    if len(times) != 1 or not timely(times[0]):
        return False
    return b"v1=" + hex_of(sha256_of(TEXTS[0].encode(), times[0] + b"." + body)) in entries


def slack(lines: Lines, body: bytes) -> bool:
    """docs.slack.dev, "Verifying requests from Slack"."""
    time, listed = one(lines, b"x-slack-request-timestamp"), one(lines, b"x-slack-signature")
    if time is None or listed is None or not timely(time) or len(listed) > 4096:
        return False
    signature = sha256_of(TEXTS[0].encode(), b"v0:" + time + b":" + body)
    return b"v0=" + hex_of(signature) in listed.split(b",")[:32]


def toapis(lines: Lines, body: bytes) -> bool:
    """PROVIDERS C, ToAPIs."""
    identity, time, listed = (one(lines, b"x-t-" + part) for part in (b"id", b"timestamp", b"signature"))
    if identity is None or time is None or listed is None:
        return False
    if not decent(identity) or not timely(time) or len(listed) > 4096:
        return False
    signature = sha256_of(TEXTS[0].encode(), identity + b"." + time + b"." + body)
    return b"v1=" + hex_of(signature) in listed.split(b",")[:32]


def kie(lines: Lines, body: bytes) -> bool:
    """docs.kie.ai/common-api/webhook-verification; JSON as RFC 8259 has it, in UTF-8."""
    time, given = one(lines, b"x-webhook-timestamp"), one(lines, b"x-webhook-signature")
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=lambda _: 1 / 0)
        field = document["data"].get("task_id")
        field = document["data"].get("taskId") if field is None else field
        signed = str(field).encode("utf-8") + b"." + (time or b"")
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return False
    if time is None or not timely(time) or type(field) not in (str, int) or field == "":
        return False
    return given == base64.b64encode(sha256_of(TEXTS[0].encode(), signed))


def fixed(name: bytes, value: bytes) -> Callable[[Lines, bytes], bool]:
    """Whatever the body is: the header is there once, and it is this."""
    return lambda lines, _: one(lines, name) == value


BOOKS: dict[str, Callable[[Lines, bytes], bool]] = {
    V1.name: standard_v1,
    V3.name: standard_v3,
    V1A.name: standard_v1a,
    GITHUB.name: github,
    BARE.name: bare,
    STRIPE.name: stripe,
    SLACK.name: slack,
    TOAPIS.name: toapis,
    KIE.name: kie,
    SCALE.name: fixed(b"scale-callback-auth", TEXTS[0].encode()),
    BASIC.name: fixed(b"authorization", b"Basic bWU6cGFzczp3b3Jk"),
    BEARER.name: fixed(b"authorization", b"Bearer " + TEXTS[0].encode()),
}

# What a mutation writes: separators, digits, letters that base64 and hex share, and bytes that no header holds.
BYTES = b' ,=.:;+-_/{}"\\\t\n\0\x7f\x80\xff019AQgwafvtZ'
TIMES = (b"+%d", b" %d", b"%d ", b"-%d", b"%d.9", b"0%d", b"%de0", b"%d0", b"", b"9" * 40, b"1e9")

Request = tuple[Lines, bytes]
Mutation = Callable[[Request, int, int], Request]


def edit(text: bytes, at: int, value: int) -> bytes:
    """Change, insert or remove one byte, or flip one bit of it."""
    place, byte = at % (len(text) + 1), BYTES[value % len(BYTES)]
    edits = (
        text[:place] + bytes([byte]) + text[place + 1 :],
        text[:place] + bytes([byte]) + text[place:],
        text[:place] + text[place + 1 :],
        text[:place] + bytes(one ^ (1 << value % 8) for one in text[place : place + 1]) + text[place + 1 :],
    )
    return edits[value // len(BYTES) % len(edits)]


def on_value(change: Callable[[bytes, int], bytes]) -> Mutation:
    """Make a mutation of one header's value; `at` chooses the header."""

    def mutate(request: Request, at: int, value: int) -> Request:
        lines, body = request
        if not lines:
            return request
        index = at % len(lines)
        changed = (lines[index][0], change(lines[index][1], value))
        return [*lines[:index], changed, *lines[index + 1 :]], body

    return mutate


def retimed(text: bytes, value: int) -> bytes:
    """Write the time otherwise, or another time: a second, the tolerance and one more to either side."""
    others = [template % SECONDS if b"%d" in template else template for template in TIMES]
    others += [b"%d" % (SECONDS + offset) for offset in (-301, -300, -1, 1, 300, 301)]
    return text.replace(b"%d" % SECONDS, others[value % len(others)])


def relisted(text: bytes, value: int) -> bytes:
    """Put nonsense or a copy before or behind the value, or double its separators."""
    others = (
        b"v1,AAAA",
        b"v1=00",
        b"nonsense",
        b"",
        b"v1a,",
        b",,",
        b"t=1",
        b"x" * 4096,
        b" ".join([b"v1,"] * 40),
        text,
    )
    other = others[value % len(others)]
    separator = (b" ", b",", b"  ", b", ")[value // 10 % 4]
    return (
        other + separator + text,
        text + separator + other,
        text.replace(b",", b",,"),
        text.replace(b",", b" "),
        text.replace(b"=", b""),
        text.swapcase(),
    )[value // 40 % 6]


def padded(text: bytes, value: int) -> bytes:
    """Put a blank before or behind the value, or behind its first comma."""
    blank = (b" ", b"\t", b"\n", b"\0", b"\xa0")[value % 5]
    return (blank + text, text + blank, text.replace(b",", b"," + blank, 1))[value // 5 % 3]


def dropped(request: Request, at: int, _: int) -> Request:
    """Leave one header out."""
    lines, body = request
    return [line for index, line in enumerate(lines) if index != at % (len(lines) or 1)], body


def repeated(request: Request, at: int, value: int) -> Request:
    """Send one header again, as it is or with one byte changed."""
    lines, body = request
    chosen = lines[at % len(lines) :][:1] if lines else []
    return [*lines, *((name, text if value % 2 else edit(text, at, value)) for name, text in chosen)], body


def renamed(request: Request, at: int, value: int) -> Request:
    """Use the aliases for all headers, for one, or for a copy."""
    lines, body = request
    svix = [(name.replace(b"webhook-", b"svix-"), text) for name, text in lines]
    index = at % (len(lines) or 1)
    return (svix, [*lines[:index], *svix[index:]], [*svix, *lines[index : index + 1]], [*lines, *svix])[value % 4], body


def swapped(request: Request, at: int, _: int) -> Request:
    """Exchange the values of two headers that follow one another, or turn the order of all round."""
    lines, body = request
    if at % 2 or len(lines) < 2:
        return lines[::-1], body
    first = at % (len(lines) - 1)
    (one_name, one_value), (other_name, other_value) = lines[first : first + 2]
    return [*lines[:first], (one_name, other_value), (other_name, one_value), *lines[first + 2 :]], body


def shifted(request: Request, at: int, _: int) -> Request:
    """Move the first bytes of the body behind a header's value, as if it had ended later."""
    lines, body = request
    if not lines:
        return request
    index, length = at % len(lines), at % 9
    return [*lines[:index], (lines[index][0], lines[index][1] + body[:length]), *lines[index + 1 :]], body[length:]


def rewritten(request: Request, at: int, value: int) -> Request:
    """Change the body: a byte of it, its length, or its spelling."""
    lines, body = request
    others = (
        edit(body, at, value),
        edit(body, at, value),
        b"",
        body + b"\n",
        body.replace(b",", b", "),
        body[: at % 60],
    )
    return lines, others[value % len(others)]


def kept(request: Request, _: int, __: int) -> Request:
    """Change nothing: what is good must stay accepted."""
    return request


MUTATIONS: tuple[Mutation, ...] = (
    on_value(lambda text, value: edit(text, value // 7, value)),
    on_value(lambda text, value: edit(text, value // 7, value)),
    on_value(lambda text, value: edit(text, -1 - value % 3, value)),
    on_value(retimed),
    on_value(relisted),
    on_value(padded),
    rewritten,
    dropped,
    repeated,
    renamed,
    swapped,
    shifted,
    kept,
)
COUNTS = (0, 1, 1, 1, 2, 2, 3)

# By whom, and what: mostly the usual, sometimes what a sender should not have signed.
WRITTEN = [b"%d" % (SECONDS + offset) for offset in (-301, -300, 300, 301)]
WRITTEN += [template % SECONDS if b"%d" in template else template for template in TIMES]
IDENTITIES = (b"", b"a", b"a.b", b"a b", b"a,b", b"\xff", b"\0", b"a" * 200, b"a" * 201)
SIGNED = [
    *((0, Parts()),) * 40,
    *((1, Parts()),) * 8,
    *((0, Parts(timestamp=timestamp)) for timestamp in WRITTEN),
    *((0, Parts(id=identity)) for identity in IDENTITIES),
]


# How many mutations of what, and which; then where and how for each. Few numbers, since drawing them takes most of the
# time, and none of more than 24 bits, since hypothesis prefers small ones beyond.
recipes = st.integers(0, len(SIGNED) * len(COUNTS) * len(MUTATIONS) ** 3 - 1)
details = st.tuples(*[st.integers(0, 2**24 - 1)] * 3)


def spoiled(case: Case, recipe: int, details: tuple[int, ...]) -> tuple[int, Parts, Request]:
    """Give who signed what, and what became of it."""
    rest, which = divmod(recipe, len(SIGNED))
    signer, parts = SIGNED[which]
    request: Request = (case.sign(parts, signer), parts.body)
    rest, count = divmod(rest, len(COUNTS))
    for detail in details[: COUNTS[count]]:
        rest, which = divmod(rest, len(MUTATIONS))
        request = MUTATIONS[which](request, *divmod(detail, 2**12))
    return signer, parts, request


@pytest.mark.parametrize("case", CASES, ids=str)
def test_our_verdict_is_the_books(case: Case) -> None:
    """Spoiled, rewritten or untouched: both say the same, and no changed byte of what is covered is accepted."""
    verdicts: Counter[bool] = Counter()

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
    @given(recipes, details)
    def check(recipe: int, details: tuple[int, ...]) -> None:
        signer, parts, (lines, body) = spoiled(case, recipe, details)
        accepted = case.flaw(lines, body) is None
        assert accepted == BOOKS[case.name](lines, body)
        verdicts[accepted] += 1
        if accepted:
            assert signer == 0
            assert case.covers != "body" or body == BODY
            covered = [line for line in lines if line[0] in (case.timestamp, case.identity)]
            assert set(covered) <= set(case.sign(parts, 0))

    check()
    assert sum(verdicts.values()) >= EXAMPLES
    assert min(verdicts[True], verdicts[False]) > EXAMPLES // 20

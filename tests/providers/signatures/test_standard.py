"""Standard Webhooks: the published vectors, the aliases, the limits and the options."""

from datetime import UTC, datetime

import pytest

from ringback.providers.signatures import Headers, StandardWebhooks
from ringback.providers.signatures.scheme import Flaw
from ringback.providers.signatures.standard import MAX_ASYMMETRIC
from tests.providers.signatures.signed import (
    BODY,
    NOW,
    PRIVATE,
    RAW,
    V1,
    V1A,
    V3,
    Case,
    Lines,
    Parts,
    b64,
    mac,
    standard,
)

# docs.svix.com "Verifying webhooks manually", and svix-server's tests of both signature types: the same message.
PUBLISHED = Parts(b"msg_p5jXN8AQM9LWM0D4loKWxJek", b"1614265330", b'{"test": 2432232314}')
THEN = datetime.fromtimestamp(1614265330, UTC)
V1_SECRET, V1_SIGNATURE = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A_SECRET = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
V1A_PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
V1A_SIGNATURE = b"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="

VECTORS = [(V1, V1_SECRET, V1_SIGNATURE), (V1A, V1A_SECRET, V1A_SIGNATURE), (V1A, V1A_PUBLIC, V1A_SIGNATURE)]


@pytest.mark.parametrize(("case", "secret", "signature"), VECTORS)
def test_the_published_vectors(case: Case, secret: str, signature: bytes) -> None:
    """Svix's own examples are accepted, and not with any other byte; with the secret, the same are made."""
    own = Case("published", case.scheme, (secret, secret), case.sign)
    assert own.flaw(standard(PUBLISHED, signature), PUBLISHED.body, now=THEN) is None
    assert own.flaw(standard(PUBLISHED, signature), PUBLISHED.body + b" ", now=THEN) == Flaw.SIGNATURE
    if not secret.startswith("whpk_"):
        made = case.scheme.sign(PUBLISHED.body, own.keys(0)[0].material, now=THEN, event_id=PUBLISHED.id.decode())
        assert made["webhook-signature"].encode() == signature


def test_both_published_at_once() -> None:
    """A sender may sign with both types; each receiver finds its own."""
    lines = standard(PUBLISHED, V1_SIGNATURE + b" " + V1A_SIGNATURE)
    for case, secret, _ in VECTORS:
        own = Case("published", case.scheme, (secret, secret), case.sign)
        assert own.flaw(lines, PUBLISHED.body, now=THEN) is None


@pytest.mark.parametrize("case", [V1, V3, V1A], ids=str)
def test_the_version_decides(case: Case) -> None:
    """A right signature under another version's label is passed over."""
    lines = case.sign(Parts(), 0)
    label, comma, signature = lines[2][1].partition(b",")
    for other in (b"v2", b"V1", b"", b"v1b", label + b" ", label + b"\0"):
        assert case.flaw([*lines[:2], (lines[2][0], other + comma + signature)]) == Flaw.HEADER_MALFORMED


def aliased(lines: Lines) -> Lines:
    """Rename the headers to Svix's."""
    return [(name.replace(b"webhook-", b"svix-"), value) for name, value in lines]


def test_the_aliases() -> None:
    """The svix- names are as good, as a whole family; beside the others they are not looked at."""
    plain = V1.sign(Parts(), 0)
    svix = aliased(plain)
    assert V1.flaw(svix) is None
    assert V1.flaw([*svix, *plain]) is None
    assert V1.flaw([*aliased(V1.sign(Parts(), 1)), *plain]) is None


def test_families_are_not_mixed() -> None:
    """A signed svix- request with one webhook- header more is refused: a reader would take that one for signed."""
    plain = V1.sign(Parts(), 0)
    svix = aliased(plain)
    for index in range(3):
        assert V1.flaw([*plain[:index], svix[index], *plain[index + 1 :]]) == Flaw.HEADER_MISSING
        assert V1.flaw([*svix[:index], plain[index], *svix[index + 1 :]]) == Flaw.HEADER_MISSING
        assert V1.flaw([*svix, plain[index]]) == Flaw.HEADER_MISSING
        assert V1.flaw([*svix, (plain[index][0], b"")]) == Flaw.HEADER_MISSING


def listed(signatures: list[bytes]) -> Lines:
    """Give the request with this list of signatures."""
    return standard(Parts(), b" ".join(signatures))


@pytest.mark.parametrize("case", [V1, V3], ids=str)
def test_how_many_are_looked_at(case: Case) -> None:
    """The first 32 entries count; more are not looked at, and a longer header is refused at once."""
    good = case.sign(Parts(), 0)[2][1]
    wrong = good[:3] + b"A" * (len(good) - 3)
    assert case.flaw(listed([wrong] * 31 + [good])) is None
    assert case.flaw(listed([wrong] * 32 + [good])) == Flaw.SIGNATURE
    assert case.flaw(listed([b""] * 32 + [good])) == Flaw.HEADER_MALFORMED
    assert case.flaw(standard(Parts(), good + b" " + b"x" * (4_095 - len(good)))) is None
    assert case.flaw(standard(Parts(), good + b" " + b"x" * (4_096 - len(good)))) == Flaw.HEADER_MALFORMED


def test_how_many_are_tried() -> None:
    """Ed25519 is slow: 8 well-formed signatures are tried; malformed ones do not count."""
    good, wrong = V1A.sign(Parts(), 0)[2][1], b"v1a," + b64(bytes(64))
    assert V1A.flaw(listed([wrong] * (MAX_ASYMMETRIC - 1) + [good])) is None
    assert V1A.flaw(listed([wrong] * MAX_ASYMMETRIC + [good])) == Flaw.SIGNATURE
    assert V1A.flaw(listed([b"v1a,abc", b"v1a," + b64(bytes(63)), b"v1a,=", b"v1,abc"] * 4 + [good])) is None


@pytest.mark.parametrize("case", [V1, V3, V1A], ids=str)
def test_every_letter_of_the_signature(case: Case) -> None:
    """No letter can be exchanged for any other, the last one before the padding included."""
    lines = case.sign(Parts(), 0)
    good = lines[2][1]
    letters = b"AQgw0189abcdef+/=-_ ,"
    for index in (*range(5), *range(len(good) - 5, len(good))):
        for letter in letters:
            changed = good[:index] + bytes([letter]) + good[index + 1 :]
            assert (case.flaw([*lines[:2], (lines[2][0], changed)]) is None) == (changed == good)
    for spelling in (good.rstrip(b"="), good + b"=", good.swapcase(), good.replace(b",", b",,"), good + b"\n"):
        assert (case.flaw([*lines[:2], (lines[2][0], spelling)]) is None) == (spelling == good)


def test_v1a_in_hex() -> None:
    """The encoding is an option of its own."""
    hexed = Case("v1a, hex", StandardWebhooks(version="v1a", encoding="hex"), V1A.secrets, V1A.sign)
    signature = PRIVATE[0].sign(Parts().dotted).hex().encode()
    assert hexed.flaw(standard(Parts(), b"v1a," + signature)) is None
    assert hexed.flaw(standard(Parts(), b"v1a," + signature.upper())) == Flaw.SIGNATURE
    assert hexed.flaw(V1A.sign(Parts(), 0)) == Flaw.HEADER_MALFORMED


def test_a_private_key_signs_and_verifies() -> None:
    """`whsk_` gives a key for both, so that `ringback trigger` works; the public half alone verifies."""
    key = V1A.scheme.key("whsk_" + b64(RAW[0]).decode())
    made = V1A.scheme.sign(BODY, key, now=NOW, event_id="msg_1")
    lines = [(name.encode(), value.encode()) for name, value in made.items()]
    assert V1A.flaw(lines) is None
    forged = V1A.scheme.sign(BODY, key[:-1] + b"!", now=NOW, event_id="msg_1")
    assert V1A.flaw([(name.encode(), value.encode()) for name, value in forged.items()]) == Flaw.SIGNATURE


def test_what_the_log_says() -> None:
    """A wrong encoding, a wrong version and a wrong key are told apart."""
    parts = Parts()
    hexed = V1.refusal(standard(parts, b"v1," + mac(RAW[0], parts.dotted).hex().encode()))
    assert str(hexed) == "no signature in webhook-signature has 44 characters"
    assert str(V1.refusal(V1A.sign(parts, 0))) == "no entry of webhook-signature begins with 'v1,'"
    assert str(V1.refusal(V1.sign(parts, 1))) == "no signature in webhook-signature fits"
    assert str(V1A.refusal(V1A.sign(parts, 1))) == "no signature in webhook-signature fits"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "base32"}, "encoding: expected hex or base64, got 'base32'"),
        ({"secret": "hex"}, "secret: expected base64 or text, got 'hex'"),
        ({"version": ""}, "version: expected a word"),
        ({"version": "v1,"}, "version: expected a word"),
        ({"version": "v1 v2"}, "version: expected a word"),
        ({"version": "v1a", "secret": "text"}, "the keys of v1a are written in base64"),
    ],
)
def test_wrong_options(options: dict[str, str], words: str) -> None:
    """An option that is not known is an error when the scheme is made."""
    with pytest.raises(ValueError, match=words):
        StandardWebhooks(**options)


def test_an_empty_request() -> None:
    """Without any of the headers, the usual names are the ones that are missed."""
    assert str(V1.refusal(list(Headers([])))) == "webhook-id is missing"

"""Fixed secrets: compared letter by letter, the words before them included."""

import pytest

from ringback.providers.signatures import FixedHeader
from ringback.providers.signatures.scheme import Flaw
from tests.providers.signatures.signed import BASIC, BEARER, SCALE, TEXTS, Case, b64

TOKEN = Case("with a prefix", FixedHeader(header="authorization", prefix="Token "), TEXTS, SCALE.sign)


@pytest.mark.parametrize(
    ("case", "value", "flaw"),
    [
        (SCALE, TEXTS[0].encode(), None),
        (SCALE, TEXTS[0].encode()[:-1], Flaw.SIGNATURE),
        (SCALE, TEXTS[0].encode() + b"x", Flaw.SIGNATURE),
        (SCALE, TEXTS[0].encode().swapcase(), Flaw.SIGNATURE),
        (TOKEN, b"Token " + TEXTS[0].encode(), None),
        (TOKEN, TEXTS[0].encode(), Flaw.HEADER_MALFORMED),
        (TOKEN, b"token " + TEXTS[0].encode(), Flaw.HEADER_MALFORMED),
        (TOKEN, b"Token  " + TEXTS[0].encode(), Flaw.SIGNATURE),
        (BASIC, b"Basic " + b64(b"me:pass:word"), None),
        (BASIC, b"Basic bWU6cGFzczp3b3Jk", None),
        (BASIC, b"Basic " + b64(b"me:pass"), Flaw.SIGNATURE),
        (BASIC, b"Basic " + b64(b"me"), Flaw.SIGNATURE),
        (BASIC, b"Basic me:pass:word", Flaw.SIGNATURE),
        (BASIC, b"basic " + b64(b"me:pass:word"), Flaw.HEADER_MALFORMED),
        (BASIC, b"Bearer " + b64(b"me:pass:word"), Flaw.HEADER_MALFORMED),
        (BEARER, b"Bearer " + TEXTS[0].encode(), None),
        (BEARER, b"bearer " + TEXTS[0].encode(), Flaw.HEADER_MALFORMED),
        (BEARER, b"Bearer" + TEXTS[0].encode(), Flaw.HEADER_MALFORMED),
        (BEARER, b"Bearer " + TEXTS[0].encode() + b", Bearer x", Flaw.SIGNATURE),
    ],
)
def test_the_value(case: Case, value: bytes, flaw: str | None) -> None:
    """It is the secret, or a flaw that tells a strange form from a wrong secret."""
    assert case.flaw([(case.scheme.header_names[0].encode(), value)]) == flaw


def test_the_log_does_not_measure_the_secret() -> None:
    """Unlike for signatures, a wrong length is not told apart: it would give away the secret's."""
    short = SCALE.refusal([(b"scale-callback-auth", b"x")])
    long = SCALE.refusal([(b"scale-callback-auth", b"x" * len(TEXTS[0]))])
    assert str(short) == str(long) == "scale-callback-auth is not a secret that is configured"


@pytest.mark.parametrize(
    ("options", "words"), [({"header": "A"}, "in lower case"), ({"header": "a", "prefix": "ü"}, "expected ASCII")]
)
def test_wrong_options(options: dict[str, str], words: str) -> None:
    """An option that is not known is an error when the scheme is made."""
    with pytest.raises(ValueError, match=words):
        FixedHeader(**options)

"""HMAC over the raw body: the vectors of RFC 4231, RFC 2202 and GitHub, and the options."""

import pytest

from ringback.providers.signatures import BodyHmac, Key
from ringback.providers.signatures.scheme import Flaw
from tests.providers.signatures.signed import GITHUB, NOW, TEXTS, Case, Parts, b64, hexed, mac

LONG_KEY = b"\xaa" * 131
LONG_TEXT = (
    b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed "
    b"before being used by the HMAC algorithm."
)
# RFC 4231, 4.2 to 4.8, and RFC 2202, 3: (algorithm, key, data, digest; where the RFC cuts it, its beginning).
VECTORS = [
    ("sha256", b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        "sha256",
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    ("sha256", b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    ("sha256", bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    ("sha256", b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (
        "sha256",
        LONG_KEY,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    ("sha256", LONG_KEY, LONG_TEXT, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
    (
        "sha512",
        b"\x0b" * 20,
        b"Hi There",
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
        "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
    ),
    (
        "sha512",
        b"Jefe",
        b"what do ya want for nothing?",
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    ),
    ("sha512", b"\x0c" * 20, b"Test With Truncation", "415fad6271580a531d4179bc891d87a6"),
    (
        "sha512",
        LONG_KEY,
        LONG_TEXT,
        "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944"
        "b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58",
    ),
    ("sha1", b"\x0b" * 20, b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
    ("sha1", b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    ("sha1", b"\xaa" * 20, b"\xdd" * 50, "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
]


@pytest.mark.parametrize(("algorithm", "key", "data", "digest"), VECTORS)
def test_the_rfcs_vectors(algorithm: str, key: bytes, data: bytes, digest: str) -> None:
    """Each algorithm gives what its RFC says, and accepts it."""
    scheme = BodyHmac(header="x", algorithm=algorithm)
    made = scheme.sign(data, key, now=NOW, event_id="")["x"]
    assert made.startswith(digest)
    case = Case("rfc", scheme, TEXTS, GITHUB.sign)
    assert case.flaw([(b"x", made.encode())], data, [Key(key)]) is None
    assert case.flaw([(b"x", made.encode())], data + b"\0", [Key(key)]) == Flaw.SIGNATURE


def test_githubs_example() -> None:
    """docs.github.com, "Validating webhook deliveries": its secret, payload and signature."""
    case = Case("documented", GITHUB.scheme, ("It's a Secret to Everybody", "-"), GITHUB.sign)
    value = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert case.flaw([(b"x-hub-signature-256", value)], b"Hello, World!") is None
    assert case.flaw([(b"x-hub-signature-256", value)], b"Hello, World?") == Flaw.SIGNATURE


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha=", "Signature "])
def test_each_option(algorithm: str, encoding: str, prefix: str) -> None:
    """Every algorithm goes with every encoding and prefix, and with no other."""
    raw = mac(b"secret", b"body", algorithm)
    value = prefix.encode() + (raw.hex().encode() if encoding == "hex" else b64(raw))
    scheme = BodyHmac(header="x", algorithm=algorithm, encoding=encoding, prefix=prefix)
    case = Case("options", scheme, ("secret", "-"), GITHUB.sign)
    assert case.flaw([(b"x", value)], b"body") is None
    for other in (value.swapcase(), value + b"=", value[:-1], b" " + value, value + b" ", value + b"," + value):
        assert case.flaw([(b"x", other)], b"body") is not None


def test_what_the_log_says() -> None:
    """A missing prefix, a wrong length and a wrong signature are told apart."""
    name, value = GITHUB.sign(Parts(), 0)[0]
    digits = value.removeprefix(b"sha256=")
    assert str(GITHUB.refusal([(name, digits)])) == "no entry of x-hub-signature-256 begins with 'sha256='"
    assert str(GITHUB.refusal([(name, value[:-2])])) == "no signature in x-hub-signature-256 has 64 characters"
    other = b"sha256=" + hexed(b"another", b"")
    assert str(GITHUB.refusal([(name, other)])) == "no signature in x-hub-signature-256 fits"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"header": "X-Signature"}, "expected the name of a header in lower case, got 'X-Signature'"),
        ({"header": ""}, "expected the name of a header"),
        ({"header": "x", "algorithm": "md5"}, "algorithm: expected sha256 or sha512 or sha1, got 'md5'"),
        ({"header": "x", "encoding": "HEX"}, "encoding: expected hex or base64, got 'HEX'"),
        ({"header": "x", "prefix": "ü"}, "prefix: expected ASCII"),
    ],
)
def test_wrong_options(options: dict[str, str], words: str) -> None:
    """An option that is not known is an error when the scheme is made."""
    with pytest.raises(ValueError, match=words):
        BodyHmac(**options)

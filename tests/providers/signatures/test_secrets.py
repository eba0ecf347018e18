"""Secrets are decoded strictly and never to nothing; an error says which form was expected, and repeats nothing."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.providers.signatures import Scheme, StandardWebhooks
from ringback.providers.signatures.secrets import ENCODINGS, decode, encode
from tests.providers.signatures.signed import (
    BASIC,
    BEARER,
    CASES,
    GITHUB,
    KIE,
    PRIVATE,
    RAW,
    SCALE,
    STRIPE,
    V1,
    V1A,
    V3,
    Case,
)

PUBLIC = PRIVATE[0].public_key().public_bytes_raw()


def written(raw: bytes, prefix: str = "whsec_") -> str:
    """Write a secret in base64."""
    return prefix + base64.b64encode(raw).decode()


GOOD: list[tuple[str, Scheme, str, bytes]] = [
    ("with its prefix", V1.scheme, written(RAW[0]), RAW[0]),
    ("without, as the official libraries take it", V1.scheme, written(RAW[0], ""), RAW[0]),
    ("without padding", V1.scheme, written(RAW[0]).rstrip("="), RAW[0]),
    ("as short as allowed", V1.scheme, written(b"k" * 24), b"k" * 24),
    ("as long as allowed", V1.scheme, written(b"k" * 64), b"k" * 64),
    ("WaveSpeed: the letters after the prefix", V3.scheme, "whsec_abc=", b"abc="),
    ("WaveSpeed, without the prefix", V3.scheme, "abc=", b"abc="),
    ("a public key", V1A.scheme, written(PUBLIC, "whpk_"), PUBLIC),
    ("a private key", V1A.scheme, written(RAW[0], "whsk_"), PUBLIC + RAW[0]),
    ("Svix's pair", V1A.scheme, written(RAW[0] + PUBLIC, "whsk_"), PUBLIC + RAW[0]),
    ("GitHub: as it is", GITHUB.scheme, "It's a Secret to Everybody", b"It's a Secret to Everybody"),
    ("in UTF-8", GITHUB.scheme, "Schlüssel", b"Schl\xc3\xbcssel"),
    ("Stripe: the prefix is part of the key", STRIPE.scheme, "whsec_abc", b"whsec_abc"),
    ("kie.ai: as it is", KIE.scheme, "abc", b"abc"),
    ("a header's value", SCALE.scheme, "live key", b"live key"),
    ("a user with a password that holds a colon", BASIC.scheme, "me:a:b", b"me:a:b"),
    ("a password without a user", BASIC.scheme, ":p", b":p"),
    ("a password in UTF-8", BASIC.scheme, "me:pä", b"me:p\xc3\xa4"),
    ("a token", BEARER.scheme, "abc.def", b"abc.def"),
]


@pytest.mark.parametrize(("scheme", "secret", "key"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_good_secret(scheme: Scheme, secret: str, key: bytes) -> None:
    """It becomes these bytes."""
    assert scheme.key(secret) == key


SYMMETRIC = "expected whsec_ followed by base64 of 24 to 64 bytes; "
BAD: list[tuple[Scheme, str, str]] = [
    (V1.scheme, "", SYMMETRIC + "this is base64 of 0 bytes, and has no whsec_ prefix"),
    (V1.scheme, "whsec_", SYMMETRIC + "this is base64 of 0 bytes"),
    (V1.scheme, "whsec_====", SYMMETRIC + "this is not standard base64"),
    (
        V1.scheme,
        "not base64 at all, and no prefix",
        SYMMETRIC + "this is not standard base64, and has no whsec_ prefix",
    ),
    (V1.scheme, written(b"k" * 23), SYMMETRIC + "this is base64 of 23 bytes"),
    (V1.scheme, written(b"k" * 65), SYMMETRIC + "this is base64 of 65 bytes"),
    (V1.scheme, written(RAW[0])[:-2], SYMMETRIC + "this is not standard base64"),
    (V1.scheme, written(RAW[0]) + "=", SYMMETRIC + "this is not standard base64"),
    (V1.scheme, written(RAW[0]) + "\n", SYMMETRIC + "this is not standard base64"),
    (V1.scheme, written(RAW[0]).replace("AAEC", "AA EC"), SYMMETRIC + "this is not standard base64"),
    (V1.scheme, written(RAW[0])[:-2] + "9=", SYMMETRIC + "this is not standard base64"),
    (V1.scheme, "whsec_" + "ü" * 32, SYMMETRIC + "this is not standard base64"),
    (V1.scheme, "whsec_" + "\udcff" * 32, SYMMETRIC + "this is not standard base64"),
    (V1.scheme, "whsec_" + "-_" * 16, SYMMETRIC + "this is not standard base64 (- and _ are of base64url)"),
    (V1.scheme, "WHSEC_" + "A" * 32, "and has no whsec_ prefix"),
    (V1.scheme, written(PUBLIC, "whpk_"), SYMMETRIC + "whpk_ marks a public key, for v1a"),
    (V1.scheme, written(RAW[0], "whsk_"), SYMMETRIC + "whsk_ marks a private key, for v1a"),
    (V3.scheme, "whsec_", "expected whsec_ followed by the text that is the key; this is empty"),
    (V3.scheme, written(PUBLIC, "whpk_"), "whpk_ marks a public key, for v1a"),
    (V1A.scheme, written(RAW[0]), "whsec_ marks an HMAC secret, for v1"),
    (V1A.scheme, written(PUBLIC, ""), "this has neither prefix"),
    (V1A.scheme, "", "this has neither prefix"),
    (V1A.scheme, "whpk_", "this is base64 of 0 bytes"),
    (V1A.scheme, written(RAW[0] + PUBLIC, "whpk_"), "this is base64 of 64 bytes"),
    (V1A.scheme, written(bytes(32), "whpk_"), "with this one anybody could sign"),
    (V1A.scheme, written(b"k" * 33, "whsk_"), "this is base64 of 33 bytes"),
    (V1A.scheme, written(RAW[0] + RAW[1], "whsk_"), "the halves of this pair do not belong together"),
    (GITHUB.scheme, "", "expected the secret as the provider shows it; this is empty"),
    (STRIPE.scheme, " secret", "this begins or ends with a space"),
    (KIE.scheme, "secret\u00a0", "this begins or ends with a space"),
    (GITHUB.scheme, "sec\0ret", "this holds characters that cannot be printed"),
    (GITHUB.scheme, "sec\udcffret", "this holds characters that cannot be printed"),
    (SCALE.scheme, "", "expected the value of the header, in ASCII, without its prefix; this is empty"),
    (SCALE.scheme, "schlüssel", "this holds other characters"),
    (SCALE.scheme, "a\nb", "this holds characters that cannot be printed"),
    (BASIC.scheme, "password", "expected user:password; this has no colon"),
    (BASIC.scheme, "user:", "expected user:password; this has no password"),
    (BASIC.scheme, "", "expected user:password; this is empty"),
    (BEARER.scheme, "bearer abc", "expected the token, in ASCII, without the word Bearer; this begins with it"),
    (BEARER.scheme, "", "this is empty"),
]


@pytest.mark.parametrize(("scheme", "secret", "words"), BAD)
def test_a_bad_secret(scheme: Scheme, secret: str, words: str) -> None:
    """The error names the form that was expected and what is wrong."""
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        scheme.key(secret)
    assert words in str(caught.value)


@given(st.sampled_from(CASES), st.text(max_size=80) | st.from_regex(r"(whsec_|whpk_|whsk_)[A-Za-z0-9+/=_-]{0,100}"))
def test_any_secret(case: Case, secret: str) -> None:
    """It becomes some bytes, or an error of one kind that does not hold it."""
    message = ""
    try:
        key = case.scheme.key(secret)
    except UnicodeError:
        raise
    except ValueError as error:
        key, message = b"", str(error)
    assert bool(key) != bool(message)
    assert len(secret) < 12 or secret not in message


@given(st.binary(max_size=100), st.sampled_from(ENCODINGS))
def test_encoding_and_back(raw: bytes, encoding: str) -> None:
    """What was encoded is decoded."""
    assert decode(encode(raw, encoding), encoding) == raw


@given(
    st.binary(max_size=24) | st.from_regex(rb"[A-Za-z0-9+/]{0,11}={0,3}\n?", fullmatch=True), st.sampled_from(ENCODINGS)
)
def test_one_spelling(text: bytes, encoding: str) -> None:
    """No two texts are decoded to the same bytes: what is decoded is encoded as it was."""
    raw = decode(text, encoding)
    assert raw is None or encode(raw, encoding) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(b"AB", "hex"), (b"abc", "hex"), (b"zz", "hex"), (b"QQ", "base64"), (b"QR==", "base64"), (b"Q Q=", "base64")],
)
def test_other_spellings(text: bytes, encoding: str) -> None:
    """Upper-case hex, missing padding, loose bits and spaces are refused."""
    assert decode(text, encoding) is None


def test_the_form_follows_the_options() -> None:
    """Each derivation of the key describes its own form."""
    forms = {case.scheme.secret_form for case in (V1, V3, V1A)}
    assert len(forms) == 3
    assert StandardWebhooks().secret_form == "whsec_ followed by base64 of 24 to 64 bytes"

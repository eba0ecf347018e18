"""Ed25519: the primitives, the newline recipe of fal and Ideogram, and the sets of public keys."""

import json
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from ringback.errors import Unauthentic, Unreadable
from ringback.model import Trust
from ringback.providers.signatures.ed25519 import (
    MAX_KEYS,
    Ed25519Lines,
    is_public_key,
    is_signed_by,
    public_of,
    read_jwks,
    sign_with,
)
from ringback.providers.signatures.scheme import Headers, Key

VECTORS = Path(__file__).parent / "vectors"
RFC_8032: list[dict[str, str]] = json.loads((VECTORS / "rfc8032_ed25519.json").read_text())["tests"]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIVE_MINUTES = timedelta(minutes=5)
PRIVATE, OTHER = b"\x01" * 32, b"\x02" * 32
PUBLIC, OTHER_PUBLIC = public_of(PRIVATE), public_of(OTHER)
KEYS = (Key(OTHER_PUBLIC, id="old"), Key(PUBLIC, id="new"))
BODY = b'{"request_id": "r-1", "status": "OK"}'

FAL = Ed25519Lines(
    id_header="x-fal-webhook-request-id",
    user_header="x-fal-webhook-user-id",
    timestamp_header="x-fal-webhook-timestamp",
    signature_header="x-fal-webhook-signature",
)
NAMED = Ed25519Lines(
    id_header="id", user_header="user", timestamp_header="time", signature_header="sig", key_id_header="key-id"
)
WEAK = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
]


def lines(
    request: str = "r-1",
    user: str = "github|77",
    timestamp: str = "1772366400",
    body: bytes = BODY,
    private: bytes = PRIVATE,
) -> dict[str, str]:
    """Sign as fal's page describes it, without the code under test."""
    message = "\n".join([request, user, timestamp, sha256(body).hexdigest()]).encode()
    return {
        "x-fal-webhook-request-id": request,
        "x-fal-webhook-user-id": user,
        "x-fal-webhook-timestamp": timestamp,
        "x-fal-webhook-signature": sign_with(private, message).hex(),
    }


def headers(given: dict[str, str]) -> Headers:
    """Give headers as they come from a server."""
    return Headers([(name.encode(), value.encode("latin-1")) for name, value in given.items()])


def verify(given: dict[str, str], scheme: Ed25519Lines = FAL, keys: tuple[Key, ...] = KEYS, body: bytes = BODY) -> None:
    """Verify at NOW."""
    scheme.verify(headers(given), body, keys, NOW, FIVE_MINUTES)


def flaw_of(given: dict[str, str], scheme: Ed25519Lines = FAL, keys: tuple[Key, ...] = KEYS, body: bytes = BODY) -> str:
    """Give why a request is refused; no value of its headers may be in the detail."""
    with pytest.raises(Unauthentic) as caught:
        verify(given, scheme, keys, body)
    assert not any(value in str(caught.value) for value in given.values() if len(value) > 3)
    return str(caught.value.flaw)


def coordinate(public: bytes) -> str:
    """Write a public key as a JWK does."""
    return urlsafe_b64encode(public).rstrip(b"=").decode()


def jwk(public: bytes = PUBLIC, **more: Any) -> dict[str, Any]:
    """Give an entry of a key set."""
    return {"kty": "OKP", "crv": "Ed25519", "x": coordinate(public)} | more


def jwks(*entries: Any) -> bytes:
    """Give a key set."""
    return json.dumps({"keys": entries}).encode()


# The primitives.


@pytest.mark.parametrize("vector", RFC_8032, ids=lambda vector: vector["name"])
def test_the_vectors_of_rfc_8032(vector: dict[str, str]) -> None:
    """Public keys and signatures come out as RFC 8032 prints them, and are accepted."""
    secret, public, message, signature = (
        bytes.fromhex(vector[name]) for name in ("secret", "public", "message", "signature")
    )
    assert public_of(secret) == public
    assert sign_with(secret, message) == signature
    assert is_signed_by(public, signature, message)
    assert not is_signed_by(public, signature, message + b"\0")


@given(public=st.binary(max_size=40), signature=st.binary(max_size=70), message=st.binary(max_size=40))
def test_any_bytes_are_only_refused(public: bytes, signature: bytes, message: bytes) -> None:
    """Keys and signatures of any length and no sense are false, and raise nothing."""
    assert not is_signed_by(public, signature, message)
    assert not is_signed_by(public.ljust(32, b"\x55")[:32], signature.ljust(64, b"\x55")[:64], message)


@pytest.mark.parametrize("bad", [b"", b"\x01" * 31, b"\x01" * 33])
def test_a_private_key_of_a_wrong_length_is_an_error(bad: bytes) -> None:
    """Where we sign, a key that is none is a mistake to hear of."""
    with pytest.raises(ValueError, match="32"):
        sign_with(bad, b"")
    with pytest.raises(ValueError, match="32"):
        public_of(bad)


@pytest.mark.parametrize("sign_bit", [0, 0x80])
@pytest.mark.parametrize("point", WEAK, ids=lambda point: point.hex()[:4])
def test_keys_for_which_anybody_can_sign_verify_nothing(point: bytes, sign_bit: int) -> None:
    """OpenSSL accepts one made-up signature under a key of small order, all zeros included; we do not."""
    weak = point[:-1] + bytes([point[-1] | sign_bit])
    made_up = b"\x01" + bytes(63)
    loaded = Ed25519PublicKey.from_public_bytes(weak)

    def openssl_accepts(message: bytes) -> bool:
        try:
            loaded.verify(made_up, message)
        except Exception:
            return False
        return True

    messages = [bytes([number]) for number in range(256)]
    assert any(map(openssl_accepts, messages))
    assert not is_public_key(weak)
    assert not any(is_signed_by(weak, made_up, message) for message in messages)


def test_a_point_that_the_library_refuses_to_load_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries differ in whether they look at a point when it is loaded."""

    def refuse(_: bytes) -> None:
        raise ValueError("not a point")

    monkeypatch.setattr("ringback.providers.signatures.ed25519._public", refuse)
    assert not is_signed_by(PUBLIC, bytes(64), b"")


def test_cryptography_is_loaded_when_a_key_is_used() -> None:
    """A receiver whose providers do not sign so never pays for it."""
    code = (
        "import sys; from ringback.providers.signatures import ed25519; before = 'cryptography' in sys.modules; "
        "ed25519.public_of(bytes(32)); print(before, 'cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["False", "True"], done.stderr


# The recipe.


def test_a_request_signed_as_documented_is_authentic() -> None:
    """The four lines of fal's page, signed by any key of the set."""
    verify(lines())
    verify(lines(private=OTHER))
    verify(lines(body=b""), body=b"")
    assert (FAL.trust, FAL.fetches_keys) == (Trust.SIGNED, True)


@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_what_we_sign_is_authentic(encoding: str) -> None:
    """Signing and verifying agree, in either encoding."""
    scheme = Ed25519Lines(
        id_header="id", user_header="user", timestamp_header="time", signature_header="sig", encoding=encoding
    )
    signed = scheme.sign(BODY, PRIVATE, now=NOW, event_id="r-1")
    assert tuple(signed) == scheme.header_names
    verify(dict(signed), scheme)
    assert flaw_of(dict(signed), scheme, body=BODY + b" ") == "signature"


def test_another_encoding_is_a_mistake() -> None:
    """An unknown word in the options is refused when the scheme is made."""
    with pytest.raises(ValueError, match="hex, base64"):
        Ed25519Lines(id_header="a", user_header="b", timestamp_header="c", signature_header="d", encoding="hax")


def test_no_secret_is_taken() -> None:
    """The keys are public and fetched; a secret in the settings is a misunderstanding, and is not repeated."""
    with pytest.raises(ValueError, match="publishes") as caught:
        FAL.key("a-secret")
    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize("name", FAL.header_names)
def test_each_header_is_needed_once(name: str) -> None:
    """A missing header and a repeated one are refused, each with its own word."""
    given = lines()
    assert flaw_of({key: value for key, value in given.items() if key != name}) == "header_missing"
    twice = Headers([*headers(given), (name.encode(), given[name].encode())])
    with pytest.raises(Unauthentic) as caught:
        FAL.verify(twice, BODY, KEYS, NOW, FIVE_MINUTES)
    assert caught.value.flaw == "header_repeated"


@pytest.mark.parametrize("name", ["x-fal-webhook-request-id", "x-fal-webhook-user-id"])
@pytest.mark.parametrize("value", ["", " ", "a b", "a\nb", "a\tb", "\xe9", "a\x00"])
def test_a_line_is_visible_ascii(name: str, value: str) -> None:
    """A value that could be read as two lines, or as none, is refused even where it is signed."""
    given = {"x-fal-webhook-request-id": "r", "x-fal-webhook-user-id": "u"} | {name: value}
    signed = lines(request=given["x-fal-webhook-request-id"], user=given["x-fal-webhook-user-id"])
    assert flaw_of(signed) == "header_malformed"


@pytest.mark.parametrize(
    ("timestamp", "flaw"),
    [
        ("+1772366400", "timestamp_malformed"),
        (" 1772366400", "timestamp_malformed"),
        ("1772366400.9", "timestamp_malformed"),
        ("1e9", "timestamp_malformed"),
        ("01772366400", "timestamp_malformed"),
        ("-5", "timestamp_malformed"),
        ("9" * 40, "timestamp_malformed"),
        ("1772366099", "timestamp_old"),
        ("1772366701", "timestamp_future"),
    ],
)
def test_the_timestamp_is_strict(timestamp: str, flaw: str) -> None:
    """A well signed request from another time, or with a timestamp of another form, is refused."""
    assert flaw_of(lines(timestamp=timestamp)) == flaw


@pytest.mark.parametrize("timestamp", ["1772366100", "1772366700"])
def test_the_timestamp_may_be_five_minutes_off(timestamp: str) -> None:
    """The bounds belong to it."""
    verify(lines(timestamp=timestamp))


def test_other_spellings_of_a_signature_are_refused() -> None:
    """Upper-case hex, blanks, a prefix and base64 decode to the same bytes, and are not what providers send."""
    good = lines()["x-fal-webhook-signature"]
    spellings = [
        good.upper(),
        f" {good}",
        f"{good}\n",
        f"0x{good}",
        good[:-2],
        f"{good}00",
        b64encode(bytes.fromhex(good)).decode(),
    ]
    for text in ["", "zz", *spellings]:
        assert flaw_of(lines() | {"x-fal-webhook-signature": text}) == "header_malformed"


def test_base64_is_canonical() -> None:
    """The last character's spare bits are zero: another one would decode to the same signature."""
    scheme = Ed25519Lines(
        id_header="id", user_header="user", timestamp_header="time", signature_header="sig", encoding="base64"
    )
    signed = dict(scheme.sign(BODY, PRIVATE, now=NOW, event_id="r-1"))
    spare = {"A": "B", "Q": "R", "g": "h", "w": "x"}[signed["sig"][-3]]
    assert flaw_of(signed | {"sig": signed["sig"][:-3] + spare + "=="}, scheme) == "header_malformed"
    assert flaw_of(signed | {"sig": signed["sig"].rstrip("=")}, scheme) == "header_malformed"


@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    """Whatever is changed in a signed header or in the body, the request is refused with our own error."""
    given = lines()
    part = data.draw(st.sampled_from([*given, "body"]))
    old = BODY if part == "body" else given[part].encode()
    at = data.draw(st.integers(0, len(old) - 1))
    new = old[:at] + data.draw(st.binary(max_size=2).filter(lambda new: new != old[at : at + 1])) + old[at + 1 :]
    changed = {name: value.encode() for name, value in given.items()} | ({} if part == "body" else {part: new})
    if new == old:
        return
    with pytest.raises(Unauthentic):
        FAL.verify(
            Headers([(name.encode(), value) for name, value in changed.items()]),
            new if part == "body" else BODY,
            KEYS,
            NOW,
            FIVE_MINUTES,
        )


def test_without_a_valid_key_nothing_is_authentic() -> None:
    """No key, an expired one and an empty one verify nothing; another provider's key does not fit."""
    assert flaw_of(lines(), keys=()) == "no_key"
    assert flaw_of(lines(), keys=(Key(PUBLIC, until=NOW),)) == "no_key"
    assert flaw_of(lines(), keys=(Key(b""),)) == "no_key"
    assert flaw_of(lines(), keys=(Key(OTHER_PUBLIC),)) == "signature"


@pytest.mark.parametrize("key_id", ["new", "old", "unknown", "", None])
def test_the_key_id_is_a_hint(key_id: str | None) -> None:
    """Whatever it names, every key of the set is tried: signatures stay valid across rotations, forgeries do not."""
    signed = dict(NAMED.sign(BODY, PRIVATE, now=NOW, event_id="r-1"))
    if key_id is not None:
        signed["key-id"] = key_id
    verify(signed, NAMED, keys=(*KEYS, Key(public_of(b"\x03" * 32))))
    assert flaw_of(signed, NAMED, body=b"forged") == "signature"


def test_the_named_key_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A good request costs one verification, however many keys the set holds."""
    tried: list[bytes] = []

    def note(public: bytes, signature: bytes, message: bytes) -> bool:
        tried.append(public)
        return is_signed_by(public, signature, message)

    monkeypatch.setattr("ringback.providers.signatures.ed25519.is_signed_by", note)
    verify(dict(NAMED.sign(BODY, PRIVATE, now=NOW, event_id="r-1")) | {"key-id": "new"}, NAMED)
    assert tried == [PUBLIC]


def test_the_key_id_comes_once() -> None:
    """A proxy and we might each believe another one."""
    signed = dict(NAMED.sign(BODY, PRIVATE, now=NOW, event_id="r-1"))
    with pytest.raises(Unauthentic) as caught:
        NAMED.verify(Headers([*headers(signed), *[(b"key-id", b"new")] * 2]), BODY, KEYS, NOW, FIVE_MINUTES)
    assert caught.value.flaw == "header_repeated"
    assert NAMED.header_names[-1] == "key-id"


# Key sets.


def test_a_key_set_is_read_in_its_order() -> None:
    """Ed25519 keys with their ids, where these are usable; fal gives none."""
    body = jwks(jwk(kid="k1", use="sig", alg="EdDSA"), jwk(OTHER_PUBLIC), jwk(kid=7), jwk(kid=""), jwk(kid="k" * 201))
    found = read_jwks(body)
    assert [(key.material, key.id) for key in found] == [
        (PUBLIC, "k1"),
        (OTHER_PUBLIC, None),
        (PUBLIC, None),
        (PUBLIC, None),
        (PUBLIC, None),
    ]
    assert found[0].until is None


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "text",
        [],
        {},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        jwk(kty="EC"),
        jwk(crv="X25519"),
        jwk(crv=None),
        jwk(use="enc"),
        jwk(use=None),
        jwk(d="AA"),
        jwk(x=None),
        jwk(x=7),
        jwk(x=""),
        jwk(x=coordinate(PUBLIC)[:-1]),
        jwk(x=coordinate(PUBLIC) + "A"),
        jwk(x=coordinate(PUBLIC) + "=="),
        jwk(x=coordinate(PUBLIC)[:-1] + "_"),
        jwk(x="+" * 42 + "A"),
        jwk(x="\u0661" * 42 + "A"),
        *[jwk(weak) for weak in WEAK],
    ],
)
def test_unusable_entries_are_skipped(entry: Any) -> None:
    """One that is of another kind, broken or weak takes nothing from the others, and alone makes no set."""
    assert [key.material for key in read_jwks(jwks(entry, jwk(OTHER_PUBLIC), entry))] == [OTHER_PUBLIC]
    with pytest.raises(Unreadable, match="none is usable"):
        read_jwks(jwks(entry))


def test_padding_is_taken() -> None:
    """RFC 7515 leaves it out; a set that has it says the same."""
    assert read_jwks(jwks(jwk(x=coordinate(PUBLIC) + "=")))[0].material == PUBLIC


def test_a_set_has_at_most_a_hundred_keys() -> None:
    """Every forged request costs one verification per key."""
    assert len(read_jwks(jwks(*[jwk()] * 150))) == MAX_KEYS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>very private</html>",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": null}',
        b'{"keys": []}',
        b"[" * 5000,
        b'{"keys": [' + b"[" * 5000,
        b'{"keys": [1e999]}',
        b'{"keys": ["\\ud800"]}',
    ],
)
def test_what_is_no_key_set_is_unreadable(body: bytes) -> None:
    """Any other document is one error of ours, which repeats none of it."""
    with pytest.raises(Unreadable, match="expected a key set") as caught:
        read_jwks(body)
    assert "private" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_set_or_unreadable(body: bytes) -> None:
    """No input reaches an exception that is not ours."""
    with pytest.raises(Unreadable):
        read_jwks(body)

"""The capability URL: made and checked with the same bytes."""

import base64
import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from ringback.providers import signatures

OLD, NEW = b"o" * 32, b"n" * 32


def test_the_mac_is_the_documented_one() -> None:
    """The token is the first 32 characters of the unpadded base64url of HMAC-SHA256 over provider:task_id."""
    digest = hmac.new(NEW, b"qingbo:task_1", hashlib.sha256).digest()
    expected = base64.urlsafe_b64encode(digest).decode().rstrip("=")[:32]
    url = signatures.callback_url("https://us.example/base/", NEW, "qingbo", "task_1")
    assert url == f"https://us.example/base/callbacks/qingbo/task_1.{expected}"


def test_every_listed_secret_is_valid() -> None:
    """A token made before a rotation still holds; one of a dropped secret does not."""
    mac = signatures.callback_mac(OLD, "qingbo", "task_1")
    assert signatures.token_is_valid(mac, "qingbo", "task_1", (NEW, OLD))
    assert signatures.token_is_valid(mac, "qingbo", "task_1", (OLD, NEW))
    assert not signatures.token_is_valid(mac, "qingbo", "task_1", (NEW,))
    assert not signatures.token_is_valid(mac, "qingbo", "task_1", ())


def test_a_token_fits_one_task_of_one_provider() -> None:
    """Neither another task nor another provider can use it."""
    mac = signatures.callback_mac(NEW, "qingbo", "task_1")
    assert not signatures.token_is_valid(mac, "qingbo", "task_2", (NEW,))
    assert not signatures.token_is_valid(mac, "reapi", "task_1", (NEW,))


@given(st.binary(max_size=80))
def test_no_guess_is_valid(guess: bytes) -> None:
    """Arbitrary bytes, non-ASCII and NUL included, are refused without an error."""
    assert not signatures.token_is_valid(guess, "qingbo", "task_1", (NEW, OLD))


def test_a_fingerprint_tells_secrets_apart() -> None:
    """It is 16 hex digits, stable, different per secret and not its plain hash."""
    assert len(signatures.fingerprint(OLD)) == 16
    assert signatures.fingerprint(OLD) == signatures.fingerprint(OLD) != signatures.fingerprint(NEW)
    assert signatures.fingerprint(OLD) != hashlib.sha256(OLD).hexdigest()[:16]

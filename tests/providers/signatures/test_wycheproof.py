"""Cases of Project Wycheproof, chosen from its files: see the files under vectors/ for which."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ringback.errors import Unauthentic
from ringback.providers.signatures.body_hmac import BodyHmac
from ringback.providers.signatures.ed25519 import is_signed_by
from ringback.providers.signatures.scheme import Headers, Key

VECTORS = Path(__file__).parent / "vectors"
FULL_TAG_BITS = 256


def cases(name: str) -> Iterator[Any]:
    """Give the cases of a file, each with what its group says."""
    for group in json.loads((VECTORS / name).read_text())["testGroups"]:
        for case in group["tests"]:
            yield pytest.param({**group, **case}, id=f"{case['tcId']} {case['comment']}")


@pytest.mark.parametrize("case", list(cases("ed25519_test.json")))
def test_ed25519(case: dict[str, str]) -> None:
    """Our verdict is Wycheproof's: no special value, cut, longer or malleable signature is accepted."""
    public, signature, message = (bytes.fromhex(case[name]) for name in ("pk", "sig", "msg"))
    assert is_signed_by(public, signature, message) is (case["result"] == "valid")


@pytest.mark.parametrize("case", list(cases("hmac_sha256_test.json")))
def test_hmac_sha256(case: dict[str, Any]) -> None:
    """Our verdict about a body's HMAC is Wycheproof's for whole tags; a cut one is never enough here."""
    scheme = BodyHmac(header="x-signature", algorithm="sha256", encoding="hex")
    request = Headers([(b"x-signature", case["tag"].encode())])
    expected = case["result"] == "valid" and case["tagSize"] == FULL_TAG_BITS
    try:
        scheme.verify(
            request,
            bytes.fromhex(case["msg"]),
            (Key(bytes.fromhex(case["key"])),),
            datetime(2026, 3, 1, tzinfo=UTC),
            timedelta(minutes=5),
        )
    except Unauthentic:
        assert not expected
    else:
        assert expected

"""HMAC over a field of the body: which field it is, and what is no field."""

import pytest

from ringback.errors import Unauthentic
from ringback.providers.signatures import FieldsHmac
from ringback.providers.signatures.scheme import Flaw
from tests.providers.signatures.signed import KIE, NOW, SECONDS, TEXTS, Lines, b64, mac


def signed(field: bytes, secret: bytes = TEXTS[0].encode()) -> Lines:
    """Sign a field as docs.kie.ai/common-api/webhook-verification says."""
    signature = b64(mac(secret, b"%s.%d" % (field, SECONDS)))
    return [(b"x-webhook-timestamp", str(SECONDS).encode()), (b"x-webhook-signature", signature)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"data":{"taskId":"t-1"}}', b"t-1"),
        (b'{"data":{"task_id":"t-1","taskId":"t-2"}}', b"t-1"),
        (b'{"data":{"task_id":null,"taskId":"t-2"}}', b"t-2"),
        (b'{"data":{"taskId":17}}', b"17"),
        (b'{"data":{"taskId":"\\u00fc"}}', b"\xc3\xbc"),
        (b'{"data":{"taskId":"a.b"}}', b"a.b"),
    ],
)
def test_the_field(body: bytes, field: bytes) -> None:
    """The first path that finds something names the field: a text or a whole number."""
    assert KIE.flaw(signed(field), body) is None
    assert KIE.flaw(signed(field + b"x"), body) == Flaw.SIGNATURE
    made = KIE.scheme.sign(body, TEXTS[0].encode(), now=NOW, event_id="msg")
    assert {name.encode(): value.encode() for name, value in made.items()} == dict(signed(field))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"data":null}', b'{"data":{"taskId":""}}', b'{"data":{"taskId":true}}',
        b'{"data":{"taskId":1.5}}', b'{"data":{"taskId":["t"]}}', b'{"data":{"task_id":{},"taskId":"t"}}',
        b'{"data":{"taskId":"\xff"}}', b'{"data":{"taskId":"\\ud800"}}', b"[" * 100_000, b'{"data":{"taskId":"t"}}x',
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
def test_no_field(body: bytes) -> None:
    """A body without it, or that is not JSON, is refused, and cannot be signed."""
    assert KIE.flaw(signed(b"t"), body) == Flaw.BODY_MALFORMED
    with pytest.raises(Unauthentic):
        KIE.scheme.sign(body, b"key", now=NOW, event_id="")


def test_another_signature() -> None:
    """Only the exact base64 of the signature is one."""
    time, (name, good) = signed(b"t")
    body = b'{"data":{"taskId":"t"}}'
    assert KIE.flaw([time, (name, good)], body) is None
    for other in (good.rstrip(b"="), good + b"=", good.swapcase(), good + b",", b"v1," + good):
        assert KIE.flaw([time, (name, other)], body) in (Flaw.HEADER_MALFORMED, Flaw.SIGNATURE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"header": "X"}, "in lower case"),
        ({"timestamp_header": ""}, "expected the name of a header"),
        ({"field": ()}, "field: expected at least one path"),
        ({"field": ("data..id",)}, "expected a name at character 6"),
        ({"template": "{field}"}, r"expected {field}, {timestamp}, each once"),
        ({"algorithm": "md5"}, "algorithm: expected"),
        ({"encoding": "base16"}, "encoding: expected"),
    ],
)
def test_wrong_options(options: dict[str, str | tuple[str, ...]], words: str) -> None:
    """An option that is not known is an error when the scheme is made."""
    with pytest.raises(ValueError, match=words):
        FieldsHmac(**{"header": "x-s", "timestamp_header": "x-t", "field": ("id",), **options})  # type: ignore[arg-type]

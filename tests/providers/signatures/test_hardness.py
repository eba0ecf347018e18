"""What every scheme must withstand: each row is sent to each scheme that it concerns."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringback.errors import Unsupported
from ringback.model import Trust
from ringback.providers.signatures import SCHEMES, Ed25519Lines, Headers, Key, Scheme
from ringback.providers.signatures.scheme import Flaw
from tests.providers.signatures.signed import (
    BODY,
    CASES,
    KIE,
    NOW,
    SECONDS,
    STRIPE,
    TIMED,
    TOLERANCE,
    UNKNOWN,
    V1,
    V1A,
    V3,
    Case,
    Lines,
    Parts,
)

every = pytest.mark.parametrize("case", CASES, ids=str)
timed = pytest.mark.parametrize("case", TIMED, ids=str)
identified = pytest.mark.parametrize("case", [case for case in CASES if case.identity], ids=str)
MALFORMED = {Flaw.HEADER_MALFORMED, Flaw.TIMESTAMP_MALFORMED, Flaw.SIGNATURE}


def signed_at(case: Case, seconds: int) -> Lines:
    """Sign the usual request at another time."""
    return case.sign(Parts(timestamp=str(seconds).encode()), 0)


@every
def test_by_the_book(case: Case) -> None:
    """A request that was signed as the documents say is accepted, wherever its headers stand among others."""
    lines = case.sign(Parts(), 0)
    assert case.flaw(lines) is None
    assert case.flaw([(b"host", b"us.example"), *reversed(lines), (b"x-other", b"\xff\0")]) is None


@every
def test_our_own_signature(case: Case) -> None:
    """What `sign` gives is what the documents say, letter by letter, so that others accept it."""
    parts, key = Parts(), case.keys(0)[0].material
    if case is V1A:
        with pytest.raises(Unsupported, match="public key cannot sign"):
            case.scheme.sign(BODY, key, now=NOW, event_id="a")
        return
    ours = case.scheme.sign(parts.body, key, now=NOW, event_id=parts.id.decode())
    theirs = {name.decode(): value.removesuffix(UNKNOWN).decode() for name, value in case.sign(parts, 0)}
    assert ours == theirs


@every
def test_headers_that_are_named(case: Case) -> None:
    """`header_names` holds the headers that are read, and nothing that is not."""
    names = {name.decode() for name, _ in case.sign(Parts(), 0)}
    assert {name for name in case.scheme.header_names if not name.startswith("svix-")} == names


@every
def test_one_header_is_missing_or_repeated(case: Case) -> None:
    """Each header must be there once; twice is refused even where both values are the same."""
    lines = case.sign(Parts(), 0)
    for index, line in enumerate(lines):
        assert case.flaw(lines[:index] + lines[index + 1 :]) == Flaw.HEADER_MISSING
        assert case.flaw([*lines, line]) == Flaw.HEADER_REPEATED
        assert case.flaw([(line[0], b"other"), *lines]) == Flaw.HEADER_REPEATED
    assert case.flaw([]) == Flaw.HEADER_MISSING


NASTY = (
    b"", b" ", b"\0", b"\xff\xfe", "ü".encode(), "٣".encode(), b",", b",,", b" ,", b"=", b"v1", b"v1,", b"v1,,", b"v1=",
    b"t=", b"t=,v1=", b"v1a,", b"v1a,====", b"sha256=", b"Basic", b"Basic ", b"Bearer ", b"v1,\xe9", b"%s", b"{body}",
    b" " * 5_000, b"," * 100_000, b"v1," * 2_000, b"9" * 40,
)  # fmt: skip


@every
@pytest.mark.parametrize("value", NASTY, ids=repr)
def test_a_strange_value(case: Case, value: bytes) -> None:
    """Whatever stands in a header, it is our own error, and the error does not repeat it."""
    lines = case.sign(Parts(), 0)
    for index, (name, _) in enumerate(lines):
        refused = case.refusal([*lines[:index], (name, value), *lines[index + 1 :]])
        assert refused is not None
        assert refused.flaw in MALFORMED
        assert len(str(refused)) < 200
        assert "\0" not in str(refused)


@every
@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=3, max_size=3), st.binary(max_size=40))
def test_a_stranger(case: Case, values: list[bytes], body: bytes) -> None:
    """Arbitrary bytes in all its headers are refused without any other error."""
    names = [name for name, _ in case.sign(Parts(), 0)]
    aged = {Flaw.TIMESTAMP_OLD, Flaw.TIMESTAMP_FUTURE}  # of arbitrary bytes some are digits
    assert case.flaw(list(zip(names, values, strict=False)), body) in {*MALFORMED, Flaw.BODY_MALFORMED, *aged}


@every
def test_errors_hold_no_values(case: Case) -> None:
    """Neither the detail for the log nor its repr holds a secret or the value of a header."""
    lines = case.sign(Parts(), 1)
    refused = case.refusal(lines)
    assert refused is not None
    assert refused.flaw == Flaw.SIGNATURE
    for value in (*(value.decode() for _, value in lines), *case.secrets):
        assert value not in f"{refused!s} {refused!r} {case.keys(0)!r}"


@every
def test_several_keys(case: Case) -> None:
    """Every key that is still valid is tried, wherever it stands; a key that is not listed is of no use."""
    lines = case.sign(Parts(), 1)
    assert case.flaw(lines, keys=case.keys(0, 1)) is None
    assert case.flaw(lines, keys=case.keys(1, 0)) is None
    assert case.flaw(lines, keys=case.keys(0)) == Flaw.SIGNATURE


@every
def test_an_expired_key(case: Case) -> None:
    """A key is valid before its end and not at it; without any that is, the flaw is `no_key`."""
    lines = case.sign(Parts(), 0)
    ended, fresh = case.keys(0, until=NOW), case.keys(0, until=NOW + timedelta(microseconds=1))
    assert case.flaw(lines, keys=ended) == Flaw.NO_KEY
    assert case.flaw(lines, keys=fresh) is None
    assert case.flaw(lines, keys=[*ended, *case.keys(1)]) == Flaw.SIGNATURE
    assert case.flaw(lines, keys=[]) == Flaw.NO_KEY


@every
def test_an_empty_key(case: Case) -> None:
    """An empty key verifies nothing, not even what was signed with it."""
    assert case.flaw(case.sign(Parts(), 0), keys=[Key(b"")]) == Flaw.NO_KEY


@every
@pytest.mark.parametrize("body", [b"", b"\xff\xfe\0", b"not JSON", b"\0" * 10_000], ids=len)
def test_any_body(case: Case, body: bytes) -> None:
    """The body is bytes: empty, no UTF-8, no JSON; only where a field of it is signed it must have that field."""
    flaw = case.flaw(case.sign(Parts(body=body), 0), body)
    assert flaw == (Flaw.BODY_MALFORMED if case is KIE else None)


@every
def test_another_body(case: Case) -> None:
    """A body that is not the signed one is refused where the body is covered, and the trust says where it is not."""
    flaw = case.flaw(case.sign(Parts(), 0), BODY.replace(b"success", b"fail"))
    assert flaw == (Flaw.SIGNATURE if case.covers == "body" else None)
    expected = {"body": Trust.SIGNED, "field": Trust.PARTIAL, "nothing": Trust.TOKEN}
    assert case.scheme.trust is expected[case.covers]


WRITTEN = (
    "", " ", "+{}", " {}", "{} ", "-{}", "{}.9", "{}.0", "1e9", "1775304000e0", "0x69d0", "0{}", "00{}", "{}\0",
    "1_775_304_000", "9" * 40, "1" * 13, "nan", "inf", "None", "２０２６", "٣" * 10, "2026-04-04T12:00:00Z", "{}000",
)  # fmt: skip


@timed
@pytest.mark.parametrize("written", WRITTEN)
def test_a_time_that_is_no_number(case: Case, written: str) -> None:
    """Only plain digits are a time, though the signature covers the very text that was sent."""
    timestamp = written.format(SECONDS).encode()
    assert case.flaw(case.sign(Parts(timestamp=timestamp), 0)) == Flaw.TIMESTAMP_MALFORMED


@timed
@pytest.mark.parametrize(
    ("offset", "flaw"),
    [
        (-300, None),
        (300, None),
        (-301, Flaw.TIMESTAMP_OLD),
        (301, Flaw.TIMESTAMP_FUTURE),
        (-SECONDS, Flaw.TIMESTAMP_OLD),
        (10**11, Flaw.TIMESTAMP_FUTURE),
    ],
)
def test_the_edge_of_the_tolerance(case: Case, offset: int, flaw: str | None) -> None:
    """The tolerance holds in both directions, its edge included."""
    assert case.flaw(signed_at(case, SECONDS + offset)) == flaw


@timed
def test_the_time_is_signed(case: Case) -> None:
    """A recorded request with a new time is refused."""
    old, new = str(SECONDS).encode(), str(SECONDS + 1).encode()
    lines = [(name, value.replace(old, new)) for name, value in case.sign(Parts(), 0)]
    assert case.flaw(lines) == Flaw.SIGNATURE


@timed
def test_the_clock_in_the_log(case: Case) -> None:
    """A refusal for its time says by how much, and what is allowed."""
    refused = case.refusal(signed_at(case, SECONDS - 4000))
    assert str(refused) == f"4000 s behind our clock, {int(TOLERANCE.total_seconds())} s are allowed"


@identified
@pytest.mark.parametrize("identity", [b"", b"a.b", b".", b"a b", b"a\nb", b"\xc3\xbc", b"\0", b"\x7f", b"a" * 201])
def test_an_id_that_is_refused(case: Case, identity: bytes) -> None:
    """An id that could not be stored, or that holds a dot, is refused though it was signed."""
    assert case.flaw(case.sign(Parts(id=identity), 0)) == Flaw.HEADER_MALFORMED


@identified
def test_the_parts_cannot_be_shifted(case: Case) -> None:
    """What was signed as id, time and body cannot be read as another id, another time and another body."""
    signed = Parts(id=b"a", timestamp=str(SECONDS).encode(), body=f"{SECONDS}.{{}}".encode())
    shifted = Parts(id=f"a.{SECONDS}".encode(), timestamp=str(SECONDS).encode(), body=b"{}")
    assert signed.dotted == shifted.dotted
    assert case.flaw(case.sign(signed, 0), signed.body) is None
    assert case.flaw(case.sign(shifted, 0), shifted.body) == Flaw.HEADER_MALFORMED


LISTS = (
    b"{good}", b"{bad}{sep}{good}", b"{good}{sep}{bad}", b"{sep}{good}", b"{good}{sep}", b"{sep}{sep}{sep}{good}",
    b"nonsense{sep}{good}", b"v9,abc{sep}v9=abc{sep}{good}", b"{label}{sep}{good}", b"{label}!!!!{sep}{good}",
    b"\xff\0{sep}{good}", b"=,={sep}{good}", b"{label}{label}{sep}{good}", b"{good}{sep}{good}",
    b"{label}AAAA={sep}{good}",
)  # fmt: skip


@pytest.mark.parametrize("case", [V1, V3, V1A, STRIPE], ids=str)
@pytest.mark.parametrize("pattern", LISTS, ids=repr)
def test_the_good_one_wins(case: Case, pattern: bytes) -> None:
    """Any signature of the list may fit, whatever nonsense stands before or after it."""
    separator = b"," if case is STRIPE else b" "
    good, bad = (case.sign(Parts(), index)[-1][1] for index in (0, 1))
    start = good.index(b",v1=") + 1 if case is STRIPE else 0
    head, good, bad = good[:start], good[start:].removesuffix(UNKNOWN), bad[start:].removesuffix(UNKNOWN)
    label = good[: good.index(b"=" if case is STRIPE else b",") + 1]
    value = pattern
    for name, text in ((b"good", good), (b"bad", bad), (b"sep", separator), (b"label", label)):
        value = value.replace(b"{" + name + b"}", text)
    name = case.sign(Parts(), 0)[-1][0]
    lines = [*case.sign(Parts(), 0)[:-1], (name, head + value)]
    assert case.flaw(lines) is None
    assert case.flaw(lines, BODY + b" ") == Flaw.SIGNATURE


def test_schemes_by_name() -> None:
    """Every scheme has the name that ringback.toml knows, a form for its secret, and headers."""
    assert set(SCHEMES) == {
        "standard-webhooks", "hmac", "timestamped-hmac", "fields-hmac", "ed25519-jwks", "header", "basic", "bearer",
    }  # fmt: skip
    assert {type(case.scheme) for case in CASES} == set(SCHEMES.values()) - {Ed25519Lines}
    for case in CASES:
        assert SCHEMES[case.scheme.name] is type(case.scheme)
        assert case.scheme.secret_form


def test_a_scheme_that_says_nothing() -> None:
    """What a scheme leaves out fails loudly: it never verifies anything by default."""
    silent = Scheme()
    for ask in (
        lambda: silent.secret_form,
        lambda: silent.header_names,
        lambda: silent.key("secret"),
        lambda: silent.verify(Headers([]), BODY, [Key(b"k")], NOW, TOLERANCE),
        lambda: silent.sign(BODY, b"k", now=NOW, event_id="msg"),
    ):
        with pytest.raises(NotImplementedError):
            ask()

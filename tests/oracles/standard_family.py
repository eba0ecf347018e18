"""Where readers of Standard Webhooks differ: the classes that several libraries share, and requests that show them."""

import base64

from tests.oracles.oracle import FAMILY, Difference, Verdict, is_long, is_not_utf8, is_odd_time, last, put, repeats
from tests.providers.signatures.signed import BODY, RAW, SECONDS, Parts, b64, mac, standard
from tests.providers.signatures.test_mutations import Request, decent

ID, TIME, LIST = FAMILY
SECRET = "whsec_" + b64(RAW[0]).decode()

GOOD = standard(Parts(), b"v1," + b64(mac(RAW[0], Parts().dotted)))
ENTRY = dict(GOOD)[LIST]


def signed(parts: Parts, message: bytes | None = None) -> Request:
    """Sign as the specification says, or another text."""
    signature = mac(RAW[0], parts.dotted if message is None else message)
    return standard(parts, b"v1," + b64(signature)), parts.body


def listed(text: bytes) -> Request:
    """Give a good request with another list of signatures."""
    return put(GOOD, LIST, text), BODY


def timed(text: bytes, signed_as: bytes | None = None) -> Request:
    """Give a request of another time, signed over it as it stands or as a reader understood it."""
    return signed(Parts(timestamp=text), None if signed_as is None else Parts(timestamp=signed_as).dotted)


def _signatures(request: Request, *, strictly: bool = True) -> list[str]:
    """Give what stands behind the labels: of entries `v1,…` between spaces; or of any, between whatever is blank."""
    entries = last(request, LIST).decode("latin-1").split(" " if strictly else None)
    parts = [entry.split(",") for entry in entries]
    return [part[1] for part in parts if len(part) > 1 and (part[0] == "v1" or not strictly)]


def _lenient(text: str) -> bytes | None:
    try:
        return base64.b64decode(text)
    except ValueError:  # binascii.Error is one
        return None


def is_respelled(request: Request, *, strictly: bool = True) -> bool:
    """Tell whether a signature has the right length once it is read leniently, and is not written as base64 is."""
    decoded = [(text, _lenient(text)) for text in _signatures(request, strictly=strictly)]
    return any(raw is not None and len(raw) == 32 and b64(raw).decode() != text for text, raw in decoded)


def is_undecodable(request: Request, *, strictly: bool = True) -> bool:
    """Tell whether an entry of the list holds what not even a lenient reader of base64 takes."""
    return any(_lenient(text) is None for text in _signatures(request, strictly=strictly))


def has_odd_id(request: Request) -> bool:
    """Tell whether the id is empty, too long, has a full stop or what is no visible ASCII."""
    return not decent(last(request, ID))


def is_aliased(request: Request) -> bool:
    """Tell whether the names are those with svix- alone."""
    names = [name for name, _ in request[0]]
    return any(name.startswith(b"svix-") for name in names) and not any(name in FAMILY for name in names)


ALIASED: Request = ([(name.replace(b"webhook-", b"svix-"), value) for name, value in GOOD], BODY)
UNREADABLE = signed(Parts(body=b"\xff"))

REPEATED = Difference("a header comes twice", Verdict.ACCEPTED, repeats(*FAMILY), ([GOOD[0], *GOOD], BODY))
ODD_ID = Difference("an id with a full stop or a space", Verdict.ACCEPTED, has_odd_id, signed(Parts(id=b"msg.1")))
LONG = Difference(
    "a long list",
    Verdict.ACCEPTED,
    lambda request: is_long(last(request, LIST), b" "),
    listed(b"v1,AAAA " * 32 + ENTRY),
)
NOT_UTF8 = Difference("a body that is not UTF-8", Verdict.RAISED, is_not_utf8, UNREADABLE, ours=True)
RESPELLED = Difference(
    "another spelling of the base64", Verdict.ACCEPTED, is_respelled, listed(ENTRY[:9] + b"!" + ENTRY[9:])
)
UNDECODABLE = Difference(
    "base64 that cannot be read", Verdict.RAISED, is_undecodable, listed(b"v1,A " + ENTRY), ours=True
)
MALFORMED_ENTRY = Difference(
    "an entry without exactly one comma",
    Verdict.RAISED,
    lambda request: any(entry.count(b",") != 1 for entry in last(request, LIST).split(b" ")),
    listed(b"v1a " + ENTRY),
    ours=True,
)
FLOAT_TIME = Difference(
    "a time that is no plain number",
    Verdict.ACCEPTED,
    lambda request: is_odd_time(last(request, TIME)),
    timed(b"%d.9" % SECONDS, b"%d" % SECONDS),
)
INTEGER_TIME = Difference(
    "a time that is no plain number",
    Verdict.ACCEPTED,
    lambda request: is_odd_time(last(request, TIME)),
    timed(b"+%d" % SECONDS),
)
FRACTION = Difference(
    "less than a second too old",
    Verdict.REFUSED,
    lambda request: last(request, TIME) == b"%d" % (SECONDS - 300),
    timed(b"%d" % (SECONDS - 300)),
    ours=True,
)

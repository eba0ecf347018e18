"""Requests signed as each scheme's documents say, with `hmac` alone: nothing of ours signs here."""

import base64
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringback.errors import Unauthentic
from ringback.providers.signatures import (
    Basic,
    Bearer,
    BodyHmac,
    FieldsHmac,
    FixedHeader,
    Headers,
    Key,
    Scheme,
    StandardWebhooks,
    TimestampedHmac,
)

NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
TOLERANCE = timedelta(seconds=300)
BODY = b'{"data":{"taskId":"task-1","state":"success"},"code":200}'

RAW = (bytes(range(32)), bytes(range(32, 64)))
PRIVATE = tuple(map(Ed25519PrivateKey.from_private_bytes, RAW))

UNKNOWN = b",v0=" + b"0" * 64  # an entry of a version that Stripe sends for its tests alone

Lines = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Parts:
    """What goes into a signature."""

    id: bytes = b"msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
    timestamp: bytes = str(SECONDS).encode()
    body: bytes = BODY

    @property
    def dotted(self) -> bytes:
        """Id, time and body as standard-webhooks.md joins them."""
        return self.id + b"." + self.timestamp + b"." + self.body


@dataclass(frozen=True)
class Case:
    """A scheme, two secrets for it as a user would paste them, and how its documents sign."""

    name: str
    scheme: Scheme
    secrets: tuple[str, str]
    sign: Callable[[Parts, int], Lines]
    """Give the headers, signed with the secret of this index."""
    timestamp: bytes | None = None
    """The header that holds the time."""
    identity: bytes | None = None
    """The header that holds the id."""
    covers: str = "body"
    """What of the body is signed: "body", "field" or "nothing"."""

    def __str__(self) -> str:
        return self.name

    def keys(self, *which: int, until: datetime | None = None) -> list[Key]:
        """Decode the secrets of these indices."""
        return [Key(self.scheme.key(self.secrets[index]), until) for index in which]

    def refusal(
        self, lines: Lines, body: bytes = BODY, keys: Sequence[Key] | None = None, now: datetime = NOW
    ) -> Unauthentic | None:
        """Verify a request, by default with the first secret; None where it is accepted."""
        try:
            self.scheme.verify(Headers(lines), body, self.keys(0) if keys is None else keys, now, TOLERANCE)
        except Unauthentic as error:
            return error
        return None

    def flaw(
        self, lines: Lines, body: bytes = BODY, keys: Sequence[Key] | None = None, now: datetime = NOW
    ) -> str | None:
        """Verify a request, and give the word for what is wrong with it; None where it is accepted."""
        refused = self.refusal(lines, body, keys, now)
        return None if refused is None else refused.flaw


def b64(raw: bytes) -> bytes:
    """Write base64."""
    return base64.b64encode(raw)


def mac(secret: bytes, message: bytes, algorithm: str = "sha256") -> bytes:
    """Give an HMAC."""
    return hmac.new(secret, message, algorithm).digest()


def hexed(secret: bytes, message: bytes) -> bytes:
    """Give HMAC-SHA256 in hex."""
    return mac(secret, message).hex().encode()


def standard(parts: Parts, signature: bytes, family: bytes = b"webhook") -> Lines:
    """Give the three headers of Standard Webhooks."""
    values = ((b"id", parts.id), (b"timestamp", parts.timestamp), (b"signature", signature))
    return [(family + b"-" + name, value) for name, value in values]


def _v1(parts: Parts, index: int) -> Lines:
    return standard(parts, b"v1," + b64(mac(RAW[index], parts.dotted)))


def _v1a(parts: Parts, index: int) -> Lines:
    return standard(parts, b"v1a," + b64(PRIVATE[index].sign(parts.dotted)))


def _kie(parts: Parts, index: int) -> Lines:
    signature = b64(mac(TEXTS[index].encode(), b"task-1." + parts.timestamp))
    return [(b"x-webhook-timestamp", parts.timestamp), (b"x-webhook-signature", signature)]


def _stripe(parts: Parts, index: int) -> Lines:
    signature = hexed(TEXTS[index].encode(), parts.timestamp + b"." + parts.body)
    return [(b"stripe-signature", b"t=" + parts.timestamp + b",v1=" + signature + UNKNOWN)]


def _slack(parts: Parts, index: int) -> Lines:
    signature = hexed(TEXTS[index].encode(), b"v0:" + parts.timestamp + b":" + parts.body)
    return [(b"x-slack-request-timestamp", parts.timestamp), (b"x-slack-signature", b"v0=" + signature)]


def _toapis(parts: Parts, index: int) -> Lines:
    signature = b"v1=" + hexed(TEXTS[index].encode(), parts.dotted)
    return [(b"x-t-id", parts.id), (b"x-t-timestamp", parts.timestamp), (b"x-t-signature", signature)]


TEXTS = ("whsec_It's a Secret to Everybody", "another secret")
PAIRS = ("me:pass:word", "me:other")
WHSEC = ("whsec_" + b64(RAW[0]).decode(), "whsec_" + b64(RAW[1]).decode())
WHPK = tuple("whpk_" + b64(key.public_key().public_bytes_raw()).decode() for key in PRIVATE)

V1 = Case("standard v1", StandardWebhooks(), WHSEC, _v1, b"webhook-timestamp", b"webhook-id")
V3 = Case(
    "standard v3, hex, text (WaveSpeed)",
    StandardWebhooks(version="v3", encoding="hex", secret="text"),
    ("whsec_plain text", "other plain text"),
    lambda parts, index: standard(parts, b"v3," + hexed((b"plain text", b"other plain text")[index], parts.dotted)),
    b"webhook-timestamp",
    b"webhook-id",
)
V1A = Case(
    "standard v1a", StandardWebhooks(version="v1a"), (WHPK[0], WHPK[1]), _v1a, b"webhook-timestamp", b"webhook-id"
)
GITHUB = Case(
    "hmac (GitHub)",
    BodyHmac(header="x-hub-signature-256", prefix="sha256="),
    TEXTS,
    lambda parts, index: [(b"x-hub-signature-256", b"sha256=" + hexed(TEXTS[index].encode(), parts.body))],
)
BARE = Case(
    "hmac, sha512, base64, no prefix",
    BodyHmac(header="x-signature", algorithm="sha512", encoding="base64"),
    TEXTS,
    lambda parts, index: [(b"x-signature", b64(mac(TEXTS[index].encode(), parts.body, "sha512")))],
)
STRIPE = Case("timestamped (Stripe)", TimestampedHmac(header="stripe-signature"), TEXTS, _stripe)
SLACK = Case(
    "timestamped (Slack)",
    TimestampedHmac(
        header="x-slack-signature",
        template="v0:{timestamp}:{body}",
        version="v0",
        timestamp_header="x-slack-request-timestamp",
    ),
    TEXTS,
    _slack,
    b"x-slack-request-timestamp",
)
TOAPIS = Case(
    "timestamped with id (ToAPIs)",
    TimestampedHmac(
        header="x-t-signature",
        template="{id}.{timestamp}.{body}",
        timestamp_header="x-t-timestamp",
        id_header="x-t-id",
    ),
    TEXTS,
    _toapis,
    b"x-t-timestamp",
    b"x-t-id",
)
KIE = Case(
    "fields (kie.ai)",
    FieldsHmac(
        header="x-webhook-signature", timestamp_header="x-webhook-timestamp", field=("data.task_id", "data.taskId")
    ),
    TEXTS,
    _kie,
    b"x-webhook-timestamp",
    covers="field",
)
SCALE = Case(
    "header (Scale)",
    FixedHeader(header="scale-callback-auth"),
    TEXTS,
    lambda _, index: [(b"scale-callback-auth", TEXTS[index].encode())],
    covers="nothing",
)
BASIC = Case(
    "basic",
    Basic(),
    PAIRS,
    lambda _, index: [(b"authorization", b"Basic " + b64(PAIRS[index].encode()))],
    covers="nothing",
)
BEARER = Case(
    "bearer",
    Bearer(),
    TEXTS,
    lambda _, index: [(b"authorization", b"Bearer " + TEXTS[index].encode())],
    covers="nothing",
)

CASES = (V1, V3, V1A, GITHUB, BARE, STRIPE, SLACK, TOAPIS, KIE, SCALE, BASIC, BEARER)
TIMED = tuple(case for case in CASES if case.timestamp or case is STRIPE)

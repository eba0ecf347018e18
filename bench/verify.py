"""What verifying one callback costs: each scheme of ours, beside the official libraries on the same request.

One process, one core, no network; rounds in turn, so that whatever slows the machine slows all. Each call does the
whole work: ours wraps the headers that an ASGI server hands over and reads the clock, theirs gets a dict of text made
beforehand. No library parses the body's JSON here. The last row is the HMAC alone, below which nobody can come.

    .venv/bin/python -m bench.verify                 # 15 rounds, a body of 2 KB
    .venv/bin/python -m bench.verify --bytes 20000
"""

import argparse
import hmac
import platform
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import stripe
from standardwebhooks.webhooks import Webhook as StandardWebhook
from svix.webhooks import Webhook as SvixWebhook

from bench.figures import Figure, Part, ratio
from bench.machine import processor
from ringback.providers.signatures import (
    BodyHmac,
    Ed25519Lines,
    Headers,
    Key,
    Scheme,
    StandardWebhooks,
    TimestampedHmac,
)
from ringback.providers.signatures.ed25519 import public_of

LIBRARIES = ("standardwebhooks", "svix", "stripe", "cryptography")
TARGET_MICROSECONDS = 15.0
USUAL_BYTES = 2048
RAW = bytes(range(32))
TEXT = "whsec_" + b64encode(RAW).decode()
TOLERANCE = timedelta(hours=1)  # a long run shall not outlive its request
USUAL = [  # what else a request carries
    (b"host", b"hooks.example.com"),
    (b"user-agent", b"bench/1.0"),
    (b"content-type", b"application/json"),
    (b"content-length", b"2048"),
    (b"accept", b"*/*"),
    (b"x-forwarded-for", b"192.0.2.1"),
]
LINES = Ed25519Lines(
    id_header="x-request-id", user_header="x-user", timestamp_header="x-timestamp", signature_header="x-signature"
)
OURS: dict[str, tuple[Scheme, bytes, bytes]] = {  # what signs, what verifies
    "ringback: standard-webhooks": (StandardWebhooks(), RAW, RAW),
    "ringback: hmac": (BodyHmac(header="x-hub-signature-256", prefix="sha256="), RAW, RAW),
    "ringback: timestamped-hmac": (TimestampedHmac(header="stripe-signature"), RAW, RAW),
    "ringback: ed25519-jwks": (LINES, RAW, public_of(RAW)),
}
STANDARD = next(iter(OURS))


def main() -> int:
    """Run the rounds and print the table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bytes", type=int, default=USUAL_BYTES, help="of the body, which is JSON")
    parser.add_argument("--calls", type=int, default=2000, help="of each in a round")
    parser.add_argument("--json", action="store_true", help="print the figures for `python -m bench`")
    options = parser.parse_args()
    subjects = _subjects(_body(options.bytes))
    costs: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(options.rounds + 1):
        for name, call in subjects.items():
            cost = _microseconds(call, options.calls)
            if number:  # the first round fills caches
                costs[name].append(cost)
    part = _part(options, costs)
    print(part.json() if options.json else f"{processor()}, Python {platform.python_version()}\n\n{part.markdown()}")
    return 0 if options.json or all(figure.is_reached for figure in part.figures) else 1


def _body(size: int) -> bytes:
    start, end = b'{"type":"task.completed","data":{"task_id":"a1","output":"', b'"}}'
    return start + b"x" * (size - len(start) - len(end)) + end


def _subjects(body: bytes) -> dict[str, Callable[[], object]]:
    subjects = {name: _ours(body, *each) for name, each in OURS.items()}
    text = {name.decode(): value.decode() for name, value in _signed(body, StandardWebhooks(), RAW)}
    reference, svix = StandardWebhook(TEXT), SvixWebhook(TEXT)
    subjects["standardwebhooks"] = lambda: reference.verify(body, text, json_parse=False)
    subjects["svix"] = lambda: svix.verify(body, text)
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), TEXT)
    verify = stripe.WebhookSignature.verify_header
    subjects["stripe"] = lambda: verify(body, header, TEXT, 3600)
    subjects["hmac.digest alone"] = lambda: hmac.digest(RAW, body, "sha256")
    return subjects


def _signed(body: bytes, scheme: Scheme, key: bytes) -> list[tuple[bytes, bytes]]:
    made = scheme.sign(body, key, now=datetime.now(UTC), event_id="msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")
    return [*USUAL, *((name.encode(), value.encode()) for name, value in made.items())]


def _ours(body: bytes, scheme: Scheme, signs: bytes, verifies: bytes) -> Callable[[], object]:
    lines, keys = _signed(body, scheme, signs), (Key(verifies),)
    return lambda: scheme.verify(Headers(lines), body, keys, datetime.now(UTC), TOLERANCE)


def _microseconds(call: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls * 1e6


def _part(options: argparse.Namespace, costs: dict[str, list[float]]) -> Part:
    """Give all figures; the goals are set for the usual body."""
    is_usual = options.bytes <= USUAL_BYTES
    ours = {name for name, (scheme, _, _) in OURS.items() if not scheme.fetches_keys}
    figures = [
        Figure(
            name="verifying",
            unit="µs",
            values=tuple(each),
            subject=name,
            at_most=TARGET_MICROSECONDS if is_usual and name in ours else None,
        )
        for name, each in costs.items()
    ]
    by_name = {figure.subject: figure for figure in figures}
    over = ratio(
        "over standardwebhooks", by_name[STANDARD], by_name["standardwebhooks"], at_most=1.0 if is_usual else None
    )
    return Part(
        title="What verifying one callback costs",
        figures=(*figures, over),
        settings={
            "body": f"{options.bytes:,} bytes",
            "rounds": f"{options.rounds} of {options.calls:,} calls each",
            **{name: version(name) for name in LIBRARIES},
        },
        notes=("No network, one thread; the last row is the HMAC alone, below which nobody can come.",),
    )


if __name__ == "__main__":
    sys.exit(main())

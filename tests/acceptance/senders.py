"""Seven senders as they are in the wild: what each posts, signed by its official library where it has one.

Nothing here is signed by the code under test. What a library can only verify is signed by hand and shown to it.
"""

import base64
import hashlib
import hmac
import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import stripe
import svix.webhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from openai import OpenAI
from replicate.webhook import Webhooks, WebhookSigningSecret
from standardwebhooks.webhooks import Webhook

from tests.acceptance.pushes import Answer, mac, read_answer

Sign = Callable[[bytes, datetime, str], dict[str, str]]  # body, time, event id


def whsec(seed: str) -> str:
    """Make a secret of Standard Webhooks."""
    return "whsec_" + base64.b64encode(hashlib.sha256(seed.encode()).digest()).decode()


STANDARD_SECRET, STANDARD_PAST, STANDARD_FUTURE = whsec("standard"), whsec("standard past"), whsec("standard future")
REPLICATE_SECRET, OPENAI_SECRET = whsec("replicate"), whsec("openai")
GITHUB_SECRET, KIE_SECRET, KIE_KEY = "github-webhook-secret", "kie-webhook-hmac-key", "kie-api-key-0123456789"
ACME_SECRET, ACME_PAST, ACME_FUTURE = "acme-secret-of-now", "acme-secret-of-the-past", "acme-secret-of-the-future"
SECRETS = (
    *(STANDARD_SECRET, STANDARD_PAST, STANDARD_FUTURE, REPLICATE_SECRET, OPENAI_SECRET),
    *(GITHUB_SECRET, KIE_SECRET, KIE_KEY, ACME_SECRET, ACME_PAST, ACME_FUTURE),
)
OPENAI = OpenAI(api_key="-")
FAL_KEY, FAL_NEXT_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def standard(secret: str, prefix: str = "webhook") -> Sign:
    """Sign with `standardwebhooks`, or with `svix` under its own names."""

    def sign(body: bytes, now: datetime, event_id: str) -> dict[str, str]:
        webhook = svix.webhooks.Webhook(secret) if prefix == "svix" else Webhook(secret)
        signature = webhook.sign(event_id, now, body.decode())
        named = {"id": event_id, "timestamp": str(int(now.timestamp())), "signature": signature}
        return {f"{prefix}-{name}": value for name, value in named.items()}

    return sign


def replicate(body: bytes, now: datetime, event_id: str) -> dict[str, str]:
    """Sign as Replicate does; its library agrees."""
    headers = standard(REPLICATE_SECRET)(body, now, event_id)
    Webhooks.validate(headers=headers, body=body.decode(), secret=WebhookSigningSecret(key=REPLICATE_SECRET))
    return headers


def openai(body: bytes, now: datetime, event_id: str) -> dict[str, str]:
    """Sign as OpenAI does; its library agrees."""
    headers = standard(OPENAI_SECRET)(body, now, event_id)
    OPENAI.webhooks.verify_signature(body, headers, secret=OPENAI_SECRET, tolerance=1 << 40)
    return headers


def github(body: bytes, _: datetime, event_id: str) -> dict[str, str]:
    """Sign as GitHub does: the body alone."""
    signature = hmac.new(GITHUB_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Event": "ping", "X-GitHub-Delivery": event_id}


def acme(secret: str) -> Sign:
    """Sign as Stripe does; its library agrees."""

    def sign(body: bytes, now: datetime, _: str) -> dict[str, str]:
        timestamp = int(now.timestamp())
        signature = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
        header = f"t={timestamp},v1={signature}"
        assert stripe.WebhookSignature.verify_header(body, header, secret)
        return {"Acme-Signature": header}

    return sign


def fal(key: Ed25519PrivateKey) -> Sign:
    """Sign as fal does: four lines, the last of which is the body's SHA-256 (PROVIDERS C)."""

    def sign(body: bytes, now: datetime, event_id: str) -> dict[str, str]:
        lines = (event_id, "user-1", str(int(now.timestamp())))
        message = "\n".join((*lines, hashlib.sha256(body).hexdigest())).encode()
        names = ("Request-Id", "User-Id", "Timestamp", "Signature")
        values = (*lines, key.sign(message).hex())
        return {f"X-Fal-Webhook-{name}": value for name, value in zip(names, values, strict=True)}

    return sign


def kie(body: bytes, now: datetime, _: str) -> dict[str, str]:
    """Sign as kie.ai does: the task id and the time."""
    timestamp = str(int(now.timestamp()))
    message = f"{json.loads(body)['data']['taskId']}.{timestamp}".encode()
    signature = base64.b64encode(hmac.new(KIE_SECRET.encode(), message, hashlib.sha256).digest())
    return {"X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": signature.decode()}


def jwks(*keys: Ed25519PrivateKey) -> bytes:
    """Publish the public halves."""
    points = [base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=") for key in keys]
    return json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": point} for point in points]}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """One provider: where it posts, what, and what has to become of that."""

    provider: str
    scheme: str
    sign: Sign
    said: Mapping[str, Any]
    event_id: str
    event: Mapping[str, Any]  # what is expected of the event
    present: str  # the headers of the scheme, as the log names them
    urls: tuple[str, ...] = ()  # of the results
    task: str | None = None  # for providers that post to a task's own URL
    timed: bool = True

    def __str__(self) -> str:
        return self.provider

    @property
    def body(self) -> bytes:
        """What it posts."""
        return json.dumps(self.said).encode()

    @property
    def path(self) -> str:
        """Where it posts to."""
        return f"/callbacks/{self.provider}" + (f"/{self.task}.{mac(self.task, self.provider)}" if self.task else "")


def completed(provider_event_id: str | None) -> dict[str, Any]:
    """Give what an event about a task's success is, whoever sent it."""
    task = {"type": "task.completed", "status": "completed", "source": "callback", "trust": "signed"}
    return task | {"standing": "accepted", "provider_event_id": provider_event_id}


WEBHOOK_HEADERS = "webhook-id, webhook-timestamp, webhook-signature"
SENDERS = (
    Sender(
        provider="standard",
        scheme="standard-webhooks",
        sign=standard(STANDARD_SECRET),
        said={"type": "task.completed", "data": {"task_id": "std-1", "output": ["https://cdn.example/std.mp4"]}},
        event_id="msg_standard",
        event=completed("msg_standard"),
        present=WEBHOOK_HEADERS,
        urls=("https://cdn.example/std.mp4",),
    ),
    Sender(
        provider="replicate",
        scheme="standard-webhooks",
        sign=replicate,
        said={"id": "rep-1", "status": "succeeded", "output": "https://replicate.delivery/rep.png"},
        event_id="msg_replicate",
        event=completed("msg_replicate"),
        present=WEBHOOK_HEADERS,
        urls=("https://replicate.delivery/rep.png",),
        task="task_replicate",
    ),
    Sender(
        provider="openai",
        scheme="standard-webhooks",
        sign=openai,
        said={"id": "evt_1", "object": "event", "type": "video.completed", "data": {"id": "video_1"}},
        event_id="wh_openai",
        event=completed("wh_openai"),
        present=WEBHOOK_HEADERS,
        urls=("https://api.openai.com/v1/videos/video_1/content",),
    ),
    Sender(
        provider="github",
        scheme="hmac",
        sign=github,
        said={"zen": "Keep it logically awesome.", "hook_id": 7},
        event_id="72d3162e-cc78-11e3-81ab-4c9367dc0958",
        event={
            "type": "callback.received",
            "status": None,
            "source": "callback",
            "trust": "signed",
            "task_id": None,
            "provider_event_id": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        },
        present="x-hub-signature-256",
        timed=False,
    ),
    Sender(
        provider="acme",
        scheme="timestamped-hmac",
        sign=acme(ACME_SECRET),
        said={
            "id": "evt_acme",
            "type": "render.finished",
            "data": {"object": {"id": "job-1", "state": "RENDERED", "files": [{"href": "https://cdn.example/a.mov"}]}},
        },
        event_id="evt_acme",
        event=completed("evt_acme"),
        present="acme-signature",
        urls=("https://cdn.example/a.mov",),
    ),
    Sender(
        provider="fal",
        scheme="ed25519-jwks",
        sign=fal(FAL_KEY),
        said={"request_id": "fal-1", "status": "OK", "payload": {"images": [{"url": "https://v3.fal.media/f.png"}]}},
        event_id="fal-1",
        event=completed(None),
        present="x-fal-webhook-request-id, x-fal-webhook-user-id, x-fal-webhook-timestamp, x-fal-webhook-signature",
        urls=("https://v3.fal.media/f.png",),
        task="task_fal",
    ),
)
BY_NAME = {sender.provider: sender for sender in SENDERS}


@dataclass(slots=True)
class Wire:
    """Posts to a receiver, and remembers what no log may show."""

    port: int
    confidential: set[str] = field(default_factory=set)

    def post(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request."""
        public = ("ping", "user-1")  # words that anything may hold
        self.confidential |= {part for value in headers.values() for part in (value, value.rpartition("=")[2])}
        self.confidential -= {*public, ""}
        if "." in path:
            self.confidential.add(path.rpartition(".")[2])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        return read_answer(connection)

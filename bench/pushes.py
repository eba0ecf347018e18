"""What the load is made of: whole HTTP requests, each about another task, signed beforehand, all of one length.

Each proves whence it comes in one way: by a secret in its path (`token`), by a signature as Standard Webhooks has it
(`signed`), or by an HMAC of the body alone (`hmac`), which is what Debian's `webhook` can check. Signed anew for each
round, so that no receiver has to tolerate more than it usually does.
"""

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from hmac import digest
from pathlib import Path

from bench.backlog import push_of
from bench.running import SECRET
from ringback.model import Task
from ringback.providers.signatures import StandardWebhooks

RAW_SECRET = sha256(SECRET.encode()).digest()
HMAC_SECRET = RAW_SECRET.hex()  # the letters are the key
STANDARD_SECRET = "whsec_" + b64encode(RAW_SECRET).decode()
HMAC_HEADER = "X-Signature-256"
SIGNED_PATH, HMAC_PATH = "/callbacks/standard", "/hooks/callback"
SIGNED_BODY = (
    '{"type":"task.completed","timestamp":"2026-04-04T06:46:35.000000Z","data":{"task_id":"task-wave%s",'
    '"model":"grok-imagine-1.0-video","action":"generate","status":"completed","progress":100,"cost":22313,"output":'
    '["https://cdn.example.com/media/%s/0.mp4"],"expires_at":1775371595}}'
)
HEAD = "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
Headers = dict[str, str]


class Auth(StrEnum):
    """How a push proves whence it comes."""

    TOKEN = "token"  # noqa: S105 -- a word
    SIGNED = "signed"
    HMAC = "hmac"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A file of requests, one after the other."""

    path: Path
    request_bytes: int
    count: int

    def requests(self) -> Iterator[bytes]:
        """Give one after the other."""
        with self.path.open("rb") as file:
            while request := file.read(self.request_bytes):
                yield request


def provider_of(auth: Auth) -> str:
    """Name the provider whose pushes these are."""
    return "standard" if auth is Auth.SIGNED else "qingbo"


def prepare(path: Path, tasks: Sequence[Task], auth: Auth) -> Load:
    """Write a request about each of the tasks.

    Raises:
        ValueError: they are not of one length, by which the load generator tells them apart.
    """
    make, now = MAKERS[auth], datetime.now(UTC)
    requests = [make(task, now) for task in tasks]
    lengths = {len(request) for request in requests}
    if len(lengths) != 1:
        raise ValueError(f"expected requests of one length, got {sorted(lengths)}")
    path.write_bytes(b"".join(requests))
    return Load(path=path, request_bytes=lengths.pop(), count=len(requests))


def _token(task: Task, _: datetime) -> bytes:
    path, body = push_of(task)
    return _whole(path, body, {})


def _hmac(task: Task, _: datetime) -> bytes:
    body = push_of(task)[1]
    return _whole(HMAC_PATH, body, {HMAC_HEADER: "sha256=" + digest(HMAC_SECRET.encode(), body, "sha256").hex()})


def _signed(task: Task, now: datetime) -> bytes:
    body = (SIGNED_BODY % (task.id[-20:], task.id)).encode()
    signed = StandardWebhooks().sign(body, RAW_SECRET, now=now, event_id=f"msg_{task.id[-20:]}")
    return _whole(SIGNED_PATH, body, dict(signed))


def _whole(path: str, body: bytes, headers: Headers) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (HEAD.format(path=path, length=len(body)) + lines + "\r\n").encode() + body


MAKERS: dict[Auth, Callable[[Task, datetime], bytes]] = {Auth.TOKEN: _token, Auth.SIGNED: _signed, Auth.HMAC: _hmac}

"""What a provider sends: callback URLs made by hand from DESIGN rule 6, and bodies as qingbo's pages show them."""

import base64
import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.processes import PATIENCE_SECONDS, SECRET, wait_until


def mac(task_id: str, provider: str = "qingbo", secret: str = SECRET) -> str:
    """Make the secret end of a callback URL, independently of the code under test."""
    digest = hmac.new(secret.encode(), f"{provider}:{task_id}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode()[:32]


def path_of(task_id: str) -> str:
    """Give the path of a task's callback URL."""
    return f"/callbacks/qingbo/{task_id}.{mac(task_id)}"


def body_of(provider_id: str, status: str = "completed", **more: Any) -> bytes:
    """Write a push about a task of theirs."""
    said: dict[str, Any] = {"task_id": provider_id, "status": status} | more
    if status == "completed":
        said["result"] = {"videos": [{"url": [f"https://cdn.example/{provider_id}.mp4"]}]}
    if status == "failed":
        said["error"] = {"code": "task_failed", "message": "the task failed"}
    return json.dumps(said).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: dict[str, Any]
    retry_after: str | None

    @property
    def event(self) -> str:
        """The event's id, of an accepted callback."""
        assert self.status == 200, self
        return str(self.body["event"])

    @property
    def duplicate(self) -> bool:
        """Whether the fact was known."""
        return bool(self.body["duplicate"])


def read_answer(connection: http.client.HTTPConnection) -> Answer:
    """Read an answer and close."""
    try:
        response = connection.getresponse()
        text = response.read()
        return Answer(response.status, json.loads(text), response.getheader("Retry-After"))
    finally:
        connection.close()


def begin(port: int, path: str, body: bytes) -> http.client.HTTPConnection:
    """Send a callback whole, on a connection of its own, without waiting for the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    return connection


def begin_in_pieces(port: int, path: str, body: bytes) -> http.client.HTTPConnection:
    """Send a callback of which the body comes later: it takes the ordinary way through uvicorn."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[:10])
    connection.send(body[10:])
    return connection


def post(port: int, task_id: str, body: bytes) -> Answer:
    """Send a genuine callback to a task's URL."""
    return read_answer(begin(port, path_of(task_id), body))


def post_together(port: int, requests: Sequence[tuple[str, bytes]]) -> list[Answer]:
    """Send callbacks at the same time: every connection is open, and every request sent, before an answer is read."""
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=15) for _ in requests]
    for connection in connections:
        connection.connect()
    for connection, (task_id, body) in zip(connections, requests, strict=True):
        connection.request("POST", path_of(task_id), body, {"Content-Type": "application/json"})
    return [read_answer(connection) for connection in connections]


def get(port: int, path: str) -> Answer:
    """Ask for a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    connection.request("GET", path)
    return read_answer(connection)


def await_silence(sandbox: int, seconds: float, timeout_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the stand-in provider on this port has sent all its pushes: no more of them for so long."""
    seen, since = -1, time.monotonic()

    def look() -> bool:
        nonlocal seen, since
        pushes = sum(get(sandbox, "/_sandbox/books").body["pushes"]["by_outcome"].values())
        if pushes != seen:
            seen, since = pushes, time.monotonic()
        return time.monotonic() - since > seconds

    wait_until("no more pushes", look, timeout_seconds)

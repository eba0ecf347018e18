"""The sender of pushes: the address guard, one attempt, and the provider's retry schedule.

It sends what it is given and records each attempt in the task; it never follows a redirect or logs a URL's secret.
The transport is used without a client because httpx's client logs every URL, ours with its secret, at INFO.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import httpx
import msgspec
import structlog

from ringback.sandbox.book import Outcome, Push, SandboxTask
from ringback.sandbox.config import SandboxConfig

_log = structlog.get_logger(__name__)
_TRICKLE_STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One push to be sent; `kind` says in the books whether it is genuine or which fault made it."""

    url: str
    body: bytes
    kind: str = "genuine"
    trickle_seconds: float = 0

    @classmethod
    def of(cls, url: str, content: dict[str, Any], kind: str = "genuine") -> "Parcel":
        """Return a parcel whose body is JSON."""
        return cls(url=url, body=msgspec.json.encode(content), kind=kind)


class Courier:
    """Sends parcels, at most so many at once."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._in_flight = asyncio.Semaphore(config.max_pushes_in_flight)

    @cached_property
    def _transport(self) -> httpx.AsyncHTTPTransport:
        # Made at the first push: loading the TLS certificates takes longer than everything else at start.
        return httpx.AsyncHTTPTransport(trust_env=False)

    async def close(self) -> None:
        """Close idle connections."""
        if "_transport" in self.__dict__:
            await self._transport.aclose()

    async def deliver(self, task: SandboxTask, parcel: Parcel) -> bool:
        """Send until a 2xx comes or the retries are used up; a slow body is only the first attempt's."""
        outcome = await self.send(task, parcel)
        for delay in self._config.push_retry_seconds:
            if outcome in (Outcome.ACCEPTED, Outcome.BLOCKED):
                break
            await asyncio.sleep(delay)
            outcome = await self.send(task, replace(parcel, trickle_seconds=0))
        return outcome is Outcome.ACCEPTED

    async def send(self, task: SandboxTask, parcel: Parcel) -> Outcome:
        """Make one attempt and record it."""
        status_code: int | None = None
        error: str | None = None
        outcome = Outcome.BLOCKED
        if may_push_to(parcel.url, self._config.allow_push_to):
            try:
                status_code = await self._post(parcel)
                outcome = Outcome.ACCEPTED if 200 <= status_code < 300 else Outcome.REFUSED
            except (httpx.TransportError, TimeoutError) as problem:
                outcome, error = Outcome.UNREACHED, type(problem).__name__
        self._record(task, parcel, outcome, status_code, error)
        return outcome

    async def _post(self, parcel: Parcel) -> int:
        timeout = self._config.push_timeout_seconds
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(parcel.body)),
            "User-Agent": "ringback-sandbox",
        }
        content = _trickled(parcel) if parcel.trickle_seconds else parcel.body
        extensions = {"timeout": httpx.Timeout(timeout).as_dict()}
        request = httpx.Request("POST", parcel.url, headers=headers, content=content, extensions=extensions)
        transport = self._transport
        async with self._in_flight, asyncio.timeout(timeout + parcel.trickle_seconds):
            response = await transport.handle_async_request(request)
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response.status_code

    def _record(
        self, task: SandboxTask, parcel: Parcel, outcome: Outcome, status_code: int | None, error: str | None
    ) -> None:
        push = Push(
            kind=parcel.kind,
            target=masked(parcel.url),
            outcome=outcome,
            status_code=status_code,
            error=error,
            at=datetime.now(UTC),
        )
        task.pushes.append(push)
        event = "sandbox.push.blocked" if outcome is Outcome.BLOCKED else "sandbox.push.sent"
        log = _log.info if outcome is Outcome.ACCEPTED else _log.warning
        facts: dict[str, object] = {"kind": push.kind, "target": push.target, "outcome": outcome.value}
        facts |= {name: value for name, value in (("status", status_code), ("error", error)) if value is not None}
        log(event, task=task.id, **facts)


def may_push_to(url: str, allowed: frozenset[str]) -> bool:
    """Tell whether a URL leads to this machine or to an allowed host; no name is resolved, so none can lie."""
    host = httpx.URL(url).host.lower()
    if host in allowed or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def masked(url: str) -> str:
    """Return a callback URL fit for people and logs: what follows the last dot of its path is a secret."""
    parts = httpx.URL(url)
    folder, _, name = parts.path.rstrip("/").rpartition("/")
    stem, dot, _ = name.rpartition(".")
    port = f":{parts.port}" if parts.port else ""
    host = f"[{parts.host}]" if ":" in parts.host else parts.host
    return f"{parts.scheme}://{host}{port}{folder}/{stem + '.<mac>' if dot else '…'}"


async def _trickled(parcel: Parcel) -> AsyncIterator[bytes]:
    step = max(1, -(-len(parcel.body) // _TRICKLE_STEPS))
    for start in range(0, len(parcel.body), step):
        await asyncio.sleep(parcel.trickle_seconds / _TRICKLE_STEPS)
        yield parcel.body[start : start + step]

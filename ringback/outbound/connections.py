"""Connections to providers, each of which carries one request at a time; the one that was used last is used first.

httpx's client looks at every idle connection of its pool before and after each request, which at 30 connections costs
as much as the request. Here each connection has a pool of its own, so nothing is looked at but the one that is taken.
How many there are is up to who takes them: `requests` takes no more than a provider's limit.
"""

import asyncio
import ssl
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass

import httpx

from ringback.outbound.single import Single

Transport = httpx.AsyncBaseTransport  # what tests put in the network's place
Origin = tuple[str, str, int | None]

IDLE_SECONDS = 5.0  # then a connection is closed rather than used: httpx's own rule


@dataclass(slots=True)
class Connection:
    """One connection, made when its first request is sent, and anew where the provider has closed it."""

    origin: Origin
    transport: Transport
    idle_since: float = 0.0


class Connections:
    """All connections of one event loop. `transport` takes the place of all of them."""

    def __init__(self, transport: Transport | None = None) -> None:
        self._given = transport
        self._idle: defaultdict[Origin, deque[Connection]] = defaultdict(deque)  # the one used last is the last
        self._all: set[Transport] = set()
        self._trusted: ssl.SSLContext | None = None

    def take(self, url: httpx.URL) -> Connection:
        """Give a connection for one request to this URL."""
        origin = (url.scheme, url.host, url.port)
        if self._idle[origin]:
            return self._idle[origin].pop()
        if self._given is not None:
            return Connection(origin, self._given)
        transport = Single(url, self._trust(url), IDLE_SECONDS)
        self._all.add(transport)
        return Connection(origin, transport)

    async def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request; closes the one that has been idle for longest, if it was for long."""
        now = asyncio.get_running_loop().time()
        connection.idle_since = now
        idle = self._idle[connection.origin]
        idle.append(connection)
        if idle[0].idle_since + IDLE_SECONDS < now:
            await self.drop(idle.popleft())

    async def drop(self, connection: Connection) -> None:
        """Close a connection whose exchange did not end well, or that is not needed any more."""
        if connection.transport in self._all:
            self._all.discard(connection.transport)
            with suppress(Exception):  # it is of no use, whatever is wrong with it
                await connection.transport.aclose()

    async def close(self) -> None:
        """Close all of them."""
        self._idle.clear()
        for transport in (*self._all, self._given):
            if transport is not None:
                await transport.aclose()
        self._all.clear()

    def _trust(self, url: httpx.URL) -> ssl.SSLContext | None:
        """Load the certificates once, and only where they are needed: it costs time and memory."""
        if url.scheme != "https":
            return None
        if self._trusted is None:
            self._trusted = httpx.create_ssl_context(trust_env=False)
        return self._trusted

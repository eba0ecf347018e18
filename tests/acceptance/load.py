"""A busy provider: many connections kept alive, duplicates mixed in, and what was not answered is sent again.

What must have become of it is checked here, too.
"""

import asyncio
import json
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.pushes import body_of, path_of

AGAIN_SHARE = 0.25  # so many requests repeat a fact that was told lately
LATELY = 100
ANSWER_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class Fact:
    """One completed task, and how telling it went."""

    task_id: str
    request: bytes
    sent: int = 0
    answers: list[dict[str, Any]] = field(default_factory=list)  # of each 200

    @property
    def unanswered(self) -> int:
        """How many requests got no answer: whether they were stored is open."""
        return self.sent - len(self.answers)


class Load:
    """Sends until told to stop, through every restart of the receiver, or of any of several, by their ports."""

    def __init__(self, port: int, chance: random.Random, *more: int, connections: int, pause_seconds: float) -> None:
        self.facts: list[Fact] = []
        self.statuses: Counter[int] = Counter()
        self._ports = (port, *more)
        self._chance = chance
        self._connections = connections
        self._pause_seconds = pause_seconds
        self._owed: deque[Fact] = deque()  # not answered yet: a provider sends these again
        self._stopping = False

    async def run(self) -> None:
        """Send on all connections until `stop`, and until every fact has had an answer."""
        await asyncio.gather(*(self._connection() for _ in range(self._connections)))

    def stop(self) -> None:
        """Tell nothing new; what is owed is still sent."""
        self._stopping = True

    async def _connection(self) -> None:
        for fact in self._stream():
            if not await self._converse(fact):  # the receiver is down
                self._owed.append(fact)
                await asyncio.sleep(0.02)

    def _stream(self) -> Iterator[Fact]:
        """Give the next fact to tell; ends after `stop`, when nothing is owed."""
        while self._owed or not self._stopping:
            if self._owed:
                yield self._owed.popleft()
            elif self.facts and self._chance.random() < AGAIN_SHARE:
                yield self._chance.choice(self.facts[-LATELY:])
            else:
                yield self._new()

    def _new(self) -> Fact:
        number = len(self.facts)
        task_id = f"task_load_{number}"
        body = body_of(f"p-{number}")
        head = f"POST {path_of(task_id)} HTTP/1.1\r\nHost: ringback\r\nContent-Type: application/json\r\n"
        self.facts.append(Fact(task_id, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body))
        return self.facts[-1]

    async def _converse(self, first: Fact) -> bool:
        """Send on one connection while it holds, beginning with this fact; tells whether one was to be had."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._chance.choice(self._ports))
        except OSError:
            return False
        try:
            await self._tell(first, reader, writer)
            for fact in self._stream():
                await asyncio.sleep(self._pause_seconds)
                await self._tell(fact, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        return True

    async def _tell(self, fact: Fact, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fact.sent += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(fact.request)
                await writer.drain()
                status, body = await _read(reader)
        except BaseException:
            self._owed.append(fact)
            raise
        self.statuses[status] += 1
        if status == 200:
            fact.answers.append(body)
        else:
            self._owed.append(fact)


async def _read(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:")[1].split("\r\n")[0])
    body: dict[str, Any] = json.loads(await reader.readexactly(length))
    return int(head.split()[1]), body


def stored_events(path: Path) -> dict[str, dict[str, Any]]:
    """Read all events, around our own code, of a file that must be whole."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT id, task_id, type, duplicates FROM events").fetchall()
    return {row[0]: dict(zip(("id", "task_id", "type", "duplicates"), row, strict=True)) for row in rows}


def check_stored(facts: list[Fact], path: Path) -> dict[str, dict[str, Any]]:
    """Hold every 200 against the ledger, in which there is one event for each fact and nothing else; gives the events.

    What can be promised: all answers about a fact name one event, and at most one says that it was new. None says so
    only where the request that made the event was never answered, because the receiver died between commit and answer.
    """
    events = stored_events(path)
    assert len(events) == len(facts)
    for fact in facts:
        assert len({answer["event"] for answer in fact.answers}) == 1
        event = events[fact.answers[0]["event"]]
        assert (event["task_id"], event["type"]) == (fact.task_id, "task.completed")
        fresh = sum(not answer["duplicate"] for answer in fact.answers)
        assert fresh == 1 or (fresh == 0 and fact.unanswered)
        assert len(fact.answers) - 1 <= event["duplicates"] <= fact.sent - 1
    return events

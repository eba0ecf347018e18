"""Programs that the tests run as processes of their own: `python children.py NAME DATABASE …`."""

import asyncio
import itertools
import os
import resource
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from ringback.errors import LedgerError, LedgerUnavailable
from ringback.ledger.sqlite import SqliteLedger
from ringback.model import Arrival, Callback, Kind, Reading, Source, TaskState, Trust

NOW = datetime(2026, 7, 1, tzinfo=UTC)
NOBODY = 65534


def push(name: str, body: bytes = b"{}") -> Arrival:
    """Make a push about a task of this name."""
    return Arrival(
        kind=Kind.FACT,
        provider="qingbo",
        source=Source.CALLBACK,
        trust=Trust.TOKEN,
        callback=Callback(body=body, received_at=NOW),
        task_id=f"task_{name}",
        reading=Reading(status=TaskState.COMPLETED),
    )


async def full_disk(database: Path) -> None:
    """Write until no file may grow any more, then let them grow again; print what became of it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ledger = await SqliteLedger.open(database, create=True)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, most))
    stored = 0
    try:
        for number in range(1_000):
            await ledger.record(push(str(number), b"x" * 10_000))
            stored += 1
    except LedgerUnavailable as error:
        print("unavailable", error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, most))  # not even the smallest write fits now
    try:
        await ledger.reject({}, NOW)
    except LedgerUnavailable:
        print("red")
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    await ledger.reject({}, NOW)
    await ledger.record(push("healed", b"x" * 10_000))
    events = (await ledger.summary(NOW)).events
    print("stored", stored, "found", sum(events.values()))
    await ledger.close()


async def read_only(database: Path) -> None:
    """Try to open a ledger as somebody who may not write it; print what became of it."""
    await (await SqliteLedger.open(database, create=True)).close()
    lock = database.with_name(database.name + ".lock")
    for path, mode in ((database.parent, 0o755), (database, 0o444), (lock, 0o444)):
        path.chmod(mode)
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        await SqliteLedger.open(database, create=False)
    except LedgerError as error:
        print(type(error).__name__, error)


async def busy(database: Path, start: float, seconds: float) -> None:
    """Commit batch after batch for a while, beginning together with others; print how many."""
    ledger = await SqliteLedger.open(database, create=False)
    await asyncio.sleep(start - time.time())
    count = 0
    while time.time() < start + seconds:
        await ledger.reject({("qingbo", str(os.getpid())): 1}, NOW)
        count += 1
    print(count)
    await ledger.close()


async def acknowledge(database: Path, prefix: str) -> None:
    """Record for ever, many at once, and print the name of each that is acknowledged."""
    ledger = await SqliteLedger.open(database, create=False)
    numbers = itertools.count()

    async def keep_on() -> None:
        for number in numbers:
            await ledger.record(push(f"{prefix}_{number}"))
            os.write(1, f"task_{prefix}_{number}\n".encode())

    await asyncio.gather(*[keep_on() for _ in range(16)])


if __name__ == "__main__":
    name, path, *rest = sys.argv[1:]
    match name:
        case "full_disk":
            asyncio.run(full_disk(Path(path)))
        case "read_only":
            asyncio.run(read_only(Path(path)))
        case "busy":
            asyncio.run(busy(Path(path), float(rest[0]), float(rest[1])))
        case "acknowledge":
            asyncio.run(acknowledge(Path(path), rest[0]))

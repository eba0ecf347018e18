"""What receivers that share one socket count together: each posts its own counts, and whoever is asked adds all up.

The board is memory that these processes have shared since they parted: nothing is left on a disk, and nobody need be
asked. It is written once a second, never while a callback waits. A process begins with the counts of the one that was
in its seat before, so that no counter goes back. Made by the command, read by `metrics`.
"""

import asyncio
import mmap
import struct
import zlib
from collections import Counter
from collections.abc import Callable

import msgspec

from receiver.web.tally import BUCKETS

POST_SECONDS = 1.0
SHEET_BYTES = 256 * 1024  # providers and reasons are words of ours: some dozens of pairs of some dozens of bytes
SEAT_BYTES = 8 + 2 * SHEET_BYTES  # which of its two sheets is the newer one, and the sheets
HEAD = struct.Struct("<II")  # length and checksum of what is on a sheet
TRIES = 3

Key = tuple[str, str]  # provider, and verdict or reason


class Counts(msgspec.Struct):
    """Everything that a receiver counts."""

    verdicts: dict[Key, int] = {}
    rejections: dict[Key, int] = {}
    latencies: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    latency_sum: float = 0.0
    inflight_bytes: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Add up."""
        return Counts(
            verdicts=Counter(self.verdicts) + Counter(other.verdicts),
            rejections=Counter(self.rejections) + Counter(other.rejections),
            latencies=[mine + theirs for mine, theirs in zip(self.latencies, other.latencies, strict=True)],
            latency_sum=self.latency_sum + other.latency_sum,
            inflight_bytes=self.inflight_bytes + other.inflight_bytes,
        )


class Board:
    """The counts of some receivers; each takes its seat after they parted."""

    def __init__(self, seats: int) -> None:
        self._memory = mmap.mmap(-1, seats * SEAT_BYTES)
        self._seats = seats
        self._seat = 0

    def sit(self, seat: int) -> Counts | None:
        """Take a seat; gives what was counted in it before, None where nothing was."""
        self._seat = seat
        return self._read(seat)

    def post(self, counts: Counts) -> None:
        """Show these counts to the others. A process that dies meanwhile leaves its former ones."""
        data = msgspec.msgpack.encode(counts)
        if len(data) > SHEET_BYTES - HEAD.size:
            return
        start = self._seat * SEAT_BYTES
        sheet = 1 - self._memory[start]
        place = start + 8 + sheet * SHEET_BYTES
        self._memory[place : place + HEAD.size + len(data)] = HEAD.pack(len(data), zlib.crc32(data)) + data
        self._memory[start] = sheet

    def others(self) -> list[Counts]:
        """Give what the others have posted."""
        found = (self._read(seat) for seat in range(self._seats) if seat != self._seat)
        return [counts for counts in found if counts is not None]

    async def keep_posted(self, count: Callable[[], Counts], stop: asyncio.Event) -> None:
        """Post once a second until the event is set."""
        while not stop.is_set():
            self.post(count())
            try:
                async with asyncio.timeout(POST_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue

    def _read(self, seat: int) -> Counts | None:
        """Read the newer sheet of a seat; what is written over meanwhile is read again."""
        start = seat * SEAT_BYTES
        for _ in range(TRIES):
            place = start + 8 + self._memory[start] * SHEET_BYTES
            length, checksum = HEAD.unpack_from(self._memory, place)
            data = self._memory[place + HEAD.size : place + HEAD.size + min(length, SHEET_BYTES)]
            if length and zlib.crc32(data) == checksum:
                return msgspec.msgpack.decode(data, type=Counts)
        return None

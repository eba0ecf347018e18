"""What a receiver and its scribe say to each other: frames of MessagePack, each behind its length.

First comes an Order, answered by an empty frame when the scribe can write; then lists of arrivals, each answered in its
turn by one Reply. Used by `courier` and `scribe` alone, which are always of the same version.
"""

import struct
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from ringback.errors import LedgerError, LedgerRejected, LedgerUnavailable
from ringback.model import Arrival, Receipt

_LENGTH = struct.Struct("<I")
READY = b""


class Order(Struct, frozen=True, kw_only=True):
    """What a scribe must know to begin. It holds secrets, so it is never an argument or in the environment."""

    database_url: str
    path: str | None  # of the SQLite file; None: PostgreSQL
    dedup_days: int
    log_level: str
    log_format: str | None
    secrets: tuple[str, ...]  # to be redacted in its log


class Failure(Struct, frozen=True, array_like=True):
    """Why an arrival was not stored."""

    final: bool  # it never can be
    reason: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """Write why: only the ledger's word about this very record is final, all else may go better the next time."""
        final = isinstance(error, LedgerRejected)
        reason = str(error) or type(error).__name__
        return cls(final, reason.encode(errors="replace").decode())  # it may quote what is no text

    def error(self) -> LedgerError:
        """Read it again."""
        return LedgerRejected(self.reason) if self.final else LedgerUnavailable(self.reason)


class Reply(Struct, frozen=True, array_like=True):
    """What became of each arrival of a frame, in their order."""

    receipts: list[Receipt | None]  # None: it was not stored
    failures: dict[int, Failure]  # by place
    changed: bool  # whether anything was written
    commit_seconds: float = 0.0  # how long the disk took
    other_seconds: float = 0.0  # and all else


write_order = msgspec.msgpack.Encoder().encode
read_order = msgspec.msgpack.Decoder(Order).decode
write_arrivals = msgspec.msgpack.Encoder().encode
read_arrivals = msgspec.msgpack.Decoder(list[Arrival]).decode
read_arrival = msgspec.msgpack.Decoder(Arrival).decode
parted = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode  # the arrivals of a list, unread
write_reply = msgspec.msgpack.Encoder().encode
read_reply = msgspec.msgpack.Decoder(Reply).decode


def frame(content: bytes) -> bytes:
    """Put the length before a content."""
    return _LENGTH.pack(len(content)) + content


class Frames:
    """Finds the frames in what a stream brings, piece by piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add what came."""
        self._buffer += data

    def __iter__(self) -> Iterator[bytes]:
        """Take out the frames that are whole."""
        while (content := self.take()) is not None:
            yield content

    def take(self) -> bytes | None:
        """Take out one frame; None where none is whole."""
        if len(self._buffer) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
        if len(self._buffer) < end:
            return None
        content = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return content

"""A process of its own that stores callbacks for a receiver. Made by `courier`.

The interpreter lock lets one thread run at a time, so a receiver that also writes does both in turns, on however many
cores. Here the same code writes the same batches while the receiver reads and answers. It speaks `wire` on the socket
that is its standard input, and ends when that is closed, by the receiver or by its death: what it was given by then is
stored, though nobody is told. Signals are the receiver's business: it is started with them held back.
"""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from ringback import logs
from ringback.errors import RingbackError
from ringback.ledger import faults, wire
from ringback.ledger.desk import Desk
from ringback.model import Receipt
from ringback.tuning import tune

log = structlog.get_logger("ringback.ledger")

PIECE_BYTES = 1 << 18


class Line:
    """The socket to the receiver."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._frames = wire.Frames()

    def receive(self, timeout_seconds: float | None = None) -> bytes | None:
        """Wait for a frame; None where the receiver has closed its end.

        Raises:
            TimeoutError: none came in time.
            BlockingIOError: none is there, and there was no time to wait.
        """
        while (content := self._frames.take()) is None:
            self._end.settimeout(timeout_seconds)
            try:
                piece = self._end.recv(PIECE_BYTES)
            except ConnectionError:  # it died with our answers unread
                return None
            if not piece:
                return None
            self._frames.feed(piece)
        return content

    def send(self, content: bytes) -> None:
        """Send a frame; where the receiver is gone nobody is told, and what it gave before is still to be read."""
        self._end.settimeout(None)
        with suppress(ConnectionError):
            self._end.sendall(wire.frame(content))


def serve(line: Line) -> None:
    """Store what comes until the receiver closes its end.

    Raises:
        RingbackError: the ledger cannot be opened.
    """
    first = line.receive()
    if first is None:
        return
    order = wire.read_order(first)
    logs.configure(level=order.log_level, style=order.log_format, secrets=order.secrets)
    with _desk(order) as desk:
        tune()
        line.send(wire.READY)
        while (content := _next(line, desk)) is not None:
            line.send(_stored(desk, content))
            desk.tidy()


def _desk(order: wire.Order) -> Desk:
    if order.path is not None:
        from ringback.ledger.sqlite.desk import open_desk as on_sqlite

        return on_sqlite(Path(order.path), order.dedup_days)
    from ringback.ledger.postgres.desk import open_desk as on_postgres

    return on_postgres(order.database_url, order.dedup_days)


def _next(line: Line, desk: Desk) -> bytes | None:
    """Wait for a list of arrivals, and use the time."""
    while True:
        try:
            return line.receive(desk.rest_seconds())
        except (BlockingIOError, TimeoutError):
            desk.rest()


def _stored(desk: Desk, content: bytes) -> bytes:
    """Store a list of arrivals; gives the reply."""
    try:
        arrivals = wire.read_arrivals(content)
    except msgspec.MsgspecError:
        answers, changed = _stored_apart(desk, content)
    else:
        answers, changed = desk.store(arrivals)
    receipts = [None if isinstance(answer, Exception) else answer for answer in answers]
    errors = [(place, answer) for place, answer in enumerate(answers) if isinstance(answer, Exception)]
    failures = {place: wire.Failure.of(error) for place, error in errors}
    return wire.write_reply(wire.Reply(receipts, failures, changed, desk.commit_seconds, desk.other_seconds))


def _stored_apart(desk: Desk, content: bytes) -> tuple[Sequence[Receipt | Exception], bool]:
    """Store one by one: an arrival that cannot be read, by a bug of ours or another version, harms no other."""
    answers: list[Receipt | Exception] = []
    changes = False
    for part in wire.parted(content):
        try:
            arrival = wire.read_arrival(part)
        except msgspec.MsgspecError as error:
            answers.append(faults.failed(error))
            continue
        answer, changed = desk.store([arrival])
        answers += answer
        changes = changes or changed
    return answers, changes


def main() -> None:
    """Serve the receiver that has started this process."""
    logs.configure()  # until the order says how: whatever goes wrong before, no value is shown
    try:
        with socket.socket(fileno=os.dup(0)) as end:
            serve(Line(end))
    except RingbackError as error:
        log.error("scribe.failed", error=str(error))  # noqa: TRY400 -- it is no bug
        sys.exit(1)
    except Exception:  # told in the log, where secrets are hidden
        log.exception("scribe.failed")
        sys.exit(1)


if __name__ == "__main__":
    main()

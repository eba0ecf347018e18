"""A site whose disk can be shut, so that a test decides when an fsync is done: the shim of `bench.shim` under it."""

import http.client
import select
from collections.abc import Sequence
from pathlib import Path

from bench.shim import Gate, compiled
from tests.acceptance.processes import Site
from tests.acceptance.pushes import get

WAL = "ringback.db-wal"


def gated(site: Site, folder: Path) -> Gate:
    """Put the gate under every process that the site starts from now on; at first it is open."""
    gate = Gate(compiled(folder), folder)
    site.environ |= gate.environ
    site.set(commit_timeout_seconds=60)  # as long as a test holds the disk, nobody shall lose patience
    return gate


def has_answer(connection: http.client.HTTPConnection) -> bool:
    """Tell whether a byte of an answer has come."""
    return bool(answered([connection]))


def answered(connections: Sequence[http.client.HTTPConnection]) -> list[http.client.HTTPConnection]:
    """Give those for which a byte of an answer has come."""
    poll = select.poll()  # select knows no more than 1024 files
    by_number = {connection.sock.fileno(): connection for connection in connections}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(0)]


def turn_over(site: Site) -> None:
    """Let the receiver's event loop go round: whatever it was about to send before is sent afterwards."""
    for _ in range(3):
        assert get(site.port, "/healthz").status == 200

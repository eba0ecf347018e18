"""What kill -9 cannot notice: that each answer waits for the disk, and that many answers wait for the same write."""

import http.client
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.shim import Gate
from tests.acceptance.gated import WAL, answered, gated, has_answer, turn_over
from tests.acceptance.processes import Site, wait_until
from tests.acceptance.pushes import begin, begin_in_pieces, body_of, path_of, post, read_answer

pytestmark = pytest.mark.slow

TOGETHER = 200
FEW = TOGETHER // 10


@pytest.mark.parametrize("send", [begin, begin_in_pieces], ids=["whole", "pieces"])
@pytest.mark.parametrize("command", ["serve", "up"])
def test_no_200_leaves_before_an_fsync(
    site: Site, tmp_path: Path, command: str, send: Callable[..., http.client.HTTPConnection]
) -> None:
    """While the log's fsync is held back no byte of the answer comes, though the receiver answers others."""
    gate = gated(site, tmp_path)
    site.start(command).wait_for("receiver.listening")
    for name in ("first", "second"):  # the first write after a checkpoint is synced with any setting of SQLite's
        assert post(site.port, f"task_{name}", body_of(f"p-{name}")).status == 200
    gate.shut()
    before = len(gate.done())
    connection = send(site.port, path_of("task_third"), body_of("p-third"))
    synced = synced_until_answered(site, gate, connection)[before:]
    gate.open()
    assert read_answer(connection).status == 200
    assert WAL in synced, f"an answer before any fsync of {WAL}"


def synced_until_answered(site: Site, gate: Gate, connection: http.client.HTTPConnection) -> list[str]:
    """Let one fsync through after the other until an answer is there; gives whose were done, from the start."""
    while True:
        wait_until("an fsync or an answer", lambda: len(gate.held()) > len(gate.done()) or has_answer(connection))
        turn_over(site)
        if has_answer(connection):
            return gate.done()
        let_one_through(gate)


def let_one_through(gate: Gate) -> None:
    """Open the gate for one fsync, and wait until it is done."""
    done = len(gate.done())
    gate.let_through()
    wait_until("the fsync done", lambda: len(gate.done()) > done)


def test_requests_in_flight_share_an_fsync(site: Site, tmp_path: Path) -> None:
    """Callbacks that come while the disk is busy are stored by a handful of writes, each before its answers."""
    gate = gated(site, tmp_path)
    site.serve()
    first = len(gate.held())
    gate.shut()
    numbers = range(TOGETHER)
    connections = [begin(site.port, path_of(f"task_{number}"), body_of(f"p-{number}")) for number in numbers]
    turn_over(site)
    assert answered(connections) == []
    gate.open()
    assert {read_answer(connection).status for connection in connections} == {200}
    assert 0 < gate.held()[first:].count(WAL) <= FEW
    assert len(site.events()) == TOGETHER

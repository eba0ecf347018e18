"""Counts of several receivers at one socket: shared memory, added up by whoever is asked."""

import asyncio
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from receiver.web.board import HEAD, POST_SECONDS, SEAT_BYTES, SHEET_BYTES, Board, Counts
from receiver.web.state import State
from ringback.settings import Settings

PUSHED = Counts(verdicts={("qingbo", "new"): 3}, latencies=[3] + [0] * 13, latency_sum=0.5, inflight_bytes=7)
REFUSED = Counts(verdicts={("qingbo", "new"): 1}, rejections={("unknown", "path"): 2}, inflight_bytes=1)


def test_counts_are_seen_by_other_processes() -> None:
    """What a child posted is there for its parent, after the child's end too."""
    board = Board(2)
    child = os.fork()
    if child == 0:
        board.sit(1)
        board.post(REFUSED)
        board.post(PUSHED)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert board.sit(0) is None
    assert board.others() == [PUSHED]
    assert board.sit(1) == PUSHED
    assert board.others() == []


def test_counts_add_up() -> None:
    """Pairs that both have are summed, the others kept; so are the histogram and the bytes."""
    both = PUSHED + REFUSED
    assert (both.verdicts, both.rejections) == ({("qingbo", "new"): 4}, {("unknown", "path"): 2})
    assert (both.latencies[0], both.latency_sum, both.inflight_bytes) == (3, 0.5, 8)


def test_a_process_that_died_while_it_posted() -> None:
    """Its former counts stay: the newer sheet is valid only once it is whole."""
    board = Board(1)
    board.post(PUSHED)
    other = 8 + (1 - board._memory[0]) * SHEET_BYTES
    board._memory[other : other + 4] = b"half"
    assert board.sit(0) == PUSHED


def test_a_sheet_that_is_written_over() -> None:
    """What does not fit its checksum is nobody's count."""
    board = Board(1)
    board.post(PUSHED)
    place = 8 + board._memory[0] * SHEET_BYTES
    board._memory[place + HEAD.size] ^= 1
    assert board.sit(0) is None
    assert len(board._memory) >= SEAT_BYTES


def test_counts_that_have_no_room() -> None:
    """They leave the former ones in place."""
    board = Board(1)
    board.post(PUSHED)
    board.post(Counts(verdicts={("x" * SHEET_BYTES, "new"): 1}))
    assert board.sit(0) == PUSHED


async def test_one_goes_on_where_another_died(tmp_path: Path) -> None:
    """A process begins with the counts of its seat, adds its own and everybody else's, and leaves the sum behind."""
    settings, board = Settings(database_url=f"sqlite:///{tmp_path}/ringback.db", secret=(b"s" * 32,)), Board(2)
    board.sit(1)
    board.post(REFUSED)
    board.sit(0)
    board.post(PUSHED)
    state = State(settings)
    state.share(board, 0)
    state.tally.accept("qingbo", "new", 0.0001)
    state.rejections.totals["unknown", "path"] += 1
    counts = state.all_counts()
    assert (counts.verdicts, counts.rejections) == ({("qingbo", "new"): 5}, {("unknown", "path"): 3})
    assert (counts.latencies[0], counts.inflight_bytes) == (4, 1)
    await state.close()
    assert board.sit(0) == state.counts()


@pytest.mark.parametrize(("seat", "warnings"), [(0, 1), (1, 0)])
async def test_one_warns_for_all(tmp_path: Path, seat: int, warnings: int) -> None:
    """What is wrong with the settings is said by the first process alone, and not by the one that replaces it."""
    settings, board = Settings(database_url=f"sqlite:///{tmp_path}/ringback.db", secret=(b"s" * 32,)), Board(2)
    with capture_logs() as logs:
        for _ in range(2):
            state = State(settings)
            state.share(board, seat)
            await state.open()
            await state.close()
    assert sum(line["event"] == "receiver.no_public_url" for line in logs) == warnings


async def test_counts_are_posted_regularly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second, until the process stops."""
    monkeypatch.setattr("receiver.web.board.POST_SECONDS", POST_SECONDS / 100)
    board, stop, turns = Board(1), asyncio.Event(), 0

    def count() -> Counts:
        nonlocal turns
        turns += 1
        if turns == 3:
            stop.set()
        return Counts(inflight_bytes=turns)

    async with asyncio.timeout(5):
        await board.keep_posted(count, stop)
    assert board.sit(0) == Counts(inflight_bytes=3)

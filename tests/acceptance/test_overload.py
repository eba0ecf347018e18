"""More callbacks than can be stored, with a disk that stands still: who is let in, who is not, and what is kept."""

import http.client
import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from receiver.web.admission import FIRST, LEAST
from tests.acceptance.gated import answered, gated, turn_over
from tests.acceptance.processes import Process, Site, wait_until
from tests.acceptance.pushes import begin, begin_in_pieces, body_of, path_of, post, read_answer

pytestmark = pytest.mark.slow

MORE = 100  # come beside as many as are let in
AGAIN = 20  # times that they come again
GROWN_BYTES = 8 << 20
FILES = 4 * FIRST

Send = Callable[[int, str, bytes], http.client.HTTPConnection]


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process, and those that it starts, open as many connections as there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("send", [begin, begin_in_pieces], ids=["whole", "pieces"])
def test_beyond_its_bound_the_receiver_turns_away_at_once(site: Site, tmp_path: Path, send: Send) -> None:
    """While the disk stands still so many wait, all others get 503 at once and take no memory; who waited is stored."""
    gate = gated(site, tmp_path)
    receiver = site.serve()
    assert post(site.port, "task_before", body_of("p-before")).status == 200
    gate.shut()
    waiting = crowd(site, send, "first", FIRST + MORE)
    waiting -= turned_away(waiting, MORE)
    size = memory(receiver)
    for number in range(AGAIN):
        more = crowd(site, send, f"again_{number}", MORE)
        assert turned_away(more, MORE) == more
    assert memory(receiver) - size < GROWN_BYTES
    turn_over(site)
    assert answered([*waiting]) == []
    gate.open()
    stored = {read_answer(connection).event for connection in waiting}
    assert len(stored) == FIRST
    now = post(site.port, "task_after", body_of("p-after"))
    assert stored | {now.event} <= {event["id"] for event in site.events()}
    assert len(site.events()) == FIRST + 2


@pytest.mark.usefixtures("many_files")
def test_after_a_disk_that_stood_still_fewer_are_let_in(site: Site, tmp_path: Path) -> None:
    """Where those who waited waited long, the next crowd is let in only in part, and that part is never nobody."""
    gate = gated(site, tmp_path)
    site.serve()
    for most in (FIRST, FIRST - 1):
        gate.shut()
        waiting = crowd(site, begin, f"to_{most}", FIRST + MORE)
        wait_until("enough are turned away", partial(many_answered, waiting, len(waiting) - most))
        turn_over(site)
        refused = answered([*waiting])
        assert LEAST <= len(waiting) - len(refused) <= most
        gate.open()
        assert {read_answer(connection).status for connection in waiting.difference(refused)} == {200}
        assert {read_answer(connection).status for connection in refused} == {503}


def crowd(site: Site, send: Send, name: str, count: int) -> set[http.client.HTTPConnection]:
    """Send so many callbacks, each on a connection of its own."""
    return {send(site.port, path_of(f"task_{name}_{n}"), body_of(f"p-{name}-{n}")) for n in range(count)}


def many_answered(crowd: set[http.client.HTTPConnection], count: int) -> bool:
    """Tell whether so many have an answer."""
    return len(answered([*crowd])) >= count


def turned_away(crowd: set[http.client.HTTPConnection], count: int) -> set[http.client.HTTPConnection]:
    """Wait until so many have an answer; each must be told to come again."""
    wait_until("answers", lambda: len(answered([*crowd])) >= count)
    found = set(answered([*crowd]))
    assert len(found) == count
    for connection in found:
        answer = read_answer(connection)
        assert (answer.status, answer.retry_after, answer.body["received"]) == (503, "5", False)
    return found


def memory(process: Process) -> int:
    """Give how many bytes a process has in memory."""
    pages = int(Path(f"/proc/{process.popen.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()

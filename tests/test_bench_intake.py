"""What an intake is measured with: pushes that are genuine, a paced sender, and a round that can be refused."""

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hmac import digest
from pathlib import Path

import pytest

from bench import judging, pushes
from bench.backlog import new_tasks
from bench.figures import Figure, Part
from bench.loading import Result, read
from bench.pacing import paced
from bench.pushes import Auth
from bench.receivers import BARE_ASGI, NAIVE, WEBHOOK, Receiver, Site, bare, check, ours
from bench.running import ROOT, SECRET
from ringback.providers.signatures import Headers, Key, StandardWebhooks, token_is_valid


def parts(request: bytes) -> tuple[str, list[tuple[bytes, bytes]], bytes]:
    """Take a request apart: its path, its headers, its body."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
    assert dict(headers)[b"content-length"] == str(len(body)).encode()
    return first.split()[1].decode(), headers, body


@pytest.mark.parametrize("auth", Auth)
def test_every_push_is_another_and_all_are_of_one_length(tmp_path: Path, auth: Auth) -> None:
    """So the load generator can tell them apart by counting, and no receiver answers from what it knows."""
    load = pushes.prepare(tmp_path / "load", new_tasks(50, pushes.provider_of(auth)), auth)
    requests = list(load.requests())
    assert len(set(requests)) == load.count == 50
    assert {len(request) for request in requests} == {load.request_bytes}


def test_pushes_are_genuine(tmp_path: Path) -> None:
    """Each is accepted by what verifies it: a round in which all were turned away would be no measure."""
    requests = {
        auth: parts(next(pushes.prepare(tmp_path / auth, new_tasks(1, pushes.provider_of(auth)), auth).requests()))
        for auth in Auth
    }
    path, _, _ = requests[Auth.TOKEN]
    provider, _, address = path.removeprefix("/callbacks/").partition("/")
    task_id, _, mac = address.rpartition(".")
    assert token_is_valid(mac.encode(), provider, task_id, [SECRET.encode()])
    path, headers, body = requests[Auth.SIGNED]
    assert path == "/callbacks/standard"
    key = StandardWebhooks().key(pushes.STANDARD_SECRET)
    StandardWebhooks().verify(Headers(headers), body, (Key(key),), datetime.now(UTC), timedelta(minutes=5))
    _, headers, body = requests[Auth.HMAC]
    expected = digest(pushes.HMAC_SECRET.encode(), body, "sha256").hex()
    assert dict(headers)[pushes.HMAC_HEADER.lower().encode()] == f"sha256={expected}".encode()


def test_requests_of_different_lengths_are_refused(tmp_path: Path) -> None:
    """The load generator would send one with the beginning of the next."""
    tasks = [*new_tasks(1), *new_tasks(1, "wavespeed")]
    with pytest.raises(ValueError, match="of one length"):
        pushes.prepare(tmp_path / "load", tasks, Auth.TOKEN)


def test_the_load_generators_line_is_read() -> None:
    """Rates are by its own clock, and CPU time is shared out among the answers."""
    result = read("Running 2s test\nRESULT 20000 2000000 3 1.500 9.250\n", 0.5)
    assert result == Result(
        per_second=10_000, p50_ms=1.5, p99_ms=9.25, errors=3, answers=20_000, seconds=2, cpu_seconds=0.5
    )
    assert result.cpu_microseconds == 25


@pytest.mark.parametrize(("answers", "errors", "stored"), [(10, 1, 10), (10, 0, 9), (0, 0, 0)])
def test_a_round_with_errors_or_with_answers_for_nothing_is_not_valid(
    tmp_path: Path, answers: int, errors: int, stored: int
) -> None:
    """It ends the run, and says what the receiver has printed."""
    (tmp_path / "log").write_text("out of disk")
    receiver = Receiver(name="some", command=lambda _: (), stored=lambda _: stored)
    site = Site(folder=tmp_path, url="")
    with pytest.raises(SystemExit, match=r"(?s)not a valid round: some.*out of disk"):
        check(receiver, site, answers, errors)


def test_a_round_may_have_stored_what_nobody_has_waited_for_any_more(tmp_path: Path) -> None:
    """The load generator hangs up at its end, with requests under way."""
    check(Receiver(name="some", command=lambda _: (), stored=lambda _: 12), Site(folder=tmp_path, url=""), 10, 0)


def result(per_second: float, cpu_seconds: float = 0.1) -> Result:
    """Give a round of a thousand answers."""
    return Result(
        per_second=per_second, p50_ms=1, p99_ms=20, errors=0, answers=1000, seconds=1, cpu_seconds=cpu_seconds
    )


def test_each_is_compared_with_the_bare_route_that_was_sent_the_same() -> None:
    """Goals are those of the issues, for Ringback alone: at 64 connections, and on PostgreSQL also at 256."""
    token, signed, postgres = (
        ours(auth, kind) for auth, kind in ((Auth.TOKEN, "sqlite"), (Auth.SIGNED, "sqlite"), (Auth.TOKEN, "postgres"))
    )
    receivers = [bare(), bare(Auth.SIGNED), token, signed, postgres]
    rates = {bare().name: 1000, bare(Auth.SIGNED).name: 500, token.name: 900, signed.name: 450, postgres.name: 100}
    rounds = {name: [result(rate), result(rate)] for name, rate in rates.items()}
    peers = {NAIVE: [result(300)] * 2, WEBHOOK: [result(450)] * 2}
    found = judging.figures([*receivers], rounds, 64)
    over = {figure.subject: figure for figure in found if figure.name == "over bare Starlette"}
    assert {name: figure.median for name, figure in over.items()} == {
        token.name: 0.9,
        signed.name: 0.9,
        postgres.name: 0.1,
    }
    assert [(over[each.name].at_least, over[each.name].is_reached) for each in (token, signed, postgres)] == [
        (1.0, False),
        (0.9, True),
        (0.6, False),
    ]
    named = [Receiver(name=name, command=lambda _: ()) for name in peers]
    with_peers = judging.figures([*receivers, *named], rounds | peers, 64)
    goals = {figure.name: figure.is_reached for figure in with_peers if figure.goal and figure.subject == token.name}
    assert goals == {"p99": False, "over bare Starlette": False, f"over {NAIVE}": True, f"over {WEBHOOK}": True}
    assert not [figure for figure in judging.figures(receivers, rounds, 16) if figure.goal]
    assert [figure.subject for figure in judging.figures(receivers, rounds, 256) if figure.goal] == [postgres.name]


def test_cpu_is_held_against_its_parts_of_the_same_round() -> None:
    """100 µs over 40 for bare ASGI, 5 to verify and 5 to store are twice as much."""
    rounds = {BARE_ASGI: [result(1, 0.04)], ours(Auth.TOKEN, "sqlite").name: [result(1, 0.1)]}
    five = Figure(name="alone", unit="µs", values=(5,))
    (found,) = judging.over_parts(rounds, five, {Auth.TOKEN: five})
    assert (found.values, found.is_reached) == ((2,), False)


class Answering(socketserver.StreamRequestHandler):
    """Answers every request by 200, in two pieces, but for the third of the server's."""

    def handle(self) -> None:
        """Serve one connection."""
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) not in {b"\r\n", b""}:
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.rfile.read(length)
            number = next(self.server.numbers)  # type: ignore[attr-defined]
            self.wfile.write(b"HTTP/1.1 503 No\r\ncontent-" if number == 3 else b"HTTP/1.1 200 OK\r\ncontent-")
            self.wfile.flush()
            self.wfile.write(b"length: 2\r\n\r\n{}")


@contextmanager
def answering() -> Iterator[int]:
    """Have such a server; gives its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        server.numbers = iter(range(1, 1_000_000))  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_the_paced_sender_sends_all_and_counts_who_was_turned_away(tmp_path: Path) -> None:
    """Two connections for forty requests: each is answered once, and one of them not well."""
    load = pushes.prepare(tmp_path / "load", new_tasks(40), Auth.TOKEN)
    with answering() as port:
        sent = paced(port, list(load.requests()), rate=2000, connections=2)
    assert (sent.answers, len(sent.waits), len(sent.lags), sent.errors) == (40, 40, 40, 1)
    assert min(sent.waits) > 0
    assert min(sent.lags) >= 0


def test_how_long_the_warming_up_took_is_not_counted_but_its_errors_are(tmp_path: Path) -> None:
    """A round in which anything was not answered well is refused, whenever that was."""
    load = pushes.prepare(tmp_path / "load", new_tasks(20), Auth.TOKEN)
    with answering() as port:
        sent = paced(port, list(load.requests()), rate=2000, connections=2, warm_up_seconds=60)
    assert (sent.answers, sent.waits, sent.lags, sent.errors) == (20, [], [], 1)


def test_without_the_load_generator_it_says_how_to_get_it() -> None:
    """Alone it fails; as a part of all benchmarks it has no figures, and the others go on."""
    command = [sys.executable, "-m", "bench.ingest"]
    alone = subprocess.run(command, cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, timeout=60)
    assert (alone.returncode, alone.stdout) == (1, "")
    assert alone.stderr == "missing: wrk, the load generator; on Debian and Ubuntu: apt-get install wrk\n"
    part = subprocess.run([*command, "--json"], cwd=ROOT, env={"PATH": ""}, capture_output=True, timeout=60)
    assert (part.returncode, Part.read(part.stdout).figures) == (0, ())
    assert Part.read(part.stdout).missing == ("wrk, the load generator; on Debian and Ubuntu: apt-get install wrk",)


def test_a_peer_that_is_not_installed_is_named_and_left_out() -> None:
    """Debian's webhook is no dependency of anything."""
    code = (
        "from bench.receivers import PEERS; print([peer.missing for peer in PEERS if peer.name.startswith('webhook')])"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PATH": ""}, capture_output=True, timeout=60)
    assert told.stdout == b"['webhook; on Debian and Ubuntu: apt-get install webhook']\n"

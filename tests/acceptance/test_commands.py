"""How the commands behave from outside: signals, ports, help."""

import http.client
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import click
import pytest

from ringback.cli import main
from tests.acceptance.processes import Site
from tests.acceptance.pushes import body_of, get, path_of, post, read_answer

pytestmark = pytest.mark.slow


def open_halfway(site: Site, task_id: str, body: bytes) -> http.client.HTTPConnection:
    """Send a callback's headers and the first half of its body."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=15)
    connection.putrequest("POST", path_of(task_id))
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: len(body) // 2])
    return connection


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_lets_requests_in_flight_end(site: Site, number: signal.Signals) -> None:
    """A receiver that is told to stop takes no new connection, answers what is in flight, and ends with 0."""
    receiver = site.serve()
    body = body_of("p-a")
    halfway = [open_halfway(site, f"task_{n}", body_of(f"p-{n}")) for n in range(3)]
    assert get(site.port, "/healthz").status == 200  # by now the halves have arrived, too
    began = time.monotonic()
    receiver.popen.send_signal(number)
    receiver.wait_for("process.stopping")
    time.sleep(0.3)
    with pytest.raises(OSError, match="refused"):
        post(site.port, "task_new", body)
    for n, connection in enumerate(halfway):
        whole = body_of(f"p-{n}")
        connection.send(whole[len(whole) // 2 :])
    answers = [read_answer(connection) for connection in halfway]
    assert receiver.popen.wait(10) == 0
    assert time.monotonic() - began < 3
    assert {answer.event for answer in answers} == {event["id"] for event in site.events()}


def test_a_sender_that_dawdles_does_not_hold_up_the_end(site: Site) -> None:
    """A body that never comes does not keep a stopping receiver beyond its grace time."""
    site.set(grace_seconds=1)
    receiver = site.serve()
    connection = open_halfway(site, "task_a", body_of("p-a"))
    assert get(site.port, "/healthz").status == 200
    began = time.monotonic()
    assert receiver.stop() == 0
    assert time.monotonic() - began < 4
    connection.close()


def test_a_second_instance_on_the_same_port(site: Site) -> None:
    """It says in one line that the port is taken and what to do, with exit code 1; the first one goes on."""
    site.serve()
    for command in ("serve", "up"):
        second = site.run(command)
        assert (second.returncode, second.stdout) == (1, "")
        (line,) = second.stderr.splitlines()
        assert f"cannot listen on 127.0.0.1:{site.port}: Address already in use; stop what listens there" in line
    assert post(site.port, "task_a", body_of("p-a")).status == 200


def commands(group: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """Give every command that does something, by the words one types."""
    if not isinstance(group, click.Group):
        yield path
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands(command, *path, name)


def test_help(site: Site) -> None:
    """`--help` of every command ends with 0, shows an example that begins with the command, and logs nothing."""

    def ask(path: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        return site.run(*path, "--help")

    paths = list(commands(main))
    assert len(paths) > 15
    with ThreadPoolExecutor(2) as pool:
        for path, done in zip(paths, pool.map(ask, paths), strict=True):
            assert (done.returncode, done.stderr) == (0, ""), path
            _, _, example = done.stdout.partition("Example")
            assert f"ringback {' '.join(path)}" in example, path
    for group in ((), ("tasks",), ("events",), ("deliveries",)):
        assert site.run(*group, "--help").returncode == 0

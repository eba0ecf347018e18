"""A burst comes over more connections than a process may open files at first."""

import http.client
import resource

import pytest

from tests.acceptance.processes import Site
from tests.acceptance.pushes import body_of, path_of, read_answer

pytestmark = pytest.mark.slow

FILES = 128  # that the receiver may open when it starts; 1024 are usual
TOGETHER = 3 * FILES


@pytest.mark.parametrize("command", ["serve", "up"])
def test_more_connections_than_files_at_first(site: Site, command: str) -> None:
    """The receiver allows itself more: every callback of a burst is stored, and none is hung up on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    process = site.start(command)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    process.wait_for("receiver.listening")
    connections: list[http.client.HTTPConnection] = []
    for _ in range(TOGETHER):
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=15)
        connection.connect()
        connections.append(connection)
    for number, connection in enumerate(connections):
        connection.request("POST", path_of(f"task_{number}"), body_of(f"p-{number}"))
    assert {read_answer(connection).status for connection in connections} == {200}

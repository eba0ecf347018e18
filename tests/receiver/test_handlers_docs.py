"""The how-to and the example: complete, and they work."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from receiver import Event, Handlers
from receiver.worker import Worker
from ringback.ledger import Ledger
from ringback.model import DeliveryState, EventType, Result, TaskState
from ringback.settings import Settings

from .receiver_case import ring, states

ROOT = Path(__file__).parents[2]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve a folder that holds v.mp4."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "v.mp4").write_bytes(b"moving pictures")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_example(
    ledger: Ledger, settings: Settings, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example saves results, tells of failures, and fails on what is no web address."""
    handlers = Handlers.load("examples.handlers:handlers")
    monkeypatch.chdir(tmp_path)
    good = await ring(ledger, result=Result(kind="video", url=f"{address}/v.mp4"))
    await ring(ledger, TaskState.FAILED)
    await ring(ledger, result=Result(kind="video", url="file:///etc/passwd"))
    with capture_logs() as logs:
        assert await Worker(settings, ledger, handlers).run_once(10) == 3
    assert (await states(ledger)).count(DeliveryState.SUCCEEDED) == 2
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [f"{good}-0.video"]
    assert (tmp_path / "downloads" / f"{good}-0.video").read_bytes() == b"moving pictures"
    assert [line["reason"] for line in logs if line["event"] == "no result"] == ["refused"]


def test_how_to_is_complete() -> None:
    """The how-to names every event type and every field of an event."""
    text = (ROOT / "docs" / "how-to" / "handlers.md").read_text()
    fields = [name for name in Event.__struct_fields__ if not name.startswith("_")]
    assert [name for name in [*EventType, *fields, "payload"] if f"`{name}`" not in text] == []

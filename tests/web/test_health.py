"""Liveness and readiness."""

import asyncio
import fcntl
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import receiver.web.health as health_module
from receiver.web import create_app
from ringback.errors import LedgerError, LedgerMismatch, LedgerMissing, LedgerUnavailable
from ringback.ledger import Process
from ringback.ledger.sqlite.commits import trouble
from ringback.model import Confirm
from ringback.settings import ProviderSettings
from tests.ledger.server import bare_database

from .conftest import MakeSettings, Receiver, Start, client_of, path_of

UNAVAILABLE = "The database cannot be written right now; try again."
CONFIRM = {"qingbo": ProviderSettings(api_key="k", confirm=Confirm.ALWAYS)}


@contextmanager
def locked(settings_path: Path) -> Iterator[None]:
    """Hold the ledger's lock, as another writer would."""
    with Path(f"{settings_path}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every readiness request try the ledger anew."""
    monkeypatch.setattr(health_module, "PROBE_SECONDS", 0.0)


async def test_healthz_never_touches_the_ledger(make_settings: MakeSettings) -> None:
    """The process lives, whatever the ledger does."""
    async with client_of(create_app(make_settings())) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.head("/healthz")).status_code == 200
        assert (await client.post("/healthz")).json() == {"error": "Method Not Allowed"}
    assert not make_settings().database_path.exists()


async def test_ready_when_the_ledger_can_be_written(receiver: Receiver) -> None:
    """All is well."""
    response = await receiver.get("/readyz", token=None)
    assert response.status_code == 200
    assert response.json() == {
        "ready": True,
        "ledger": "ok",
        "secret": "configured",
        "public_url": "configured",
        "confirmation": "not needed",
    }
    assert (await receiver.client.head("/readyz")).status_code == 200


async def test_missing_public_url_is_told_and_is_no_fault(start: Start) -> None:
    """Without a public URL the poller fetches; the receiver is ready all the same."""
    async with start(public_url=None) as receiver:
        response = await receiver.get("/readyz")
    assert response.status_code == 200
    assert response.json()["public_url"].startswith("missing")


@pytest.mark.usefixtures("no_rest")
async def test_missing_poller_is_told_where_callbacks_must_be_confirmed(start: Start) -> None:
    """Hints are stored and wait, so it is no fault of the receiver; a worker does not help."""
    async with start(providers=CONFIRM) as receiver:
        response = await receiver.get("/readyz", token=None)
        assert (response.status_code, response.json()["ready"]) == (200, True)
        told = "missing: callbacks of qingbo wait for a poller, and none was seen in the last minute"
        assert response.json()["confirmation"] == told
        for role, answer in (("worker", told), ("poller", "a poller runs")):
            now = datetime.now(UTC)
            await receiver.ledger.beat(Process(id=role, role=role, host="here", pid=1, started_at=now), now, now)
            assert (await receiver.get("/readyz")).json()["confirmation"] == answer


async def test_pollers_are_looked_for_once_a_second(start: Start) -> None:
    """However many ask, the ledger is asked once."""
    async with start(providers=CONFIRM) as receiver:
        looked = 0
        real = receiver.ledger.processes

        async def count(now: datetime) -> Sequence[Process]:
            nonlocal looked
            looked += 1
            return await real(now)

        receiver.ledger.processes = count  # type: ignore[method-assign]
        for _ in range(3):
            await asyncio.gather(*(receiver.get("/readyz") for _ in range(5)))
    assert looked == 1


async def test_unreadable_ledger_leaves_the_poller_unknown(make_settings: MakeSettings, tmp_path: Path) -> None:
    """Both are asked for at the same time, and neither holds up the answer."""
    settings = make_settings(database_url=f"sqlite:///{tmp_path}/none/ringback.db", providers=CONFIRM)
    async with client_of(create_app(settings)) as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()["confirmation"]) == (503, "unknown: the ledger cannot be read")


@pytest.mark.slow
async def test_lock_held_by_another_turns_red_and_green_again(receiver: Receiver) -> None:
    """While another process holds the write lock: 503 with the reason for callbacks and readiness; then 200 again."""
    with locked(receiver.settings.database_path):
        callback = await receiver.push()
        assert (callback.status_code, callback.headers["retry-after"]) == (503, "5")
        response = await receiver.get("/readyz")
        assert (response.status_code, response.json()["ready"]) == (503, False)
        assert response.json()["ledger"] == UNAVAILABLE
    assert (await receiver.push()).status_code == 200
    assert (await receiver.get("/readyz")).status_code == 200


@pytest.mark.usefixtures("no_rest")
async def test_probe_has_an_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that does not answer in time is not ready; the log says so once, until it is ready again."""
    monkeypatch.setattr(health_module, "PROBE_TIMEOUT_SECONDS", 0.05)
    async with start() as receiver:
        with locked(receiver.settings.database_path), capture_logs() as logs:
            responses = [await receiver.get("/readyz") for _ in range(3)]
    silent = "the ledger did not answer within 0.05 s"
    assert [response.json()["ledger"] for response in responses] == [silent] * 3
    assert [(line["event"], line["error"]) for line in logs] == [("receiver.ledger_unavailable", silent)]


async def test_many_requests_share_one_try(receiver: Receiver) -> None:
    """However many ask, the ledger is tried once a second."""
    before = receiver.state.written_at
    await asyncio.gather(*(receiver.get("/readyz") for _ in range(20)))
    tried = receiver.state.written_at
    assert tried > before
    await receiver.get("/readyz")
    assert receiver.state.written_at == tried


@pytest.mark.parametrize("kind", [LedgerError, LedgerMissing, LedgerMismatch, LedgerUnavailable])
async def test_last_write_counts(receiver: Receiver, kind: type[LedgerError]) -> None:
    """What a callback's commit just showed needs no further try; of the error, strangers are told the kind alone."""
    await receiver.push()
    receiver.state.note_write(kind("postgresql://app@db.example/ringback: no (role app)"))
    response = await receiver.get("/readyz")
    assert (response.status_code, response.json()["ledger"]) == (503, str(kind()))


async def test_advice_is_for_everybody(receiver: Receiver) -> None:
    """What the database's own error means, and what to do, is told; what it said in full is not."""
    full = sqlite3.OperationalError("disk I/O error at /srv/secret/place")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    receiver.state.note_write(trouble(full))
    response = await receiver.get("/readyz")
    assert (response.status_code, response.json()["ledger"]) == (503, "the disk is full; free some space")


async def test_unopened_ledger_is_red(make_settings: MakeSettings, tmp_path: Path) -> None:
    """Where the ledger cannot be opened, readiness says so, and only the log says where: links are followed there."""
    (tmp_path / "actual").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "actual")
    settings = make_settings(database_url=f"sqlite:///{tmp_path}/link/none/ringback.db")
    async with client_of(create_app(settings)) as client:
        with capture_logs() as logs:
            response = await client.get("/readyz")
        assert (response.status_code, response.json()["ledger"]) == (503, "There is no database at that place.")
        assert str(tmp_path / "actual") in logs[0]["error"]
        assert (await client.post(path_of(), content=b"{}")).status_code == 503


async def test_missing_server_database_is_red(make_settings: MakeSettings) -> None:
    """Nor does readiness tell a server's address, or the names there of user and database."""
    with bare_database() as url:
        gone = url.replace("ringback_test", "no_such")
    async with client_of(create_app(make_settings(database_url=gone))) as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()["ledger"]) == (503, "There is no database at that place.")

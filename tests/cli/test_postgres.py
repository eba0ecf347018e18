"""The command on a PostgreSQL ledger: it is made, looked at and worked on as a SQLite one is."""

import signal
import sys
from collections.abc import Callable, Iterator

import msgspec
import pytest

from ringback.cli.placement import refuse
from ringback.errors import LedgerUnavailable, SettingsError
from ringback.ledger import Ledger, beat_from_thread, open_ledger, upkeep
from ringback.settings import Settings
from tests.ledger.builders import LONG_AGO, NOW, submitted, worker
from tests.ledger.server import bare_database

from .conftest import Process, Ringback, within

FINGERPRINT = "0" * 16


@pytest.fixture(autouse=True)
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Set a database without any tables."""
    with bare_database() as found:
        monkeypatch.setenv("RINGBACK_DATABASE_URL", found)
        yield found


def test_migrate(ringback: Ringback) -> None:
    """The tables are made once, then left; before, nothing but that and a receiver makes them."""
    assert "there is no ledger" in ringback("tasks", "list").stderr
    assert "made; schema 1" in ringback("migrate").stdout
    assert msgspec.json.decode(ringback("migrate", "--json").stdout)["done"] == "unchanged"
    assert ringback("tasks", "list").exit_code == 0


def test_a_secret_is_forgotten(ringback: Ringback) -> None:
    """A fingerprint is taken off the list, and its open tasks are counted."""

    async def fill(ledger: Ledger, _: Settings) -> None:
        await ledger.enlist_keys([FINGERPRINT], NOW)
        await submitted(ledger, url_key=FINGERPRINT)

    within(fill)
    assert "knows no secret" in ringback("migrate", "--forget-secret", "f").stderr
    assert "1 open tasks were sent under it" in ringback("migrate", "--forget-secret", FINGERPRINT).stdout


def test_doctor_names_the_place_without_the_password(
    ringback: Ringback, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What people are shown holds no password; nor do logs."""
    known = url.replace("postgres@", "postgres:sesame@")
    monkeypatch.setenv("RINGBACK_DATABASE_URL", known)
    ringback("migrate")
    told = ringback("doctor")
    assert "psycopg: " in told.stdout
    assert f"{url.partition('?')[0]}, writable" in told.stdout
    assert "sesame" not in told.output + repr(Settings.from_environ())
    assert "sesame" in set(Settings.from_environ().secret_values())


def test_a_misspelt_parameter_is_a_settings_error(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, exit code 2; `ringback doctor` says so among the rest of what it finds."""
    monkeypatch.setenv("RINGBACK_DATABASE_URL", "postgresql://me:sesame@/db?sslmod=require")
    said = "postgresql://me@/db: there is no parameter sslmod; did you mean sslmode?"
    for arguments in (["migrate"], ["tasks", "list"]):
        result = ringback(*arguments)
        assert (result.exit_code, said in result.stderr) == (2, True)
    told = ringback("doctor")
    assert (told.exit_code, f"database: {said}" in told.stdout, "handlers: " in told.stdout) == (1, True, True)


def test_up_wants_a_secret_of_the_users_own(ringback: Ringback) -> None:
    """Several machines must have the same one: none is made on one of them."""
    result = ringback("up")
    assert (result.exit_code, "RINGBACK_SECRET: set it" in result.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.usefixtures("secret", "handlers")
def test_processes_share_it(start: Callable[..., Process]) -> None:
    """A receiver and a worker, each a process of its own, meet in the database alone, and end when told to."""
    receiver = start("serve", "--port", "0")
    receiver.line("receiver.listening")
    working = start("work")
    working.line("worker.started")
    assert [process.end(signal.SIGTERM) for process in (working, receiver)] == [0, 0]


async def test_driver_is_needed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the driver is not installed, it is named with its extra."""
    settings = Settings(database_url=url)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for act in (lambda given: upkeep.migrate(given, create=True), lambda given: upkeep.forget_key(given, "f")):
        with pytest.raises(SettingsError, match=r"pip install 'ringback\[postgres\]'"):
            act(settings)
    with pytest.raises(SettingsError):
        await open_ledger(settings)


def test_nothing_is_known_against_its_place(url: str) -> None:
    """Where a server keeps its files is its own affair."""
    refuse(Settings(database_url=url))


async def test_heartbeat_from_a_thread(url: str) -> None:
    """A process makes itself known without the event loop; without a server it is told so."""
    settings = Settings(database_url=url)
    ledger = await open_ledger(settings, create=True)
    assert beat_from_thread(settings, worker(), NOW, LONG_AGO, {}) == []
    assert [process.id for process in await ledger.processes(NOW)] == ["w1"]
    await ledger.close()
    with pytest.raises(LedgerUnavailable):
        beat_from_thread(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"), worker(), NOW, LONG_AGO, {})

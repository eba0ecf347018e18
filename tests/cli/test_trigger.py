"""`ringback trigger` at a real receiver: every provider that can be imitated, and how a refusal looks."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import msgspec
import pytest
import uvicorn

from receiver.web import create_app
from ringback.cli.run import configure_logs
from ringback.cli.trigger import _is_without_event, _note
from ringback.ledger import Ledger, Query
from ringback.model import Task
from ringback.providers import CATALOGUE, Provider
from ringback.settings import Settings, variable_name
from tests.serving import Server

from .conftest import SECRET, Ringback, within

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLPSw"
PUBLISHED = sorted(name for name, one in CATALOGUE.items() if one.scheme is not None and one.scheme.fetches_keys)
IMITABLE = sorted(name for name, one in CATALOGUE.items() if one.pushes and name not in PUBLISHED)
SIGNING = [name for name in IMITABLE if CATALOGUE[name].scheme is not None]
UNSIGNED = [name for name in IMITABLE if CATALOGUE[name].scheme is None]
ACME = """
[providers.acme]
scheme = "basic"
secret = "user:password"
account_endpoint = true
task_id = "task.id"
status = "task.state"
"""


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[str]:
    """Run a receiver in this folder that has a secret of every provider; gives its address."""
    monkeypatch.setenv("RINGBACK_SECRET", SECRET)
    for name in SIGNING:
        monkeypatch.setenv(variable_name((name, "secret")), KEY)
    (folder / "ringback.toml").write_text(ACME)
    settings = Settings.from_environ()
    configure_logs(settings, quiet=True)  # else its lines would stand among those of the command
    app = create_app(settings)
    listening = Event()
    server = Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="on"), listening.set)
    thread = Thread(target=server.run)
    thread.start()
    assert listening.wait(10)
    yield f"http://127.0.0.1:{server.port}"
    server.should_exit = True
    thread.join()


def types(provider: str) -> list[str]:
    """Give the types of the events that the ledger holds of a provider."""

    async def look(ledger: Ledger, _: Settings) -> list[str]:
        return [event.type.value for event in await ledger.events(Query(provider=provider))]

    found: list[str] = within(look)
    return found


def test_each_is_taken_for_genuine(base: str, ringback: Ringback) -> None:
    """Every provider that can be imitated gets 200: an event, or a hint where it is to be confirmed."""
    for name in IMITABLE:
        result = ringback("trigger", name, "--url", base)
        assert result.exit_code == 0, result.output
        answer = msgspec.json.decode(result.stdout.splitlines()[1].partition(" ")[2])
        found = types(name)
        assert answer["received"], name
        assert (answer["event"] is not None) is bool(found), name
        assert len(result.stdout.splitlines()) == (2 if found else 3), name
        assert set(found) <= {"task.completed", "callback.received"}, name


@pytest.mark.parametrize("option", ["--unsigned", "--bad-signature"])
def test_a_refusal(option: str, base: str, ringback: Ringback) -> None:
    """A missing and a wrong signature get 401, which is printed, and exit code 1."""
    for name in (*SIGNING, "acme"):
        result = ringback("trigger", name, "--url", base, option, "--json")
        said = msgspec.json.decode(result.stdout)
        assert (result.exit_code, said["status"], types(name)) == (1, 401, []), name


def test_a_refusal_of_what_nobody_signs(base: str, ringback: Ringback) -> None:
    """Where nothing is signed the token in the URL is spoilt; to leave a signature out makes no sense."""
    for name in UNSIGNED:
        result = ringback("trigger", name, "--url", base, "--bad-signature")
        assert (result.exit_code, "\n401 " in result.stdout, types(name)) == (1, True, [])
        result = ringback("trigger", name, "--url", base, "--unsigned")
        assert (result.exit_code, "signs nothing here" in result.stderr) == (2, True)
    result = ringback("trigger", "qingbo", "--unsigned", "--bad-signature")
    assert (result.exit_code, "not both" in result.stderr) == (2, True)


@pytest.mark.parametrize("name", PUBLISHED)
def test_private_keys_of_others(name: str, ringback: Ringback) -> None:
    """Who signs with a private key cannot be imitated, and it says what to do instead."""
    result = ringback("trigger", name)
    assert (result.exit_code, f"ringback providers test {name}" in result.stderr) == (1, True)


def test_one_url_for_all(base: str, ringback: Ringback) -> None:
    """Who knows one URL for the whole account gets it, unless a task is named; then it is that task's."""
    assert f"POST {base}/callbacks/standard\n" in ringback("trigger", "standard", "--url", f"{base}/").stdout

    async def submitted(ledger: Ledger, _: Settings) -> None:
        await ledger.add_task(Task(id="task_1", provider="standard", provider_id="a1"))

    within(submitted)
    result = ringback("trigger", "standard", "--url", base, "--task", "task_1", "--status", "expired")
    assert f"POST {base}/callbacks/standard/task_1.<mac>\n" in result.stdout
    assert sorted(types("standard")) == ["task.completed", "task.expired"]


def test_a_provider_of_ones_own(base: str, ringback: Ringback) -> None:
    """A provider of ringback.toml is imitated by its own description."""
    result = ringback("trigger", "acme", "--url", base, "--status", "failed")
    assert (result.exit_code, types("acme")) == (0, ["task.failed"])


def test_why_there_is_no_event(base: str, ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hint is called so, with the setting that is missing, or else where to see what becomes of it."""
    result = ringback("trigger", "kie", "--url", base)
    assert result.stdout.splitlines()[2] == "a hint, which nothing here can confirm: set RINGBACK_KIE_API_KEY"
    monkeypatch.setenv("RINGBACK_KIE_API_KEY", "k")
    said = msgspec.json.decode(ringback("trigger", "kie", "--url", base, "--json").stdout)
    assert said["note"].startswith("a hint: the poller asks kie")
    told = ringback(*said["note"].partition("see: ringback ")[2].split())
    assert (told.exit_code, "hint" in told.stdout) == (0, True)


def test_other_reasons(base: str, ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the receiver is set up otherwise than the command, or nobody is known to ask about, it says no more."""
    monkeypatch.setenv("RINGBACK_KIE_CONFIRM", "never")
    told = ringback("trigger", "kie", "--url", base).stdout
    assert "\nstored, but it made no event; see: ringback tasks show task_" in told
    assert "name one of its with --task" in _note(Everybody(), Settings(), None)


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"event":"evt_1"}', "null", "<html>"])
def test_answers_of_others(answer: str) -> None:
    """What answers at another place is no hint, whatever it says."""
    assert not _is_without_event(200, answer)
    assert not _is_without_event(503, '{"event":null}')


@pytest.mark.parametrize("secret", [None, f"{KEY} until=2020-01-01T00:00:00Z"])
def test_without_a_secret(secret: str | None, ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the provider signs and no secret is valid here, it says which one is missing."""
    if secret:
        monkeypatch.setenv("RINGBACK_STANDARD_SECRET", secret)
    result = ringback("trigger", "standard")
    assert (result.exit_code, "RINGBACK_STANDARD_SECRET: no valid secret" in result.stderr) == (2, True)


class Everybody(Provider):
    """Anybody may post to its account's URL."""

    name = "everybody"
    open_endpoint = True


def test_nothing_to_spoil(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing authenticates a callback, nothing can be wrong with it."""
    monkeypatch.setitem(CATALOGUE, "everybody", Everybody())
    result = ringback("trigger", "everybody", "--bad-signature")
    assert (result.exit_code, "nothing can be wrong" in result.stderr) == (2, True)

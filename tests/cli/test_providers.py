"""`ringback providers`: the catalogue, and a saved request taken step by step."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result
from rich.console import Console

from ringback.cli import facts
from ringback.cli.saved import NoRequest, read_saved
from ringback.model import TaskState
from ringback.providers import CATALOGUE, Provider
from ringback.providers.handshakes import Handshake
from ringback.providers.signatures import callback_mac
from ringback.providers.signatures.ed25519 import public_of
from ringback.settings import Settings

from .conftest import SECRET, Ringback

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLPSw"
OTHER = "whsec_" + "b3RoZXIg" * 4
BODY = b'{"type": "task.completed", "data": {"task_id": "a1", "output": ["https://example.com/a.mp4"]}}'
THEN = datetime(2026, 1, 31, 12, tzinfo=UTC)
ACME = """
[providers.acme]
scheme = "hmac"
header = "x-acme-signature"
account_endpoint = true
task_id = "task.id"
status = "task.state"
"""

Try = Callable[..., Result]


def signed(body: bytes, name: str = "standard", secret: str = KEY, now: datetime = THEN) -> dict[str, str]:
    """Give the headers by which a provider would authenticate a body."""
    scheme = CATALOGUE[name].scheme
    assert scheme is not None
    return dict(scheme.sign(body, scheme.key(secret), now=now, event_id="msg_1"))


def lines(headers: dict[str, str]) -> bytes:
    """Write headers as `curl -D` does."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


@pytest.fixture
def standard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the secret of a provider that signs."""
    monkeypatch.setenv("RINGBACK_STANDARD_SECRET", KEY)


@pytest.fixture
def attempt(folder: Path, ringback: Ringback) -> Try:
    """Save a request, and run it through a provider."""

    def run(name: str, headers: bytes, body: bytes | None, *options: str) -> Result:
        (folder / "headers").write_bytes(headers)
        arguments = ["providers", "test", name, "--headers", "headers", *options]
        if body is not None:
            (folder / "body").write_bytes(body)
            arguments += ["--body", "body"]
        return ringback(*arguments)

    return run


def marks(result: Result) -> list[str]:
    """Give each step's mark and name."""
    return [line.partition(":")[0] for line in result.stdout.splitlines() if line[0] in "✓✗"]


def listed(ringback: Ringback) -> dict[str, dict[str, Any]]:
    """Give the catalogue as JSON, by name."""
    return {
        one["name"]: one for one in msgspec.json.decode(ringback("providers", "list", "--json").stdout)["providers"]
    }


def test_the_list(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every provider has a row, with what is set for it, and never a secret."""
    monkeypatch.setenv("RINGBACK_REPLICATE_SECRET", KEY)
    monkeypatch.setenv("RINGBACK_REPLICATE_API_KEY", "r8_very_secret")
    result = ringback("providers", "list")
    rows = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert list(rows) == sorted(CATALOGUE)
    assert rows["replicate"].endswith("secret, API key")
    assert rows["reapi"].split()[1:3] == ["-", "-"]
    assert not any(secret in result.output for secret in (KEY, "r8_very_secret"))
    as_json = listed(ringback)
    assert set(as_json) == set(CATALOGUE)
    replicate = as_json["replicate"]
    assert (replicate["scheme"], replicate["trust"], replicate["secrets"]) == ("standard-webhooks", "signed", 1)
    assert (replicate["api_key"], as_json["reapi"]["trust"]) == (True, None)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_list_on_a_terminal(width: int, folder: Path, ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow, no name of a provider, a scheme or a header is broken, and nothing is cut off."""
    (folder / "ringback.toml").write_text(ACME)
    monkeypatch.setenv("RINGBACK_ACME_SECRET", "x")

    def console() -> Console:
        return Console(force_terminal=True, width=width, color_system=None, highlight=False)

    monkeypatch.setattr("ringback.cli.show.console", console)
    told = ringback("providers", "list").stdout
    words = set(told.split())
    assert set(CATALOGUE) | {"acme", "standard-webhooks", "ed25519-jwks", "fields-hmac", "configured"} <= words
    assert ("x-github-delivery" in words, "event id" in told) == (width == 140, width == 140)
    assert max(map(len, told.splitlines())) <= width
    assert {"ringback.toml,", "secret"} <= words


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_each_is_shown(name: str, ringback: Ringback) -> None:
    """Each provider is shown with its URLs and settings, in words and as JSON."""
    result = ringback("providers", "show", name)
    shown = msgspec.json.decode(ringback("providers", "show", name, "--json").stdout)
    assert (result.exit_code, shown["name"]) == (0, name)
    assert all(f"/callbacks/{name}" in url and url in result.stdout for url in shown["callback_urls"])
    assert bool(shown["callback_urls"]) is CATALOGUE[name].pushes
    assert all(variable in result.stdout and not is_set for variable, is_set in shown["settings"].items())
    assert facts.notes(CATALOGUE[name]) in result.stdout


def test_what_is_set_is_shown(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """An optional signature counts once a secret is set: trust, confirmation and the account's URL change."""
    monkeypatch.setenv("RINGBACK_PUBLIC_URL", "https://hooks.example")
    before = ringback("providers", "show", "kie").stdout
    monkeypatch.setenv("RINGBACK_KIE_SECRET", "the secret of kie")
    after = ringback("providers", "show", "kie").stdout
    assert ("trust " in before, "  token: a secret" in before, "once a secret is set" in before) == (True, True, True)
    assert ("partial: a signature" in after, "once a secret is set" in after) == (True, False)
    assert ("never, as trust token needs" in before, "always, as trust partial needs" in after) == (True, True)
    assert "https://hooks.example/callbacks/kie " in after
    assert "the secret of kie" not in after
    monkeypatch.setenv("RINGBACK_KIE_CONFIRM", "never")
    assert "never, as set" in ringback("providers", "show", "kie").stdout


def test_one_of_ones_own(folder: Path, ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider of ringback.toml is listed, explained back by `show` and `doctor`, and tested like the others."""
    (folder / "ringback.toml").write_text(ACME)
    monkeypatch.setenv("RINGBACK_ACME_SECRET", "the secret of acme")
    assert (listed(ringback)["acme"]["custom"], listed(ringback)["qingbo"]["custom"]) == (True, False)
    for command in (("providers", "show", "acme"), ("doctor",)):
        told = ringback(*command).stdout
        assert ("task.state" in told, "made in ringback.toml" in told) == (True, True)
        assert "the secret of acme" not in told
    assert "\n    task id: task.id\n    status: task.state\n" in ringback("doctor").stdout
    shown = [line.partition("  ")[0] for line in ringback("providers", "show", "acme").stdout.splitlines()]
    assert len(shown) == len(set(shown))
    assert not {"scheme", "callbacks", "submit", "fetch"} & set(shown)
    assert "✓ acme secret: 1 valid; hmac" in ringback("doctor").stdout


OPEN = """
[providers.acme]
scheme = "none"
account_endpoint = true
base_url = "https://acme.example"
task_id = "id"
status = "state"
[providers.acme.fetch]
path = "/tasks/{provider_id}"
"""


def test_an_open_endpoint(folder: Path, attempt: Try) -> None:
    """Where anybody may post, a request is only a hint; at a task's URL it is the token that counts."""
    (folder / "ringback.toml").write_text(OPEN)
    told = attempt("acme", b"a: b", b'{"id": "a1", "state": "done"}', "--url", "/callbacks/acme")
    assert (told.exit_code, "anybody may post there" in told.stdout) == (0, True)
    assert "a hint, since trust none is to be confirmed" in told.stdout


def test_unknown(ringback: Ringback) -> None:
    """An unknown name is a usage error that suggests the nearest one."""
    result = ringback("providers", "show", "replicat")
    assert (result.exit_code, "did you mean replicate?" in result.stderr) == (2, True)


@pytest.mark.usefixtures("standard")
def test_a_request_that_passes(attempt: Try) -> None:
    """Each step is ✓, the last says what would become of it; the exit code is 0."""
    result = attempt("standard", lines(signed(BODY)), BODY, "--at", "2026-01-31T12:00:10")
    assert result.exit_code == 0, result.output
    assert marks(result) == [
        f"✓ {name}" for name in ("headers", "body", "url", "keys", "signature", "callback", "outcome")
    ]
    assert "task a1 is completed, video https://example.com/a.mp4, event id msg_1" in result.stdout
    assert "outcome: an event: task.completed" in result.stdout
    assert KEY not in result.output


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize("age", [timedelta(days=100), -timedelta(days=1)])
def test_a_request_of_another_time(attempt: Try, age: timedelta) -> None:
    """Only its time is wrong: that step fails, the others are taken at its own time, which --at then names."""
    sent = datetime.now(UTC).replace(microsecond=0) - age
    headers = lines(signed(BODY, now=sent) | {"user-agent": "sender/99", "svix-id": "9" * 12})
    result = attempt("standard", headers, BODY)
    steps = ["✓ headers", "✓ body", "✓ url", "✓ keys", "✗ time", "✓ signature", "✓ callback", "✓ outcome"]
    assert (result.exit_code, marks(result)) == (1, steps)
    advised = result.stdout.partition("--at ")[2].split()[0]
    assert datetime.fromisoformat(advised) == sent
    assert attempt("standard", headers, BODY, "--at", advised).exit_code == 0
    assert attempt("standard", headers, BODY, "--at", str(int(sent.timestamp()))).exit_code == 0


@pytest.mark.usefixtures("standard")
def test_an_old_request_with_a_wrong_signature(attempt: Try) -> None:
    """Both are told: the time, and that it was not right in its own time either."""
    result = attempt("standard", lines(signed(BODY)), BODY + b" ")
    assert (result.exit_code, marks(result)[-2:]) == (1, ["✗ time", "✗ signature"])


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize(
    ("saved", "cause"),
    [
        (BODY + b"\n", "without its last line break"),
        (BODY + b"\r\n", "without its last line break"),
        (b'{"type":"x"}', None),
        (b"no JSON", None),
    ],
)
def test_a_body_that_was_changed(saved: bytes, cause: str | None, attempt: Try) -> None:
    """What an editor changed is recognised; else the secret and the body are both named."""
    result = attempt("standard", lines(signed(BODY)), saved, "--at", THEN.isoformat())
    assert (result.exit_code, marks(result)[-1]) == (1, "✗ signature")
    assert (cause or "another secret was used (whsec_ followed by base64") in result.stdout


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize(
    ("sent", "saved", "cause"),
    [
        (BODY + b"\n", BODY, "with a line break at its end"),
        (b'{"a":1,\n"b":2}', b'{"a":1,\r\n"b":2}', "with LF for CRLF"),
        (b'{"a":1,"b":[2]}', b'{\n  "a": 1,\n  "b": [2]\n}', "without blanks between"),
    ],
)
def test_other_changes(sent: bytes, saved: bytes, cause: str, attempt: Try) -> None:
    """A line break that was lost, other line breaks, and JSON that was laid out anew are recognised, too."""
    result = attempt("standard", lines(signed(sent)), saved, "--at", THEN.isoformat())
    assert (result.exit_code, cause in result.stdout) == (1, True)


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"webhook-id": "msg_1"}, "webhook-timestamp is missing (header_missing): 401"),
        (signed(BODY) | {"webhook-timestamp": "soon"}, "timestamp_malformed"),
        (signed(BODY, secret=OTHER), "(signature): 401"),
    ],
)
def test_other_flaws(headers: dict[str, str], said: str, attempt: Try) -> None:
    """The flaw is named, with the status that the receiver would answer."""
    result = attempt("standard", lines(headers), BODY, "--at", THEN.isoformat())
    assert (result.exit_code, said in result.stdout) == (1, True)


def test_secrets_that_are_missing(attempt: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a secret, and with one that has ended, it says which variable to set and in which form."""
    result = attempt("standard", lines(signed(BODY)), BODY)
    assert (marks(result)[-1], "set RINGBACK_STANDARD_SECRET: whsec_" in result.stdout) == ("✗ keys", True)
    monkeypatch.setenv("RINGBACK_STANDARD_SECRET", f"{KEY} until=2026-01-01T00:00:00Z")
    result = attempt("standard", lines(signed(BODY)), BODY, "--at", THEN.isoformat())
    assert ("0 valid, 1 expired" in result.stdout, "(no_key): 503" in result.stdout) == (True, True)


@pytest.mark.usefixtures("secret", "standard")
@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("standard", "/callbacks/standard", "✓ url: the account's"),
        ("standard", "https://hooks.example/base/callbacks/standard/?x=1", "✓ url: the account's"),
        ("standard", "/callbacks/openai", "it leads to openai, not to standard"),
        ("standard", "/callbacks/nobody", "it leads to nobody"),
        ("standard", "/callbacks/standard/task_one.{mac}", "the token of task_one is right"),
        ("standard", "/callbacks/standard/task_two.{mac}", "the token of task_two is wrong: 401"),
        ("standard", "/callbacks/standard/nonsense", "no <task id>.<mac>: 404"),
        ("qingbo", "/callbacks/qingbo", "no URL for the whole account: 404"),
        ("kie", "/callbacks/kie", "served only where a secret is set: 404"),
        ("reapi", "/callbacks/reapi", "never calls back"),
    ],
)
def test_urls(name: str, path: str, said: str, attempt: Try) -> None:
    """The path is followed as the receiver would: its provider, its shape, its token."""
    path = path.format(mac=callback_mac(SECRET.encode(), "standard", "task_one").decode())
    result = attempt(name, lines(signed(BODY)), BODY, "--at", THEN.isoformat(), "--url", path)
    assert said in result.stdout, result.output
    assert result.exit_code == (0 if said.startswith(("✓", "the token of task_one is right")) else 1)


def test_a_token_without_a_secret(attempt: Try) -> None:
    """Where the receiver's own secret is not set, a token cannot be checked."""
    result = attempt("qingbo", b"a: b", b"{}", "--url", "/callbacks/qingbo/task_one.x")
    assert (result.exit_code, "set RINGBACK_SECRET" in result.stdout) == (1, True)


def test_without_a_signature(attempt: Try) -> None:
    """A provider that signs nothing, or only by option, has nothing to verify but the URL."""
    body = CATALOGUE["qingbo"].build_sample("a1", TaskState.PROCESSING, THEN).body
    told = attempt("qingbo", b"Content-Type: application/json", body)
    assert (told.exit_code, "signature: none, as expected" in told.stdout, "45 %" in told.stdout) == (0, True, True)
    assert "\n- url: not given, so the token of the task's URL is not checked" in told.stdout
    told = attempt("qingbo", b"Content-Type: application/json", body, "--json")
    document = msgspec.json.decode(told.stdout)
    assert (document["ok"], [step["ok"] for step in document["steps"] if step["name"] == "url"]) == (True, [None])
    body = CATALOGUE["kie"].build_sample("a1", TaskState.FAILED, THEN).body
    told = attempt("kie", b"Content-Type: application/json", body)
    assert (told.exit_code, "none was checked: trust token" in told.stdout, "error " in told.stdout) == (0, True, True)


def test_a_hint(attempt: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a callback is to be confirmed, it says that there is no event yet."""
    monkeypatch.setenv("RINGBACK_KIE_SECRET", "the secret of kie")
    body = CATALOGUE["kie"].build_sample("a1", TaskState.COMPLETED, THEN).body
    headers = lines(signed(body, "kie", "the secret of kie"))
    told = attempt("kie", headers, body, "--at", THEN.isoformat())
    assert (told.exit_code, "it fits: trust partial" in told.stdout, "a hint" in told.stdout) == (0, True, True)


@pytest.mark.usefixtures("standard")
def test_other_ends(attempt: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notice, a body that makes no sense, one that is too large, and a challenge each end in their own way."""
    body = b'{"type": "invoice.paid", "data": {}}'
    told = attempt("standard", lines(signed(body)), body, "--at", THEN.isoformat())
    assert ("not about a task: invoice.paid" in told.stdout, "event: callback.received" in told.stdout) == (True, True)
    told = attempt("standard", lines(signed(b"hm")), b"hm", "--at", THEN.isoformat())
    assert (told.exit_code, "stored as callback.unrecognised" in told.stdout) == (1, True)
    told = attempt("minimax", b"Content-Type: application/json", b'{"challenge": "abc"}')
    assert (told.exit_code, "a challenge, which gets" in told.stdout) == (0, True)
    monkeypatch.setenv("RINGBACK_MAX_BODY_BYTES", "1024")
    told = attempt("standard", b"a: b", b"x" * 1025)
    assert (told.exit_code, "413" in told.stdout) == (1, True)


def test_public_keys(folder: Path, attempt: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public keys are read from a file, or fetched; where neither gives any, that step fails and says what to do."""
    private = bytes(range(32))
    scheme, body = CATALOGUE["fal"].scheme, CATALOGUE["fal"].build_sample("msg_1", TaskState.COMPLETED, THEN).body
    assert scheme is not None
    x = urlsafe_b64encode(public_of(private)).decode().rstrip("=")
    (folder / "jwks").write_text(json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}))
    headers = lines(dict(scheme.sign(body, private, now=THEN, event_id="msg_1")))
    at = ("--at", THEN.isoformat())
    assert attempt("fal", headers, body, *at, "--jwks", "jwks").exit_code == 0
    changed = attempt("fal", headers, body.replace(b"OK", b"ok"), *at, "--jwks", "jwks")
    assert (changed.exit_code, "not this provider that signed it" in changed.stdout) == (1, True)
    (folder / "jwks").write_text("{}")
    wrong = attempt("fal", headers, body, *at, "--jwks", "jwks")
    assert (marks(wrong)[-1], "--jwks: expected a key set" in wrong.stdout) == ("✗ keys", True)
    monkeypatch.setenv("RINGBACK_FAL_JWKS_URL", "http://127.0.0.1:1/jwks.json")
    nowhere = attempt("fal", headers, body, *at)
    assert marks(nowhere)[-1] == "✗ keys"
    assert "no keys could be fetched from http://127.0.0.1:1/jwks.json: ConnectError\n" in nowhere.stdout
    assert "keys.fetch_failed" not in nowhere.output


@pytest.mark.usefixtures("standard")
def test_as_json(attempt: Try) -> None:
    """The JSON holds the steps, and whether all passed."""
    told = msgspec.json.decode(attempt("standard", b"nothing", BODY, "--json").stdout)
    assert (told["provider"], told["ok"], [step["name"] for step in told["steps"]]) == ("standard", False, ["headers"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--headers", "nowhere", "--body", "nowhere"), "'nowhere': No such file"),
        (("--headers", "headers"), "--body is missing: the file of headers holds no body"),
        (("--headers", "headers", "--body", "headers", "--at", "noon"), "expected a time such as"),
        (("--headers", "headers", "--body", "headers", "--at", "9" * 30), "expected a time such as"),
        ((), "Missing option '--headers'"),
    ],
)
def test_usage(arguments: tuple[str, ...], said: str, folder: Path, ringback: Ringback) -> None:
    """Missing files and options are named, with exit code 2."""
    (folder / "headers").write_text("a: b")
    result = ringback("providers", "test", "standard", *arguments)
    assert (result.exit_code, said in result.stderr) == (2, True), result.output


@pytest.mark.usefixtures("standard")
def test_a_body_on_standard_input(folder: Path, ringback: Ringback) -> None:
    """`--body -` reads standard input."""
    (folder / "headers").write_bytes(lines(signed(BODY)))
    arguments = ("providers", "test", "standard", "--headers", "headers", "--body", "-", "--at", THEN.isoformat())
    assert ringback(*arguments, stdin=BODY.decode()).exit_code == 0


CURL = b"""* Connected to hooks.example (192.0.2.1) port 443
> POST /callbacks/standard HTTP/1.1\r
> Host: hooks.example\r
> X-Empty:\r
> \r
} [93 bytes data]
< HTTP/1.1 200 OK\r
< Content-Length: 2\r
"""


@pytest.mark.parametrize(
    ("text", "headers", "target", "body"),
    [
        (b"A: b\nC:d\n", [(b"a", b"b"), (b"c", b"d")], None, None),
        (b"A: b\r\n\r\nC: \xe9\r\n", [(b"a", b"b"), (b"c", b"\xe9")], None, None),
        (b":method: POST\n* noise\nA: b", [(b"a", b"b")], None, None),
        (CURL, [(b"host", b"hooks.example"), (b"x-empty", b"")], "/callbacks/standard", None),
        (b"POST /x?y HTTP/1.1\r\nA: b\r\n\r\n{}\n\n", [(b"a", b"b")], "/x?y", b"{}\n\n"),
        (b"POST /x HTTP/2\nA: b\n\n", [(b"a", b"b")], "/x", None),
        (b"POST /x HTTP/2\nA: b", [(b"a", b"b")], "/x", None),
    ],
)
def test_saved_forms(text: bytes, headers: list[tuple[bytes, bytes]], target: str | None, body: bytes | None) -> None:
    """Lines, what curl prints and whole requests are read; values and bodies stay as their bytes."""
    saved = read_saved(text)
    assert (list(saved.headers), saved.target, saved.body) == (headers, target, body)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "there is no header"),
        (b"A: b\nnonsense", "line 2 is no header"),
        (b"HTTP/1.1 200 OK\nA: b", "line 1 begins an answer"),
        (b"A: b\nPOST /x HTTP/1.1", "line 2 is no header"),
    ],
)
def test_what_is_no_request(text: bytes, said: str) -> None:
    """The line that is wrong is named by its number."""
    with pytest.raises(NoRequest, match=said):
        read_saved(text)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(days=7), "7 d"),
        (timedelta(hours=48), "48 h"),
        (timedelta(minutes=90), "90 min"),
        (timedelta(seconds=15.5), "15.5 s"),
        (timedelta(0), "0 h"),
    ],
)
def test_lengths(span: timedelta, text: str) -> None:
    """A length is written in the largest unit that is exact, from three days in days."""
    assert facts.length(span) == text


class Everybody(Provider):
    """Anybody may post to its account's URL; what comes is a hint."""

    name = "everybody"
    open_endpoint = True
    handshakes = frozenset(Handshake)
    retries = "twice"


def test_facts_in_words() -> None:
    """What no built-in provider is has its words, too."""
    settings = Settings(catalogue={"everybody": Everybody()}, public_url="https://us.example")
    provider = settings.catalogue["everybody"]
    assert (facts.scheme_text(provider), facts.trust_text(provider)) == ("none", "none")
    assert list(facts.callback_urls(provider, settings)) == [
        ("https://us.example/callbacks/everybody", "everything there is only a hint")
    ]
    assert (facts.retry_text(provider), facts.handshake_text(provider)) == ("twice", "challenge, cloudevents, websub")

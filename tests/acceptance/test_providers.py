"""A real receiver with seven providers, six set up by the environment and one by `ringback.toml` alone.

Each is posted to as it posts in the wild: over HTTP, signed by its official library where there is one.
"""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.acceptance import senders
from tests.acceptance.loopback import Loopback
from tests.acceptance.processes import ADMIN_TOKEN, SECRET, Process, Site, wait_until
from tests.acceptance.pushes import Answer
from tests.acceptance.senders import BY_NAME, SENDERS, Sender, Wire

pytestmark = pytest.mark.slow

JWKS_PATH = "/.well-known/jwks.json"
KIE_PATH = "/api/v1/jobs/recordInfo?taskId=kie-1"
REFUSAL = {"received": False, "error": "unauthorised"}
RETRY = {"received": False, "error": "unavailable"}
ACME = f"""
[providers.acme]
scheme = "timestamped-hmac"
header = "Acme-Signature"
account_endpoint = true
event_id = "id"
event_type = "type"
task_id = ["data.object.task_id", "data.object.id"]
status = "data.object.state"
status_map = {{ rendered = "completed" }}
result_urls = "data.object.files[*].href"
result_kind = "video"
secret = [
  "{senders.ACME_SECRET}",
  {{ value = "{senders.ACME_PAST}", until = 2020-01-01T00:00:00Z }},
  {{ value = "{senders.ACME_FUTURE}", until = 2099-01-01T00:00:00Z }},
]
"""
SEVERAL = (
    f"{senders.STANDARD_SECRET}, {senders.STANDARD_PAST} until=2020-01-01, {senders.STANDARD_FUTURE} until=2099-01-01"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A site with a receiver and a poller, what providers publish, and the wire to the receiver."""

    site: Site
    receiver: Process
    provider: Loopback
    wire: Wire

    def send(self, sender: Sender, *, body: bytes | None = None, **other: Any) -> Answer:
        """Post what a sender posts, signed now; again where it is told to come again, as providers do.

        `sign` and `at` are other ways and times of signing, `path` another place; `body` is what comes instead of what
        was signed, and `without` names a header that gets lost.
        """
        at, sign = other.get("at", datetime.now(UTC)), other.get("sign", sender.sign)
        headers = sign(sender.body, at, other.get("event_id", sender.event_id))
        headers = {name: value for name, value in headers.items() if name != other.get("without")}
        path, body = other.get("path", sender.path), sender.body if body is None else body

        def answer() -> Answer | None:
            answer = self.wire.post(path, headers, body)
            return answer if answer.status != 503 else None

        found: Answer = wait_until(f"{sender}: an answer other than 503", answer)
        return found

    def refused(self, sender: Sender, reason: str, **how: Any) -> str:
        """Post, expect a refusal that tells nothing, count it in /metrics, and give the detail of its log line."""
        before = self.count(sender.provider, reason)
        answer = self.send(sender, **how)
        assert (answer.status, answer.body) == (401, REFUSAL)
        assert self.count(sender.provider, reason) == before + 1
        # A second refusal for the same reason within a second is counted, and has no line of its own.
        lines = self.receiver.events("callback.rejected")
        same = [line for line in lines if (line["provider"], line["reason"]) == (sender.provider, reason)]
        return str(next(line["detail"] for line in reversed(same) if "detail" in line))

    def count(self, provider: str, reason: str) -> float:
        """Give how many callbacks of a provider were turned away for a reason, from /metrics."""
        return self._sum(f'ringback_rejections_total{{provider="{provider}",reason="{reason}"}} ')

    def accepted(self, provider: str) -> float:
        """Give how many callbacks of a provider were answered with 200, from /metrics."""
        return self._sum(f'ringback_callbacks_total{{provider="{provider}",')

    def _sum(self, beginning: str) -> float:
        """Add up the figures of the lines that begin so."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.wire.port}/metrics", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            lines: list[str] = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(beginning))


def set_up(site: Site, provider: Loopback) -> None:
    """Write what a user writes: variables for six providers, a table for the seventh."""
    site.set(
        standard_secret=SEVERAL,
        replicate_secret=senders.REPLICATE_SECRET,
        openai_secret=senders.OPENAI_SECRET,
        github_secret=senders.GITHUB_SECRET,
        fal_jwks_url=provider.url + JWKS_PATH,
        kie_secret=senders.KIE_SECRET,
        kie_api_key=senders.KIE_KEY,
        kie_base_url=provider.url,
    )
    (site.folder / "ringback.toml").write_text(ACME)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start receiver and poller once for the module."""
    with Loopback() as provider, Site(tmp_path_factory.mktemp("providers")) as site:
        set_up(site, provider)
        provider.pages[JWKS_PATH] = senders.jwks(senders.FAL_KEY)
        receiver = site.serve()
        site.start("poll").wait_for("poller.started")
        yield World(site=site, receiver=receiver, provider=provider, wire=Wire(site.port))


def each(*names: str) -> pytest.MarkDecorator:
    """Run a test with each of these senders; with all of them where none is named."""
    chosen = [BY_NAME[name] for name in names] or list(SENDERS)
    return pytest.mark.parametrize("sender", chosen, ids=str)


@each()
def test_a_signed_request_becomes_one_event(world: World, sender: Sender) -> None:
    """It is stored with its trust, ids, status and results; the same again, and signed anew, are duplicates."""
    first = world.send(sender)
    assert not first.duplicate
    for at in (datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=30)):
        again = world.send(sender, at=at)
        assert (again.duplicate, again.event) == (True, first.event)
    (event,) = [event for event in world.site.events(provider=sender.provider) if event["id"] == first.event]
    assert {name: event[name] for name in sender.event} == sender.event
    assert (event["duplicates"], [result["url"] for result in event["results"]]) == (2, list(sender.urls))
    if sender.event.get("task_id", event["task_id"]) is not None:
        story = world.site.story(event["task_id"])
        told = [story["task"][name] for name in ("state", "settled_by", "settled_event")]
        assert told == ["completed", "callback", first.event]
        assert [kept["id"] for kept in story["events"]] == [first.event]
        assert sender.task in (None, event["task_id"])


@each()
def test_a_changed_byte(world: World, sender: Sender) -> None:
    """Whichever byte differs from what was signed: a bare 401. Log and metrics say why, without a value."""
    world.send(sender)
    before = world.accepted(sender.provider)
    headers = sender.sign(sender.body, datetime.now(UTC), sender.event_id)
    for place, byte in enumerate(sender.body):
        changed = sender.body[:place] + bytes([byte ^ 1]) + sender.body[place + 1 :]
        answer = world.send(sender, body=changed, sign=lambda *_: headers)
        assert (answer.status, answer.body) == (401, REFUSAL)
    detail = world.refused(sender, "unauthentic.signature", body=sender.body[:-1])
    assert detail.startswith(f"{sender.scheme}: ")
    assert detail.endswith(f"; headers present: {sender.present}")
    assert world.accepted(sender.provider) == before > 0


@each("standard", "replicate", "openai", "acme", "fal")
def test_a_time_that_is_too_far_away(world: World, sender: Sender) -> None:
    """What was rightly signed ten minutes ago, or will be in ten, gets 401; the log tells how far away it was."""
    for minutes, flaw, direction in ((-10, "timestamp_old", "behind"), (10, "timestamp_future", "ahead of")):
        at = datetime.now(UTC) + timedelta(minutes=minutes)
        detail = world.refused(sender, f"unauthentic.{flaw}", at=at)
        assert f" s {direction} our clock, 300 s are allowed; headers present: {sender.present}" in detail
        difference = int(detail.split(" s ")[0].rpartition(" ")[2])
        assert 580 <= difference <= 620


@pytest.mark.parametrize(
    ("name", "past", "future"),
    [
        ("standard", senders.standard(senders.STANDARD_PAST), senders.standard(senders.STANDARD_FUTURE)),
        ("acme", senders.acme(senders.ACME_PAST), senders.acme(senders.ACME_FUTURE)),
    ],
    ids=["by the environment", "by the file"],
)
def test_rotation(world: World, name: str, past: senders.Sign, future: senders.Sign) -> None:
    """Of several secrets each verifies until its time is over, whether the list stands in a variable or in the file."""
    sender = BY_NAME[name]
    world.refused(sender, "unauthentic.signature", sign=past)
    assert [world.send(sender, sign=sign).status for sign in (sender.sign, future)] == [200, 200]


@each("replicate", "fal")
def test_a_url_of_a_task_and_a_signature_are_both_needed(world: World, sender: Sender) -> None:
    """The token without a signature is refused, and so is a good signature under a wrong token."""
    lost = list(sender.sign(sender.body, datetime.now(UTC), sender.event_id))[-1]
    detail = world.refused(sender, "unauthentic.header_missing", without=lost)
    assert f"{lost.lower()} is missing; headers present: {sender.present.rpartition(', ')[0]}" in detail
    right = sender.path
    wrong = right[:-1] + ("A" if right[-1] != "A" else "B")
    answer = world.send(sender, path=wrong)
    assert (answer.status, answer.body) == (401, REFUSAL)
    assert world.count(sender.provider, "token") > 0
    assert world.send(sender).status == 200


def test_svix_names_its_headers_otherwise(world: World) -> None:
    """What `svix` signs under its own header names is taken, and its id is the event's."""
    sender = BY_NAME["standard"]
    signed = senders.standard(senders.STANDARD_SECRET, prefix="svix")
    body = json.dumps({"type": "task.failed", "data": {"task_id": "svix-1", "error": "no luck"}}).encode()
    answer = world.wire.post(sender.path, signed(body, datetime.now(UTC), "msg_svix"), body)
    (event,) = [event for event in world.site.events(provider="standard") if event["id"] == answer.event]
    assert (event["provider_event_id"], event["status"], event["error"]["message"]) == ("msg_svix", "failed", "no luck")


def test_what_a_partial_signature_tells_is_confirmed(world: World) -> None:
    """A signature of kie leaves the results out: a forged success is only a hint, and the poller brings the truth."""
    record = {
        "taskId": "kie-1",
        "state": "success",
        "resultJson": json.dumps({"resultUrls": ["https://kie.ai/real.mp4"]}),
    }
    world.provider.pages[KIE_PATH] = json.dumps({"code": 200, "msg": "success", "data": record}).encode()
    true = json.dumps({"code": 200, "data": {"taskId": "kie-1", "state": "generating"}}).encode()
    forged = json.dumps({"code": 200, "data": record}).encode().replace(b"real", b"evil")
    headers = senders.kie(true, datetime.now(UTC), "")
    answers = [world.wire.post("/callbacks/kie", headers, body) for body in (true, forged)]
    assert [(answer.status, answer.body) for answer in answers] == [
        (200, {"received": True, "event": None, "duplicate": False})
    ] * 2
    another = forged.replace(b"kie-1", b"kie-2")
    assert world.wire.post("/callbacks/kie", headers, another).status == 401
    found = wait_until("an event of kie", lambda: world.site.events(provider="kie"))
    told = [(e["type"], e["source"], e["trust"], [result["url"] for result in e["results"]]) for e in found]
    assert told == [("task.completed", "poll", "signed", ["https://kie.ai/real.mp4"])]
    story = world.site.story("kie-1")
    assert (story["task"]["state"], story["task"]["settled_by"]) == ("completed", "poll")
    assert {kept["trust"] for kept in story["callbacks"]} == {"partial"}
    assert (KIE_PATH, f"Bearer {senders.KIE_KEY}") in world.provider.asked


def test_keys_that_are_published(site: Site) -> None:
    """503 until the keys are there, never 401; two at once while they change over; the old one ends with the set."""
    sender, stranger = BY_NAME["fal"], Ed25519PrivateKey.generate()
    with Loopback() as provider:
        set_up(site, provider)

        def play(*keys: Ed25519PrivateKey) -> list[int]:
            """Start a receiver; give the answers to what the old key, the new one and a stranger's have signed."""
            provider.pages[JWKS_PATH] = senders.jwks(*keys)
            receiver, wire = site.serve(), Wire(site.port)
            world = World(site=site, receiver=receiver, provider=provider, wire=wire)
            forged = senders.fal(stranger)(sender.body, datetime.now(UTC), sender.event_id)
            first = wire.post(sender.path, forged, sender.body)
            assert (first.status, first.body, first.retry_after) == (503, RETRY, "5")
            receiver.wait_for("keys.fetched")
            signs = [senders.fal(key) for key in (senders.FAL_KEY, senders.FAL_NEXT_KEY, stranger)]
            answers = [world.send(sender, sign=sign).status for sign in signs]
            assert receiver.stop() == 0
            return answers

        assert play(senders.FAL_KEY) == [200, 401, 401]
        assert play(senders.FAL_KEY, senders.FAL_NEXT_KEY) == [200, 200, 401]
        assert play(senders.FAL_NEXT_KEY) == [401, 200, 401]
        assert [path for path, _ in provider.asked] == [JWKS_PATH] * 3


def test_keys_that_cannot_be_fetched(site: Site) -> None:
    """While nobody knows the keys even a forged request is told to come again, and the log says what was wrong."""
    sender, stranger = BY_NAME["fal"], Ed25519PrivateKey.generate()
    with Loopback() as provider:
        set_up(site, provider)
        receiver, wire = site.serve(), Wire(site.port)
        for sign in (sender.sign, senders.fal(stranger)):
            answer = wire.post(sender.path, sign(sender.body, datetime.now(UTC), sender.event_id), sender.body)
            assert (answer.status, answer.body) == (503, RETRY)
        assert receiver.wait_for("keys.fetch_failed")["reason"] == "expected 200, got 404"
        assert wire.post(sender.path, {}, sender.body).status == 503


def test_nothing_confidential_is_written_down(world: World) -> None:
    """No log line, and no command that tells of providers, shows a secret, a token, or the value of a header."""
    now = datetime.now(UTC)
    for sender in SENDERS:
        world.send(sender)
        world.send(sender, body=b"{}")
        world.send(sender, at=now - timedelta(hours=1))
        world.wire.post(sender.path[:-4], sender.sign(sender.body, now, sender.event_id), sender.body)
    commands = [("doctor",), ("providers", "list"), ("providers", "show", "acme"), ("providers", "show", "standard")]
    printed = [world.site.run(*command) for command in commands]
    assert {done.returncode for done in printed} == {0}
    texts = {process.name: process.log + process.output for process in world.site.processes}
    texts |= {" ".join(done.args[3:]): done.stdout + done.stderr for done in printed}
    assert world.receiver.log.count("callback.rejected") > len(SENDERS) < len(world.wire.confidential)
    for name, text in texts.items():
        shown = [word for word in (*senders.SECRETS, SECRET, ADMIN_TOKEN) if word in text]
        shown += [word for word in world.wire.confidential if word in text]
        assert not shown, f"{name} shows {shown}"


GOOD = senders.STANDARD_SECRET
NO_SCHEME = """
[providers.acme]
scheme = "none"
base_url = "https://api.acme.example"
account_endpoint = true
task_id = "id"
status = "status"
fetch = { path = "/tasks/{provider_id}" }
"""
FORM = "expected whsec_ followed by base64 of 24 to 64 bytes"


@pytest.mark.parametrize(
    ("settings", "file", "told"),
    [
        ({"standard_secret": "whsec_!!!"}, "", f"RINGBACK_STANDARD_SECRET: {FORM}"),
        ({"standard_secret": "whsec_"}, "", f"RINGBACK_STANDARD_SECRET: {FORM}"),
        ({"replicate_secret": GOOD.replace("whsec", "whpk")}, "", f"RINGBACK_REPLICATE_SECRET: {FORM}"),
        (
            {"openai_secret": f"{GOOD},,{GOOD}"},
            "",
            "RINGBACK_OPENAI_SECRET: one of the comma-separated secrets is empty",
        ),
        ({"github_secret": "new, old until=soon"}, "", "RINGBACK_GITHUB_SECRET: expected a time such as 20"),
        ({"fal_jwks_url": "http://keys.example/"}, "", "RINGBACK_FAL_JWKS_URL: expected an https URL"),
        ({"acme_confirm": "never"}, NO_SCHEME, "RINGBACK_ACME_CONFIRM: acme does not authenticate its callbacks"),
        ({}, NO_SCHEME + 'confirm = "never"', "line 9: providers.acme.confirm: acme does not authenticate"),
        (
            {},
            ACME.replace("object.id", "object..id"),
            "line 8: providers.acme.task_id[1]: expected a name at character",
        ),
        ({}, ACME.replace("result_kind", "result_kinds"), "line 12: providers.acme.result_kinds is not a setting: did"),
        ({}, ACME.replace(senders.ACME_SECRET, ""), "line 14: providers.acme.secret[0].value: expected text"),
        ({}, ACME.replace("Acme-Signature", "Acme: Signature"), "line 4: providers.acme.header: expected"),
    ],
)
def test_a_configuration_that_cannot_be_right(site: Site, settings: dict[str, str], file: str, told: str) -> None:
    """The receiver does not start: one line names the setting, or the line of the file, and the form; no secret."""
    site.set(**settings)
    (site.folder / "ringback.toml").write_text(file)
    done = site.run("serve")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert told in line
    assert not [value for value in senders.SECRETS if value in line]
    assert not site.database.exists()

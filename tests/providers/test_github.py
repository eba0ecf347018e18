"""GitHub's webhooks; fixtures name the pages."""

from typing import Any
from urllib.parse import urlencode

import pytest

from ringback.errors import Unreadable, Unsupported
from ringback.model import Form, Notice, TaskState, Trust
from ringback.providers.github import GitHub
from tests.providers.recorded import NOW, check_signed, read, recorded, verify

GITHUB = GitHub()
SECRET = "It's a Secret to Everybody"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_it_is_signed() -> None:
    """A plain HMAC of the body."""
    assert GITHUB.account_endpoint
    check_signed(GITHUB, SECRET, "another", recorded("github", "ping").body)


def test_the_vector_on_the_page() -> None:
    """docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation"."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert verify(GITHUB, SECRET, b"Hello, World!", {"X-Hub-Signature-256": signature}) is Trust.SIGNED


EVENTS = [
    ("ping", "ping", "0b989ba4-242f-11e5-81e1-c7b6966d2516"),
    ("issues_opened", "issues.opened", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
]


@pytest.mark.parametrize(("name", "kind", "delivery"), EVENTS)
def test_every_event_is_a_notice(name: str, kind: str, delivery: str) -> None:
    """The event and its action are the type, the delivery's id the event's; `ping` is one like any other."""
    request = recorded("github", name)
    assert read(GITHUB, request.body, request.headers) == Notice(event_id=delivery, type=kind)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=x"])
def test_a_form_is_read_as_well(kind: str) -> None:
    """The content type is a choice of whoever sets the webhook up; the signature covers the form as it was sent."""
    request = recorded("github", "issues_opened")
    body = urlencode({"payload": request.body.decode()}).encode()
    check_signed(GITHUB, SECRET, "another", body)
    told = read(GITHUB, body, {**request.headers, "content-type": kind})
    assert told == Notice(event_id=request.headers["x-github-delivery"], type="issues.opened")


TYPES: list[tuple[bytes, dict[str, str], str | None]] = [
    (b"{}", {"x-github-event": "push"}, "push"),
    (b'{"action":7}', {"x-github-event": "push"}, "push.7"),
    (b'{"action":[]}', {"x-github-event": "push"}, "push"),
    (b'{"action":"opened"}', {}, "opened"),
    (b"{}", {}, None),
    (b'{"action":"%s"}' % (b"a" * 300), {"x-github-event": "push"}, "push." + "a" * 195),
]


@pytest.mark.parametrize(("body", "headers", "kind"), TYPES)
def test_the_type(body: bytes, headers: dict[str, str], kind: str | None) -> None:
    """Senders that sign like GitHub may leave one part of it out."""
    assert read(GITHUB, body, headers) == Notice(type=kind)


UNREADABLE: list[tuple[bytes, dict[str, str]]] = [
    (b"Hello, World!", {}),
    (b"[]", {}),
    (b"", {}),
    (b"payload=%7B%7D", {}),
    (b"", FORM),
    (b"payload=no", FORM),
    (b"payload", FORM),
    (b"payload=%FF", FORM),
    (b"payload=\xff", FORM),
    (b"other=%7B%7D", FORM),
    (b"&".join([b"a=1"] * 11), FORM),
]


@pytest.mark.parametrize(("body", "headers"), UNREADABLE)
def test_what_is_not_understood(body: bytes, headers: dict[str, str]) -> None:
    """What is validly signed and no JSON object is still stored, as unrecognised."""
    with pytest.raises(Unreadable):
        read(GITHUB, body, headers)


SAMPLES: list[tuple[TaskState, str]] = [
    (TaskState.SUBMITTED, "workflow_run.requested"),
    (TaskState.PROCESSING, "workflow_run.in_progress"),
    (TaskState.COMPLETED, "workflow_run.completed"),
    (TaskState.FAILED, "workflow_run.completed"),
    (TaskState.CANCELLED, "workflow_run.completed"),
    (TaskState.EXPIRED, "workflow_run.completed"),
]


def test_the_samples() -> None:
    """What `ringback trigger` sends is a run that ended so, with a delivery id of its own per state."""
    seen: set[Any] = set()
    for state, kind in SAMPLES:
        sample = GITHUB.build_sample("run-1", state, NOW)
        told = read(GITHUB, sample.body, sample.headers)
        assert isinstance(told, Notice)
        assert told.type == kind
        assert told.event_id is not None
        seen.add(told.event_id)
    assert len(seen) == len(SAMPLES)
    with pytest.raises(Unsupported, match="pending"):
        GITHUB.build_sample("run-1", TaskState.PENDING, NOW)


def test_it_only_receives() -> None:
    """It is an example of a sender, not a service that does tasks."""
    assert not GITHUB.submits
    assert not GITHUB.fetches
    with pytest.raises(Unsupported, match="only receives"):
        GITHUB.validate(Form(model="m"))

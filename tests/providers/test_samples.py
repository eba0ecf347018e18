"""What each provider would send, as its own file writes it, is read back by that file, and its scheme accepts it."""

from datetime import UTC, datetime, timedelta

import pytest

from ringback.errors import Unsupported
from ringback.model import Callback, Notice, Reading, TaskState, Trust
from ringback.providers import CATALOGUE
from ringback.providers.signatures import Headers, Key
from ringback.providers.signatures.ed25519 import public_of

NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLPSw"
PRIVATE = bytes(range(32))
PUSHING = sorted(name for name, provider in CATALOGUE.items() if provider.pushes)


@pytest.mark.parametrize("name", PUSHING)
def test_samples_are_read_back(name: str) -> None:
    """A sample of a status is read as that status about that task, or is a notice; an end has what belongs to it."""
    provider, seen = CATALOGUE[name], set()
    for status in TaskState:
        try:
            sample = provider.build_sample("a1", status, NOW)
        except Unsupported:
            continue
        headers = tuple((key.lower(), value) for key, value in sample.headers.items())
        said = provider.read_callback(Callback(body=sample.body, headers=headers, received_at=NOW))
        seen.add(status)
        if isinstance(said, Reading):
            assert (said.status, said.provider_id) == (status, "a1")
            assert bool(said.results) <= (status is TaskState.COMPLETED)
        else:
            assert isinstance(said, Notice)
    assert TaskState.COMPLETED in seen


@pytest.mark.parametrize("name", [name for name in PUSHING if CATALOGUE[name].scheme is not None])
def test_signed_samples_are_accepted(name: str) -> None:
    """What the scheme signs it accepts, with the trust that the table names, and not for another body."""
    provider = CATALOGUE[name]
    scheme = provider.scheme
    assert scheme is not None
    private = PRIVATE if scheme.fetches_keys else scheme.key(SECRET)
    key = Key(public_of(private) if scheme.fetches_keys else private)
    body = provider.build_sample("a1", TaskState.COMPLETED, NOW).body
    signed = scheme.sign(body, private, now=NOW, event_id="a1")
    headers = Headers([(name.lower().encode(), value.encode()) for name, value in signed.items()])
    assert {name.decode() for name, _ in headers} <= set(scheme.header_names)
    assert provider.verify(headers, body, [key], NOW, timedelta(minutes=5)) is provider.trust
    if provider.trust is Trust.SIGNED:
        with pytest.raises(Exception, match="fit"):
            provider.verify(headers, body + b" ", [key], NOW, timedelta(minutes=5))


@pytest.mark.parametrize("status", list(TaskState))
def test_qingbo_has_a_sample_for_each_of_its_states(status: TaskState) -> None:
    """Qingbo's samples hold what its task objects do in each state; it has no word for pending and expired."""
    qingbo = CATALOGUE["qingbo"]
    if status in (TaskState.PENDING, TaskState.EXPIRED):
        with pytest.raises(Unsupported, match="no status for"):
            qingbo.build_sample("a1", status, NOW)
        return
    said = qingbo.read_callback(Callback(body=qingbo.build_sample("a1", status, NOW).body, received_at=NOW))
    assert isinstance(said, Reading)
    assert (said.status, bool(said.results), said.error is not None) == (
        status,
        status is TaskState.COMPLETED,
        status is TaskState.FAILED,
    )
    charged = {TaskState.COMPLETED: 44_624, TaskState.FAILED: 0, TaskState.CANCELLED: 0}
    assert said.charged_microdollars == charged.get(status)

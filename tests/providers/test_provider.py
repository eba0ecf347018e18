"""What a provider does that says nothing, and how one is found."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from receiver.web.headers import is_kept
from ringback.errors import Unauthentic, UnknownProvider, Unsupported
from ringback.model import Callback, Form, Notice, Task, TaskState, Trust
from ringback.providers import CATALOGUE, Provider, Response, get_provider
from ringback.providers.signatures import Headers, Key, Scheme

NOW = datetime(2026, 4, 4, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TASK = Task(id="task_1", provider="silent", provider_id="x")
NO_HEADERS = Headers([])


class Silent(Provider):
    """A provider whose file defines nothing."""

    name = "silent"


class Nothing(Scheme):
    """A scheme that takes everything it has a key for."""

    name = "nothing"
    trust = Trust.PARTIAL

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> None:
        """Refuse what there is no key for."""
        assert (list(headers), body, now, tolerance) == ([], b"", NOW, MINUTE)
        if not keys:
            raise Unauthentic("no key")


class Signing(Silent):
    """A provider that always signs."""

    scheme = Nothing()


class Choosing(Signing):
    """A provider that signs for those who have set a secret up."""

    scheme_optional = True


class Open(Silent):
    """A provider whose callbacks nothing protects."""

    open_endpoint = True


class Mute(Silent):
    """A provider that never calls back."""

    pushes = False


CALLS: list[Callable[[Provider], object]] = [
    lambda p: p.validate(Form(model="m")),
    lambda p: p.build_submission(TASK, None),
    lambda p: p.read_acceptance(Response(status=200), NOW),
    lambda p: p.build_fetch(TASK),
    lambda p: p.read_task(Response(status=200), TASK, NOW),
    lambda p: p.build_cancel(TASK),
    lambda p: p.read_callback(Callback(body=b"", received_at=NOW)),
    lambda p: p.build_sample("x", TaskState.COMPLETED, NOW),
]


@pytest.mark.parametrize("call", CALLS)
def test_what_is_not_defined_is_unsupported(call: Callable[[Provider], object]) -> None:
    """Each call that a provider does not define says so, naming the provider."""
    with pytest.raises(Unsupported, match="silent"):
        call(Silent())


def test_a_cancellation_whose_answer_says_nothing() -> None:
    """Where a provider's answer is not documented, the task is asked about."""
    assert Silent().read_cancellation(Response(status=202), TASK, NOW) is None


def test_what_is_not_known_has_no_price() -> None:
    """A price that nobody can tell is not zero."""
    assert Silent().price(Form(model="m"), None) is None


def test_what_is_not_defined_is_not_offered() -> None:
    """Whether a provider submits and fetches follows from what its file defines."""
    assert not Silent().submits
    assert not Silent().fetches
    assert get_provider("qingbo").submits
    assert get_provider("reapi").fetches


def test_an_unsigned_provider_gives_token() -> None:
    """Where nothing is signed, the token in the URL is the trust."""
    assert Silent().verify(NO_HEADERS, b"", (), NOW, MINUTE) is Trust.TOKEN


def test_a_signing_provider_fails_closed() -> None:
    """Without a key nothing is accepted, unless the provider signs only for those who set one up."""
    with pytest.raises(Unauthentic):
        Signing().verify(NO_HEADERS, b"", (), NOW, MINUTE)
    assert Signing().verify(NO_HEADERS, b"", (Key(b"k"),), NOW, MINUTE) is Trust.PARTIAL
    assert Choosing().verify(NO_HEADERS, b"", (), NOW, MINUTE) is Trust.TOKEN
    assert Choosing().verify(NO_HEADERS, b"", (Key(b"k"),), NOW, MINUTE) is Trust.PARTIAL


GRADES = [(Silent(), Trust.TOKEN), (Signing(), Trust.PARTIAL), (Open(), Trust.NONE), (Mute(), Trust.NONE)]


@pytest.mark.parametrize(("provider", "trust"), GRADES)
def test_the_trust_follows_from_the_facts(provider: Provider, trust: Trust) -> None:
    """The scheme says the grade; without one it is our token, unless there is none in the URL or no callback."""
    assert provider.trust is trust


def test_a_provider_authorises_with_a_bearer_key() -> None:
    """What most of them want, unless their file says otherwise."""
    assert Silent().authorization("k", NOW) == {"Authorization": "Bearer k"}


def test_the_catalogue_holds_each_under_its_name() -> None:
    """Names are keys, and fit into a path, a variable and a table of ringback.toml."""
    assert {name: provider.name for name, provider in CATALOGUE.items()} == {name: name for name in CATALOGUE}
    assert all(re.fullmatch("[a-z][a-z0-9]{1,31}", name) for name in CATALOGUE)


@pytest.mark.parametrize("provider", CATALOGUE.values(), ids=lambda provider: provider.name)
def test_the_facts_fit_together(provider: Provider) -> None:
    """What can be submitted can be asked about; what does not push has a way to be asked; sources are named."""
    assert provider.documents
    assert provider.fetches or not provider.submits
    assert provider.pushes or provider.fetches
    assert provider.submits or not provider.models
    assert bool(provider.base_url) is (provider.submits or provider.fetches)
    assert provider.retries or provider.retry_window is None
    assert provider.scheme is not None or not provider.account_endpoint


@pytest.mark.parametrize("provider", CATALOGUE.values(), ids=lambda provider: provider.name)
def test_the_header_with_the_event_id_is_kept(provider: Provider) -> None:
    """What a provider file reads must have survived the choice of headers that are stored."""
    assert all(is_kept(name.encode()) for name in re.findall(r"\b(?:webhook|svix|x)-[a-z-]+", provider.event_id))


@pytest.mark.parametrize("provider", [p for p in CATALOGUE.values() if p.pushes], ids=lambda provider: provider.name)
def test_a_sample_is_read_as_it_was_meant(provider: Provider) -> None:
    """`ringback trigger` sends what the provider's own file understands: the task and its end, or a notice."""
    sample = provider.build_sample("sample-1", TaskState.COMPLETED, NOW)
    headers = tuple((name.lower(), value) for name, value in sample.headers.items())
    told = provider.read_callback(Callback(body=sample.body, headers=headers, received_at=NOW))
    assert isinstance(told, Notice) or (told.provider_id, told.status) == ("sample-1", TaskState.COMPLETED)


@pytest.mark.parametrize(("name", "hint"), [("quingbo", "did you mean qingbo"), ("zzz", "one of .*qingbo, .*reapi")])
def test_an_unknown_name_gets_a_hint(name: str, hint: str) -> None:
    """The nearest name is suggested, or all are listed."""
    with pytest.raises(UnknownProvider, match=hint):
        get_provider(name)

"""What a provider does that says nothing, and how one is found."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from ringback.errors import Unauthentic, UnknownProvider, Unsupported
from ringback.model import Callback, Form, Task, Trust
from ringback.providers import CATALOGUE, Provider, Response, get_provider

NOW = datetime(2026, 4, 4, tzinfo=UTC)


class Silent(Provider):
    """A provider whose file defines nothing."""

    name = "silent"


class Signing(Silent):
    """A provider that claims to sign and forgot to verify."""

    trust = Trust.SIGNED


CALLS: list[Callable[[Provider], object]] = [
    lambda p: p.validate(Form(model="m")),
    lambda p: p.price(Form(model="m"), None),
    lambda p: p.build_submission(Task(id="task_1", provider="silent"), None),
    lambda p: p.read_acceptance(Response(status=200), NOW),
    lambda p: p.build_fetch("x"),
    lambda p: p.read_task(Response(status=200), NOW),
    lambda p: p.build_cancel("x"),
    lambda p: p.read_callback(Callback(body=b"", received_at=NOW)),
]


@pytest.mark.parametrize("call", CALLS)
def test_what_is_not_defined_is_unsupported(call: Callable[[Provider], object]) -> None:
    """Each call that a provider does not define says so, naming the provider."""
    with pytest.raises(Unsupported, match="silent"):
        call(Silent())


def test_an_unsigned_provider_gives_token() -> None:
    """Where nothing is signed, the token in the URL is the trust."""
    assert Silent().verify({}, b"", (), NOW) is Trust.TOKEN


def test_a_missing_verification_fails_closed() -> None:
    """A provider that claims more than the token but defines no check accepts nothing."""
    with pytest.raises(Unauthentic):
        Signing().verify({}, b"", (), NOW)


def test_the_catalogue_holds_each_under_its_name() -> None:
    """Names are keys, and a provider that never pushes cannot be believed when one comes."""
    assert {name: provider.name for name, provider in CATALOGUE.items()} == {"qingbo": "qingbo", "reapi": "reapi"}
    assert get_provider("qingbo").verify({}, b"", (), NOW) is Trust.TOKEN
    with pytest.raises(Unauthentic):
        get_provider("reapi").verify({}, b"", (), NOW)


@pytest.mark.parametrize(("name", "hint"), [("quingbo", "did you mean qingbo"), ("zzz", "one of qingbo, reapi")])
def test_an_unknown_name_gets_a_hint(name: str, hint: str) -> None:
    """The nearest name is suggested, or all are listed."""
    with pytest.raises(UnknownProvider, match=hint):
        get_provider(name)

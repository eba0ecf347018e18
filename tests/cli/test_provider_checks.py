"""What `ringback doctor` says of the providers."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from receiver.web.answers import Reason
from ringback.cli.checks import Check, Mark
from ringback.cli.provider_checks import USELESS, of_providers
from ringback.cli.rejection_checks import ADVICE, of_rejections
from ringback.model import Confirm
from ringback.providers import CATALOGUE
from ringback.providers.signatures.scheme import Flaw
from ringback.settings import PER_PROVIDER, ProviderSettings, Secret, Settings

NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLPSw"


def looked_at(*waiting: str, **providers: ProviderSettings) -> dict[str, Check]:
    """Give the checks of such settings by name; of these providers a task is open that nobody can ask about."""
    return {check.name: check for check in of_providers(Settings(providers=providers), NOW, waiting)}


def secrets(*days: float | None) -> ProviderSettings:
    """Give settings with secrets that end after so many days, or never."""
    until = [None if left is None else NOW + timedelta(days=left) for left in days]
    return ProviderSettings(secret=tuple(Secret(text=KEY, until=end) for end in until))


def test_nothing_is_configured() -> None:
    """One line names every provider, and what to set."""
    (check,) = looked_at().values()
    assert (check.mark, check.found) == (Mark.DOUBTFUL, f"not configured: {', '.join(sorted(CATALOGUE))}")
    assert "RINGBACK_<PROVIDER>_API_KEY" in (check.advice or "")


def test_only_what_is_configured_is_looked_at() -> None:
    """The others stand in one line that is ✓."""
    found = looked_at(qingbo=ProviderSettings(api_key="k"), fal=ProviderSettings(api_key="k"))
    assert list(found) == ["fal API key", "fal signature", "qingbo API key", "providers"]
    assert {check.mark for check in found.values()} == {Mark.GOOD}
    assert "https://rest.fal.ai/" in found["fal signature"].found
    assert not {"qingbo", "fal"} & set(found["providers"].found.split(", "))


@pytest.mark.parametrize(
    ("days", "mark", "found"),
    [
        ((None,), Mark.GOOD, "1 valid; standard-webhooks"),
        ((None, 30), Mark.GOOD, "2 valid; standard-webhooks"),
        ((None, -1), Mark.GOOD, "1 valid, 1 expired; standard-webhooks"),
        ((None, 3), Mark.DOUBTFUL, "2 valid; standard-webhooks; one ends at 2026-04-07 12:00:00Z"),
        ((3, 2), Mark.DOUBTFUL, "2 valid; standard-webhooks; one ends at 2026-04-06 12:00:00Z, and none is left then"),
        ((-1,), Mark.BAD, "expired: its callbacks get 503"),
    ],
)
def test_secrets(days: tuple[float | None, ...], mark: Mark, found: str) -> None:
    """Valid secrets are counted; one that ends within a week is doubtful, and none left is bad."""
    check = looked_at(standard=secrets(*days))["standard secret"]
    assert (check.mark, check.found) == (mark, found)
    assert (check.advice is None) is (mark is Mark.GOOD)


def test_a_secret_that_is_missing_or_useless() -> None:
    """A signing provider without one is doubtful, unless it signs by option; so is one that checks nothing."""
    found = looked_at(
        replicate=ProviderSettings(api_key="k"),
        kie=ProviderSettings(api_key="k"),
        qingbo=secrets(None),
        fal=secrets(None),
    )
    marks = {name.partition(" ")[0]: check for name, check in found.items() if name.endswith(" secret")}
    assert "its callbacks get 503" in marks["replicate"].found
    assert "RINGBACK_REPLICATE_SECRET: whsec_" in (marks["replicate"].advice or "")
    assert (marks["kie"].mark, "not set" in marks["kie"].found) == (Mark.GOOD, True)
    assert "signs nothing: this secret checks nothing" in marks["qingbo"].found
    assert "signs with keys that it publishes" in marks["fal"].found
    assert found["qingbo API key"].advice == "set RINGBACK_QINGBO_API_KEY to submit to it and poll it"


def test_all_are_configured() -> None:
    """Where none is left out, there is no line about the others."""
    found = looked_at(**{name: ProviderSettings(api_key="k") for name in CATALOGUE})
    assert "providers" not in found
    assert "nothing is submitted to github, nor asked of it" in found["github API key"].found
    assert Mark.BAD not in {check.mark for check in found.values()}


def test_a_receive_only_provider_needs_no_key() -> None:
    """What is neither submitted to nor polled has no line about an API key."""
    found = looked_at(github=secrets(None), openai=ProviderSettings(confirm=Confirm.ALWAYS))
    assert "github API key" not in found
    assert found["openai API key"].advice == "set RINGBACK_OPENAI_API_KEY to poll it"


def test_who_only_receives_needs_no_key() -> None:
    """With a secret alone the missing key is no doubt, until a task is open that nobody can ask about."""
    key = looked_at(replicate=secrets(None))["replicate API key"]
    use = "set RINGBACK_REPLICATE_API_KEY to submit to it and poll it"
    assert (key.mark, key.found, key.advice) == (Mark.GOOD, f"not set: it only receives; {use}", None)
    key = looked_at("replicate", replicate=secrets(None))["replicate API key"]
    assert (key.mark, key.found, key.advice) == (
        Mark.DOUBTFUL,
        "not set, and a task is open that cannot be asked about",
        use,
    )


@pytest.mark.parametrize(
    ("provider", "knob", "value", "found"),
    [
        ("fal", "secret", (Secret(text=KEY),), "fal signs with keys that it publishes: this secret checks nothing"),
        ("qingbo", "secret", (Secret(text=KEY),), "qingbo signs nothing: this secret checks nothing"),
        ("reapi", "secret", (Secret(text=KEY),), "reapi never calls back: this secret checks nothing"),
        ("standard", "api_key", "k", "nothing is submitted to standard, nor asked of it"),
        ("standard", "base_url", "https://a.example", "nothing is submitted to standard, nor asked of it"),
        ("github", "jwks_url", "https://a.example", "github does not sign with keys that it publishes: nothing is "),
        ("github", "confirm", Confirm.NEVER, "callbacks of github cannot be confirmed, or never come"),
        ("kling", "usd_per_second", Decimal(1), "nothing that is submitted to kling is priced by it"),
    ],
)
def test_what_changes_nothing(provider: str, knob: str, value: object, found: str) -> None:
    """A setting that means nothing for its provider is doubtful, and the advice names its variable."""
    given = {provider: ProviderSettings(**{knob: value})}  # type: ignore[arg-type]
    (useless,) = [check for check in looked_at(**given).values() if check.found.startswith("set, but")]
    assert (useless.mark, found in useless.found) == (Mark.DOUBTFUL, True)
    assert f"remove RINGBACK_{provider.upper()}_{knob.upper()}, or" in (useless.advice or "")


def test_every_setting_can_be_called_useless() -> None:
    """Each has a name for people."""
    assert set(USELESS) == set(PER_PROVIDER)


REFUSED = {
    ("github", "unauthentic.signature"): 3,
    ("github", "method"): 1,
    ("kie", "no_key"): 1,
    ("unknown", "unknown_provider"): 2,
    ("qingbo", "token"): 0,
}


def test_refusals() -> None:
    """Each provider of which callbacks were turned away is doubtful, with advice for its usual reason."""
    found = {check.name: check for check in of_rejections(Settings(), REFUSED)}
    assert {check.mark for check in found.values()} == {Mark.DOUBTFUL}
    assert {name: check.found for name, check in found.items()} == {
        "github refusals": "4 callbacks were turned away since yesterday, unauthentic.signature (3), method (1)",
        "kie refusals": "1 callback was turned away since yesterday, no_key",
        "refusals": "2 callbacks were turned away since yesterday, unknown_provider",
    }
    github = found["github refusals"].advice or ""
    assert github.startswith("compare RINGBACK_GITHUB_SECRET with the secret at the provider; ")
    assert github.endswith("ringback providers test github --headers headers.txt --body body.json")
    assert (found["kie refusals"].advice or "").startswith("set RINGBACK_KIE_SECRET to")


def test_every_reason_has_advice() -> None:
    """What the receiver counts is known here, or the page with all of it is named; no word here is of no use."""
    words = {*(reason.value for reason in Reason), *(f"unauthentic.{flaw}" for flaw in Flaw)}
    assert set(ADVICE) <= words
    for word in words:
        (check,) = of_rejections(Settings(), {("github", word): 1})
        assert check.advice
        assert "{" not in check.advice

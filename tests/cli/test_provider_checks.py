"""What `ringback doctor` says of the providers."""

from datetime import UTC, datetime, timedelta

import pytest

from ringback.cli.checks import Check, Mark
from ringback.cli.provider_checks import of_providers
from ringback.providers import CATALOGUE
from ringback.settings import ProviderSettings, Secret, Settings

NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLPSw"


def looked_at(**providers: ProviderSettings) -> dict[str, Check]:
    """Give the checks of such settings by name."""
    return {check.name: check for check in of_providers(Settings(providers=providers), NOW)}


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
    assert "github API key" in found
    assert Mark.BAD not in {check.mark for check in found.values()}


def test_a_receive_only_provider_needs_no_key() -> None:
    """What is neither submitted to nor polled has no line about an API key."""
    found = looked_at(github=secrets(None), openai=secrets(None))
    assert "github API key" not in found
    assert found["openai API key"].advice == "set RINGBACK_OPENAI_API_KEY to poll it"

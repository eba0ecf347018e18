"""Which providers in use can have no callback verified, and which grade their callbacks reach."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ringback.confirming import trust_here, unverifiable
from ringback.model import Trust
from ringback.settings import Settings

NOW = datetime(2026, 4, 4, 12, tzinfo=UTC)
ACME = """
[providers.acme]
scheme = "hmac"
header = "x-acme-signature"
task_id = "id"
status = "status"
"""


@pytest.mark.parametrize(
    ("environ", "toml", "found"),
    [
        ({}, "", {}),
        ({}, ACME, {"acme": "set RINGBACK_ACME_SECRET: the secret as the provider shows it"}),
        ({"RINGBACK_ACME_SECRET": "x"}, ACME, {}),
        ({"RINGBACK_GITHUB_SECRET": "abc until=2026-04-05"}, "", {}),
        (
            {"RINGBACK_GITHUB_SECRET": "abc until=2020-12-31"},
            "",
            {"github": "set RINGBACK_GITHUB_SECRET to the secret that it signs with now: all that are set have ended"},
        ),
        ({"RINGBACK_KIE_SECRET": "abc until=2020-12-31"}, "", {"kie": "set RINGBACK_KIE_SECRET to the secret that "}),
        ({"RINGBACK_REPLICATE_API_KEY": "k"}, "", {"replicate": "set RINGBACK_REPLICATE_SECRET: whsec_"}),
        # Signs by option, with published keys, not at all, never calls back.
        ({f"RINGBACK_{name}_API_KEY": "k" for name in ("KIE", "FAL", "QINGBO", "REAPI")}, "", {}),
    ],
)
def test_whose_callbacks_get_503(environ: dict[str, str], toml: str, found: dict[str, str], tmp_path: Path) -> None:
    """Who signs and has no valid secret here is named, with the variable; who is not used is not."""
    (tmp_path / "ringback.toml").write_text(toml)
    fixes = {provider.name: fix for provider, fix in unverifiable(Settings.from_environ(environ, tmp_path), NOW)}
    assert list(fixes) == list(found)
    assert all(fixes[name].startswith(fix) for name, fix in found.items())


def test_the_end_of_a_secret_counts_to_the_moment(tmp_path: Path) -> None:
    """At its end it is no longer valid."""
    settings = Settings.from_environ({"RINGBACK_GITHUB_SECRET": "abc until=2026-04-04T12:00:00Z"}, tmp_path)
    before = NOW - timedelta(microseconds=1)
    assert (len(list(unverifiable(settings, before))), len(list(unverifiable(settings, NOW)))) == (0, 1)


def test_the_grade_with_what_is_set(tmp_path: Path) -> None:
    """A signature that is optional counts where a secret is set."""
    settings = Settings.from_environ({}, tmp_path)
    assert trust_here(settings.catalogue["kie"], settings) is Trust.TOKEN
    settings = Settings.from_environ({"RINGBACK_KIE_SECRET": "abc"}, tmp_path)
    assert trust_here(settings.catalogue["kie"], settings) is Trust.PARTIAL
    assert trust_here(settings.catalogue["replicate"], settings) is Trust.SIGNED

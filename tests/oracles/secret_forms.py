"""Secrets as people paste them: what a library makes of one, beside what we do."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

from tests.oracles.oracle import Oracle, Verdict, signed_with
from tests.providers.signatures.signed import b64
from tests.providers.signatures.test_mutations import Request

Ask = Callable[[Request, str], object]

PREFIXES = ("whsec_", "whsec_", "whsec_", "", "whpk_", "WHSEC_", "whsec_whsec_", "x_")
SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: text.rstrip("="),
    lambda text: text.replace("+", "-").replace("/", "_"),
    lambda text: text + "\n",
    lambda text: " " + text,
    lambda text: text[:5] + "\n" + text[5:],
    lambda text: text + "é",
    lambda text: text[:-1],
    lambda text: text + "=",
)

secret_texts = st.builds(
    lambda prefix, raw, spell: prefix + spell(b64(raw).decode()),
    st.sampled_from(PREFIXES),
    st.binary(max_size=66) | st.binary(min_size=24, max_size=64),
    st.sampled_from(SPELLINGS),
) | st.text(max_size=40)


@dataclass(frozen=True, slots=True)
class SecretDifference:
    """A form of secret of which a library makes another key than we do, or where one of us declines."""

    name: str
    secret: str
    theirs: bytes | Verdict
    """The key that it makes of it, or how it declines."""
    ours: bytes | None = None
    """The key that we make of it; None: it stops the start."""

    def show(self, oracle: Oracle, ask: Ask) -> None:
        """Check both sides."""
        assert our_key(oracle, self.secret) == self.ours
        if isinstance(self.theirs, Verdict):
            assert _verdict(oracle, ask, self.secret, self.ours or b"any") is self.theirs
        else:
            assert _verdict(oracle, ask, self.secret, self.theirs) is Verdict.ACCEPTED


def our_key(oracle: Oracle, text: str) -> bytes | None:
    """Decode a secret as at our start; None where it is refused."""
    try:
        return oracle.case.scheme.key(text)
    except ValueError:
        return None


def check_same_key(oracle: Oracle, ask: Ask, text: str) -> None:
    """Check that where we take a secret, the library takes what was signed with our key."""
    key = our_key(oracle, text)
    if key is not None:
        assert key
        assert _verdict(oracle, ask, text, key) is Verdict.ACCEPTED


def _verdict(oracle: Oracle, ask: Ask, text: str, key: bytes) -> Verdict:
    asked = Oracle(oracle.name, oracle.case, lambda request: ask(request, text), oracle.refusals, ())
    return asked.verdict(signed_with(oracle.case, key))


def named(differences: tuple[SecretDifference, ...]) -> pytest.MarkDecorator:
    """Make a test of each."""
    return pytest.mark.parametrize("difference", differences, ids=lambda each: each.name)

"""What `ringback doctor` says of callbacks that were turned away: how many, why, and what to look at.

Called by `doctor` with the ledger's counts; knows words of ours alone, since nothing else of them is kept.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby

from ringback.cli.checks import Check, doubtful
from ringback.providers.signatures.scheme import Flaw
from ringback.settings import Settings, variable_name

UNAUTHENTIC = "unauthentic."
CLOCK = "compare this machine's clock; or something queues requests on their way, or sends old ones again"
PAGE = "see docs/how-to/troubleshooting.md"
# By reason; {name} is the provider, {variable} its secret's variable.
ADVICE = {
    "no_key": "set {variable} to the secret that it signs with now",
    "keys": "see that its public keys can be fetched from here: ringback providers show {name}",
    "no_secret": "set RINGBACK_SECRET where the receiver runs",
    "token": "add the secret that the URLs were made with to RINGBACK_SECRET, unless strangers guess",
    "path": "correct the URL that it posts to: ringback providers show {name}",
    "unknown_provider": "correct the URL, whose provider is none that calls back: ringback providers list",
    "too_large": "raise RINGBACK_MAX_BODY_BYTES, if they are genuine",
    "busy": "raise RINGBACK_MAX_INFLIGHT_BYTES",
    "unavailable": "see the log of the receiver: the ledger could not be written",
    UNAUTHENTIC + Flaw.TIMESTAMP_OLD: CLOCK,
    UNAUTHENTIC + Flaw.TIMESTAMP_FUTURE: CLOCK,
    UNAUTHENTIC + Flaw.SIGNATURE: "compare {variable} with the secret at the provider; save one request and try it: "
    "ringback providers test {name} --headers headers.txt --body body.json",
    UNAUTHENTIC + Flaw.HEADER_MISSING: "see that it signs, and that no proxy removes headers; or strangers send them: "
    "ringback providers show {name}",
}


def of_rejections(settings: Settings, counts: Mapping[tuple[str, str], int]) -> Iterator[Check]:
    """Name each provider of which callbacks were turned away since yesterday; the advice is about the usual reason."""
    for name, group in groupby(sorted(counts.items()), key=lambda item: item[0][0]):
        reasons = sorted(((reason, count) for (_, reason), count in group if count), key=lambda item: -item[1])
        if not reasons:
            continue
        total = sum(count for _, count in reasons)
        told = reasons[0][0] if len(reasons) == 1 else ", ".join(f"{reason} ({count})" for reason, count in reasons)
        yield doubtful(
            _subject(settings, name),
            f"{_callbacks(total)} turned away since yesterday, {told}",
            _advice(name, reasons[0][0]),
        )


def _subject(settings: Settings, name: str) -> str:
    return f"{name} refusals" if name in settings.catalogue else "refusals"


def _callbacks(count: int) -> str:
    return "1 callback was" if count == 1 else f"{count} callbacks were"


def _advice(name: str, reason: str) -> str:
    return ADVICE.get(reason, PAGE).format(name=name, variable=variable_name((name, "secret")))

"""The faults that the sandbox can commit, and how a prompt or a rate asks for them.

Pure. A tag in the prompt, `[fault:lost_push]`, travels over the unmodified wire format; several are allowed.
"""

import re
from collections.abc import Mapping

from ringback.sandbox.chance import chance

FAULTS: Mapping[str, str] = {
    "duplicate_push": "the push is sent several times, some of them in parallel",
    "early_push": "the task is done and pushed before the submit response is sent",
    "failed": "the task fails with the provider's error and is refunded",
    "forged_push": "two pushes with a wrong URL token (one also with another status) precede the genuine one",
    "late_processing": "a `processing` push follows the terminal one",
    "late_push": "the terminal push comes `late_push_seconds` late, 10 by default",
    "lost_push": "the terminal push is never sent",
    "oversized_push": "the terminal push is padded above 1 MiB",
    "slow_push": "the push's body is trickled in",
    "submit_429": "the first attempt to submit answers 429 with Retry-After: 1",
    "submit_5xx": "the first attempts to submit answer 500 and accept nothing",
    "submit_timeout": "the submission is accepted, then its response hangs",
    "wrong_task": "a push about another task comes to this task's URL before the true one",
}
"""Every fault that a rate or a tag may name, with what it does. `outage` is a control endpoint instead."""

_TAG = re.compile(r"\[fault:([^\]]*)\]")


def check_names(names: Mapping[str, object] | set[str]) -> None:
    """Raise ValueError, listing the valid names, if one is not a fault."""
    unknown = sorted(set(names) - set(FAULTS))
    if unknown:
        hint = "; outage is not a task's fault: POST /_sandbox/outage" if "outage" in unknown else ""
        raise ValueError(f"unknown fault {', '.join(unknown)}: expected one of {', '.join(FAULTS)}{hint}")


def check_rates(rates: Mapping[str, float]) -> None:
    """Raise ValueError if a name is unknown or a rate is not within 0 and 1."""
    check_names(rates)
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ValueError(f"the rate of fault {name} must lie between 0 and 1, not {rate}")


def tagged(prompt: str) -> frozenset[str]:
    """Return the faults that a prompt's tags ask for; raise ValueError on an unknown one."""
    names = {name.strip() for name in _TAG.findall(prompt)}
    check_names(names)
    return frozenset(names)


def rolled(rates: Mapping[str, float], seed: int, *about: object) -> frozenset[str]:
    """Return the faults that the rates give to one submission, reproducibly by seed."""
    return frozenset(name for name, rate in rates.items() if chance(seed, name, *about).random() < rate)

"""PURE. Which secrets open tasks were sent under: what `OperatorLedger.report` is asked about callbacks to come."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """Ask how many open tasks have a callback URL made with each secret, by the secret's fingerprint.

    Each of them is looked at: where a hundred thousand are open, that takes a tenth of a second.
    """

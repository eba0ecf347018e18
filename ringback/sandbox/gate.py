"""What stands before a submission: outages, the faults of first attempts, and the account's limits.

It decides which faults a new task will have, once, at its first attempt; a retry meets the same decision.
"""

import time
from collections import Counter
from dataclasses import dataclass

from ringback.sandbox.book import Book, Order
from ringback.sandbox.config import SandboxConfig
from ringback.sandbox.faults import rolled, tagged
from ringback.sandbox.wire import Refusal


@dataclass(slots=True)
class _Attempts:
    faults: frozenset[str]
    count: int = 0


class Gate:
    """Lets a submission in with its faults, or refuses it."""

    def __init__(self, config: SandboxConfig, book: Book) -> None:
        self._config, self._book = config, book
        self._attempts: dict[tuple[str, str], _Attempts] = {}
        self._firsts: Counter[str] = Counter()
        self._outage_until = 0.0

    def start_outage(self, seconds: float) -> None:
        """Answer 503 to every provider request for so long; 0 ends it."""
        self._outage_until = time.monotonic() + seconds

    def check_outage(self) -> None:
        """Refuse with 503 while an outage lasts."""
        if time.monotonic() < self._outage_until:
            self._book.refused["outage"] += 1
            raise Refusal(503, "the service is temporarily unavailable")

    def admit(self, order: Order) -> frozenset[str]:
        """Return the faults of the task that may now be accepted, or refuse this attempt."""
        asked = self._asked_by_tag(order)
        attempts = self._attempts_of(order, asked)
        self._commit_first_attempt_faults(attempts)
        self._check_limits(order)
        if order.idempotency_key is None and not asked:
            # Without a key the same prompt may be a new wish: its next submission is a first attempt again.
            del self._attempts[_identity(order)]
        return attempts.faults

    def _asked_by_tag(self, order: Order) -> frozenset[str]:
        try:
            return tagged(order.prompt)
        except ValueError as error:
            raise Refusal(400, str(error), param="prompt") from None

    def _attempts_of(self, order: Order, asked: frozenset[str]) -> _Attempts:
        identity = _identity(order)
        if identity not in self._attempts:
            number = self._firsts[order.provider]
            self._firsts[order.provider] += 1
            faults = asked | rolled(self._config.faults, self._config.seed, order.provider, number)
            self._attempts[identity] = _Attempts(faults)
            if len(self._attempts) > self._config.max_tasks:
                self._attempts.pop(next(iter(self._attempts)))
        attempts = self._attempts[identity]
        attempts.count += 1
        return attempts

    def _commit_first_attempt_faults(self, attempts: _Attempts) -> None:
        refusals = ["submit_5xx"] * self._config.submit_5xx_attempts if "submit_5xx" in attempts.faults else []
        refusals += ["submit_429"] if "submit_429" in attempts.faults else []
        if attempts.count > len(refusals):
            return
        fault = refusals[attempts.count - 1]
        self._book.refused[fault] += 1
        if fault == "submit_429":
            raise Refusal(429, "too many requests, try again later", retry_after_seconds=1)
        raise Refusal(500, "internal server error")

    def _check_limits(self, order: Order) -> None:
        if len(self._book) >= self._config.max_tasks:
            raise Refusal(429, f"the sandbox holds {len(self._book)} tasks, its limit: restart it")
        balance = self._config.balance_usd
        if balance is None:
            return
        if self._book.spent_micro_usd(order.provider) + order.price_micro_usd > balance * 1_000_000:
            raise Refusal(402, "the balance does not cover this task")


def _identity(order: Order) -> tuple[str, str]:
    key = order.idempotency_key
    return order.provider, f"prompt:{order.prompt}" if key is None else f"key:{key}"

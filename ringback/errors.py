"""Every error that Ringback raises on purpose, under one root.

Raised anywhere, caught at the edges: the receiver turns them into status codes, the command into one line and
an exit code. A class's docstring is its default message; a message never holds a secret, a token or a body.

    RingbackError
    ├── SettingsError            a knob is unknown, missing or has a bad value
    ├── UnknownProvider          no provider of that name
    ├── HandlersError            the handlers cannot be found or are written wrongly
    ├── AttemptLost              a handler was given up, and goes on: what it did is not recorded
    ├── InvalidSubmission        the provider would refuse this; nothing was sent
    ├── SubmissionRefused        the provider did refuse it
    ├── CostTooHigh              the price is above the caller's limit; nothing was sent
    ├── BudgetExceeded           a day's or a month's budget has no room for this; nothing was stored
    ├── KeyConflict              the same key was used for a different request
    ├── Unsupported              this provider has no such call
    ├── NotCancelled             a task could not be cancelled: it has ended, or its provider will not
    ├── Unreachable              a request to a provider got no answer
    ├── DownloadError            a result could not be fetched
    │   ├── DownloadRefused      we do not fetch this: where it is, or how large
    │   ├── DownloadExpired      this URL does not give it; a fresh one may
    │   └── DownloadInterrupted  it did not come to its end; try again
    ├── StorageError             the place where results are stored cannot be written or read
    ├── Unauthentic              a callback failed verification
    ├── Unreadable               an authentic text could not be understood
    ├── NotFound                 the ledger holds no such record
    └── LedgerError
        ├── LedgerMissing        there is no database at that place
        ├── LedgerMismatch       the database has another schema version or other keys
        ├── LedgerRejected       this one record cannot be stored
        └── LedgerUnavailable    the database cannot be written right now; try again
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "AttemptLost",
    "BudgetExceeded",
    "CostTooHigh",
    "DownloadError",
    "DownloadExpired",
    "DownloadInterrupted",
    "DownloadRefused",
    "HandlersError",
    "InvalidSubmission",
    "KeyConflict",
    "LedgerError",
    "LedgerMismatch",
    "LedgerMissing",
    "LedgerRejected",
    "LedgerUnavailable",
    "NotCancelled",
    "NotFound",
    "RingbackError",
    "SettingsError",
    "StorageError",
    "SubmissionRefused",
    "Unauthentic",
    "UnknownProvider",
    "Unreachable",
    "Unreadable",
    "Unsupported",
]


class RingbackError(Exception):
    """Ringback could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self._default())

    def _default(self) -> str:
        return (self.__doc__ or "").partition("\n")[0]


class SettingsError(RingbackError):
    """A setting is unknown, missing or has a bad value."""


class UnknownProvider(RingbackError):
    """No provider of that name."""


class HandlersError(RingbackError):
    """The handlers cannot be found or are written wrongly."""


class AttemptLost(RingbackError):
    """This attempt is no longer its delivery's current one, so nothing can be recorded for it."""


class _Refusal(RingbackError):
    """A submission that is not accepted, with the provider's own code and the field at fault."""

    def __init__(self, message: str, *, provider: str, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.provider = provider
        self.code = code
        self.field = field

    def __str__(self) -> str:
        facts = [f"code {self.code}" if self.code else "", f"field {self.field}" if self.field else ""]
        suffix = ", ".join(fact for fact in facts if fact)
        return f"{self.provider}: {self.args[0]}" + (f" ({suffix})" if suffix else "")


class InvalidSubmission(_Refusal):
    """The provider would refuse this submission; nothing was sent."""


class SubmissionRefused(_Refusal):
    """The provider refused this submission."""


class CostTooHigh(RingbackError):
    """The price is above the limit that was given; nothing was sent."""


class BudgetExceeded(RingbackError):
    """The budget of this day or month has no room for this; nothing was stored.

    `period` is "daily" or "monthly", `setting` where the budget is set, `resets_at` when it begins anew. Amounts are
    micro-dollars; `price_microdollars` is None where no price is known.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        period: str = "",
        setting: str = "",
        resets_at: "datetime | None" = None,
        budget_microdollars: int = 0,
        spent_microdollars: int = 0,
        price_microdollars: int | None = None,
    ) -> None:
        super().__init__(message)
        self.period, self.setting, self.resets_at = period, setting, resets_at
        self.budget_microdollars = budget_microdollars
        self.spent_microdollars = spent_microdollars
        self.price_microdollars = price_microdollars


class KeyConflict(RingbackError):
    """This key was already used for a different request; use another key, or the same request."""


class Unsupported(RingbackError):
    """This provider has no such call."""


class NotCancelled(RingbackError):
    """This task was not cancelled."""


class Unreachable(RingbackError):
    """A request to a provider got no answer.

    `sent` tells whether the provider may have seen it: False only when the connection was never made.
    """

    def __init__(self, message: str | None = None, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class DownloadError(RingbackError):
    """A result could not be fetched."""


class DownloadRefused(DownloadError):
    """This is not fetched: its URL, its address or its size is outside what is allowed.

    `flaw` is one of the words of `outbound.guard.Flaw`. Nothing was sent to the address that is refused.
    """

    def __init__(self, message: str | None = None, *, flaw: str = "address") -> None:
        super().__init__(message)
        self.flaw = flaw


class DownloadExpired(DownloadError):
    """This URL does not give the result; a fresh one may.

    `status` is what was answered.
    """

    def __init__(self, message: str | None = None, *, status: int = 410) -> None:
        super().__init__(message)
        self.status = status


class DownloadInterrupted(DownloadError):
    """The download did not come to its end; try again, from where it stopped.

    `retry_after_seconds` is what the other side asked for, where it did.
    """

    def __init__(self, message: str | None = None, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StorageError(RingbackError):
    """The place where results are stored cannot be written or read right now; try again."""


class Unauthentic(RingbackError):
    """A callback failed verification.

    The message and `flaw`, one of the words of `providers.signatures.scheme.Flaw`, are for our log, never for the
    sender.
    """

    def __init__(self, message: str | None = None, *, flaw: str = "signature") -> None:
        super().__init__(message)
        self.flaw = flaw


class Unreadable(RingbackError):
    """An authentic text could not be understood."""


class NotFound(RingbackError):
    """The ledger holds no such record."""


class LedgerError(RingbackError):
    """The ledger could not do what was asked.

    `public` is what strangers may be told: a fixed sentence. The message may say where on the disk the ledger lies, or
    at which address.
    """

    def __init__(self, message: str | None = None, *, public: str | None = None) -> None:
        super().__init__(message)
        self.public = public or self._default()


class LedgerMissing(LedgerError):
    """There is no database at that place."""


class LedgerMismatch(LedgerError):
    """The database does not fit this program: another schema version, or other keys."""


class LedgerRejected(LedgerError):
    """This one record cannot be stored; its neighbours were."""


class LedgerUnavailable(LedgerError):
    """The database cannot be written right now; try again."""

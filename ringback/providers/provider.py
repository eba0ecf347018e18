"""What every provider is to Ringback: wire formats, both directions, as pure functions of bytes.

A provider file subclasses `Provider`, sets its facts and overrides what its documents say. It never opens a
connection, reads a clock or logs; `outbound` sends what `build_…` returns, and hands back a `Response` for `read_…`.
Called by `submitter`, `receiver.web` and `ringback.cli`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import ClassVar

from ringback.errors import Unauthentic, Unsupported
from ringback.model import Callback, Form, Reading, Task, Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to build on the provider's base URL. `path` starts with a slash and is already percent-encoded."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # without authorization: `outbound` adds it


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back, whole. Header names are lower case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Provider:
    """The facts and wire formats of one remote service. Instances have no state; times are given, never read."""

    name: ClassVar[str]
    base_url: ClassVar[str]
    """Where its API lives, version included; a configured base URL without a path gets this one's path."""
    models: ClassVar[tuple[str, ...]] = ()
    """Models known to work; the first is the default. Others are sent as they are."""
    pushes: ClassVar[bool] = True
    """Whether it calls back at all. Without, tasks live on the poller's schedule."""
    trust: ClassVar[Trust] = Trust.TOKEN
    """The best grade that its callbacks can reach on a per-task URL."""
    account_endpoint: ClassVar[bool] = False
    """Whether `POST /callbacks/{provider}` without a task is served: only where the provider signs."""
    idempotency_window: ClassVar[timedelta | None] = None
    """How long the provider honours an Idempotency-Key; None means that a resend buys a second task."""
    result_life: ClassVar[timedelta] = timedelta(hours=24)
    """How long result URLs work after completion, where the answer itself does not say."""
    longest: ClassVar[timedelta] = timedelta(hours=48)
    """After this a task without a final word is presumed expired."""
    can_cancel: ClassVar[bool] = False

    def validate(self, form: Form) -> None:
        """Refuse what the provider would refuse, before any money is spent.

        Raises:
            InvalidSubmission: with the provider's code and the field, in the provider's own names.
        """
        raise Unsupported(f"{self.name}: this provider only receives; it cannot submit")

    def price(self, form: Form, usd_per_second: Decimal | None) -> int | None:
        """Give the expected price in micro-dollars; None when no rate is known. `usd_per_second` overrides."""
        raise Unsupported(f"{self.name}: no price is known")

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build the request that starts the task; validates first.

        Raises:
            InvalidSubmission: the provider would refuse it.
        """
        raise Unsupported(f"{self.name}: this provider only receives; it cannot submit")

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission; `provider_id` is always set.

        Raises:
            SubmissionRefused: a 4xx answer, with its code and field.
            Unreadable: a 2xx answer without a usable task id: its end is unknown.
        """
        raise Unsupported(f"{self.name}: this provider only receives; it cannot submit")

    def build_fetch(self, provider_id: str) -> Request:
        """Build the request that asks how a task stands."""
        raise Unsupported(f"{self.name}: tasks cannot be fetched")

    def read_task(self, response: Response, now: datetime) -> Reading:
        """Read the 2xx answer to a fetch.

        Raises:
            Unreadable: it is not about a task.
        """
        raise Unsupported(f"{self.name}: tasks cannot be fetched")

    def build_cancel(self, provider_id: str) -> Request:
        """Build the request that cancels a queued task."""
        raise Unsupported(f"{self.name}: tasks cannot be cancelled")

    def verify(self, headers: Mapping[bytes, bytes], body: bytes, secrets: tuple[bytes, ...], now: datetime) -> Trust:
        """Verify what the provider itself adds to a callback, beyond the token in our URL.

        Gives `token` where the provider signs nothing: the caller has checked the URL already.

        Raises:
            Unauthentic: with a reason for our log.
        """
        if self.trust is not Trust.TOKEN:
            raise Unauthentic(f"{self.name}: no verification is defined")
        return Trust.TOKEN

    def read_callback(self, callback: Callback) -> Reading:
        """Read an authentic callback about one task.

        Every value is checked for range, NUL and UTF-8: what it returns can be stored.

        Raises:
            Unreadable: it is not about a task, or cannot be understood.
        """
        raise Unsupported(f"{self.name}: this provider sends no callbacks")

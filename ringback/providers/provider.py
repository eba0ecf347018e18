"""What every provider is to Ringback: wire formats, both directions, as pure functions of bytes.

A provider file subclasses `Provider`, sets its facts and overrides what its documents say. It never opens a
connection, reads a clock or logs; `outbound` sends what `build_…` returns, and hands back a `Response` for `read_…`.
Called by `submitter`, `receiver.web` and `ringback.cli`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from ringback.errors import InvalidSubmission, Unsupported
from ringback.model import Callback, Confirm, Form, Notice, Reading, Task, TaskState, Trust
from ringback.providers.handshakes import Handshake
from ringback.providers.signatures.scheme import Headers, Key, Scheme


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A callback as the provider would send it, before it is signed: for `ringback trigger` and tests."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


class Provider:
    """The facts and wire formats of one remote service. Instances have no state; times are given, never read."""

    name: str
    base_url: str
    """Where its API lives, version included; a configured base URL without a path gets this one's path."""
    models: tuple[str, ...] = ()
    """Models known to work; the first is the default. Others are sent as they are."""
    pushes: bool = True
    """Whether it calls back at all. Without, tasks live on the poller's schedule."""
    scheme: Scheme | None = None
    """How it authenticates its callbacks, beyond the token in our URL; None: not at all."""
    scheme_optional: bool = False
    """Whether it authenticates only for users who have set a secret up with it."""
    tolerance: timedelta | None = None
    """How far its timestamps may be from our clock; None: RINGBACK_TOLERANCE_SECONDS."""
    account_endpoint: bool = False
    """Whether `POST /callbacks/{provider}`, without a task, is served where the scheme has keys."""
    open_endpoint: bool = False
    """Whether that endpoint is served without any authentication: everything there is a hint of trust `none`."""
    jwks_url: str | None = None
    """Where its public keys are, where the scheme fetches them; https."""
    confirm: Confirm | None = None
    """What to do where the user does not say; None: `always` below the trust `token`, else `never`."""
    handshakes: frozenset[Handshake] = frozenset()
    """The challenges that its callback endpoints answer."""
    idempotency_window: timedelta | None = None
    """How long the provider honours an Idempotency-Key; None means that a resend buys a second task."""
    result_life: timedelta = timedelta(hours=24)
    """How long result URLs work after completion, where the answer itself does not say."""
    longest: timedelta = timedelta(hours=48)
    """After this a task without a final word is presumed expired."""
    can_cancel: bool = False
    cancel_deletes: bool = False
    """Whether the call that cancels deletes a task that has ended, results and all: then it is asked about first."""
    gives_back: frozenset[TaskState] = frozenset()
    """Ends whose price its documents say that it refunds; of others that is assumed, unless its answer says."""
    retry_window: timedelta | None = None
    """For how long it sends a callback again that got no 2xx; None: not documented."""
    retries: str = ""
    """How it does so, for people: "10 tries in 2 hours"."""
    event_id: str = ""
    """Where its own stable event id stands, for people: "header webhook-id"; empty: it has none."""
    documents: str = ""
    """Where these facts come from: a section of PROVIDERS or a page."""

    @property
    def trust(self) -> Trust:
        """The best grade that its callbacks can reach."""
        if self.scheme is not None:
            return self.scheme.trust
        return Trust.TOKEN if self.pushes and not self.open_endpoint else Trust.NONE

    @property
    def submits(self) -> bool:
        """Whether tasks can be submitted to it."""
        return type(self).build_submission is not Provider.build_submission

    @property
    def fetches(self) -> bool:
        """Whether its tasks can be asked about."""
        return type(self).build_fetch is not Provider.build_fetch

    @property
    def kept_headers(self) -> frozenset[str]:
        """The headers to keep with a callback before all others: what its scheme reads, unless one is a secret."""
        return frozenset(() if self.scheme is None else self.scheme.header_names) - self.secret_headers

    @property
    def secret_headers(self) -> frozenset[str]:
        """The headers that hold the secret itself: never to be kept, whatever the user has called them."""
        if self.scheme is None or self.scheme.trust is not Trust.TOKEN:
            return frozenset()
        return frozenset(self.scheme.header_names)

    def validate(self, form: Form) -> None:
        """Refuse what the provider would refuse, before any money is spent.

        Raises:
            InvalidSubmission: with the provider's code and the field, in the provider's own names.
        """
        raise Unsupported(f"{self.name}: this provider only receives; it cannot submit")

    def checked_form(self, task: Task) -> Form:
        """Give the form of a task that is to be submitted, once it has passed `validate`.

        Raises:
            InvalidSubmission: there is none, or the provider would refuse it.
        """
        if task.form is None:
            raise InvalidSubmission("the task has no form to submit", provider=self.name)
        self.validate(task.form)
        return task.form

    def price(self, form: Form, usd_per_second: Decimal | None) -> int | None:
        """Give the expected price in micro-dollars; None when no rate is known. `usd_per_second` overrides."""
        return None

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

    def authorization(self, api_key: str, now: datetime) -> Mapping[str, str]:
        """Give the headers that authorise our requests. `api_key` is printable ASCII."""
        return {"Authorization": f"Bearer {api_key}"}

    def build_fetch(self, task: Task) -> Request:
        """Build the request that asks how a task stands; its `provider_id` is set.

        Raises:
            Unsupported: this task cannot be asked about, e.g. since its model is not known.
        """
        raise Unsupported(f"{self.name}: tasks cannot be fetched")

    def fetch_status(self, response: Response) -> int:
        """Give the HTTP status that the answer to a fetch means, where a provider says it in the body of a 200."""
        return response.status

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading | Request:
        """Read the 2xx answer to a fetch; a Request is what to ask next, for an answer in two parts (at most twice).

        Raises:
            Unreadable: it is not about a task.
        """
        raise Unsupported(f"{self.name}: tasks cannot be fetched")

    def build_cancel(self, task: Task) -> Request:
        """Build the request that cancels a queued task; its `provider_id` is set."""
        raise Unsupported(f"{self.name}: tasks cannot be cancelled")

    def read_cancellation(self, response: Response, task: Task, now: datetime) -> Reading | None:
        """Read the 2xx answer to a cancellation; None where it does not say how the task stands: then it is asked.

        Raises:
            Unreadable: it is not about a task.
        """
        return None

    def verify(self, headers: Headers, body: bytes, keys: Sequence[Key], now: datetime, tolerance: timedelta) -> Trust:
        """Verify what the provider itself adds to a callback, beyond the token in our URL, which is checked already.

        Gives `token` where the provider adds nothing, or nothing was set up with it.

        Raises:
            Unauthentic: with the flaw and a detail for our log.
        """
        if self.scheme is None or (self.scheme_optional and not keys):
            return Trust.TOKEN
        self.scheme.verify(headers, body, keys, now, tolerance)
        return self.scheme.trust

    def read_callback(self, callback: Callback) -> Reading | Notice:
        """Read an authentic callback: about one task, or a notice about something else.

        Every value is checked for range, NUL and UTF-8: what it returns can be stored.

        Raises:
            Unreadable: it cannot be understood.
        """
        raise Unsupported(f"{self.name}: this provider sends no callbacks")

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a callback as the provider would, with results or an error that fit the status.

        Raises:
            Unsupported: it has no callback for such a status.
        """
        raise Unsupported(f"{self.name}: there is no sample of its callbacks")

"""PURE. A provider that a user describes in ringback.toml: what `custom_table` has read and checked, at work.

It reads callbacks and answers by paths, writes requests from templates, and knows nothing about any service. Called
through `Provider`'s interface; `describe` explains it back to people.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from msgspec import structs

from ringback.errors import SubmissionRefused, Unreadable, Unsupported
from ringback.model import Callback, Form, Notice, Reading, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.custom_description import describe_custom
from ringback.providers.custom_sample import build_custom_sample
from ringback.providers.handshakes import Handshake
from ringback.providers.paths import Path
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.signatures import Scheme
from ringback.providers.templates import NotSetError, Text, UrlPath, clash, fill_body, merge, placeholders

JSON = {"Content-Type": "application/json"}
FORM_FIELDS = ("prompt", "model", "action", "aspect_ratio", "resolution", "duration", "image_urls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the parts of a task stand in a document. Of alternatives the first that is there and not null counts."""

    task_id: tuple[Path, ...] = ()
    status: tuple[Path, ...] = ()
    result_urls: tuple[Path, ...] = ()  # here every alternative counts
    error: tuple[Path, ...] = ()
    error_code: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The request that starts a task."""

    method: str
    path: UrlPath
    headers: Mapping[str, Text]
    body: Any  # what `templates.parse_body` gave; None: no body
    answer_task_id: tuple[Path, ...]

    @property
    def placeholders(self) -> frozenset[str]:
        """What it has a place for."""
        named = (name for text in self.headers.values() for name in text.names)
        return placeholders(self.body).union(self.path.names, named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """The request that asks about a task, and where its answer has what."""

    path: UrlPath
    headers: Mapping[str, Text]
    places: Places


@dataclass(kw_only=True, eq=False)
class Custom(Provider):
    """A provider of the user's own. Its fields add to, or stand in for, those of `Provider`."""

    name: str
    base_url: str = ""
    pushes: bool = True
    scheme: Scheme | None = None
    tolerance: timedelta | None = None
    account_endpoint: bool = False
    open_endpoint: bool = False
    jwks_url: str | None = None
    handshakes: frozenset[Handshake] = frozenset()
    result_life: timedelta = Provider.result_life
    retry_window: timedelta | None = None
    event_id: str = ""
    documents: str = "ringback.toml"
    places: Places
    event_ids: tuple[Path | str, ...] = ()  # a str is the name of a header
    event_types: tuple[Path, ...] = ()
    own_words: Mapping[str, TaskState] = field(default_factory=dict)  # in lower case
    result_kind: str = "file"
    credentials: str = "bearer"
    submission: Submission | None = None
    fetch: Fetch | None = None

    @property
    def submits(self) -> bool:
        """Whether tasks can be submitted to it."""
        return self.submission is not None

    @property
    def fetches(self) -> bool:
        """Whether its tasks can be asked about."""
        return self.fetch is not None

    @property
    def kept_headers(self) -> frozenset[str]:
        """The headers that have to be kept with a callback, since its event id stands there."""
        return frozenset(place for place in self.event_ids if isinstance(place, str))

    @cached_property
    def words(self) -> Mapping[str, TaskState]:
        """What its status words mean: the user's own above the usual ones."""
        return reading.STATUS_WORDS | dict(self.own_words)

    def authorization(self, api_key: str, now: datetime) -> Mapping[str, str]:
        """Give the header that authorises our requests; for `basic` the key is `user:password`, or a user alone."""
        if self.credentials == "bearer":
            return {"Authorization": f"Bearer {api_key}"}
        if self.credentials == "key":
            return {"Authorization": f"Key {api_key}"}
        if self.credentials == "basic":
            pair = api_key if ":" in api_key else f"{api_key}:"
            return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
        return {self.credentials.removeprefix("header:"): api_key}

    def validate(self, form: Form) -> None:
        """Refuse what cannot be sent as JSON, and what the template has no place for."""
        if self.submission is None:
            raise Unsupported(f"{self.name}: this provider only receives; it cannot submit")
        dialect = self._dialect
        # A template may name the model itself, so that a form without one is in order here.
        forms.check_form(form if form.model else structs.replace(form, model="-"), dialect, frozenset())
        known = self.submission.placeholders
        for name in FORM_FIELDS:
            if getattr(form, name) and name not in known:
                raise dialect.refuse(name, f"{name} has no place in the template [providers.{self.name}.submit]")
        if form.callback_events:
            raise dialect.refuse("callback_events", "callback_events have no place in a template; leave them out")
        if form.extra and self.submission.body is None:
            raise dialect.refuse("extra", "extra has no place: the template has no body")
        if (taken := clash(self.submission.body, form.extra)) is not None:
            raise dialect.refuse(taken, f"{taken} cannot be given as an extra: the form or Ringback sets it")
        self._fill(self.submission, form, "task", "https://callback.invalid")

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Fill in the template; `extra` is put on top of its body."""
        if self.submission is None:
            return super().build_submission(task, callback_url)
        form = self.checked_form(task)
        return self._fill(self.submission, form, task.id, callback_url)

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the task id out of the answer. Its status is not read: it often speaks of the request, not the task."""
        if self.submission is None:
            return super().read_acceptance(response, now)
        if 400 <= response.status < 500:
            self._refuse(response)
        paths = self.submission.answer_task_id
        return reading.acceptance(
            self.name,
            response,
            ("id",),
            lambda answered: {"id": _plain(first(paths, answered))},
            lambda task: Reading(status=TaskState.SUBMITTED, provider_id=reading.identify(task, ("id",))),
        )

    def build_fetch(self, task: Task) -> Request:
        """Fill in the template; an id that could climb out of the path is refused."""
        if self.fetch is None:
            return super().build_fetch(task)
        values = {
            "provider_id": reading.identify({"id": task.provider_id}, ("id",)),
            "task_id": task.id,
            "model": task.form.model or None if task.form else None,
        }
        try:
            path = self.fetch.path.fill(values)
            headers = {name: text.fill(values) for name, text in self.fetch.headers.items()}
        except NotSetError as error:
            raise Unsupported(
                f"{self.name}: {error.name} of {task.id} is not known, and fetching it needs it"
            ) from None
        except ValueError as error:
            raise Unsupported(f"{self.name}: {task.id} cannot be fetched: {error}") from None
        return Request(method="GET", path=path, headers=headers)

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to a fetch; one that leaves the id out is about the task that was asked about."""
        if self.fetch is None:
            raise Unsupported(f"{self.name}: tasks cannot be fetched")
        answered = reading.answer(response)
        found = first(self.fetch.places.task_id, answered)
        return self._read(answered, self.fetch.places, task.provider_id if found is None else found, None, now)

    def read_callback(self, callback: Callback) -> Reading | Notice:
        """Read a callback; where no task id is in it, but an event id or type is, it is a notice."""
        said = reading.document(callback.body)
        event_id = self._event_id(said, callback)
        found = first(self.places.task_id, said)
        if found is not None:
            return self._read(said, self.places, found, event_id, callback.received_at)
        kind = reading.code(first(self.event_types, said))
        if event_id is None and kind is None:
            raise Unreadable(f"expected a task id under {written(self.places.task_id)}, got none")
        return Notice(event_id=event_id, type=kind)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a callback that its own paths read back: the first alternative of each is there."""
        return build_custom_sample(self, provider_id, status, now)

    @property
    def _dialect(self) -> forms.Dialect:
        return forms.Dialect(provider=self.name, invalid="invalid", missing="missing")

    def _fill(self, template: Submission, form: Form, task_id: str, callback_url: str | None) -> Request:
        values = {name: getattr(form, name) or None for name in FORM_FIELDS} | {
            "prompt": None if forms.is_blank(form.prompt) else form.prompt,
            "duration": form.duration,
            "image_urls": list(form.image_urls) or None,
            "callback_url": callback_url,
            "task_id": task_id,
        }
        try:
            path = template.path.fill(values)
            body = None if template.body is None else merge(fill_body(template.body, values), form.extra)
            headers = {name: text.fill(values) for name, text in template.headers.items() if _is_set(text, values)}
        except NotSetError as error:
            hint = "; set RINGBACK_PUBLIC_URL" if error.name == "callback_url" else ""
            message = f"{error.name} is required: the template [providers.{self.name}.submit] writes it into a text"
            raise self._dialect.refuse(error.name, message + hint, "missing") from None
        except ValueError as error:
            raise self._dialect.refuse("path", str(error)) from None
        if body is None:
            return Request(method=template.method, path=path, headers=headers)
        return Request(method=template.method, path=path, body=forms.encode(body), headers=JSON | headers)

    def _read(self, said: Any, places: Places, task_id: Any, event_id: str | None, now: datetime) -> Reading:
        provider_id = reading.identify({"id": _plain(task_id)}, ("id",))
        word = first(places.status, said)
        if word is None:
            raise Unreadable(f"expected a status under {written(places.status)}, got none")
        status = reading.state(_plain(word), self.words)
        values = (value for path in places.result_urls for value in path.all(said))
        media = (entry for value in values for entry in reading.media(value, self.result_kind))
        found = reading.results(media, now + self.result_life) if status is TaskState.COMPLETED else ()
        return reading.conclude(status, provider_id, event_id=event_id, found=found, error=_error(said, places))

    def _refuse(self, response: Response) -> None:
        """Tell why a submission was refused where the table says where that stands; else the usual places are read."""
        try:
            error = reading.task_error(_error(reading.document(response.body), self.places))
        except Unreadable:
            return
        if error is not None:
            raise SubmissionRefused(error.message, provider=self.name, code=error.code)

    def _event_id(self, said: Any, callback: Callback) -> str | None:
        for place in self.event_ids:
            found = reading.header(callback, place) if isinstance(place, str) else _visible(place.first(said))
            if found is not None:
                return found
        return None


def first(paths: Iterable[Path], document: Any) -> Any | None:
    """Give the first value, of the first path that has one."""
    return next((value for path in paths if (value := path.first(document)) is not None), None)


def written(places: Iterable[Path | str]) -> str:
    """Name paths, and headers, for people."""
    return " or ".join(f"header {place}" if isinstance(place, str) else str(place) for place in places)


def describe(provider: Provider) -> list[tuple[str, str]]:
    """Explain a custom provider back in words: what was understood of its table, as (name, value), without secrets.

    Another provider has no rows.
    """
    return describe_custom(provider) if isinstance(provider, Custom) else []


def _plain(value: Any) -> Any:
    """Write a whole number or a boolean as text: ids and status words come as either."""
    if type(value) is bool:
        return str(value).lower()
    return str(value) if type(value) is int else value


def _visible(value: Any) -> str | None:
    """Keep an event id only as it is: one that was cut would be somebody else's."""
    text = _plain(value)
    is_whole = type(text) is str and len(text) <= reading.MAX_CODE and reading.VISIBLE.fullmatch(text)
    return text if is_whole else None


def _error(said: Any, places: Places) -> Any:
    """Find the error for `reading.task_error`, its code put in where that stands elsewhere."""
    error, code = first(places.error, said), first(places.error_code, said)
    if code is None:
        return error
    return (error if type(error) is dict else {"message": error}) | {"code": code}


def _is_set(text: Text, values: Mapping[str, Any]) -> bool:
    return text.sole is None or values.get(text.sole) is not None

"""Qingbo (QWave, WaveAPI): submits with a callback_url, pushes the terminal state, unsigned.

Sources: `shared seed 004…` (the provider's page about Grok Imagine) and `PROVIDERS A` (its other documents, with what
contradicts what). Its push format is not published: `_unwrap` takes every shape that was ever shown. Pure.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec import structs

from ringback.errors import Unreadable, Unsupported
from ringback.lifecycle import is_terminal
from ringback.model import Callback, Form, Reading, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.qingbo_usual import charged, read_usual

# shared seed 004…, "Pricing": flat across resolutions.
USD_PER_SECOND = Decimal("0.0074375")
# PROVIDERS A: the values of callback_events differ by page; these are the words of its states.
EVENT_WORDS = {"completed": "completed", "failed": "failed", "cancelled": "cancelled", "progressed": "processing"}
STATUS_OF_STATE = {
    TaskState.SUBMITTED: "queued",
    TaskState.PROCESSING: "processing",
    TaskState.COMPLETED: "completed",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "cancelled",
}
ACTIONS = ("generate", "image2video")
RESULT_LISTS = (("videos", "video"), ("images", "image"), ("audios", "audio"))
ID_KEYS = ("task_id", "id")
WRAPPERS = ("data", "task")
# What an envelope does not say of the task inside: `id` may be the event's, and `status` the request's own, unless a
# task_id stands beside it.
ENVELOPE_ONLY = frozenset({*WRAPPERS, "id"})
SAMPLE_URL = "https://example.com/sample.mp4"  # nobody shall fetch a stranger's file

DIALECT = forms.Dialect(provider="qingbo", invalid="invalid_request", missing="invalid_request")
FORM_KEYS = frozenset(
    {"model", "action", "prompt", "aspect_ratio", "resolution", "duration", "image_urls", "callback_url"}
)


class Qingbo(Provider):
    """Qingbo's task API."""

    name = "qingbo"
    base_url = "https://www.qingbo.dev/v1"
    models = (forms.GROK,)
    pushes = True
    documents = "shared seed 004… and PROVIDERS A"
    idempotency_window = timedelta(hours=24)
    result_life = timedelta(hours=24)
    can_cancel = True

    def validate(self, form: Form) -> None:
        """Refuse what shared seed 004… does not allow; models other than its own are only checked for types."""
        reserved = FORM_KEYS | {"callback_events"} if form.callback_events else FORM_KEYS
        forms.check_form(form, DIALECT, reserved)
        _provider_events(form)
        if form.extra.get("extra"):  # PROVIDERS A: a non-empty `extra` gets 400 capability_violation
            raise DIALECT.refuse("extra", "the parameter extra is not supported", "capability_violation")
        if form.model == forms.GROK:
            _check_action(form)
            forms.check_grok(form, DIALECT)

    def price(self, form: Form, usd_per_second: Decimal | None) -> int | None:
        """Multiply the rate by the duration (shared seed 004…); the rate is known for Grok only."""
        rate = usd_per_second if usd_per_second is not None else USD_PER_SECOND if form.model == forms.GROK else None
        seconds = forms.seconds_of(form)
        return None if rate is None or seconds is None else forms.microdollars(rate * seconds)

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /tasks (shared seed 004…) with the Idempotency-Key of PROVIDERS A: our task id."""
        form = self.checked_form(task)
        headers = {"Content-Type": "application/json", "Idempotency-Key": task.id}
        body = forms.encode(_submission(form, callback_url))
        return Request(method="POST", path="/tasks", body=body, headers=headers)

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to POST /tasks; with `Prefer: wait` or a repeated key it may be terminal (PROVIDERS A)."""
        return reading.acceptance(self.name, response, ID_KEYS, _unwrap, lambda task: self._read(task, now))

    def build_fetch(self, task: Task) -> Request:
        """Build GET /tasks/{id}."""
        return Request(method="GET", path=_task_path(task.provider_id))

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to GET /tasks/{id}."""
        return self._read(_unwrap(reading.answer(response)), now)

    def build_cancel(self, task: Task) -> Request:
        """Build POST /tasks/{id}/cancel; PROVIDERS A: only queued tasks, else 400 task_not_cancellable."""
        return Request(method="POST", path=_task_path(task.provider_id) + "/cancel")

    def read_cancellation(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read task_id, status and `refunded`; PROVIDERS A: a refunded task costs 0."""
        said = _unwrap(reading.answer(response))
        read = self._read(said, now)
        return structs.replace(read, charged_microdollars=0) if said.get("refunded") is True else read

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push in any of the shapes in PROVIDERS A."""
        usual = read_usual(callback.body, callback.received_at, self.result_life)
        return usual or self._read(_unwrap(reading.document(callback.body)), callback.received_at)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write the task object of GET /tasks/{id} (PROVIDERS A), times in ms: the likeliest of the unpublished pushes.

        Raises:
            Unsupported: for `pending` and `expired`, which are no states of its tasks.
        """
        word = STATUS_OF_STATE.get(status)
        if word is None:
            raise Unsupported(f"qingbo has no status for {status}: its tasks are {', '.join(STATUS_OF_STATE)}")
        return Sample(body=forms.encode(_sample(provider_id, word, now, self.result_life)))

    def _read(self, task: dict[str, Any], now: datetime) -> Reading:
        """Read a task object. A result without `expires_at` gets completion (else `now`) + `result_life`: an estimate.

        PROVIDERS A: "trust only expires_at"; the pages promise from 24 hours to 7 days, so this is the shortest.
        """
        provider_id, status = reading.identify(task, ID_KEYS), _status(task)
        done = reading.progress(task.get("progress"))
        if not is_terminal(status):
            return Reading(status=status, provider_id=provider_id, progress=done)
        cost = charged(task.get("cost"))
        if status is not TaskState.COMPLETED:
            error = reading.task_error(task.get("error"))
            return Reading(
                status=status, provider_id=provider_id, error=error, progress=done, charged_microdollars=cost
            )
        since = min(reading.moment_of(task.get("completed_at")) or now, now)
        found = reading.results(_results(task.get("result")), since + self.result_life)
        return Reading(status=status, provider_id=provider_id, results=found, progress=done, charged_microdollars=cost)


def _check_action(form: Form) -> None:
    """Shared seed 004…: two actions; image_urls alone trigger I2V, so only image2video without them contradicts."""
    if form.action is not None and form.action not in ACTIONS:
        raise DIALECT.refuse("action", f'invalid action "{form.action[:60]}" (allowed: {" / ".join(ACTIONS)})')
    if form.action == "image2video" and not form.image_urls:
        raise DIALECT.refuse("image_urls", "image2video needs at least one image_urls entry")


def _provider_events(form: Form) -> list[str]:
    """Translate our words for callback_events into the provider's."""
    return [EVENT_WORDS[word] for word in forms.check_events(form, DIALECT, EVENT_WORDS)]


def _submission(form: Form, callback_url: str | None) -> dict[str, Any]:
    """Give the request body: only what the user set, the action that image_urls imply, and our callback."""
    implied = "image2video" if form.image_urls and form.model == forms.GROK else None
    fields = {
        "model": form.model,
        "action": form.action or implied,
        "prompt": None if forms.is_blank(form.prompt) else form.prompt,
        "aspect_ratio": form.aspect_ratio,
        "resolution": form.resolution,
        "duration": form.duration,
        "image_urls": list(form.image_urls) or None,
        "callback_url": callback_url,
        "callback_events": (_provider_events(form) if callback_url else None) or None,
    }
    return {key: value for key, value in fields.items() if value is not None} | form.extra


def _sample(provider_id: str, word: str, now: datetime, life: timedelta) -> dict[str, Any]:
    """Give a task object that began a minute ago; `word` is the provider's. A failure is refunded: it costs 0."""
    milliseconds, cost = int(now.timestamp() * 1000), 22_312  # 6 seconds at the rate above, 500,000 quota = $1
    task = {
        "task_id": provider_id,
        "model": forms.GROK,
        "action": "generate",
        "status": word,
        "created_at": milliseconds - 60_000,
        "progress": {"queued": 0, "processing": 45, "completed": 100}.get(word, 0),
        "pre_consumed_cost": cost,
    }
    if word in ("queued", "processing"):
        return task
    task |= {"completed_at": milliseconds, "cost": cost if word == "completed" else 0}
    if word == "completed":
        video = {"url": [SAMPLE_URL], "expires_at": int((now + life).timestamp())}
        return task | {"result": {"videos": [video]}, "billing_status": "settled"}
    if word == "failed":
        return task | {"error": {"code": "upstream_unavailable", "message": "the upstream provider is unavailable"}}
    return task


def _task_path(provider_id: str | None) -> str:
    """Give the path of one task; an id that could climb out of it is refused."""
    return f"/tasks/{reading.path_id(provider_id)}"


def _unwrap(document: dict[str, Any]) -> dict[str, Any]:
    """Find the task: at top level, in an `event` envelope, or under `data` or `task`, wrapped at most twice.

    The inside wins; what it leaves out (the id, the event, the results) may stand outside.
    """
    for _ in range(2):
        if "status" in document and type(document.get("result")) is dict:
            break
        inner = next((found for key in WRAPPERS if type(found := document.get(key)) is dict and found), None)
        if inner is None:
            break
        dropped = ENVELOPE_ONLY if "task_id" in document else ENVELOPE_ONLY | {"status"}
        document = {key: value for key, value in document.items() if key not in dropped} | inner
    return document


def _status(task: dict[str, Any]) -> TaskState:
    """Read `status`, or where it is missing the ending of `event` ("task.completed", PROVIDERS A)."""
    word, event = task.get("status"), task.get("event")
    told = reading.STATUS_WORDS.get(event.rpartition(".")[2].lower()) if type(event) is str else None
    if word is None and told is not None:
        return told
    status = reading.state(word)
    if told is not None and told is not status:
        raise Unreadable(f"the event says {told} but the status says {status}")
    return status


def _results(result: Any) -> Iterator[tuple[str, Any, Any]]:
    """Walk `videos|images|audios[].url`, a text or a list of them, and the older `video_url` (PROVIDERS A)."""
    if type(result) is not dict:
        return
    for key, kind in RESULT_LISTS:
        entries = result.get(key)
        for entry in entries if type(entries) is list else ():
            if type(entry) is dict:
                urls, expires_at = entry.get("url"), entry.get("expires_at")
                for url in urls if type(urls) is list else (urls,):
                    yield kind, url, expires_at
    yield "video", result.get("video_url"), result.get("expires_at")

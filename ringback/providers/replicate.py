"""Replicate: submits predictions with a webhook each; pushes the whole prediction, signed by Standard Webhooks.

Sources: PROVIDERS C; replicate.com/docs/topics/webhooks (receive-webhook, verify-webhook),
…/topics/predictions/lifecycle and …/reference/http. Its last retry comes about a minute after the end, and its files
live for an hour: a push that was missed must be fetched soon. No Idempotency-Key is documented. Pure.
"""

import re
from datetime import datetime, timedelta
from typing import Any

from ringback.errors import Unsupported
from ringback.model import Callback, Form, Reading, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.signatures.standard import StandardWebhooks

ID_KEYS = ("id",)
# …/topics/predictions/lifecycle. `aborted`: its deadline passed before it could start.
STATUS_WORDS = reading.STATUS_WORDS | {"starting": TaskState.SUBMITTED, "aborted": TaskState.EXPIRED}
SAMPLE_WORDS = {
    TaskState.SUBMITTED: "starting",
    TaskState.PROCESSING: "processing",
    TaskState.COMPLETED: "succeeded",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "canceled",
    TaskState.EXPIRED: "aborted",
}
# Every end is its `completed`; `logs` is never asked for, since it can come twice a second and says no new status.
EVENT_WORDS = {
    "completed": ("completed",),
    "failed": ("completed",),
    "cancelled": ("completed",),
    "progressed": ("start", "output"),
}
DEFAULT_EVENTS = ("completed",)
VERSION = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*:)?([0-9a-f]{64})")
MODEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)/([A-Za-z0-9][A-Za-z0-9._-]*)")

DIALECT = forms.Dialect(provider="replicate", invalid="invalid", missing="missing")
INPUT_FIELDS = ("prompt", "aspect_ratio", "resolution", "duration")


class Replicate(Provider):
    """Replicate's predictions."""

    name = "replicate"
    base_url = "https://api.replicate.com/v1"
    scheme = StandardWebhooks()
    account_endpoint = True  # for predictions that other programs start, all signed with the account's secret
    result_life = timedelta(hours=1)
    can_cancel = True
    retry_window = timedelta(minutes=1)
    retries = "only the last one of a prediction: several times, until about 1 min after its end"
    event_id = "header webhook-id"
    documents = "PROVIDERS C and replicate.com/docs/topics/webhooks"

    def validate(self, form: Form) -> None:
        """Refuse what cannot be sent; what a model takes is known to Replicate alone.

        The model is `owner/name`, `owner/name:version` or a version of 64 hex digits.
        """
        forms.check_form(form, DIALECT, _reserved(form))
        if not (MODEL.fullmatch(form.model) or VERSION.fullmatch(form.model)):
            raise DIALECT.refuse("model", "model must be owner/name, owner/name:version or a version of 64 hex digits")
        if form.action is not None:
            raise DIALECT.refuse("action", "Replicate has no actions: the model decides; leave action out")
        if len(form.image_urls) > 1:
            message = "models differ in what several images are called; give them as an extra in the model's own name"
            raise DIALECT.refuse("image_urls", message)
        _events(form)

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /predictions for a version, POST /models/{owner}/{name}/predictions for a model.

        Prompt, aspect_ratio, resolution, duration and one image (as `image`) go into `input` under these names, and
        the extras beside them; only `webhook_events_filter` among the extras stands outside.
        """
        form = self.checked_form(task)
        version, model = VERSION.fullmatch(form.model), MODEL.fullmatch(form.model)
        path = f"/models/{model[1]}/{model[2]}/predictions" if model else "/predictions"
        body = _submission(form, version[1] if version else None, callback_url)
        return Request(method="POST", path=path, body=forms.encode(body), headers={"Content-Type": "application/json"})

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission: 201 with the prediction; a refusal is {title, detail, status}."""
        return reading.acceptance(self.name, response, ID_KEYS, lambda found: found, lambda task: self._read(task, now))

    def build_fetch(self, task: Task) -> Request:
        """Build GET /predictions/{id}."""
        return Request(method="GET", path=_prediction_path(task))

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to a fetch."""
        return self._read(reading.answer(response), now)

    def build_cancel(self, task: Task) -> Request:
        """Build POST /predictions/{id}/cancel."""
        return Request(method="POST", path=_prediction_path(task) + "/cancel")

    def read_cancellation(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the prediction, as a fetch gives it."""
        return self.read_task(response, task, now)

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push: the prediction as GET gives it, with an id of its own in webhook-id, the same over retries."""
        event_id = reading.header(callback, "webhook-id", "svix-id")
        return self._read(reading.document(callback.body), callback.received_at, event_id)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a prediction as it is pushed."""
        word = SAMPLE_WORDS.get(status)
        if word is None:
            raise Unsupported(f"{self.name}: it sends nothing about a {status} prediction")
        ended = status not in (TaskState.SUBMITTED, TaskState.PROCESSING)
        prediction = {
            "id": provider_id,
            "status": word,
            "input": {"prompt": "a sample"},
            "output": [f"https://files.example/{provider_id}/0.mp4"] if status is TaskState.COMPLETED else None,
            "error": "a sample of a failure" if status is TaskState.FAILED else None,
            "created_at": now.isoformat(),
            "completed_at": now.isoformat() if ended else None,
        }
        return Sample(body=forms.encode(prediction))

    def _read(self, task: dict[str, Any], now: datetime, event_id: str | None = None) -> Reading:
        """Read a prediction; `output` is a text, a list or an object, and of it only URLs are results."""
        provider_id = reading.identify(task, ID_KEYS)
        status = reading.state(task.get("status"), STATUS_WORDS)
        expiry = reading.estimate(task.get("completed_at"), now, self.result_life)
        found = reading.results(reading.media(task.get("output")), expiry)
        return reading.conclude(status, provider_id, event_id=event_id, found=found, error=task.get("error"))


def _reserved(form: Form) -> set[str]:
    """Name the extras that would hide what the form or Ringback sets."""
    reserved = {*INPUT_FIELDS, "webhook"}
    if form.image_urls:
        reserved.add("image")
    if form.callback_events:
        reserved.add("webhook_events_filter")
    return reserved


def _events(form: Form) -> list[str]:
    """Translate our words for callback_events into the provider's."""
    words = forms.check_events(form, DIALECT, EVENT_WORDS)
    return list(dict.fromkeys(event for word in words for event in EVENT_WORDS[word])) or list(DEFAULT_EVENTS)


def _submission(form: Form, version: str | None, callback_url: str | None) -> dict[str, Any]:
    """Give the request body: only what the user set, and our webhook."""
    fields = {name: getattr(form, name) for name in INPUT_FIELDS}
    fields["image"] = form.image_urls[0] if form.image_urls else None
    fields["prompt"] = None if forms.is_blank(form.prompt) else form.prompt
    given = {key: value for key, value in fields.items() if value is not None}
    extra = dict(form.extra)
    filtered = extra.pop("webhook_events_filter", None) or _events(form)
    body: dict[str, Any] = {"version": version} if version else {}
    body["input"] = given | extra
    if callback_url:
        body |= {"webhook": callback_url, "webhook_events_filter": filtered}
    return body


def _prediction_path(task: Task) -> str:
    """Give the path of one prediction; an id that could climb out of it is refused."""
    return f"/predictions/{reading.path_id(task.provider_id)}"

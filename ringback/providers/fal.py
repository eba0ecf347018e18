"""fal: submits to a queue per model, pushes the end, signed with Ed25519.

Sources: `PROVIDERS C` and docs.fal.ai (model-endpoints/webhooks, model-endpoints/queue, model-apis/request-errors). The
payload is whatever the model gives, so results are found by their shape: objects with a `url`. Pure.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from ringback.errors import Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Task, TaskError, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.signatures.ed25519 import Ed25519Lines

PUSHED = {"ok": TaskState.COMPLETED, "error": TaskState.FAILED}  # not the words of the queue
QUEUED = {"in_queue": TaskState.SUBMITTED, "in_progress": TaskState.PROCESSING, "completed": TaskState.COMPLETED}
# What only the queue's own answer has beside its status; a model's output may have a `status`, too.
QUEUE_MARKS = frozenset({"request_id", "response_url", "status_url", "queue_position", "logs"})
CANCELLED = "client_cancelled"  # model-apis/request-errors
ID_HEADER = "x-fal-webhook-request-id"
ID_KEYS = ("request_id",)

MODEL = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
NAMESPACES = frozenset({"workflows", "comfy"})  # fal-ai/fal, fal_client/client.py: these come before the owner

DIALECT = forms.Dialect(provider="fal", invalid="", missing="")
UNUSED = {
    "action": "fal has no actions, the model's path says what to do; leave the action out",
    "callback_events": "fal has no filter of events; leave callback_events out",
    "duration": "each model of fal writes a duration in its own way: give it as an extra, as the model's page says",
}


class Fal(Provider):
    """fal's queue. The model is its endpoint, `owner/app` and a path: `fal-ai/flux/dev`.

    A task is asked about under its app, so one that only a callback made known cannot be. Callbacks are served at
    per-task URLs only: fal signs those of all its customers with the same keys, and without the token any of them could
    send us theirs.
    """

    name = "fal"
    base_url = "https://queue.fal.run"
    models = ("fal-ai/flux/dev",)
    scheme = Ed25519Lines(
        id_header=ID_HEADER,
        user_header="x-fal-webhook-user-id",
        timestamp_header="x-fal-webhook-timestamp",
        signature_header="x-fal-webhook-signature",
    )
    jwks_url = "https://rest.fal.ai/.well-known/jwks.json"
    result_life = timedelta(days=7)  # PROVIDERS C: at least
    can_cancel = True
    retry_window = timedelta(hours=2)
    retries = "10 tries in 2 hours, 15 s each"
    documents = "PROVIDERS C and docs.fal.ai"

    def validate(self, form: Form) -> None:
        """Refuse what is no endpoint, and what no field is known for; each model checks its own input."""
        forms.check_form(form, DIALECT, {"fal_webhook"})
        for key in _input(form).keys() & form.extra.keys():
            raise DIALECT.refuse(key, f"{key} is given twice: as a field and as an extra")
        for field, reason in UNUSED.items():
            if getattr(form, field):
                raise DIALECT.refuse(field, reason)
        if _app_of(form.model) is None:
            message = f"expected owner/app and a path, such as {self.models[0]}, got {reading.shape(form.model)}"
            raise DIALECT.refuse("model", message)

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /{model}?fal_webhook=…; the body is the model's input."""
        form = self.checked_form(task)
        query = f"?fal_webhook={quote(callback_url, safe='')}" if callback_url else ""
        body = forms.encode(_input(form) | form.extra)
        headers = {"Content-Type": "application/json"}
        return Request(method="POST", path=f"/{form.model}{query}", body=body, headers=headers)

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission; whatever it says of the status, its results must be fetched."""
        return reading.acceptance(self.name, response, ID_KEYS, lambda found: found, _accepted)

    def authorization(self, api_key: str, now: datetime) -> dict[str, str]:
        """Give `Authorization: Key …`."""
        return {"Authorization": f"Key {api_key}"}

    def build_fetch(self, task: Task) -> Request:
        """Build GET /{app}/requests/{id}/status."""
        return Request(method="GET", path=_request_path(task) + "/status")

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading | Request:
        """Read the status; once it is completed the results are asked for, and read as well.

        The status of a failed request is COMPLETED with an `error`.
        """
        said = reading.answer(response)
        word = said.get("status")
        if type(word) is not str or word.lower() not in QUEUED or QUEUE_MARKS.isdisjoint(said):
            return self._done(said, task.provider_id, now)
        provider_id = reading.identify({"request_id": said.get("request_id") or task.provider_id}, ID_KEYS)
        if (status := reading.state(word, QUEUED)) is not TaskState.COMPLETED:
            return Reading(status=status, provider_id=provider_id)
        if said.get("error"):
            return _failed(said, provider_id)
        return Request(method="GET", path=_request_path(task))

    def build_cancel(self, task: Task) -> Request:
        """Build PUT /{app}/requests/{id}/cancel; only for what has not begun."""
        return Request(method="PUT", path=_request_path(task) + "/cancel")

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push.

        Raises:
            Unreadable: among others where it says OK without a payload, which fal could not write as JSON
                (`payload_error`): taken as completed, the results would be lost; so the poller still asks for them.
        """
        said = reading.document(callback.body)
        provider_id = reading.identify(said, ID_KEYS)
        if (named := reading.header(callback, ID_HEADER)) is not None and named != provider_id:
            raise Unreadable(f"the header {ID_HEADER} names another request than the body")
        if reading.state(said.get("status"), PUSHED) is TaskState.FAILED:
            return _failed(said, provider_id)
        if said.get("payload") is None:
            raise Unreadable("completed, but the payload was left out; its results must be fetched")
        return self._done(said["payload"], provider_id, callback.received_at)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a push as on model-endpoints/webhooks; fal pushes the end only."""
        said: dict[str, Any] = {"request_id": provider_id, "gateway_request_id": provider_id, "error": None}
        if status is TaskState.COMPLETED:
            image = {"url": "https://v3.fal.media/files/sample.png", "content_type": "image/png"}
            said |= {"status": "OK", "payload": {"images": [image], "seed": 1}}
        elif status is TaskState.FAILED:
            fault = {"loc": ["body", "prompt"], "msg": "field required", "type": "value_error.missing"}
            said |= {"status": "ERROR", "error": "Invalid status code: 422", "payload": {"detail": [fault]}}
        else:
            raise Unsupported(f"fal pushes completed and failed only, not {status}")
        return Sample(body=msgspec.json.encode(said))

    def _done(self, payload: Any, provider_id: str | None, now: datetime) -> Reading:
        found = reading.results(_files(payload), now + self.result_life)
        return Reading(status=TaskState.COMPLETED, provider_id=provider_id, results=found)


def _accepted(task: dict[str, Any]) -> Reading:
    return Reading(status=TaskState.SUBMITTED, provider_id=reading.identify(task, ID_KEYS))


def _input(form: Form) -> dict[str, Any]:
    """Give the model's input: one image as image_url, several as image_urls, the rest under our own names."""
    one = len(form.image_urls) == 1
    fields = {
        "prompt": None if forms.is_blank(form.prompt) else form.prompt,
        "image_url": form.image_urls[0] if one else None,
        "image_urls": None if one else list(form.image_urls) or None,
        "aspect_ratio": form.aspect_ratio,
        "resolution": form.resolution,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _app_of(model: str | None) -> str | None:
    """Give the app of an endpoint: owner and name, behind a namespace; None where it is no endpoint."""
    if model is None or not MODEL.fullmatch(model):
        return None
    parts = model.split("/")
    length = 3 if parts[0] in NAMESPACES else 2
    return "/".join(parts[:length]) if len(parts) >= length else None


def _request_path(task: Task) -> str:
    """Give the path of one request: under its app, not under the model's whole path (model-endpoints/queue)."""
    app = _app_of(task.form.model if task.form else None)
    if app is None:
        raise Unsupported("fal: a request can be asked about only under its model, which is not known")
    return f"/{app}/requests/{reading.path_id(task.provider_id)}"


def _failed(said: dict[str, Any], provider_id: str) -> Reading:
    """Read an error: `error` says little ("Invalid status code: 422"), the payload's `detail` more."""
    payload = said["payload"] if type(said.get("payload")) is dict else {}
    faults = payload.get("detail")
    first = faults[0] if type(faults) is list and faults and type(faults[0]) is dict else {}
    parts = [reading.text(said.get("error"), reading.MAX_MESSAGE), reading.detail(faults)]
    code = reading.code(payload.get("error_type") or said.get("error_type") or first.get("type"))
    message = reading.text(": ".join(part for part in parts if part), reading.MAX_MESSAGE) or code
    status = TaskState.CANCELLED if code == CANCELLED else TaskState.FAILED
    error = TaskError(message=message, code=code) if message else None
    return Reading(status=status, provider_id=provider_id, error=error)


def _files(value: Any, key: str = "", depth: int = reading.MAX_DEPTH) -> Iterator[tuple[str, Any, Any]]:
    """Walk the objects that have a `url`, in their order; the key above them may tell what they are."""
    if type(value) is list and depth:
        for item in value:
            yield from _files(item, key, depth - 1)
    elif type(value) is dict and depth:
        if type(url := value.get("url")) is str:
            yield _kind(value.get("content_type"), key, url), url, None
        for name, item in value.items():
            yield from _files(item, name, depth - 1)


def _kind(content_type: Any, key: str, url: str) -> str:
    """Tell what a file is by its content type, else by the key above it (`video`, `images`), else by its ending."""
    said = content_type.partition("/")[0].lower() if type(content_type) is str else ""
    kinds = tuple(reading.ENDINGS)
    named = next((kind for kind in kinds if kind in key.lower()), None)
    return said if said in kinds else named or reading.kind_of(url) or "file"

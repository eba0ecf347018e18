"""WaveSpeed: submits with the webhook in the query; pushes the end of a prediction, signed in its own dialect.

Sources: PROVIDERS C; wavespeed.ai/docs (submit-task, get-result, how-to-use-webhooks, verify-webhooks,
how-wavespeedai-works). The signature has the headers of Standard Webhooks, but entries `v3,` in hex, and its key is
the text after `whsec_`, not decoded. The sample vector on its page does not verify, so no test is made of it. Its
pages name both `webhook=` in the query and `webhook_url` in the body; the page about webhooks has the query. Pure.
"""

import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from ringback.errors import Unsupported
from ringback.model import Callback, Form, Reading, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.signatures.standard import StandardWebhooks

ID_KEYS = ("id",)
# wavespeed.ai/docs/what-are-predictions
STATUS_WORDS = reading.STATUS_WORDS | {"created": TaskState.SUBMITTED, "pending": TaskState.SUBMITTED}
SAMPLE_WORDS = {TaskState.COMPLETED: "completed", TaskState.FAILED: "failed"}
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*){1,7}")

DIALECT = forms.Dialect(provider="wavespeed", invalid="400", missing="400")
BODY_FIELDS = ("prompt", "aspect_ratio", "resolution", "duration")


class WaveSpeed(Provider):
    """WaveSpeedAI's predictions."""

    name = "wavespeed"
    base_url = "https://api.wavespeed.ai/api/v3"
    scheme = StandardWebhooks(version="v3", encoding="hex", secret="text")  # noqa: S106 -- a form, not a secret
    account_endpoint = True
    result_life = timedelta(days=7)
    retries = "not documented"
    event_id = "header webhook-id"
    documents = "PROVIDERS C and wavespeed.ai/docs"

    def validate(self, form: Form) -> None:
        """Refuse what cannot be sent; what a model takes is known to WaveSpeed alone. A model is a path: `a/b/c`."""
        forms.check_form(form, DIALECT, _reserved(form))
        if not MODEL.fullmatch(form.model):
            raise DIALECT.refuse("model", "model must be a path such as wavespeed-ai/flux-dev")
        if form.action is not None:
            raise DIALECT.refuse("action", "WaveSpeed has no actions: the model decides; leave action out")
        if form.callback_events:
            message = "WaveSpeed calls back at the end of every task and has no filter; leave callback_events out"
            raise DIALECT.refuse("callback_events", message)

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /{model}?webhook=….

        The body has the form's fields under their own names; one image is `image`, several are `images`; extras
        stand beside them.
        """
        form = self.checked_form(task)
        query = f"?webhook={quote(callback_url, safe='')}" if callback_url else ""
        headers = {"Content-Type": "application/json"}
        body = forms.encode(_submission(form))
        return Request(method="POST", path=f"/{form.model}{query}", body=body, headers=headers)

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission: {code, message, data: {id, status}}; a `code` of 4xx is a refusal, too."""
        if 200 <= response.status < 300:
            answered = reading.answer(response)
            code = answered.get("code")
            if type(code) is int and 400 <= code < 500 and _unwrap(answered).get("id") is None:
                raise reading.refusal(self.name, code, answered)
        return reading.acceptance(self.name, response, ID_KEYS, _unwrap, lambda task: self._read(task, now))

    def build_fetch(self, task: Task) -> Request:
        """Build GET /predictions/{id}/result; the pages also show it without its ending."""
        return Request(method="GET", path=f"/predictions/{reading.path_id(task.provider_id)}/result")

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to a fetch: {code, message, data: prediction}."""
        return self._read(_unwrap(reading.answer(response)), now)

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push: the bare prediction; in the wrapping of an answer it is taken as well."""
        event_id = reading.header(callback, "webhook-id", "svix-id")
        return self._read(_unwrap(reading.document(callback.body)), callback.received_at, event_id)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a push as on wavespeed.ai/docs/how-to-use-webhooks."""
        word = SAMPLE_WORDS.get(status)
        if word is None:
            raise Unsupported(f"{self.name}: it calls back about completed and failed tasks only, not {status} ones")
        prediction = {
            "id": provider_id,
            "model": "wavespeed-ai/sample",
            "input": {"prompt": "a sample"},
            "outputs": [f"https://files.example/{provider_id}/0.mp4"] if status is TaskState.COMPLETED else [],
            "status": word,
            "created_at": now.isoformat(),
            "error": "a sample of a failure" if status is TaskState.FAILED else "",
        }
        return Sample(body=forms.encode(prediction))

    def _read(self, task: dict[str, Any], now: datetime, event_id: str | None = None) -> Reading:
        """Read a prediction. It does not tell when it completed: `now` is the estimate."""
        provider_id = reading.identify(task, ID_KEYS)
        status = reading.state(task.get("status"), STATUS_WORDS)
        found = reading.results(reading.media(task.get("outputs")), now + self.result_life)
        return reading.conclude(status, provider_id, event_id=event_id, found=found, error=task.get("error"))


def _unwrap(document: dict[str, Any]) -> dict[str, Any]:
    """Take the prediction out of {code, message, data}."""
    data = document.get("data")
    return data if type(data) is dict else document


def _reserved(form: Form) -> set[str]:
    """Name the extras that would hide what the form or Ringback sets."""
    return {*BODY_FIELDS, "webhook", "webhook_url"} | ({"image", "images"} if form.image_urls else set())


def _submission(form: Form) -> dict[str, Any]:
    """Give the request body: only what the user set."""
    fields = {name: getattr(form, name) for name in BODY_FIELDS}
    fields["prompt"] = None if forms.is_blank(form.prompt) else form.prompt
    if form.image_urls:
        fields |= {"image": form.image_urls[0]} if len(form.image_urls) == 1 else {"images": list(form.image_urls)}
    return {key: value for key, value in fields.items() if value is not None} | form.extra

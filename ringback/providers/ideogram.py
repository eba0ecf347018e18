"""Ideogram: submits images to an endpoint per model, pushes what completed, signed with Ed25519.

Sources: `PROVIDERS C` and developer.ideogram.ai, API version 2 (api-reference/images/generate,
generations/get-generation, ideogram-api/webhooks, ideogram-api/responses-and-metadata). Pure.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ringback.errors import Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.signatures.ed25519 import Ed25519Lines

# generations/get-generation
STATES = {"pending": TaskState.PROCESSING, "completed": TaskState.COMPLETED, "failed": TaskState.FAILED}
ID_HEADER = "x-ideogram-webhook-generation-id"
ID_KEYS = ("generation_id",)
MODEL = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
LONGEST_PROMPT = 10_000

DIALECT = forms.Dialect(provider="ideogram", invalid="", missing="")
RESERVED = frozenset({"prompt", "aspect_ratio", "resolution", "async", "webhook_url"})
UNUSED = {
    "action": "the model of a generation says what to do; leave the action out",
    "callback_events": "Ideogram has no filter of events; leave callback_events out",
    "duration": "Ideogram's image endpoints have no duration; leave it out",
    "image_urls": "Ideogram takes images as files or assets, not as URLs: give image_asset_identifiers as an extra",
}


class Ideogram(Provider):
    """Ideogram's image generation. The model is the last part of its path: `ideogram-4-5`.

    The documents show a push of what completed only, so failures are found by the poller. Callbacks are served at
    per-task URLs only: Ideogram signs those of all its customers with the same keys, and without the token any of them
    could send us theirs.
    """

    name = "ideogram"
    base_url = "https://api.ideogram.ai/v2"
    models = ("ideogram-4-5", "ideogram-3")
    scheme = Ed25519Lines(
        id_header=ID_HEADER,
        user_header="x-ideogram-webhook-user-id",
        timestamp_header="x-ideogram-webhook-timestamp",
        signature_header="x-ideogram-webhook-signature",
        key_id_header="x-ideogram-webhook-key-id",
    )
    jwks_url = "https://api.ideogram.ai/v1/.well-known/jwks.json"
    result_life = timedelta(hours=24)
    retries = "a limited number of times, not told how many"
    documents = "PROVIDERS C and developer.ideogram.ai"

    def validate(self, form: Form) -> None:
        """Refuse what the image endpoints have no field for; sizes and qualities differ by model: not checked."""
        forms.check_form(form, DIALECT, RESERVED)
        for field, reason in UNUSED.items():
            if getattr(form, field):
                raise DIALECT.refuse(field, reason)
        if not MODEL.fullmatch(form.model):
            raise DIALECT.refuse("model", f"expected a name such as ideogram-4-5, got {reading.shape(form.model)}")
        if form.prompt is None or forms.is_blank(form.prompt):
            raise DIALECT.refuse("prompt", "prompt is required")
        if len(form.prompt) > LONGEST_PROMPT:
            raise DIALECT.refuse("prompt", f"prompt exceeds {LONGEST_PROMPT} characters (got {len(form.prompt)})")

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /image/generate/{model}, always `async`."""
        form = self.checked_form(task)
        body = forms.encode(_submission(form, callback_url))
        headers = {"Content-Type": "application/json"}
        return Request(method="POST", path=f"/image/generate/{form.model}", body=body, headers=headers)

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission: a generation_id, and no status."""
        return reading.acceptance(self.name, response, ID_KEYS, lambda found: found, lambda task: self._read(task, now))

    def authorization(self, api_key: str, now: datetime) -> Mapping[str, str]:
        """Give `Api-Key: …`."""
        return {"Api-Key": api_key}

    def build_fetch(self, task: Task) -> Request:
        """Build GET /generations/{id}."""
        return Request(method="GET", path=f"/generations/{reading.path_id(task.provider_id)}")

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to GET /generations/{id}."""
        return self._read(reading.answer(response), now)

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push: the answer of a synchronous generation."""
        read = self._read(reading.document(callback.body), callback.received_at)
        if (named := reading.header(callback, ID_HEADER)) is not None and named != read.provider_id:
            raise Unreadable(f"the header {ID_HEADER} names another generation than the body")
        return read

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a push as on ideogram-api/webhooks."""
        if status is not TaskState.COMPLETED:
            raise Unsupported(f"Ideogram documents a push of what completed only, not of {status}")
        image = {
            "url": f"https://ideogram.ai/api/images/ephemeral/{provider_id}.png",
            "prompt": "A photo of a cat",
            "resolution": "2048x2048",
            "seed": 12345,
            "is_image_safe": True,
        }
        said = {"generation_id": provider_id, "created": now.isoformat(timespec="seconds"), "data": [image]}
        return Sample(body=msgspec.json.encode(said))

    def _read(self, said: dict[str, Any], now: datetime) -> Reading:
        """Read a generation. URLs work for 24 hours; `created` is when it began, so `now` is the estimate."""
        provider_id, status = reading.identify(said, ID_KEYS), _status(said)
        if status is TaskState.COMPLETED:
            found = reading.results(_results(said.get("data")), now + self.result_life)
            cost = said.get("usage_cost_usd_micros")
            charged = cost if type(cost) is int and 0 <= cost <= reading.MAX_INTEGER else None
            return Reading(status=status, provider_id=provider_id, results=found, charged_microdollars=charged)
        return reading.conclude(status, provider_id, error=said.get("failure_reason"))


def _submission(form: Form, callback_url: str | None) -> dict[str, Any]:
    """Give the request body. A ratio is written 16x9 there."""
    fields = {
        "prompt": form.prompt,
        "aspect_ratio": form.aspect_ratio.replace(":", "x") if form.aspect_ratio else None,
        "resolution": form.resolution,
        "async": True,
        "webhook_url": callback_url,
    }
    return {key: value for key, value in fields.items() if value is not None} | form.extra


def _status(said: dict[str, Any]) -> TaskState:
    """Read `status`. A push has none, and is about what completed; the answer to a submission has no data either."""
    data = said.get("data")
    if said.get("status") is None and type(data) is list and data:
        return TaskState.COMPLETED
    return reading.state(said.get("status"), STATES)


def _results(data: Any) -> Iterator[tuple[str, Any, Any]]:
    """Walk `data[].url`, which is empty for what did not pass the safety checks; `object_type` tells videos."""
    for item in data if type(data) is list else ():
        if type(item) is dict:
            kind = item.get("object_type")
            yield "video" if type(kind) is str and "video" in kind.lower() else "image", item.get("url"), None

"""Ark (Volcengine) and ModelArk (BytePlus): Seedance videos; submits with a callback_url, pushes changes, unsigned.

Sources: `PROVIDERS C`, volcengine.com/docs/82379/1520757 and volcengine/volcengine-python-sdk (types). A push has the
body of a fetch. ModelArk is the same API at https://ark.ap-southeast.bytepluses.com/api/v3 with other model names: set
RINGBACK_ARK_BASE_URL. Pure.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ringback.errors import Unsupported
from ringback.model import Callback, Form, Reading, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample

STATES = {
    "queued": TaskState.SUBMITTED,
    "running": TaskState.PROCESSING,
    "succeeded": TaskState.COMPLETED,
    "failed": TaskState.FAILED,
    "expired": TaskState.EXPIRED,
    "cancelled": TaskState.CANCELLED,
}
PUSHED = {state: word for word, state in STATES.items() if state is not TaskState.CANCELLED}
PATH = "/contents/generations/tasks"
ID_KEYS = ("id",)
# What images are for: one is the first frame and needs no role, two are both ends, more are references.
FRAME_ROLES = ("first_frame", "last_frame")
REFERENCE_ROLE = "reference_image"

DIALECT = forms.Dialect(provider="ark", invalid="InvalidParameter", missing="MissingParameter", aspect_ratio="ratio")
RESERVED = frozenset({"model", "ratio", "resolution", "duration", "callback_url"})
UNUSED = {
    "action": "Ark has no actions, the roles of the images say what to do; leave the action out",
    "callback_events": "Ark has no filter of events; leave callback_events out",
}


class Ark(Provider):
    """Ark's video generation tasks. `content` may be given whole, as an extra, instead of a prompt and image URLs."""

    name = "ark"
    base_url = "https://ark.cn-beijing.volces.com/api/v3"
    models = ("doubao-seedance-1-5-pro-251215", "doubao-seedance-2-0-fast-260128", "doubao-seedance-1-0-pro-250528")
    result_life = timedelta(hours=24)
    can_cancel = True
    cancel_deletes = True
    retries = "3 times for succeeded and failed, else never, where no answer came within 5 s"
    documents = "PROVIDERS C and volcengine.com/docs/82379/1520757"

    def validate(self, form: Form) -> None:
        """Refuse an empty content; lengths and ratios differ by model, and are not checked."""
        whole = type(form.extra) is dict and "content" in form.extra
        forms.check_form(form, DIALECT, RESERVED)
        for field, reason in UNUSED.items():
            if getattr(form, field):
                raise DIALECT.refuse(field, reason)
        given = bool(form.image_urls) or not forms.is_blank(form.prompt)
        if whole and given:
            raise DIALECT.refuse("content", "content is given whole as an extra; leave prompt and image_urls out")
        if not whole and not given:
            raise DIALECT.refuse("content", "a prompt or image_urls are required", DIALECT.missing)

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /contents/generations/tasks."""
        form = self.checked_form(task)
        body = forms.encode(_submission(form, callback_url))
        return Request(method="POST", path=PATH, body=body, headers={"Content-Type": "application/json"})

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission: an id, and nothing else."""
        return reading.acceptance(self.name, response, ID_KEYS, lambda found: found, lambda task: self._read(task, now))

    def build_fetch(self, task: Task) -> Request:
        """Build GET /contents/generations/tasks/{id}."""
        return Request(method="GET", path=f"{PATH}/{reading.path_id(task.provider_id)}")

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to GET /contents/generations/tasks/{id}."""
        return self._read(reading.answer(response), now)

    def build_cancel(self, task: Task) -> Request:
        """Build DELETE /contents/generations/tasks/{id}: it cancels what is queued, and deletes what has ended."""
        return Request(method="DELETE", path=f"{PATH}/{reading.path_id(task.provider_id)}")

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push: the body of a fetch."""
        return self._read(reading.document(callback.body), callback.received_at)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a push; a cancellation is seen by fetching only (PROVIDERS C)."""
        if status not in PUSHED:
            raise Unsupported(f"Ark does not push {status}")
        seconds = int(now.timestamp())
        said: dict[str, Any] = {
            "id": provider_id,
            "model": self.models[0],
            "status": PUSHED[status],
            "created_at": seconds - 60,
            "updated_at": seconds,
        }
        if status is TaskState.COMPLETED:
            place = "https://ark-content-generation-cn-beijing.tos-cn-beijing.volces.com"
            said["content"] = {"video_url": f"{place}/{provider_id}.mp4"}
        elif status is TaskState.FAILED:
            said["error"] = {"code": "InternalServiceError", "message": "The service encountered an internal error."}
        return Sample(body=msgspec.json.encode(said))

    def _read(self, said: dict[str, Any], now: datetime) -> Reading:
        """Read a task. Its URLs work for 24 hours from its end, which is its last change (`updated_at`, in seconds)."""
        provider_id, status = reading.identify(said, ID_KEYS), reading.state(said.get("status"), STATES)
        until = reading.estimate(said.get("updated_at"), now, self.result_life)
        found = reading.results(_results(said.get("content")), until)
        return reading.conclude(status, provider_id, found=found, error=said.get("error"))


def _content(form: Form) -> list[dict[str, Any]] | None:
    """Give the prompt and the images as content; None where neither is given."""
    content: list[dict[str, Any]] = [] if forms.is_blank(form.prompt) else [{"type": "text", "text": form.prompt}]
    count = len(form.image_urls)
    for place, url in enumerate(form.image_urls):
        item: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
        if count > 1:
            item["role"] = FRAME_ROLES[place] if count == len(FRAME_ROLES) else REFERENCE_ROLE
        content.append(item)
    return content or None


def _submission(form: Form, callback_url: str | None) -> dict[str, Any]:
    """Give the request body: only what the user set, in Ark's names."""
    fields = {
        "model": form.model,
        "content": _content(form),
        "ratio": form.aspect_ratio,
        "resolution": form.resolution,
        "duration": form.duration,
        "callback_url": callback_url,
    }
    return {key: value for key, value in fields.items() if value is not None} | form.extra


def _results(content: Any) -> Iterator[tuple[str, Any, Any]]:
    if type(content) is dict:
        yield "video", content.get("video_url"), None
        yield "image", content.get("last_frame_url"), None

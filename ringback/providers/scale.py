"""Scale AI: submits tasks for people with a callback_url, pushes their end with a fixed secret in a header.

Sources: `PROVIDERS C`, scale.com/docs/api-reference (callbacks, authentication) and scaleapi/scaleapi-python-client.
What people answered has a shape of its own for every type of task: handlers read it in the body. Pure.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ringback.errors import Unreadable, Unsupported
from ringback.model import Callback, Form, Reading, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.signatures.fixed import FixedHeader

STATES = {
    "pending": TaskState.PROCESSING,
    "completed": TaskState.COMPLETED,
    "error": TaskState.FAILED,
    "canceled": TaskState.CANCELLED,
}
ENDS = {state: word for word, state in STATES.items() if state is not TaskState.PROCESSING}
ID_KEYS = ("task_id",)
TYPE = re.compile(r"[a-z0-9_-]{1,60}")

DIALECT = forms.Dialect(provider="scale", invalid="", missing="")
RESERVED = frozenset({"callback_url"})
UNUSED = {
    "action": "the type of the task, given as its model, says what to do; leave the action out",
    "callback_events": "Scale has no filter of events; leave callback_events out",
    "aspect_ratio": "Scale has no such parameter; leave it out",
    "resolution": "Scale has no such parameter; leave it out",
    "duration": "Scale has no such parameter; leave it out",
}


class Scale(Provider):
    """Scale's tasks. The model is the type of the task (`imageannotation`), the prompt its instruction.

    One image is its attachment; everything else differs by type, and is given as extras. The header is checked where
    RINGBACK_SCALE_SECRET is set; live and test mode have a key each, so list both.
    """

    name = "scale"
    base_url = "https://api.scale.com/v1"
    models = ("imageannotation", "textcollection", "categorization")
    scheme = FixedHeader(header="scale-callback-auth")
    scheme_optional = True  # a per-task URL has a token already, which is worth as much
    account_endpoint = True
    result_life = timedelta(hours=24)  # not documented; results are data, seldom files
    longest = timedelta(days=30)  # people do the work
    can_cancel = True
    retry_window = timedelta(hours=24)
    retries = "20 tries in 24 hours, until a 2xx"
    documents = "PROVIDERS C and scale.com/docs/api-reference"

    def validate(self, form: Form) -> None:
        """Refuse what Scale has no field for; the parameters of each type are not checked."""
        forms.check_form(form, DIALECT, RESERVED)
        for field, reason in UNUSED.items():
            if getattr(form, field):
                raise DIALECT.refuse(field, reason)
        if not TYPE.fullmatch(form.model):
            message = f"expected a type of task such as imageannotation, got {reading.shape(form.model)}"
            raise DIALECT.refuse("model", message)
        if len(form.image_urls) > 1:
            raise DIALECT.refuse("image_urls", "one image is the attachment; give several as the type's own parameter")
        for key in _input(form).keys() & form.extra.keys():
            raise DIALECT.refuse(key, f"{key} is given twice: as a field and as an extra")

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /task/{type}."""
        form = self.checked_form(task)
        where = {"callback_url": callback_url} if callback_url else {}
        body = forms.encode(_input(form) | where | form.extra)
        headers = {"Content-Type": "application/json"}
        return Request(method="POST", path=f"/task/{form.model}", body=body, headers=headers)

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission: the task."""
        return reading.acceptance(self.name, response, ID_KEYS, _task, _read)

    def authorization(self, api_key: str, now: datetime) -> Mapping[str, str]:
        """Give HTTP Basic with the key as the user and no password."""
        return {"Authorization": "Basic " + b64encode(f"{api_key}:".encode()).decode()}

    def build_fetch(self, task: Task) -> Request:
        """Build GET /task/{id}."""
        return Request(method="GET", path=_task_path(task))

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to GET /task/{id}."""
        return _read(_task(reading.answer(response)))

    def build_cancel(self, task: Task) -> Request:
        """Build POST /task/{id}/cancel."""
        return Request(method="POST", path=_task_path(task) + "/cancel")

    def read_cancellation(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the task, as a fetch gives it."""
        return self.read_task(response, task, now)

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push: the id and the response, beside the task as a fetch gives it."""
        said = reading.document(callback.body)
        read, outside = _read(_task(said)), said.get("task_id")
        if outside is not None and outside != read.provider_id:
            raise Unreadable("the callback names another task than the task inside it")
        return read

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a push as on scale.com/docs/api-reference/callbacks."""
        if status not in ENDS:
            raise Unsupported(f"Scale pushes the end of a task only, not {status}")
        response: dict[str, Any] = {"category": "red"} if status is TaskState.COMPLETED else {}
        if status is TaskState.FAILED:
            response = {"error": "The attachment could not be loaded"}
        task = {
            "task_id": provider_id,
            "type": "categorization",
            "status": ENDS[status],
            "completed_at": now.isoformat(),
            "response": response,
        }
        return Sample(body=msgspec.json.encode({"task": task, "task_id": provider_id, "response": response}))


def _input(form: Form) -> dict[str, Any]:
    """Give what all types have: an instruction, and an image as the attachment."""
    attached = {"attachment": form.image_urls[0], "attachment_type": "image"} if form.image_urls else {}
    return attached if forms.is_blank(form.prompt) else {"instruction": form.prompt} | attached


def _task(said: dict[str, Any]) -> dict[str, Any]:
    """Find the task: under `task` in a push; the id and the response may stand outside."""
    task = said.get("task")
    if type(task) is not dict:
        return said
    outside: dict[str, Any] = {key: said.get(key) for key in ("task_id", "response")}
    return outside | task


def _read(task: dict[str, Any]) -> Reading:
    """Read a task. Of an error no place is documented: `error` is looked for beside the response and in it."""
    provider_id, status = reading.identify(task, ID_KEYS), reading.state(task.get("status"), STATES)
    response = task.get("response")
    inside = response.get("error") if type(response) is dict else None
    return reading.conclude(status, provider_id, error=task.get("error") or inside)


def _task_path(task: Task) -> str:
    return f"/task/{reading.path_id(task.provider_id)}"

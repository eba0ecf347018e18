"""Kling: submits with a callback_url, pushes every change of state in a flat body, unsigned.

Sources: `PROVIDERS C` (Kling) and kling.ai/document-api (mirrored: callback protocol, text2video, image2video; the base
URL api-singapore.klingai.com and the JWT are in several independent clients). What some third parties show
(`video.completed` events, `data.*` in a callback) was invented, and is not read here. Pure.
"""

import base64
import hmac
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ringback.errors import SubmissionRefused, Unreadable, Unsupported
from ringback.lifecycle import is_terminal
from ringback.model import Callback, Form, Reading, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample

STATES = {
    "submitted": TaskState.SUBMITTED,
    "processing": TaskState.PROCESSING,
    "succeed": TaskState.COMPLETED,  # sic
    "failed": TaskState.FAILED,
}
RESULT_LISTS = (("videos", "video"), ("images", "image"), ("audios", "audio"))
ID_KEYS = ("task_id",)
SERVER_ERRORS = 5_000  # codes from here on are Kling's own trouble, elsewhere sent with a 5xx

# kling.ai/document-api, "API authentication": valid for 30 minutes, and from 5 seconds ago, as clocks differ.
TOKEN_SECONDS = 1_800
SKEW_SECONDS = 5

DIALECT = forms.Dialect(provider="kling", invalid="1201", missing="1201", resolution="mode")
FORM_KEYS = frozenset(
    {"model_name", "model", "prompt", "aspect_ratio", "mode", "duration", "image", "image_tail", "callback_url"}
)


class Kling(Provider):
    """Kling's text2video and image2video. The API key is `accesskey:secretkey`; without a colon it is sent as it is.

    The form's resolution is Kling's `mode` (std, pro). The images are the first frame and the last.
    """

    name = "kling"
    base_url = "https://api-singapore.klingai.com/v1"
    models = ("kling-v2-6", "kling-v2-5-turbo")
    result_life = timedelta(days=30)
    documents = "PROVIDERS C and kling.ai/document-api (mirrors)"

    def validate(self, form: Form) -> None:
        """Refuse what neither of the two calls has a place for; ranges are left to Kling, they differ by model."""
        forms.check_form(form, DIALECT, FORM_KEYS)
        if form.callback_events:
            raise DIALECT.refuse("callback_events", "Kling has no filter of events; leave callback_events out")
        forms.check_frames(form, DIALECT)

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /videos/text2video, or image2video where there are images."""
        form = self.checked_form(task)
        body = forms.encode(_submission(form, callback_url))
        headers = {"Content-Type": "application/json"}
        return Request(method="POST", path=f"/videos/{forms.kind_of(form)}", body=body, headers=headers)

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission: {code, message, request_id, data}; a code other than 0 is a refusal."""
        if 200 <= response.status < 300 and (refusal := _refusal(reading.document(response.body), response.status)):
            raise refusal
        return reading.acceptance(self.name, response, ID_KEYS, _data, lambda task: self._read(task, now))

    def authorization(self, api_key: str, now: datetime) -> Mapping[str, str]:
        """Give a JWT (HS256) made of `accesskey:secretkey`; any other key is a bearer token already."""
        access, colon, secret = api_key.partition(":")
        return {"Authorization": f"Bearer {_jwt(access, secret, now) if colon else api_key}"}

    def build_fetch(self, task: Task) -> Request:
        """Build GET /videos/{text2video|image2video}/{id}.

        Raises:
            Unsupported: we did not submit the task, so which of the two it is is not known.
        """
        if task.form is None:
            raise Unsupported("kling: whether this task is text2video or image2video is not known")
        return Request(method="GET", path=f"/videos/{forms.kind_of(task.form)}/{reading.path_id(task.provider_id)}")

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to a fetch, which wraps the task in code and data (PROVIDERS C)."""
        said = reading.answer(response)
        if said.get("code") != 0:
            raise Unreadable(f"expected code 0, got {reading.code(said.get('code')) or 'none'}")
        return self._read(_data(said), now)

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push: flat, as the callback protocol shows it."""
        return self._read(reading.document(callback.body), callback.received_at)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a push as the callback protocol shows it."""
        word = next((word for word, state in STATES.items() if state is status), None)
        if word is None:
            return super().build_sample(provider_id, status, now)
        moment = int(now.timestamp() * 1000)
        body: dict[str, Any] = {
            "task_id": provider_id,
            "task_status": word,
            "task_status_msg": "Failure to pass the risk control system" if status is TaskState.FAILED else "",
            "task_info": {},
            "created_at": moment,
            "updated_at": moment,
        }
        if status is TaskState.COMPLETED:
            video = {"id": "1", "url": "https://cdn.klingai.com/sample.mp4", "duration": "5"}
            body["task_result"] = {"videos": [video]}
        return Sample(body=msgspec.json.encode(body))

    def _read(self, task: dict[str, Any], now: datetime) -> Reading:
        """Read a task object; its URLs live 30 days from the last change (PROVIDERS C)."""
        provider_id, word = reading.identify(task, ID_KEYS), task.get("task_status")
        status = STATES.get(word.strip().lower()) if type(word) is str else None
        if status is None:
            raise Unreadable(f"unknown task_status {reading.shape(word)}: expected one of {', '.join(STATES)}")
        if status is TaskState.COMPLETED:
            since = min(reading.moment_of(task.get("updated_at")) or now, now)
            found = reading.results(_results(task.get("task_result")), since + self.result_life)
            return Reading(status=status, provider_id=provider_id, results=found)
        error = reading.task_error(task.get("task_status_msg")) if is_terminal(status) else None
        return Reading(status=status, provider_id=provider_id, error=error)


def _submission(form: Form, callback_url: str | None) -> dict[str, Any]:
    """Give the request body. A duration goes as text: "5", not 5."""
    first, last = (*form.image_urls, None, None)[:2]
    fields = {
        "model_name": form.model,
        "prompt": None if forms.is_blank(form.prompt) else form.prompt,
        "aspect_ratio": form.aspect_ratio,
        "mode": form.resolution,
        "duration": None if form.duration is None else str(form.duration),
        "image": first,
        "image_tail": last,
        "callback_url": callback_url,
    }
    return {key: value for key, value in fields.items() if value is not None} | form.extra


def _data(said: dict[str, Any]) -> dict[str, Any]:
    data = said.get("data")
    return data if type(data) is dict else {}


def _refusal(said: dict[str, Any], status: int) -> SubmissionRefused | None:
    """Give the error of a 2xx answer without a task; not where its code leaves open whether one was made."""
    code = said.get("code")
    if type(code) is not int or code == 0 or code >= SERVER_ERRORS or _data(said).get("task_id") is not None:
        return None
    return reading.refusal("kling", status, said)


def _results(result: Any) -> Iterator[tuple[str, Any, Any]]:
    """Walk `videos|images|audios[].url`."""
    for key, kind in RESULT_LISTS if type(result) is dict else ():
        entries = result.get(key)
        for entry in entries if type(entries) is list else ():
            if type(entry) is dict:
                yield kind, entry.get("url"), None


def _jwt(access: str, secret: str, now: datetime) -> str:
    """Make a token as RFC 7519 says; `typ` must be there (kling.ai/document-api, "API authentication")."""
    seconds = int(now.timestamp())
    claims = {"iss": access, "exp": seconds + TOKEN_SECONDS, "nbf": seconds - SKEW_SECONDS}
    signed = b".".join(_base64url(msgspec.json.encode(part)) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + _base64url(hmac.digest(secret.encode(), signed, "sha256"))).decode()


def _base64url(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")

"""MiniMax (Hailuo): submits with a callback_url that must pass a challenge, pushes every change, unsigned.

Sources: `PROVIDERS C` (MiniMax), platform.minimax.io (api-reference/video-generation-s2v, -query,
file-management-retrieve) and platform.minimaxi.com (video-generation-v2-query). A v1 success names a file and no URL:
the poller asks for the file's URL, a callback can only tell where to ask. HTTP 200 with base_resp.status_code other
than 0 is an error. Pure.
"""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from ringback.errors import SubmissionRefused, Unreadable
from ringback.lifecycle import is_terminal
from ringback.model import Callback, Form, Reading, Result, Task, TaskError, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.handshakes import Handshake
from ringback.providers.provider import Provider, Request, Response, Sample

# In lower case: v1's poll says Success and Fail, its callback success and failed; v2 has its own words.
STATES = {
    "preparing": TaskState.SUBMITTED,
    "queueing": TaskState.SUBMITTED,
    "queued": TaskState.SUBMITTED,
    "processing": TaskState.PROCESSING,
    "running": TaskState.PROCESSING,
    "success": TaskState.COMPLETED,
    "succeeded": TaskState.COMPLETED,
    "fail": TaskState.FAILED,
    "failed": TaskState.FAILED,
    "cancelled": TaskState.CANCELLED,
    "expired": TaskState.EXPIRED,
}
SAMPLE_WORDS = {TaskState.PROCESSING: "processing", TaskState.COMPLETED: "success", TaskState.FAILED: "failed"}
ID_KEYS = ("task_id", "id")
FILE = "file"  # the kind of a result that is a call, under the API key, which tells the URL
V2_MODELS = ("MiniMax-H3",)
# MiniMax's error codes, as HTTP would say them: no or a wrong key, no balance, too many requests, wrong parameters.
STATUS_OF_CODE = {1004: 401, 2049: 401, 1008: 402, 1002: 429, 1039: 429, 2013: 400}
UNCERTAIN = frozenset({1000, 1001, 1013})  # unknown, timeout, internal: whether a task was made is not known

DIALECT = forms.Dialect(provider="minimax", invalid="2013", missing="2013")
FORM_KEYS = frozenset(
    {"model", "prompt", "resolution", "duration", "first_frame_image", "last_frame_image", "callback_url"}
)


class MiniMax(Provider):
    """MiniMax's video generation, v1; the tasks of v2 (MiniMax-H3) are read and fetched, but not submitted.

    A callback's result is the call that gives the file's URL, which needs the API key. Where handlers shall get the URL
    itself, set RINGBACK_MINIMAX_CONFIRM=always.
    """

    name = "minimax"
    base_url = "https://api.minimax.io"
    models = ("MiniMax-Hailuo-2.3", "MiniMax-Hailuo-02")
    handshakes = frozenset({Handshake.CHALLENGE})
    result_life = timedelta(hours=9)  # of a download_url, counted from when it was given
    documents = "PROVIDERS C, platform.minimax.io and platform.minimaxi.com"

    def validate(self, form: Form) -> None:
        """Refuse what v1 has no place for; what a model allows of it is left to MiniMax."""
        forms.check_form(form, DIALECT, FORM_KEYS)
        if form.callback_events:
            raise DIALECT.refuse("callback_events", "MiniMax has no filter of events; leave callback_events out")
        if form.model.startswith(V2_MODELS):
            raise DIALECT.refuse("model", f"{form.model[:60]} needs MiniMax's API v2, to which Ringback cannot submit")
        if form.aspect_ratio is not None:
            raise DIALECT.refuse("aspect_ratio", "MiniMax v1 has no aspect_ratio: the model or the image decides it")
        forms.check_frames(form, DIALECT)

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /v1/video_generation. MiniMax calls callback_url back with a challenge before it answers."""
        form = self.checked_form(task)
        body = forms.encode(_submission(form, callback_url))
        headers = {"Content-Type": "application/json"}
        return Request(method="POST", path="/v1/video_generation", body=body, headers=headers)

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission; with HTTP 200 it may still be a refusal."""
        if 200 <= response.status < 300 and (refusal := _refusal(reading.document(response.body), response.status)):
            raise refusal
        return reading.acceptance(self.name, response, ID_KEYS, lambda found: found, lambda task: self._read(task, now))

    def build_fetch(self, task: Task) -> Request:
        """Build GET /v1/query/video_generation?task_id=, or v2's path where the task's model is one of v2."""
        provider_id = reading.path_id(task.provider_id)
        if task.form is not None and task.form.model.startswith(V2_MODELS):
            return Request(method="GET", path=f"/v2/query/video_generation/{provider_id}")
        return Request(method="GET", path=f"/v1/query/video_generation?task_id={provider_id}")

    def fetch_status(self, response: Response) -> int:
        """Translate base_resp.status_code, by MiniMax's page of error codes, where no task is there."""
        if response.status != 200:
            return response.status
        said = reading.document_or_nothing(response.body)
        told = None if _task(said).get("status") else _told_code(said)
        return STATUS_OF_CODE.get(told or 0, response.status)

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading | Request:
        """Read the answer about a task; where it names a file, ask for that; then read the file's download_url."""
        said = reading.answer(response)
        if type(said.get("file")) is dict:
            return self._read_file(said, task, now)
        told, path = self._read(_task(said), now), _file_path(_task(said))
        if path is not None and any(result.kind == FILE for result in told.results):
            return Request(method="GET", path=path)
        return told

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push, which looks like the answer to a fetch. Its file, if any, is where to ask for the URL."""
        return self._read(_task(reading.document(callback.body)), callback.received_at)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a push of v1 as platform.minimax.io shows it."""
        word = SAMPLE_WORDS.get(status)
        if word is None:
            return super().build_sample(provider_id, status, now)
        body: dict[str, Any] = {"task_id": provider_id, "status": word}
        if status is TaskState.COMPLETED:
            body["file_id"] = "205258526306433"
        failed = status is TaskState.FAILED
        code, message = (1027, "generated video contains sensitive content") if failed else (0, "success")
        return Sample(body=msgspec.json.encode(body | {"base_resp": {"status_code": code, "status_msg": message}}))

    def _read(self, task: dict[str, Any], now: datetime) -> Reading:
        """Read a task object of v1 or v2."""
        provider_id, word = reading.identify(task, ID_KEYS), task.get("status")
        status = STATES.get(word.strip().lower()) if type(word) is str else None
        if status is None:
            code = _told_code(task)
            raise Unreadable(f"unknown status {reading.shape(word)}" + (f", with status_code {code}" if code else ""))
        if status is TaskState.COMPLETED:
            found = _url_results(task, now + self.result_life) or self._file_results(task)
            return Reading(status=status, provider_id=provider_id, results=found)
        return Reading(status=status, provider_id=provider_id, error=_error(task) if is_terminal(status) else None)

    def _file_results(self, task: dict[str, Any]) -> tuple[Result, ...]:
        """Give where to ask for the file; it does not expire as a download_url does."""
        path = _file_path(task)
        return () if path is None else (Result(kind=FILE, url=self.base_url + path),)

    def _read_file(self, said: dict[str, Any], task: Task, now: datetime) -> Reading:
        """Read the answer to files/retrieve: the second half of a success."""
        found = reading.results([("video", said["file"].get("download_url"), None)], now + self.result_life)
        if _told_code(said) or not found:
            raise Unreadable(f"expected a file with a download_url, got status_code {_told_code(said)}")
        return Reading(status=TaskState.COMPLETED, provider_id=task.provider_id, results=found)


def _submission(form: Form, callback_url: str | None) -> dict[str, Any]:
    """Give the request body: only what the user set, in MiniMax's names."""
    first, last = (*form.image_urls, None, None)[:2]
    fields = {
        "model": form.model,
        "prompt": None if forms.is_blank(form.prompt) else form.prompt,
        "resolution": form.resolution,
        "duration": form.duration,
        "first_frame_image": first,
        "last_frame_image": last,
        "callback_url": callback_url,
    }
    return {key: value for key, value in fields.items() if value is not None} | form.extra


def _task(said: dict[str, Any]) -> dict[str, Any]:
    """Give the task: v2 wraps it in `task`."""
    task = said.get("task")
    return task if type(task) is dict else said


def _told_code(said: dict[str, Any]) -> int | None:
    """Read base_resp.status_code; None where it is 0 or missing."""
    status = said.get("base_resp")
    code = status.get("status_code") if type(status) is dict else None
    return code if type(code) is int and code != 0 else None


def _refusal(said: dict[str, Any], status: int) -> SubmissionRefused | None:
    """Give the error of a 2xx answer without a task; not where it leaves open whether one was made."""
    code = _told_code(said)
    if said.get("task_id") or code is None or code in UNCERTAIN:
        return None
    return reading.refusal("minimax", status, {"code": code, "message": said["base_resp"].get("status_msg")})


def _error(task: dict[str, Any]) -> TaskError | None:
    """Read v2's error, else v1's base_resp."""
    if found := reading.task_error(task.get("error")):
        return found
    code = _told_code(task)
    return reading.task_error({"code": code, "message": task["base_resp"].get("status_msg")}) if code else None


def _url_results(task: dict[str, Any], estimate: datetime) -> tuple[Result, ...]:
    """Read v2's content.url (PROVIDERS C)."""
    content = task.get("content")
    return reading.results([("video", content.get("url"), None)], estimate) if type(content) is dict else ()


def _file_path(task: dict[str, Any]) -> str | None:
    """Give the call that tells a file's URL; None where the task names no file, which may be text or a number."""
    file_id = reading.code(task.get("file_id")) or ""
    return f"/v1/files/retrieve?file_id={file_id}" if reading.TASK_ID.fullmatch(file_id) else None

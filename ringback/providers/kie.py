"""kie.ai, a market of many models: submits with a callBackUrl, pushes the terminal state, signed by option.

Sources: `PROVIDERS C` (kie.ai) and docs.kie.ai (market/common/get-task-detail, common-api/webhook-verification, and
the callback pages of Suno, Runway and Veo). Its signature covers the task id and the time alone, so whoever saw one
callback could write another about the same task: with a secret the trust is `partial`, and the truth is fetched. Pure.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ringback.errors import Unreadable
from ringback.lifecycle import is_terminal
from ringback.model import Callback, Form, Reading, Task, TaskError, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.signatures import FieldsHmac

# Read in the order in which the signature looks for the id: an unsigned one beside it never wins.
ID_PLACES = ("data.taskId", "data.task_id", "taskId", "task_id")
ID_KEYS = ("taskId", "task_id")

# docs.kie.ai, "Get Task Details"
STATES = {
    "waiting": TaskState.SUBMITTED,
    "queuing": TaskState.SUBMITTED,
    "generating": TaskState.PROCESSING,
    "success": TaskState.COMPLETED,
    "fail": TaskState.FAILED,
}
# docs.kie.ai, "Music Generation Callbacks": the first two bring partial results.
STAGES = {
    "text": TaskState.PROCESSING,
    "first": TaskState.PROCESSING,
    "complete": TaskState.COMPLETED,
    "error": TaskState.FAILED,
}
# docs.kie.ai, "Get Veo3.1 Video Details"
FLAGS = {0: TaskState.PROCESSING, 1: TaskState.COMPLETED, 2: TaskState.FAILED, 3: TaskState.FAILED}
WORDS: Mapping[str, Mapping[Any, TaskState]] = {"state": STATES, "callbackType": STAGES, "successFlag": FLAGS}
OK = 200
UNCERTAIN = 500  # whether a task was made is not known
LISTS = (("resultUrls", "video"), ("result_urls", "image"), ("images", "image"))
SINGLES = (("video_url", "video"), ("resultImageUrl", "image"), ("audio_url", "audio"))  # image_url is the cover
ENDINGS = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".gif"),
    "audio": (".mp3", ".wav", ".m4a", ".flac"),
    "video": (".mp4", ".webm", ".mov"),
}

DIALECT = forms.Dialect(provider="kie", invalid="422", missing="422")
RESERVED = frozenset({"model", "prompt", "callBackUrl", "input"})
# The only family whose names are known here. Each model has its own, and takes a wrong one in silence: the picture
# that was paid for is then not the one that was asked for.
GROK = "grok-imagine/"
GROK_KEYS = frozenset({"aspect_ratio", "resolution", "duration", "image_urls"})
UNSET: tuple[Any, ...] = (None, (), [])


class Kie(Provider):
    """kie.ai's Market API (createTask), and the callbacks of its older Suno, Runway and Veo APIs.

    Only Market tasks can be submitted and fetched. `extra` goes into `input`, under the names on the model's page;
    image URLs, ratio, resolution and duration are mapped for `grok-imagine/…` only.
    """

    name = "kie"
    base_url = "https://api.kie.ai/api/v1"
    models = ("grok-imagine/text-to-video", "grok-imagine/image-to-video")
    scheme = FieldsHmac(header="x-webhook-signature", timestamp_header="x-webhook-timestamp", field=ID_PLACES)
    scheme_optional = True  # opt-in at kie.ai/settings
    account_endpoint = True
    result_life = timedelta(hours=24)  # PROVIDERS C: 24 hours or 14 days, by page; the shorter
    retry_window = timedelta(minutes=21)
    retries = "3 times: after 1, 5 and 15 minutes"
    documents = "PROVIDERS C and docs.kie.ai"

    def validate(self, form: Form) -> None:
        """Refuse what cannot be mapped to the model's own names, and events: kie.ai has no filter for them."""
        grok = str(form.model).startswith(GROK)
        forms.check_form(form, DIALECT, RESERVED | GROK_KEYS if grok else RESERVED)
        if form.callback_events:
            raise DIALECT.refuse("callback_events", "kie.ai has no filter of events; leave callback_events out")
        if form.action is not None:
            raise DIALECT.refuse("action", "kie.ai has no actions, the model says what to do; leave the action out")
        if grok:
            return
        for field in sorted(GROK_KEYS):
            if getattr(form, field) not in UNSET:
                message = f"each model of kie.ai names its {field} differently: give it as an extra, as its page says"
                raise DIALECT.refuse(field, message)

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /jobs/createTask."""
        form = self.checked_form(task)
        body = {"model": form.model, "callBackUrl": callback_url, "input": _input(form)}
        sent = {key: value for key, value in body.items() if value is not None}
        headers = {"Content-Type": "application/json"}
        return Request(method="POST", path="/jobs/createTask", body=forms.encode(sent), headers=headers)

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission. PROVIDERS C: HTTP 200 with another `code` is an error.

        A `code` of 500 leaves open whether a task was made: Unreadable, so that nothing is bought twice.
        """
        read = reading.document if 200 <= response.status < 300 else reading.document_or_nothing
        said = read(response.body)
        code, message = said.get("code"), reading.text(said.get("msg") or said.get("message"), reading.MAX_MESSAGE)
        made = any(_task(said).get(key) is not None for key in ID_KEYS)
        if 400 <= response.status < 500 or (_is_error(code) and code != UNCERTAIN and not made):
            raise reading.refusal(self.name, response.status, {"message": message, "code": code})
        return reading.acceptance(self.name, response, ID_KEYS, _task, lambda _: self._read(said, now))

    def build_fetch(self, task: Task) -> Request:
        """Build GET /jobs/recordInfo; it knows Market tasks only."""
        return Request(method="GET", path=f"/jobs/recordInfo?taskId={reading.path_id(task.provider_id)}")

    def fetch_status(self, response: Response) -> int:
        """Give the envelope's `code`, which repeats HTTP's, where HTTP says 200 and no task is there (PROVIDERS C)."""
        said = reading.document_or_nothing(response.body) if response.status == 200 else {}
        code = said.get("code")
        return code if type(code) is int and 400 <= code < 600 and _state_of(_task(said)) is None else response.status

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to a fetch. An error `code` without a task is about the question, not about the task."""
        said = reading.answer(response)
        if _is_error(said.get("code")) and _state_of(_task(said)) is None:
            raise Unreadable(f"expected an answer about a task, got code {reading.code(said.get('code'))}")
        return self._read(said, now)

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push of any of the three families in PROVIDERS C."""
        return self._read(reading.document(callback.body), callback.received_at)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a push of the Market family; on the way there are Suno's only."""
        code, message = OK, "success"
        data: dict[str, Any] = {"taskId": provider_id, "model": self.models[0]}
        if status is TaskState.COMPLETED:
            urls = msgspec.json.encode({"resultUrls": ["https://example.com/generated-content.mp4"]}).decode()
            data |= {"state": "success", "resultJson": urls, "failCode": "", "failMsg": ""}
        elif status is TaskState.FAILED:
            code, message = 501, "generation failed"
            data |= {"state": "fail", "resultJson": None, "failCode": "500", "failMsg": "Internal server error"}
        elif status is TaskState.PROCESSING:
            data = {"callbackType": "text", "task_id": provider_id, "data": []}
        else:
            return super().build_sample(provider_id, status, now)
        return Sample(body=msgspec.json.encode({"code": code, "msg": message, "data": data}))

    def _read(self, said: dict[str, Any], now: datetime) -> Reading:
        """Read an envelope. Results live from `now` on, since none of the families says when they expire."""
        task = _task(said)
        provider_id, status = reading.identify(task, ID_KEYS), _status(said, task)
        if status is TaskState.COMPLETED:
            found = reading.results(_results(task), now + self.result_life)
            return Reading(status=status, provider_id=provider_id, results=found)
        error = _error(said, task) if is_terminal(status) else None
        return Reading(status=status, provider_id=provider_id, error=error)


def _input(form: Form) -> dict[str, Any]:
    """Give the model's own parameters. A duration goes as text, as the Grok Imagine pages show it."""
    fields = {
        "prompt": None if forms.is_blank(form.prompt) else form.prompt,
        "aspect_ratio": form.aspect_ratio,
        "resolution": form.resolution,
        "duration": None if form.duration is None else str(form.duration),
        "image_urls": list(form.image_urls) or None,
    }
    return {key: value for key, value in fields.items() if value is not None} | form.extra


def _task(said: dict[str, Any]) -> dict[str, Any]:
    """Give what holds the task: `data`, or the document itself."""
    data = said.get("data")
    return data if type(data) is dict and any(data.get(key) is not None for key in ID_KEYS) else said


def _is_error(code: Any) -> bool:
    return type(code) is int and code != OK


def _state_of(task: dict[str, Any]) -> TaskState | None:
    """Read the family's own word; None where there is none, Unreadable where it is not known."""
    key = next((key for key in WORDS if task.get(key) is not None), None)
    if key is None:
        return None
    word = task[key]
    known = WORDS[key].get(word.strip().lower() if type(word) is str else word) if type(word) in (str, int) else None
    if known is None:
        raise Unreadable(f"unknown {key} {reading.shape(word)}: expected one of {', '.join(map(str, WORDS[key]))}")
    return known


def _status(said: dict[str, Any], task: dict[str, Any]) -> TaskState:
    """Read the state; a family that has no word for it tells a failure by its `code`, and a success by results."""
    told, code = _state_of(task), said.get("code")
    if _is_error(code):
        if told not in (None, TaskState.FAILED):
            raise Unreadable(f"the code says {code} but the state says {told}")
        return TaskState.FAILED
    if told is not None:
        return told
    if code == OK and any(reading.is_web_url(url) for _, url, _ in _results(task)):
        return TaskState.COMPLETED
    raise Unreadable("expected a state, a callbackType, a successFlag, or a code of 200 with results")


def _error(said: dict[str, Any], task: dict[str, Any]) -> TaskError | None:
    """Read failCode and failMsg, Veo's errorCode and errorMessage, or the envelope's code and msg."""
    for holder, code, message in ((task, "failCode", "failMsg"), (task, "errorCode", "errorMessage")):
        if found := reading.task_error({"code": holder.get(code), "message": holder.get(message)}):
            return found
    return reading.task_error({"code": said.get("code"), "message": said.get("msg")})


def _results(task: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Walk the results: Market's resultJson, Veo's info or response, and the fields of Runway and Suno."""
    packed = task.get("resultJson")
    inner = reading.document_or_nothing(packed.encode()) if type(packed) is str else packed
    for holder in (inner, task.get("info"), task.get("response"), task, *_tracks(task.get("data"))):
        if type(holder) is dict:
            yield from _urls(holder)


def _tracks(data: Any) -> list[Any]:
    """Give Suno's list of tracks."""
    return data if type(data) is list else []


def _urls(holder: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key, kind in LISTS:
        urls = holder.get(key)
        for url in urls if type(urls) is list else ():
            yield _kind(url, kind), url, None
    for key, kind in SINGLES:
        yield kind, holder.get(key), None


def _kind(url: Any, otherwise: str) -> str:
    """Tell what a URL leads to by its ending: resultUrls hold whatever the model makes."""
    path = url.partition("?")[0].lower() if type(url) is str else ""
    return next((kind for kind, endings in ENDINGS.items() if path.endswith(endings)), otherwise)

"""OpenAI: thin, signed events of a project's endpoint. Receive-only; about videos they are tasks, else notices.

Sources: PROVIDERS C; developers.openai.com/api/docs/guides/webhooks and …/api-reference/webhook-events. Webhooks are
set up per project in the dashboard, never per request. The Videos API and its models were announced to end on
2026-09-24 (its deprecations page), so nothing is submitted here; what others started can still be fetched. The events
`video.completed` and `video.failed` stand in the guide and in the client library's list, not in the event reference.
Pure.
"""

from datetime import datetime, timedelta
from typing import Any

from ringback.errors import Unreadable, Unsupported
from ringback.model import Callback, Notice, Reading, Result, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.signatures.standard import StandardWebhooks

ID_KEYS = ("id",)
# The video object of the API reference.
STATUS_WORDS = reading.STATUS_WORDS | {"in_progress": TaskState.PROCESSING}
EVENT_TYPES = {"video.completed": TaskState.COMPLETED, "video.failed": TaskState.FAILED}


class OpenAI(Provider):
    """OpenAI's webhooks, and its videos."""

    name = "openai"
    base_url = "https://api.openai.com/v1"
    scheme = StandardWebhooks()
    account_endpoint = True
    result_life = timedelta(hours=1)
    retry_window = timedelta(hours=72)
    retries = "with backoff for 72 h; an answer of 3xx counts as a failure"
    event_id = "header webhook-id"
    documents = "PROVIDERS C and developers.openai.com/api/docs/guides/webhooks"

    def build_fetch(self, task: Task) -> Request:
        """Build GET /videos/{id}."""
        return Request(method="GET", path=_video_path(reading.path_id(task.provider_id)))

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read a video object: {id, status, progress, completed_at, expires_at, error: {code, message}}."""
        video = reading.answer(response)
        provider_id = reading.identify(video, ID_KEYS)
        status = reading.state(video.get("status"), STATUS_WORDS)
        expiry = reading.moment_of(video.get("expires_at"))
        expiry = expiry or reading.estimate(video.get("completed_at"), now, self.result_life)
        error, done = video.get("error"), video.get("progress")
        return reading.conclude(status, provider_id, found=self._content(provider_id, expiry), error=error, done=done)

    def read_callback(self, callback: Callback) -> Reading | Notice:
        """Read {id, type, created_at, data: {id}}.

        `video.completed` and `video.failed` are about a task; every other type (`response.completed`,
        `batch.failed`, …) is a Notice. An event is thin: the reason of a failure is mostly left to the fetch.
        """
        event = reading.document(callback.body)
        event_id = reading.header(callback, "webhook-id", "svix-id")
        kind = reading.text(event.get("type"), reading.MAX_CODE)
        if kind is None:
            raise Unreadable("expected the type of an event, such as video.completed; got none")
        status = EVENT_TYPES.get(kind)
        if status is None:
            return Notice(event_id=event_id, type=kind)
        given = event.get("data")
        data: dict[str, Any] = given if type(given) is dict else {}
        provider_id = reading.identify(data, ID_KEYS)
        expiry = reading.estimate(event.get("created_at"), callback.received_at, self.result_life)
        found = self._content(provider_id, expiry)
        return reading.conclude(status, provider_id, event_id=event_id, found=found, error=data.get("error"))

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a video event."""
        kind = next((kind for kind, state in EVENT_TYPES.items() if state is status), None)
        if kind is None:
            raise Unsupported(f"{self.name}: it sends events about completed and failed videos only, not {status} ones")
        event = {
            "id": f"evt_{provider_id}_{status}",
            "object": "event",
            "type": kind,
            "created_at": int(now.timestamp()),
            "data": {"id": provider_id},
        }
        return Sample(body=forms.encode(event))

    def _content(self, provider_id: str, expires_at: datetime) -> tuple[Result, ...]:
        """Give where the video is downloaded: with the API key, from the public API, for an hour at most.

        No event and no answer holds a URL that works without the key.
        """
        url = f"{self.base_url}{_video_path(reading.path_id(provider_id))}/content"
        return (Result(kind="video", url=url, expires_at=expires_at),)


def _video_path(encoded_id: str) -> str:
    return f"/videos/{encoded_id}"

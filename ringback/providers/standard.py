"""Any sender that speaks Standard Webhooks and has no file of its own: receive-only, by fixed places in the body.

The specification (standardwebhooks.com, "Payload structure") fixes `type`, `timestamp` and `data`, and not what `data`
holds. Read here: the task id at `data.task_id` or `data.id`, the status at `data.status` or at the end of `type`,
result URLs anywhere in `data.output`, the error in `data.error`. A sender that puts them elsewhere needs a table of
its own in ringback.toml. Pure.
"""

from datetime import datetime, timedelta
from typing import Any

from ringback.errors import Unreadable, Unsupported
from ringback.model import Callback, Notice, Reading, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Sample
from ringback.providers.signatures.standard import StandardWebhooks

ID_KEYS = ("task_id", "id")
ID_HEADERS = ("webhook-id", "svix-id")
STATUS_WORDS = reading.STATUS_WORDS | {
    "pending": TaskState.SUBMITTED,
    "starting": TaskState.SUBMITTED,
    "in_progress": TaskState.PROCESSING,
}
SAMPLE_WORDS = {
    TaskState.SUBMITTED: "queued",
    TaskState.PROCESSING: "processing",
    TaskState.COMPLETED: "completed",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "cancelled",
    TaskState.EXPIRED: "expired",
}


class Standard(Provider):
    """A sender that follows the Standard Webhooks specification."""

    name = "standard"
    base_url = ""  # its API is not known: nothing is ever sent to it
    scheme = StandardWebhooks()
    account_endpoint = True
    result_life = timedelta(hours=24)  # a guess: the specification knows no results
    retries = "as the sender does; the specification recommends backoff over days"
    event_id = "header webhook-id (or svix-id)"
    documents = "standardwebhooks.com, the specification"

    def read_callback(self, callback: Callback) -> Reading | Notice:
        """Read {type, timestamp, data: {task_id | id, status, output, error}}.

        Gives a Notice for what has a `type` and is not about a task. `data.id` alone makes none of it: other events
        carry the id of something else there, so a status in our words must stand beside it.
        """
        body = reading.document(callback.body)
        event_id = reading.header(callback, *ID_HEADERS)
        kind = reading.text(body.get("type"), reading.MAX_CODE)
        given = body.get("data")
        data: dict[str, Any] = given if type(given) is dict else {}
        status = _status(kind, data)
        if data.get("task_id") is None and (data.get("id") is None or status is None):
            if kind is None:
                raise Unreadable("expected data.task_id, or data.id with a status, or a type; got none of them")
            return Notice(event_id=event_id, type=kind)
        provider_id = reading.identify(data, ID_KEYS)
        status = status or reading.state(data.get("status"), STATUS_WORDS)
        expiry = reading.estimate(body.get("timestamp"), callback.received_at, self.result_life)
        found = reading.results(reading.media(data.get("output")), expiry)
        done, error = data.get("progress"), data.get("error")
        return reading.conclude(status, provider_id, event_id=event_id, found=found, error=error, done=done)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a body with everything in its default place."""
        word = SAMPLE_WORDS.get(status)
        if word is None:
            raise Unsupported(f"{self.name}: nothing is ever sent about a {status} task")
        data: dict[str, Any] = {"task_id": provider_id, "status": word}
        if status is TaskState.COMPLETED:
            data["output"] = [f"https://files.example/{provider_id}/0.mp4"]
        if status is TaskState.FAILED:
            data["error"] = {"code": "sample", "message": "a sample of a failure"}
        return Sample(body=forms.encode({"type": f"task.{word}", "timestamp": now.isoformat(), "data": data}))


def _status(kind: str | None, data: dict[str, Any]) -> TaskState | None:
    """Find the status in `data.status` or the ending of `type`; None where neither says one in our words."""
    word = data.get("status")
    told = STATUS_WORDS.get(word.strip().lower()) if type(word) is str else None
    ending = reading.STATUS_WORDS.get(kind.rpartition(".")[2].lower()) if kind else None
    if told and ending and told is not ending:
        raise Unreadable(f"the type says {ending} but data.status says {told}")
    return told if word is not None else ending

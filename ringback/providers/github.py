"""GitHub: repository webhooks, signed with a plain HMAC of the body. Receive-only, and never about a task.

Sources: docs.github.com/webhooks (webhook-events-and-payloads, validating-webhook-deliveries,
handling-failed-webhook-deliveries). The signature covers the body alone: the headers that name event and delivery are
not authenticated, and there is no timestamp. Somebody who holds one signed body could send it again under another
delivery id, so a handler must not take a delivery for fresh because its id is new. Pure.
"""

from datetime import datetime, timedelta
from urllib.parse import parse_qsl
from uuid import NAMESPACE_URL, uuid5

from ringback.errors import Unreadable, Unsupported
from ringback.model import Callback, Notice, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Sample
from ringback.providers.signatures.body_hmac import BodyHmac

FORM_TYPE = "application/x-www-form-urlencoded"
# `workflow_run` is the nearest thing to a task that GitHub tells of: (action, conclusion).
SAMPLE_RUNS = {
    TaskState.SUBMITTED: ("requested", None),
    TaskState.PROCESSING: ("in_progress", None),
    TaskState.COMPLETED: ("completed", "success"),
    TaskState.FAILED: ("completed", "failure"),
    TaskState.CANCELLED: ("completed", "cancelled"),
    TaskState.EXPIRED: ("completed", "timed_out"),
}


class GitHub(Provider):
    """GitHub's webhooks, and what signs like them."""

    name = "github"
    base_url = ""  # nothing is ever sent to it
    scheme = BodyHmac(header="x-hub-signature-256", prefix="sha256=")
    account_endpoint = True
    retry_window = timedelta(days=3)
    retries = "never by itself; by hand or over its API for 3 days"
    event_id = "header x-github-delivery"
    documents = "docs.github.com/webhooks"

    def read_callback(self, callback: Callback) -> Notice:
        """Read any event, `ping` included: a Notice whose type is the event's name and the body's `action`.

        The body is JSON, or a form with the JSON in `payload`, as the webhook's content type is set up.
        """
        action = reading.code(reading.document(_payload(callback)).get("action"))
        event = reading.header(callback, "x-github-event")
        kind = ".".join(word for word in (event, action) if word)[: reading.MAX_CODE]
        return Notice(event_id=reading.header(callback, "x-github-delivery"), type=kind or None)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a `workflow_run` event that ended so; the delivery id is made of its arguments."""
        run = SAMPLE_RUNS.get(status)
        if run is None:
            raise Unsupported(f"{self.name}: there is no event about a {status} run")
        action, conclusion = run
        told = {"name": provider_id, "conclusion": conclusion, "updated_at": now.isoformat()}
        delivery = uuid5(NAMESPACE_URL, f"{self.name}:{provider_id}:{status}")
        headers = {"Content-Type": "application/json", "X-GitHub-Event": "workflow_run"}
        body = forms.encode({"action": action, "workflow_run": told})
        return Sample(body=body, headers=headers | {"X-GitHub-Delivery": str(delivery)})


def _payload(callback: Callback) -> bytes:
    """Give the JSON of a body that is sent as a form; the bytes as they are otherwise."""
    given = next((value for name, value in callback.headers if name == "content-type"), "")
    if given.partition(";")[0].strip().lower() != FORM_TYPE:
        return callback.body
    try:
        fields = parse_qsl(callback.body.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=10)
    except ValueError:  # UnicodeDecodeError is one
        raise Unreadable("expected a form in ASCII with the field payload, got something else") from None
    payload = dict(fields).get("payload")
    if payload is None:
        raise Unreadable("expected a form with the field payload")
    return payload.encode()
